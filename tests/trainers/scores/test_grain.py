"""Noise and octaves of pictures with known noise."""

import math
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from trainers.scores.grain import Grain, GrainGap, grain, grain_gap, noise_residual, octaves

Picture = npt.NDArray[np.uint8]
CLASSES = ("sky", "road", "car")


def noisy(level: float, blur: float = 0.0, seed: int = 0) -> Picture:
    """Grey noise on 128, of this standard deviation after the blur."""
    noise = np.random.default_rng(seed).normal(0, 1, (128, 128)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    grey = 128 + level * noise / noise.std()
    return np.repeat(grey.round().clip(0, 255)[..., None], 3, 2).astype(np.uint8)


def halves() -> npt.NDArray[np.uint8]:
    labels = np.zeros((128, 128), np.uint8)
    labels[64:] = 1
    return labels


def test_flat_pictures_and_ramps_have_no_noise() -> None:
    ramp = np.repeat(np.broadcast_to(np.arange(128)[None, :, None], (128, 128, 1)), 3, 2).astype(np.uint8)
    assert np.abs(noise_residual(ramp)[:, 2:-2]).max() == 0
    assert all(np.abs(band).max() < 1e-3 for band in octaves(np.full((32, 32, 3), 77, np.uint8)))


def test_white_noise_has_its_level_by_class() -> None:
    """A median of 25 values keeps a standard deviation of about a fifth of the noise, nearly all is residual."""
    picture = noisy(4)
    picture[64:] = noisy(12)[64:]
    found = grain([picture], [halves()], CLASSES)
    assert found.keys() == {"sky", "road"}
    assert found["sky"].noise == pytest.approx(4, rel=0.08)
    assert found["road"].noise == pytest.approx(12, rel=0.08)


def test_power_of_white_noise_falls_by_a_quarter_an_octave() -> None:
    power = grain([noisy(20)], [halves()], CLASSES)["sky"].power
    assert len(power) == 5
    for fine, coarse in pairwise(power[2:]):
        assert coarse / fine == pytest.approx(0.25, rel=0.25)


def test_octaves_add_up_to_the_picture_without_its_coarsest_part() -> None:
    picture = noisy(20)
    grey = picture[..., 0].astype(np.float32)
    np.testing.assert_allclose(sum(octaves(picture)), grey - cv2.GaussianBlur(grey, (0, 0), 8.0), atol=1e-3)


def test_smooth_noise_has_its_power_in_coarser_octaves() -> None:
    white, smooth = (grain([noisy(20, blur)], [halves()], CLASSES)["sky"].power for blur in (0.0, 2.0))
    assert np.argmax(white) <= 1 and np.argmax(smooth) >= 3


def test_a_gap_is_a_distance_of_logarithms() -> None:
    ours = {"sky": Grain(2.0, (4.0, 1.0)), "road": Grain(3.0, (1.0, 1.0)), "car": Grain(1.0, (1.0, 1.0))}
    theirs = {"sky": Grain(4.0, (1.0, 1.0)), "road": Grain(3.0, (1.0, 1.0))}
    gap = grain_gap(ours, theirs)
    assert gap.noise == pytest.approx(math.log(2) / 2)
    assert gap.power == pytest.approx(math.log(4) / 2 / 2)
    assert grain_gap(theirs, theirs) == GrainGap(0.0, 0.0)


def test_without_a_common_class_there_is_no_gap() -> None:
    gap = grain_gap({"sky": Grain(1.0, (1.0,))}, {"road": Grain(1.0, (1.0,))})
    assert math.isnan(gap.noise) and math.isnan(gap.power)


def test_silence_does_not_give_infinite_gaps() -> None:
    assert math.isfinite(grain_gap({"sky": Grain(0.0, (0.0,))}, {"sky": Grain(1.0, (1.0,))}).power)
