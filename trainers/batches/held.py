"""Where training takes its samples from: prepared in memory, photographs in memory, or files as they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, overload

from models.edges import LaplacianEdges
from sim_bridge.frames import ByteArray
from trainers.data.photograph import DataSet, Photograph, Sample, in_threads, prepare
from trainers.recipes.schema import DataRecipe


class Croppable(Protocol):
    """A sample that crops can be cut from: prepared whole, or photograph by photograph when it is drawn."""

    @property
    def rgb(self) -> ByteArray:
        """uint8 ``(H, W, 3)``, what the network shall learn to make."""

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
    def rgb(self) -> ByteArray:
        """uint8 ``(H, W, 3)``."""
        return self.photograph.rgb

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


class Held(Sequence[Croppable]):
    """Samples in memory. They are read by :meth:`load`, at the latest when the first is asked for.

    Args:
        data: Whose.
        hold: What is held of a photograph.
        threads: How many read; 0 is the caller's alone.
    """

    def __init__(self, data: DataSet, hold: Callable[[Photograph], Croppable], threads: int) -> None:
        self.data = data
        self._hold, self._threads = hold, threads
        self._samples: list[Croppable] = []

    def load(self) -> list[Croppable]:
        """Reads all, once.

        Raises:
            SimBridgeError: A sample is wrong.
        """
        if not self._samples:
            self._samples = in_threads(lambda i: self._hold(self.data[i]), len(self.data), self._threads)
        return self._samples

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, index: int) -> Croppable: ...
    @overload
    def __getitem__(self, index: slice) -> list[Croppable]: ...
    def __getitem__(self, index: int | slice) -> Croppable | list[Croppable]:
        """One sample, or those of a slice."""
        return self.load()[index]


def open_samples(data: DataSet, operator: LaplacianEdges, recipe: DataRecipe) -> Held | Streamed:
    """The samples of a set as its recipe wants them held, by ``workers`` threads; nothing is read yet."""
    if recipe.memory == "stream":
        return Streamed(data, operator)
    if recipe.scale is not None:  # edges are those of the scaled picture, so only photographs can be kept
        return Held(data, lambda photograph: Unprepared(photograph, operator), recipe.workers)
    return Held(data, lambda photograph: prepare(photograph, operator), recipe.workers)


def load(samples: Sequence[Croppable]) -> None:
    """Reads what is to be held in memory: before processes are forked off, which share it then.

    Raises:
        SimBridgeError: A sample is wrong.
    """
    if isinstance(samples, Held):
        samples.load()
