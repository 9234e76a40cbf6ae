"""Depth, flow and instances at the network's size, for translators that want them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import ImageError
from sim_bridge.frames import Encoding, Frame, Kind, PixelArray

Element = TypeVar("Element", bound=np.generic)

_ENCODINGS = {Kind.DEPTH: Encoding.FLOAT1, Kind.FLOW: Encoding.FLOAT2, Kind.INSTANCE: Encoding.MONO16}


def fit_input(frame: Frame, size: tuple[int, int]) -> PixelArray:
    """The values of a depth, flow or instance frame at ``(width, height)``.

    Each pixel takes the value at the nearest pixel centre: means of depths or ids would be of nothing that is there.
    Flow is scaled, as it is in pixels.

    Returns:
        float32 ``(H, W)`` metres, float32 ``(H, W, 2)`` pixels, or uint16 ``(H, W)``; read-only when unchanged.

    Raises:
        ImageError: The kind or its encoding is another one.
    """
    if _ENCODINGS.get(frame.kind) is not frame.encoding:
        raise ImageError(f"the {frame.kind} frame {frame.number} has encoding {frame.encoding!s}: send raw values")
    if size == (frame.width, frame.height):
        return frame.pixels
    picked = _nearest(frame.pixels, size)
    if frame.kind is Kind.FLOW:
        return picked * np.array([size[0] / frame.width, size[1] / frame.height], np.float32)
    return picked


def _nearest(values: npt.NDArray[Element], size: tuple[int, int]) -> npt.NDArray[Element]:
    height, width = values.shape[:2]
    rows = (2 * np.arange(size[1]) + 1) * height // (2 * size[1])
    columns = (2 * np.arange(size[0]) + 1) * width // (2 * size[0])
    picked: npt.NDArray[Element] = values[rows[:, None], columns]
    return picked
