"""Segmentation networks: shapes, and that a judge shares no layer plan with the network whose features train."""

import pytest
import torch

from models.segmenter import SEGMENTERS


@pytest.mark.parametrize("arch", SEGMENTERS)
def test_logits_and_predictions_have_the_pictures_size(arch: str) -> None:
    network = SEGMENTERS[arch](7, 8).eval()
    logits = network(torch.zeros(2, 3, 48, 64))
    assert logits.shape == (2, 7, 48, 64)
    ids = network.predict(torch.zeros(2, 48, 64, 3, dtype=torch.uint8))
    assert ids.shape == (2, 48, 64) and ids.dtype == torch.uint8 and int(ids.max()) < 7


@pytest.mark.parametrize(("arch", "strides"), [("unet-segmenter", [1, 2, 4, 8, 16]), ("pyramid-segmenter", [2, 4, 8])])
def test_features_go_from_fine_to_coarse(arch: str, strides: list[int]) -> None:
    features = SEGMENTERS[arch](7, 8).eval().features(torch.zeros(1, 3, 64, 64))
    assert [64 // f.shape[-1] for f in features] == strides
