"""Where training takes its samples from: prepared in memory, photographs in memory, or files as they are drawn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, overload

import numpy as np

from models.edges import LaplacianEdges
from sim_bridge.frames import ByteArray
from trainers.batches.sample import Sample, prepare
from trainers.data.clips import Clip, FrameFiles, odd_size, with_flow
from trainers.data.dataset import DataSet, in_threads, whole
from trainers.data.photograph import Photograph
from trainers.recipes.schema import DataRecipe


class FrameSource(Protocol):
    """A frame that crops can be cut from: ``rgb`` uint8 ``(H, W, 3)``, ``labels`` uint8 ``(H, W)``."""

    @property
    def rgb(self) -> ByteArray: ...  # noqa: D102
    @property
    def labels(self) -> ByteArray: ...  # noqa: D102

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """A window of it, mirrored left to right if asked."""


class SampleSource(Protocol):
    """A clip of T >= 1 frames of one size, in order of time; ``rgb`` and ``labels`` are the first frame's."""

    @property
    def rgb(self) -> ByteArray: ...  # noqa: D102
    @property
    def labels(self) -> ByteArray: ...  # noqa: D102
    @property
    def frames(self) -> Sequence[FrameSource]: ...  # noqa: D102


class LazySample(NamedTuple):
    """A photograph of which only the drawn crop goes through the edge operator."""

    photograph: Photograph
    operator: LaplacianEdges

    @property
    def rgb(self) -> ByteArray:  # noqa: D102
        return self.photograph.rgb

    @property
    def labels(self) -> ByteArray:  # noqa: D102
        return self.photograph.labels

    @property
    def frames(self) -> tuple[LazySample]:
        """A clip of one."""
        return (self,)

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """As :meth:`Sample.crop` of the whole prepared photograph, bit for bit."""
        margin = self.operator.margin  # what the operator looks beyond a pixel: a crop has no border of its own
        y, x = max(0, top - margin), max(0, left - margin)
        window = self.photograph.cut(y, x, top + height + margin - y, left + width + margin - x)
        return prepare(window, self.operator).crop(top - y, left - x, height, width, flip=flip)

    def scaled(self, factor: float) -> LazySample:
        """The photograph resized by a factor; its edges are those of the resized picture."""
        return self._replace(photograph=self.photograph.scaled(factor))


class ClipSample(NamedTuple):
    """Consecutive frames of one size, in order of time."""

    frames: tuple[FrameSource, ...]

    @property
    def rgb(self) -> ByteArray:  # noqa: D102
        return self.frames[0].rgb

    @property
    def labels(self) -> ByteArray:  # noqa: D102
        return self.frames[0].labels


class HeldSamples(Sequence[SampleSource]):
    """The samples of a data set: its clips, or its photographs where it has none."""

    def __init__(self, data: DataSet) -> None:
        self.data = data
        self.clips = data.samples()
        self._with_flow = with_flow(self.clips)

    def __len__(self) -> int:
        return len(self.clips)

    @overload
    def __getitem__(self, index: int) -> SampleSource: ...
    @overload
    def __getitem__(self, index: slice) -> list[SampleSource]: ...
    def __getitem__(self, index: int | slice) -> SampleSource | list[SampleSource]:
        """One sample, or those of a slice; a wrong frame, or one of another size, is a SimBridgeError."""
        if isinstance(index, slice):
            return [self.sample(clip) for clip in self.clips[index]]
        return self.sample(self.clips[index])

    @abstractmethod
    def sample(self, clip: Clip) -> SampleSource:
        """The sample of a clip."""

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The files of a sample, the first frame's picture first."""
        return tuple(file for frame in self.clips[index].frames for file in frame.files)

    def read(self, frame: FrameFiles, *, flow: bool = True) -> Photograph:
        """Reads a frame; where the set has flow, one that has none gets all NaN, so that batches keep their shape."""
        flow = flow and frame.picture in self._with_flow
        photograph = whole(self.data.inspect_frame(frame, flow=flow))
        if not flow or photograph.flow is not None:
            return photograph
        return photograph._replace(flow=np.full((*photograph.labels.shape, 2), np.nan, np.float32))


class OnDisk(HeldSamples):
    """Samples that are read from their files each time they are asked for."""

    def __init__(self, data: DataSet, operator: LaplacianEdges) -> None:
        super().__init__(data)
        self._operator = operator

    def sample(self, clip: Clip) -> SampleSource:
        """Reads it; the flow of the last frame leads out of the clip."""
        moving = len(clip.frames) - 1
        photographs = [self.read(frame, flow=i < moving) for i, frame in enumerate(clip.frames)]
        return _join(clip, [LazySample(photograph, self._operator) for photograph in photographs])


class InMemory(HeldSamples):
    """Samples in memory, each frame once, also where clips overlap; 0 ``threads`` read in the caller's."""

    def __init__(self, data: DataSet, hold: Callable[[Photograph], LazySample | Sample], threads: int) -> None:
        super().__init__(data)
        self._hold, self._threads = hold, threads
        self._frames: dict[Path, LazySample | Sample] = {}

    def load(self) -> None:
        """Reads all frames, once; the first sample does so at the latest."""
        if not self._frames:
            frames = list({frame.picture: frame for clip in self.clips for frame in clip.frames}.values())
            held = in_threads(lambda i: self._hold(self.read(frames[i])), len(frames), self._threads)
            self._frames = {frame.picture: one for frame, one in zip(frames, held, strict=True)}

    def sample(self, clip: Clip) -> SampleSource:
        """Its frames, which are not copied."""
        self.load()
        return _join(clip, [self._frames[frame.picture] for frame in clip.frames])


def _join(clip: Clip, frames: Sequence[LazySample | Sample]) -> SampleSource:
    if len(frames) == 1:
        return frames[0]
    sizes = {
        files.picture: (frame.labels.shape[1], frame.labels.shape[0])
        for files, frame in zip(clip.frames, frames, strict=True)
    }
    if (problem := odd_size(clip, sizes)) is not None:
        raise problem.error
    return ClipSample(tuple(frames))


def open_samples(data: DataSet, operator: LaplacianEdges, recipe: DataRecipe) -> InMemory | OnDisk:
    """The samples of a set as its recipe wants them held, by ``workers`` threads; nothing is read yet."""
    if recipe.memory == "stream":
        return OnDisk(data, operator)
    if recipe.scale is not None:  # edges are those of the scaled picture, so only photographs can be kept
        return InMemory(data, lambda photograph: LazySample(photograph, operator), recipe.workers)
    return InMemory(data, lambda photograph: prepare(photograph, operator), recipe.workers)


def load(samples: Sequence[SampleSource]) -> None:
    """Reads what is held in memory: before processes are forked off, which share it then."""
    if isinstance(samples, InMemory):
        samples.load()
