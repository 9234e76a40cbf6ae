"""Metrics on pictures whose values are known."""

import numpy as np
import pytest
import torch

from models.nets.segmenter import PyramidSegmenter
from trainers.scores.metrics import (
    frechet_distance,
    grid_amplitude,
    mean_difference,
    psnr,
    relative_chroma_detail,
    relative_sharpness,
    ssim,
)
from trainers.systems.segmentation import deep_features, score

FLAT = np.full((64, 64, 3), 100, np.uint8)


def test_grid_amplitude_finds_each_pattern_and_only_it() -> None:
    y, x = np.mgrid[:64, :64]
    for index, pattern in enumerate((x, y, x + y)):
        picture = (100 + 5 * np.where(pattern % 2, -1, 1))[..., None].repeat(3, 2).astype(np.uint8)
        amplitudes = grid_amplitude([picture])
        assert amplitudes[index] == pytest.approx(5)
        assert sum(amplitudes) == pytest.approx(5)
    assert grid_amplitude([FLAT]) == (0, 0, 0)


def test_psnr_and_difference() -> None:
    assert psnr(FLAT, FLAT) == float("inf")
    assert psnr(FLAT, FLAT + 10) == pytest.approx(10 * np.log10(255**2 / 100))
    assert mean_difference([FLAT], [FLAT - 7]) == 7


def test_ssim_by_hand() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), np.uint8)
    assert ssim(noise, noise) == pytest.approx(1)
    assert abs(ssim(noise, rng.integers(0, 256, (64, 64, 3), np.uint8))) < 0.1
    # Flat pictures have no structure: what is left is the comparison of their means.
    c1 = 0.01**2 * 255**2
    assert ssim(FLAT, FLAT + 50) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1))
    inverted = (255 - noise).astype(np.uint8)
    assert ssim(noise, inverted) < -0.8


def test_chroma_detail_is_of_colour_noise_and_of_no_grey_texture() -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(60, 200, (32, 32, 1)), 3, axis=2).astype(np.uint8)
    coloured = np.clip(grey + rng.integers(-20, 20, grey.shape), 0, 255).astype(np.uint8)
    assert relative_chroma_detail([coloured], [coloured]) == 1
    assert relative_chroma_detail([grey], [coloured]) < 0.1
    assert relative_chroma_detail([grey], [grey]) == 0 and np.isfinite(relative_chroma_detail([coloured], [grey]))
    assert relative_chroma_detail([coloured, grey], [coloured, coloured]) == pytest.approx(0.5, abs=0.05)


def test_relative_sharpness_of_a_blurred_picture_is_below_one() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (64, 64, 3), np.uint8)
    soft = (sharp // 2 + np.roll(sharp, 1, 1) // 2).astype(np.uint8)
    assert relative_sharpness([sharp], [sharp]) == 1
    assert relative_sharpness([soft], [sharp]) < 0.8


def test_frechet_distance_by_hand() -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal((4000, 2))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + np.array([3, 4])) == pytest.approx(25, rel=1e-6)
    # Of commuting covariances it is the distance of their roots: (sqrt(9 v) - sqrt(v))^2 summed over the axes.
    spread = np.trace(np.cov(a, rowvar=False))
    assert frechet_distance(a, (a - a.mean(0)) * 3 + a.mean(0)) == pytest.approx(4 * spread, rel=1e-6)
    turned = a @ np.array([[0, 1], [-1, 0]]) * [1, 5]
    assert frechet_distance(a, turned) == pytest.approx(frechet_distance(turned, a), rel=1e-6)
    assert frechet_distance(a[:, :1], a[:, :1] + 2) == pytest.approx(4, rel=1e-6)


def test_frechet_distance_of_covariances_that_do_not_commute() -> None:
    rng = np.random.default_rng(3)
    a = rng.standard_normal((500, 3)) @ np.array([[2.0, 0, 0], [1.5, 1, 0], [0, 0.5, 0.3]])
    b = rng.standard_normal((500, 3)) @ np.array([[0.4, 0.9, 0], [0, 1.2, -1], [0.7, 0, 2]]) + 1
    of_a, of_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    assert not np.allclose(of_a @ of_b, of_b @ of_a, rtol=0.1)
    roots = np.sqrt(np.linalg.eigvals(of_a @ of_b).real).sum()  # of a product of two such matrices they are real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(of_a) + np.trace(of_b) - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_fewer_samples_than_dimensions_is_finite() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((5, 40)), rng.standard_normal((7, 40))
    assert 0 < frechet_distance(a, b) < 1000


def test_deep_features_are_averaged_over_squares() -> None:
    torch.manual_seed(0)
    network = PyramidSegmenter(3, 4).eval()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (70, 100, 3), np.uint8) for _ in range(2)]
    features = deep_features(network, pictures)
    assert features.shape == (2 * 2 * 3, 16)
    assert np.array_equal(features[:6], deep_features(network, pictures[:1]))


def test_segmentation_score_by_hand() -> None:
    labels = np.array([[0, 0, 1, 1, 2]], np.uint8)
    predicted = np.array([[0, 1, 1, 1, 0]], np.uint8)
    result = score([predicted], [labels], classes=3, void=2)
    # class 0: 1 of union 2; class 1: 2 of union 3; the void pixel counts nowhere
    assert result.pixel_accuracy == pytest.approx(3 / 4)
    assert result.mean_iou == pytest.approx((1 / 2 + 2 / 3) / 2)
