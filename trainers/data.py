"""Data sets of photographs with labels, and the network's view of them.

A photograph enters training exactly as a frame enters the live bridge: the same class look-up, the same resize, the
same edge operator, bit for bit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dned import STRIDE
from models.edges import LaplacianEdges
from sim_bridge.frames import ByteArray

VOID = "unlabeled"
"""The class that counts for nothing: neither in a loss nor in a score."""


class Photograph(NamedTuple):
    """One sample, whole.

    Attributes:
        name: File name without its ending.
        rgb: uint8 ``(H, W, 3)``, what the network shall learn to make.
        labels: uint8 ``(H, W)``, ids into the data set's classes.
        render: uint8 ``(H, W, 3)``, a simulator's picture of the same scene; None where there is none.
    """

    name: str
    rgb: ByteArray
    labels: ByteArray
    render: ByteArray | None = None

    @property
    def seen(self) -> ByteArray:
        """The picture whose edges the network is shown when it is used: the render where there is one."""
        return self.rgb if self.render is None else self.render

    def crop_to_stride(self) -> Photograph:
        """The middle rows and the leftmost columns, as many as the networks' stride divides."""
        height, width = (side // STRIDE * STRIDE for side in self.labels.shape)
        top = (self.labels.shape[0] - height) // 2

        def cut(picture: ByteArray) -> ByteArray:
            return np.ascontiguousarray(picture[top : top + height, :width])

        return Photograph(self.name, cut(self.rgb), cut(self.labels), None if self.render is None else cut(self.render))


class DataSet(Sequence[Photograph]):
    """Photographs with labels; reading one is what takes time.

    Attributes:
        classes: Class names by id.
        licence: Of the data, and so of what is trained on them: SPDX id or name.
        description: Which part of which data, for a bundle's card.
    """

    classes: tuple[str, ...]
    licence: str
    credit: str
    description: str

    @property
    def void(self) -> int:
        """Id of the class that counts for nothing."""
        return self.classes.index(VOID)

    @abstractmethod
    def read(self, index: int) -> Photograph:
        """Reads one sample.

        Raises:
            UsageError: Sizes differ or a class id is outside the taxonomy.
            ImageError: A file cannot be decoded.
        """

    @overload
    def __getitem__(self, index: int) -> Photograph: ...
    @overload
    def __getitem__(self, index: slice) -> list[Photograph]: ...
    def __getitem__(self, index: int | slice) -> Photograph | list[Photograph]:
        """Reads one sample, or those of a slice."""
        if isinstance(index, slice):
            return [self.read(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.read(index % len(self))


def edge_strength(operator: LaplacianEdges, rgb: Tensor) -> Tensor:
    """Signed response over limit of the edge operator: above 1 in absolute value is an edge, above 0 its dark side.

    Training varies the threshold with it; E(x) itself always comes from the operator.

    Args:
        operator: The edge operator.
        rgb: uint8 ``(N, H, W, 3)``.

    Returns:
        float16 ``(N, H, W)``.
    """
    response, limit = operator.measure(rgb)
    return (response / limit).to(torch.float16)


class Sample(NamedTuple):
    """What training holds of a photograph; all ``(H, W, ...)`` arrays of one size.

    Attributes:
        rgb: uint8 ``(H, W, 3)``.
        labels: uint8 ``(H, W)``.
        edges: E(x), bool ``(P, H, W)``.
        shown: What DNED is shown undegraded, bool ``(P, H, W)``: E(x), or the render's map.
        strength: float16 ``(H, W)`` of what is shown, see :func:`edge_strength`.
        seen: uint8 ``(H, W, 3)``, the picture that is shown: ``rgb``, or the render. Colour hints are taken from it.
    """

    rgb: ByteArray
    labels: ByteArray
    edges: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    strength: npt.NDArray[np.float16]
    seen: ByteArray

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """A window of it, mirrored left to right if asked."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        cut = (
            self.rgb[rows, columns],
            self.labels[rows, columns],
            self.edges[:, rows, columns],
            self.shown[:, rows, columns],
            self.strength[rows, columns],
            self.seen[rows, columns],
        )
        if not flip:
            return Sample(*cut)
        rgb, labels, edges, shown, strength, seen = cut
        return Sample(
            rgb[:, ::-1], labels[:, ::-1], edges[:, :, ::-1], shown[:, :, ::-1], strength[:, ::-1], seen[:, ::-1]
        )


def prepare(photograph: Photograph, operator: LaplacianEdges) -> Sample:
    """Runs the edge operator over a whole photograph, so that crops of it have no border of their own."""
    edges = operator(torch.from_numpy(photograph.rgb)[None])[0].numpy()
    seen = torch.from_numpy(photograph.seen)[None]
    shown = edges if photograph.render is None else operator(seen)[0].numpy()
    strength = edge_strength(operator, seen)[0].numpy()
    return Sample(photograph.rgb, photograph.labels, edges, shown, strength, photograph.seen)


def load_all(data: DataSet, operator: LaplacianEdges) -> list[Sample]:
    """All samples of a set in memory, edges and all (CamVid: 0.3 GB)."""
    return [prepare(p, operator) for p in data]
