"""What is drawn for a clip: its place in the picture, mirroring and colour."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import SizeMismatchError, UsageError
from trainers.data.problems import Problem
from trainers.recipes.schema import DataRecipe

Colour = tuple[npt.NDArray[np.float64], float]
"""Gain of each channel, and shift in grey levels."""


class Place(NamedTuple):
    """One crop of all frames of a clip, in pixels of the picture resized by ``scale``."""

    scale: float
    top: int
    left: int
    flip: bool
    colour: Colour | None


def draw_place(shape: tuple[int, ...], data: DataRecipe, rng: np.random.Generator) -> Place:
    """Draws the crop of a picture of ``shape`` (height, width); keys that are off draw nothing.

    Raises:
        UsageError: The crop does not fit into the picture.
    """
    scale = 1.0 if data.scale is None else float(np.exp(rng.uniform(*np.log(data.scale))))
    height, width = (round(side * scale) for side in shape)
    if width < data.crop[0] or height < data.crop[1]:
        raise UsageError(
            f"a picture is {width}x{height} when its crop is cut, but data.crop is {data.crop[0]}x{data.crop[1]}:"
            " lower data.crop, or set data.resize"
        )
    top, left = int(rng.integers(height - data.crop[1] + 1)), int(rng.integers(width - data.crop[0] + 1))
    flip = data.flip and bool(rng.random() < 0.5)
    if data.colour is None:
        return Place(scale, top, left, flip, None)
    gain = rng.uniform(1 - data.colour.gain, 1 + data.colour.gain, 3)
    return Place(scale, top, left, flip, (gain, float(rng.uniform(-data.colour.shift, data.colour.shift))))


def too_small_to_train(size: tuple[int, int], data: DataRecipe, file: Path) -> Problem | None:
    """The problem of a picture of ``size`` (width, height) that a crop does not fit into."""
    factor = 1.0 if data.scale is None else data.scale[0]
    width, height = (round(side * factor) for side in data.resize or size)
    if width >= data.crop[0] and height >= data.crop[1]:
        return None
    sentence = (
        f"{file} is {size[0]}x{size[1]}, smaller than data.crop {data.crop[0]}x{data.crop[1]}"
        f"{'' if data.scale is None else f' at scale {factor}'}: lower data.crop, or set data.resize"
    )
    return Problem(file, SizeMismatchError(sentence))
