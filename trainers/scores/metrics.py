"""Measures of pictures besides segmentation: detail, grid of period 2, distance to the photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.frames import ByteArray

GREY: Final = 0.01
"""Fine colour, in grey levels, that grey photographs count as having."""


def psnr(generated: ByteArray, photograph: ByteArray) -> float:
    """Peak signal-to-noise ratio in dB of one picture."""
    error = float(np.mean((generated.astype(np.float64) - photograph) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(generated: ByteArray, photograph: ByteArray) -> float:
    """Structural similarity of the grey pictures, -1..1 (Wang et al. 2004: Gaussian 11x11, sigma 1.5, no padding)."""
    x, y = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float64) for p in (generated, photograph))

    def mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5], np.float64)

    mx, my = mean(x), mean(y)
    vx, vy, covariance = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    return float((luminance * (2 * covariance + c2) / (vx + vy + c2)).mean())


def sharpness(picture: ByteArray) -> float:
    """Mean absolute 4-neighbour Laplacian of the grey picture, grey levels."""
    return float(np.abs(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F, ksize=1)).mean())


def relative_sharpness(generated: Sequence[ByteArray], photographs: Sequence[ByteArray]) -> float:
    """Sharpness of the generated pictures as a share of the photographs'."""
    return float(np.mean([sharpness(g) for g in generated]) / np.mean([sharpness(p) for p in photographs]))


def chroma_detail(picture: ByteArray) -> float:
    """Mean absolute 4-neighbour Laplacian of the picture's Cb and Cr (BT.601), grey levels."""
    _, red, blue = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb))
    return float(np.mean([np.abs(cv2.Laplacian(chroma, cv2.CV_32F, ksize=1)).mean() for chroma in (red, blue)]))


def relative_chroma_detail(generated: Sequence[ByteArray], photographs: Sequence[ByteArray]) -> float:
    """Fine colour of the generated pictures as a share of the photographs'; what is above 1 is colour noise."""
    of_photographs = float(np.mean([chroma_detail(p) for p in photographs]))
    return float(np.mean([chroma_detail(g) for g in generated]) / max(of_photographs, GREY))


def grid_amplitude(pictures: Sequence[ByteArray]) -> tuple[float, float, float]:
    """Amplitude of a grid of period 2, grey levels: vertical stripes, horizontal stripes, checkerboard (px, py, pxy).

    Root mean square over 16x16 blocks and channels of the mean of picture times +-1 pattern. Photographs of CamVid
    have a checkerboard of 0.3; networks with separate weights for each output phase have 0.8 and more, which shows.
    """
    squares = np.concatenate([_grid_squares(picture) for picture in pictures], axis=1)
    px, py, pxy = np.sqrt(squares.mean(1)).tolist()
    return px, py, pxy


def _grid_squares(picture: ByteArray) -> npt.NDArray[np.float32]:
    """Squared responses to the three patterns by block and channel, ``(3, n)``."""
    h, w = (side // 16 * 16 for side in picture.shape[:2])
    columns = np.where(np.arange(w) % 2, -1, 1).astype(np.float32)
    rows = np.where(np.arange(h) % 2, -1, 1).astype(np.float32)[:, None]
    patterns = np.stack([np.broadcast_to(columns, (h, w)), np.broadcast_to(rows, (h, w)), rows * columns])
    products = picture[:h, :w].astype(np.float32) * patterns[..., None]
    return np.asarray(products.reshape(3, h // 16, 16, w // 16, 16, 3).mean((2, 4)).reshape(3, -1) ** 2, np.float32)


def frechet_distance(a: npt.NDArray[np.floating[Any]], b: npt.NDArray[np.floating[Any]]) -> float:
    """Squared Fréchet (2-Wasserstein) distance of the Gaussians with the means and covariances of two sets of features.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Dowson and Landau 1982; FID, Heusel et al. 2017). Values are
    comparable only for one network and one number of samples.

    Args:
        a: ``(n, d)``, n at least 2.
        b: ``(m, d)``.
    """
    means = a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(f.astype(np.float64), rowvar=False)) for f in (a, b))
    # The trace of the root of C_a C_b, by the symmetric matrix that has the same eigenvalues: no complex numbers.
    root = _symmetric_root(covariance_a)
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_b @ root), 0)).sum()
    return float(max(0.0, means @ means + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared))


def _symmetric_root(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def mean_difference(a: Sequence[ByteArray], b: Sequence[ByteArray]) -> float:
    """Mean absolute difference of two lists of pictures, grey levels."""
    return float(np.mean([np.abs(x.astype(np.int16) - y).mean() for x, y in zip(a, b, strict=True)]))
