"""Where training takes its samples from: prepared in memory, photographs in memory, or files as they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, overload

from models.edges import LaplacianEdges
from sim_bridge.frames import ByteArray
from trainers.batches.sample import Sample, prepare
from trainers.data.dataset import DataSet, in_threads
from trainers.data.photograph import Photograph
from trainers.recipes.schema import DataRecipe


class SampleSource(Protocol):
    """A sample that crops can be cut from: prepared whole, or photograph by photograph when it is drawn."""

    @property
    def rgb(self) -> ByteArray:
        """uint8 ``(H, W, 3)``, what the network shall learn to make."""

    @property
    def labels(self) -> ByteArray:
        """uint8 ``(H, W)``."""

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """A window of it, mirrored left to right if asked."""


class LazySample(NamedTuple):
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

    def scaled(self, factor: float) -> LazySample:
        """The photograph resized by a factor; its edges are those of the resized picture."""
        return self._replace(photograph=self.photograph.scaled(factor))


class OnDisk(Sequence[LazySample]):
    """Samples that are read from their files each time they are asked for."""

    def __init__(self, data: DataSet, operator: LaplacianEdges) -> None:
        self.data = data
        self._operator = operator

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, index: int) -> LazySample: ...
    @overload
    def __getitem__(self, index: slice) -> list[LazySample]: ...
    def __getitem__(self, index: int | slice) -> LazySample | list[LazySample]:
        """Reads one sample, or those of a slice."""
        if isinstance(index, slice):
            return [LazySample(p, self._operator) for p in self.data[index]]
        return LazySample(self.data[index], self._operator)


class InMemory(Sequence[SampleSource]):
    """Samples in memory. They are read by :meth:`load`, at the latest when the first is asked for.

    Args:
        data: Whose.
        hold: What is held of a photograph.
        threads: How many read; 0 is the caller's alone.
    """

    def __init__(self, data: DataSet, hold: Callable[[Photograph], SampleSource], threads: int) -> None:
        self.data = data
        self._hold, self._threads = hold, threads
        self._samples: list[SampleSource] = []

    def load(self) -> list[SampleSource]:
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
    def __getitem__(self, index: int) -> SampleSource: ...
    @overload
    def __getitem__(self, index: slice) -> list[SampleSource]: ...
    def __getitem__(self, index: int | slice) -> SampleSource | list[SampleSource]:
        """One sample, or those of a slice."""
        return self.load()[index]


def open_samples(data: DataSet, operator: LaplacianEdges, recipe: DataRecipe) -> InMemory | OnDisk:
    """The samples of a set as its recipe wants them held, by ``workers`` threads; nothing is read yet."""
    if recipe.memory == "stream":
        return OnDisk(data, operator)
    if recipe.scale is not None:  # edges are those of the scaled picture, so only photographs can be kept
        return InMemory(data, lambda photograph: LazySample(photograph, operator), recipe.workers)
    return InMemory(data, lambda photograph: prepare(photograph, operator), recipe.workers)


def load(samples: Sequence[SampleSource]) -> None:
    """Reads what is to be held in memory: before processes are forked off, which share it then.

    Raises:
        SimBridgeError: A sample is wrong.
    """
    if isinstance(samples, InMemory):
        samples.load()
