"""Style seeds tied to light."""

from itertools import combinations

import pytest
import torch

from models.nets.dned import SIDES
from models.style import ensemble_weights, style_offsets
from trainers.systems.relight import EXPOSURE, relight


def test_learned_weights_leave_the_photograph_as_it_is() -> None:
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(relight(x, torch.zeros(2, SIDES), 1.0), x)


def test_a_common_factor_of_all_weights_changes_nothing() -> None:
    x = torch.rand(1, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(relight(x, torch.full((1, SIDES), 0.7), 1.0), x, atol=1e-5, rtol=0)


def test_fine_sides_mean_brighter_and_coarse_ones_darker() -> None:
    x = torch.full((1, 3, 4, 4), -0.5)
    fine = torch.tensor([[9.0, 9.0, 0.0, 0.0, -9.0, -9.0]])
    gain = (relight(x, fine, 1.0) + 1) / (x + 1)
    assert gain.mean().log().item() == pytest.approx(EXPOSURE[1], abs=1e-3)
    loss = (relight(x, -fine, 1.0) + 1) / (x + 1)
    assert loss.mean().log().item() == pytest.approx(-EXPOSURE[0], abs=1e-3)


def test_the_first_style_seeds_are_lit_far_apart() -> None:
    logits = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.05, 0.05]).log()
    weights = torch.stack([ensemble_weights(logits, seed, 0.5) for seed in range(6)])
    grey = torch.full((6, 3, 4, 4), -0.2)
    lit = relight(grey, style_offsets(weights, logits), 0.5)
    assert min((a - b).abs().mean() * 127.5 for a, b in combinations(lit, 2)) > 5


def test_result_stays_in_range() -> None:
    x = torch.rand(4, 3, 8, 8) * 2 - 1
    lit = relight(x, torch.randn(4, SIDES) * 5, 1.0)
    assert lit.min() >= -1 and lit.max() <= 1


def test_reduced_precision_around_it_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    x, offsets = torch.rand(2, 3, 4, 4, generator=generator) * 2 - 1, torch.randn(2, SIDES, generator=generator)
    exact = relight(x, offsets, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(relight(x, offsets, 1.0), exact)
