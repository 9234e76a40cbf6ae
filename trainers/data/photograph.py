"""A photograph with its labels, whole, as it is read from disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from models.nets.dned import STRIDE
from sim_bridge.errors import SizeMismatchError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.preprocess import Integer, fit_ids, fit_rgb
from trainers.data.problems import Problem

VOID = "unlabeled"
"""The class that counts in no score and in no segmenter's loss."""


InstanceIds = npt.NDArray[np.uint16]
Flow = npt.NDArray[np.float32]


class _OfIds(Protocol):
    def __call__(self, ids: npt.NDArray[Integer], /) -> npt.NDArray[Integer]: ...


class Photograph(NamedTuple):
    """One frame, whole.

    Attributes:
        name: File name without its ending.
        rgb: uint8 ``(H, W, 3)``, what the network shall learn to make.
        labels: uint8 ``(H, W)``, ids into the data set's classes.
        render: uint8 ``(H, W, 3)``, a simulator's picture of the same scene, if its edges are to be shown.
        stray: Pixels (at most 0.1 %) whose id is outside the taxonomy; they are void.
        instances: uint16 ``(H, W)``: one number for one thing; None where they are not wanted.
        labelled: Whether there are labels; without, all is void.
        flow: float32 ``(H, W, 2)``, exact motion to the next frame in pixels; NaN where the target is not visible.
    """

    name: str
    rgb: ByteArray
    labels: ByteArray
    render: ByteArray | None = None
    stray: int = 0
    instances: InstanceIds | None = None
    labelled: bool = True
    flow: Flow | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.labels.shape[1], self.labels.shape[0]

    @property
    def shown_rgb(self) -> ByteArray:
        """The picture whose edges the network sees: the render where there is one."""
        return self.rgb if self.render is None else self.render

    def crop_to_stride(self) -> Photograph:
        """The middle rows and leftmost columns, multiples of the networks' stride; SizeMismatchError below one."""
        if min(self.size) < STRIDE:
            raise SizeMismatchError(
                f"picture {self.name!r} is {self.size[0]}x{self.size[1]}, and what validates must have {STRIDE} pixels"
                " a side: leave it out, or set data.resize"
            )
        height, width = (side // STRIDE * STRIDE for side in self.labels.shape)
        return self.cut((self.labels.shape[0] - height) // 2, 0, height, width)

    def cut(self, top: int, left: int, height: int, width: int) -> Photograph:
        """A window of it; what lies outside is left out."""

        def window(picture: npt.NDArray[Integer]) -> npt.NDArray[Integer]:
            return np.ascontiguousarray(picture[top : top + height, left : left + width])

        def motion(flow: Flow) -> Flow:
            return within(np.ascontiguousarray(flow[top : top + height, left : left + width]))

        return self._each(window, window, motion)

    def resized(self, size: tuple[int, int]) -> Photograph:
        """At ``(width, height)``, by the live bridge's functions; flow is the nearest pixel's, scaled."""

        def nearest(ids: npt.NDArray[Integer]) -> npt.NDArray[Integer]:
            return fit_ids(ids, size)

        def motion(flow: Flow) -> Flow:
            factors = np.float32(size[0] / self.size[0]), np.float32(size[1] / self.size[1])
            planes = [cv2.resize(flow[..., i], size, interpolation=cv2.INTER_NEAREST_EXACT) for i in (0, 1)]
            return within(np.stack([plane * factor for plane, factor in zip(planes, factors, strict=True)], 2))

        return self._each(lambda picture: fit_rgb(picture, size), nearest, motion)

    def scaled(self, factor: float) -> Photograph:
        """Resized by a factor; itself by a factor of 1."""
        width, height = (round(side * factor) for side in self.size)
        return self.resized((width, height))

    def _each(
        self, picture: Callable[[ByteArray], ByteArray], ids: _OfIds, motion: Callable[[Flow], Flow]
    ) -> Photograph:
        render, instances, flow = self.render, self.instances, self.flow
        return self._replace(
            rgb=picture(self.rgb),
            labels=ids(self.labels),
            render=None if render is None else picture(render),
            instances=None if instances is None else ids(instances),
            flow=None if flow is None else motion(flow),
        )


def within(flow: Flow) -> Flow:
    """Flow of a window ``(H, W, 2)``, NaN where it leads from a pixel's centre out of the window."""
    height, width = flow.shape[:2]
    x = flow[..., 0] + (np.arange(width, dtype=np.float32) + 0.5)
    y = flow[..., 1] + (np.arange(height, dtype=np.float32) + 0.5)[:, None]
    inside = (x > 0) & (x < width) & (y > 0) & (y < height)
    return np.where(inside[..., None], flow, np.float32(np.nan))


class Inspection(NamedTuple):
    """What was read, and all that is wrong with it; the photograph is None exactly where something is."""

    photograph: Photograph | None
    problems: tuple[Problem, ...]
