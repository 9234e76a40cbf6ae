"""How strong an edge is."""

import torch

from models.edges import EdgeSettings, LaplacianEdges
from trainers.batches.sample import edge_strength


def test_strengths_of_a_threshold_of_0_are_numbers() -> None:
    rgb = torch.full((1, 8, 8, 3), 90, dtype=torch.uint8)
    rgb[:, 4:] = 200
    strength = edge_strength(LaplacianEdges(EdgeSettings(threshold=0.0)), rgb)
    assert torch.isfinite(strength).all()
    assert (strength[0, 0, 0] == 0).all()
    assert (strength[0, 0, 3] > 1).all()
    assert (strength[0, 0, 4] < -1).all()
