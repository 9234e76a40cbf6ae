"""Where training takes its samples from: prepared in memory, photographs in memory, or files as they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, overload

from models.edges import LaplacianEdges
from sim_bridge.frames import ByteArray
from trainers.data import DataSet, Photograph, Sample, in_threads, load_all, prepare
from trainers.recipe import DataRecipe


class Croppable(Protocol):
    """A sample that crops can be cut from: prepared whole, or photograph by photograph when it is drawn."""

    @property
    def labels(self) -> ByteArray:
        """uint8 ``(H, W)``."""

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """A window of it, mirrored left to right if asked."""


class Unprepared(NamedTuple):
    """A photograph of which only the drawn crop goes through the edge operator."""

    photograph: Photograph
    operator: LaplacianEdges

    @property
    def labels(self) -> ByteArray:
        """uint8 ``(H, W)``."""
        return self.photograph.labels

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """As :meth:`Sample.crop` of the whole prepared photograph, bit for bit.

        The window is wider by what the operator looks beyond a pixel, so a crop has no border of its own.
        """
        margin = self.operator.margin
        y, x = max(0, top - margin), max(0, left - margin)
        window = self.photograph.cut(y, x, top + height + margin - y, left + width + margin - x)
        return prepare(window, self.operator).crop(top - y, left - x, height, width, flip=flip)

    def scaled(self, factor: float) -> Unprepared:
        """The photograph resized by a factor; its edges are those of the resized picture."""
        return self._replace(photograph=self.photograph.scaled(factor))


class Streamed(Sequence[Unprepared]):
    """Samples that are read from their files each time they are asked for."""

    def __init__(self, data: DataSet, operator: LaplacianEdges) -> None:
        self.data = data
        self._operator = operator

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, index: int) -> Unprepared: ...
    @overload
    def __getitem__(self, index: slice) -> list[Unprepared]: ...
    def __getitem__(self, index: int | slice) -> Unprepared | list[Unprepared]:
        """Reads one sample, or those of a slice."""
        if isinstance(index, slice):
            return [Unprepared(p, self._operator) for p in self.data[index]]
        return Unprepared(self.data[index], self._operator)


def open_samples(data: DataSet, operator: LaplacianEdges, recipe: DataRecipe) -> Sequence[Croppable]:
    """The samples of a set as its recipe wants them held; ``workers`` threads read what is held in memory.

    Raises:
        SimBridgeError: A sample that is read now is wrong.
    """
    if recipe.memory == "stream":
        return Streamed(data, operator)
    if recipe.scale is not None:  # edges are those of the scaled picture, so only photographs can be kept
        return in_threads(lambda i: Unprepared(data[i], operator), len(data), recipe.workers)
    return load_all(data, operator, recipe.workers)
