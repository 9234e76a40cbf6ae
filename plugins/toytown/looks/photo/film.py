"""The camera behind the lens: bloom, blur, vignette, exposure, film curve, shot noise."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from plugins.toytown.town.surfaces import FloatArray
from plugins.toytown.view.vectors import along

SATURATED: Final = 12.0
REFERENCE_WIDTH: Final = 512
"""Blurs are given for images of this width, pixels."""
SHADOW_NOISE: Final = 0.000012
SHOT_NOISE: Final = 0.00020
LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


def develop(radiance: FloatArray, exposure: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A picture of linear radiance.

    Args:
        radiance: float32 ``(H, W, 3)``.
        exposure: Factor; the same for a whole sequence.
        rng: For the noise.

    Returns:
        uint8 ``(H, W, 3)`` RGB.
    """
    light = _lens(np.minimum(radiance * np.float32(exposure), SATURATED).astype(np.float32))
    noise = rng.standard_normal(light.shape, np.float32) * np.sqrt(SHOT_NOISE * np.maximum(light, 0) + SHADOW_NOISE)
    light = np.maximum(light + noise, 0) * 0.62
    curve = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)  # Narkowicz' fit of ACES
    picture = np.clip(curve, 0, 1) ** (1 / 2.2)
    grey = along(picture.reshape(-1, 3), LUMA).reshape(*picture.shape[:2], 1)
    picture = grey + 0.92 * (picture - grey)
    return np.asarray(255 * np.clip(picture, 0, 1) + 0.5, np.uint8)


def _lens(light: FloatArray) -> FloatArray:
    """Bloom, a slight blur, and darker corners."""
    height, width = light.shape[:2]
    scale = width / REFERENCE_WIDTH
    # The wide blurs are taken from a quarter-size copy: twenty times faster, and not to be told apart.
    small = cv2.resize(light, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    bloom = 0.10 * cv2.GaussianBlur(np.maximum(small - 0.9, 0), (0, 0), 1.25 * scale)
    bloom += 0.012 * cv2.GaussianBlur(small, (0, 0), 6 * scale)
    light = cv2.GaussianBlur(light, (0, 0), 0.45 * scale) + cv2.resize(bloom, (width, height))
    u, v = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-0.5, 0.5, height))
    return np.asarray(light * (1 - 0.30 * (u * u + v * v) ** 1.2)[..., None], np.float32)
