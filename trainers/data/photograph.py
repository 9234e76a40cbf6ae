"""Data sets of photographs with labels, and the network's view of them.

A photograph enters training exactly as a frame enters the live bridge: the same class look-up, the same resize, the
same edge operator, bit for bit.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.edges import LaplacianEdges
from models.nets.dned import STRIDE
from sim_bridge.errors import SizeMismatchError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.preprocess import Integer, fit_ids, fit_rgb
from trainers.data.problems import Problem

T = TypeVar("T")

VOID = "unlabeled"
"""The class that counts in no score, and in no segmenter's loss; a generator learns to paint it like any other."""


InstanceIds = npt.NDArray[np.uint16]


class _OfIds(Protocol):
    def __call__(self, ids: npt.NDArray[Integer], /) -> npt.NDArray[Integer]: ...


class Photograph(NamedTuple):
    """One sample, whole.

    Attributes:
        name: File name without its ending.
        rgb: uint8 ``(H, W, 3)``, what the network shall learn to make.
        labels: uint8 ``(H, W)``, ids into the data set's classes.
        render: uint8 ``(H, W, 3)``, a simulator's picture of the same scene; None where there is none.
        stray: Pixels (at most 0.1 %) whose id is outside the taxonomy; they are void.
        instances: uint16 ``(H, W)``: pixels of one thing have one number, and its neighbours another; None where nobody
            asked for them.
    """

    name: str
    rgb: ByteArray
    labels: ByteArray
    render: ByteArray | None = None
    stray: int = 0
    instances: InstanceIds | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.labels.shape[1], self.labels.shape[0]

    @property
    def seen(self) -> ByteArray:
        """The picture whose edges the network is shown when it is used: the render where there is one."""
        return self.rgb if self.render is None else self.render

    def crop_to_stride(self) -> Photograph:
        """The middle rows and the leftmost columns, as many as the networks' stride divides.

        Raises:
            SizeMismatchError: A side is shorter than the stride.
        """
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

        return self._each(window, window)

    def resized(self, size: tuple[int, int]) -> Photograph:
        """At ``(width, height)``, by the very functions of the live bridge: pictures by area, labels to the nearest."""

        def nearest(ids: npt.NDArray[Integer]) -> npt.NDArray[Integer]:
            return fit_ids(ids, size)

        return self._each(lambda picture: fit_rgb(picture, size), nearest)

    def scaled(self, factor: float) -> Photograph:
        """Resized by a factor; itself by a factor of 1."""
        width, height = (round(side * factor) for side in self.size)
        return self.resized((width, height))

    def _each(self, picture: Callable[[ByteArray], ByteArray], ids: _OfIds) -> Photograph:
        render, instances = self.render, self.instances
        return self._replace(
            rgb=picture(self.rgb),
            labels=ids(self.labels),
            render=None if render is None else picture(render),
            instances=None if instances is None else ids(instances),
        )


class Inspection(NamedTuple):
    """A sample that was read, and all that is wrong with it; the photograph is None exactly where something is."""

    photograph: Photograph | None
    problems: tuple[Problem, ...]


class Fingerprint(NamedTuple):
    """Names of the files of a set.

    Attributes:
        pictures: How many.
        names: SHA-256 of the pictures' names with the folders they lie in, in order.
    """

    pictures: int
    names: str


def take_share(items: Sequence[T], share: str) -> list[T]:
    """All items, or only the ``odd`` or ``even`` ones: a judge and a loss must not learn from the same frames."""
    start, step = {"all": (0, 1), "odd": (1, 2), "even": (0, 2)}[share]
    return list(items[start::step])


class DataSet(Sequence[Photograph]):
    """Photographs with labels; reading one is what takes time.

    Attributes:
        classes: Class names by id.
        licence: Of the data, and so of what is trained on them: SPDX id or name.
        description: Which part of which data, for a bundle's card.
        problems: What is wrong with the listing of the files; reading them may find more.
    """

    classes: tuple[str, ...]
    licence: str
    credit: str
    description: str
    problems: tuple[Problem, ...] = ()

    @property
    def void(self) -> int:
        """Id of the class that counts for nothing."""
        return self.classes.index(VOID)

    @abstractmethod
    def inspect(self, index: int) -> Inspection:
        """Reads one sample and names all that is wrong with it."""

    @abstractmethod
    def files_of(self, index: int) -> tuple[Path, ...]:
        """The files of one sample, the picture first."""

    def read(self, index: int) -> Photograph:
        """Reads one sample.

        Raises:
            LabelError: A class id is outside the taxonomy.
            ImageError: A file cannot be decoded, or the sizes differ.
        """
        photograph, problems = self.inspect(index)
        if photograph is None:
            raise problems[0].error
        return photograph

    def fingerprint(self) -> Fingerprint:
        """What tells this set from another one, wherever it lies: a training goes on with the same alone."""
        names = "\n".join("/".join(self.files_of(i)[0].parts[-2:]) for i in range(len(self)))
        return Fingerprint(len(self), hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest())

    def refuse_problems(self) -> None:
        """Raises what is wrong with the listing of the files, and how much there is of it.

        Raises:
            UsageError: Of the first problem's kind.
        """
        if not self.problems:
            return
        error, more = self.problems[0].error, len(self.problems) - 1
        others = f" (and {more} more problems: `trainers/run.py data check` lists them)" if more else ""
        raise type(error)(f"{error}{others}")

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
        float16 ``(N, S, H, W)``, by scale.
    """
    measured = [scale.measure(rgb) for scale in operator.scales]
    return torch.stack([(response / limit).to(torch.float16) for response, limit in measured], 1)


class Sample(NamedTuple):
    """What training holds of a photograph; all ``(H, W, ...)`` arrays of one size.

    Attributes:
        rgb: uint8 ``(H, W, 3)``.
        labels: uint8 ``(H, W)``.
        edges: E(x), bool ``(P, H, W)``.
        shown: What DNED is shown undegraded, bool ``(P, H, W)``: E(x), or the render's map.
        strength: float16 ``(S, H, W)`` of what is shown, see :func:`edge_strength`.
        seen: uint8 ``(H, W, 3)``, the picture that is shown: ``rgb``, or the render. Colour hints are taken from it.
        instances: uint16 ``(H, W)``, see :class:`Photograph`.
    """

    rgb: ByteArray
    labels: ByteArray
    edges: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    strength: npt.NDArray[np.float16]
    seen: ByteArray
    instances: InstanceIds | None = None

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """A window of it, mirrored left to right if asked."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        cut = (
            self.rgb[rows, columns],
            self.labels[rows, columns],
            self.edges[:, rows, columns],
            self.shown[:, rows, columns],
            self.strength[:, rows, columns],
            self.seen[rows, columns],
        )
        if flip:
            rgb, labels, edges, shown, strength, seen = cut
            cut = (
                rgb[:, ::-1], labels[:, ::-1], edges[:, :, ::-1], shown[:, :, ::-1], strength[:, :, ::-1], seen[:, ::-1]
            )  # fmt: skip
        made = Sample(*cut)
        if self.instances is not None:
            instances = self.instances[rows, columns]
            made = made._replace(instances=instances[:, ::-1] if flip else instances)
        # Without a render both are one picture: who converts it does so once.
        return made._replace(seen=made.rgb) if self.seen is self.rgb else made


def prepare(photograph: Photograph, operator: LaplacianEdges) -> Sample:
    """Runs the edge operator over a whole photograph, so that crops of it have no border of their own."""
    edges = operator(torch.from_numpy(photograph.rgb)[None])[0].numpy()
    seen = torch.from_numpy(photograph.seen)[None]
    shown = edges if photograph.render is None else operator(seen)[0].numpy()
    strength = edge_strength(operator, seen)[0].numpy()
    return Sample(photograph.rgb, photograph.labels, edges, shown, strength, photograph.seen, photograph.instances)


def in_threads(step: Callable[[int], T], count: int, threads: int) -> list[T]:
    """``step(0)`` to ``step(count - 1)``, in order; decoding images leaves Python's lock, so threads are enough."""
    if not threads:
        return [step(i) for i in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(step, range(count)))


def load_all(data: DataSet, operator: LaplacianEdges, threads: int = 0) -> list[Sample]:
    """All samples of a set in memory, edges and all (CamVid: 0.4 GB), read by so many threads; 0 is the caller's."""
    return in_threads(lambda i: prepare(data[i], operator), len(data), threads)
