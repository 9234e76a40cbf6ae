"""Data sets: photographs with labels, read one at a time."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

from sim_bridge.pixels.labels import LabelMap, Reading
from sim_bridge.recordings.labels import LabelReader
from trainers.data.clips import Clip, FrameFiles, Need, Video, cut_clips, no_clips
from trainers.data.photograph import VOID, Inspection, Photograph
from trainers.data.problems import Problem
from trainers.data.read import inspect_frame

T = TypeVar("T")


class Fingerprint(NamedTuple):
    """Names of the files of a set."""

    pictures: int
    names: str
    """SHA-256 of the pictures' names with the folders they lie in, in order."""


def take_share(items: Sequence[T], share: str) -> list[T]:
    """All items, or the ``odd`` or ``even`` ones; give the whole listing, also what a recipe excludes."""
    start, step = {"all": (0, 1), "odd": (1, 2), "even": (0, 2)}[share]
    return list(items[start::step])


class DataSet(Sequence[Photograph]):
    """Photographs with labels, and the videos around them; reading one takes time.

    Attributes:
        licence: SPDX id or name, also of what is trained on the data.
        problems: Of the listing; reading the files may find more.
        notes: What its folders hold beside, and is left out.
        clips: What a sample is where the recipe asks for several frames; empty where photographs are single.
    """

    classes: tuple[str, ...]
    licence: str
    credit: str
    description: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    clips: tuple[Clip, ...] = ()

    @property
    def void(self) -> int:
        """Id of the class that counts for nothing."""
        return self.classes.index(VOID)

    @abstractmethod
    def frame(self, index: int) -> FrameFiles:
        """The files of a labelled photograph."""

    def videos(self) -> Sequence[Video]:
        """Where frames are consecutive, labelled or not."""
        return ()

    def samples(self) -> Sequence[Clip]:
        """What training draws: the clips, or each photograph as a clip of one frame."""
        return self.clips or [Clip((self.frame(index),), 1) for index in range(len(self))]

    def cut_clips(self, length: int, step: int = 1, need: Need = "required") -> list[Clip]:
        """All clips of ``length`` frames, ``step`` apart; EmptySplitError where there is none."""
        videos = self.videos()
        if clips := cut_clips(videos, length, step, need):
            return clips
        raise no_clips(self.description, videos, length, step, need)

    @cached_property
    def readers(self) -> dict[LabelMap, LabelReader]:
        """Of label files, one for each meaning that their ids have: a recording's files are read in one way."""
        return {}

    def labels_as(self, table: LabelMap) -> str | None:
        """How the set itself says that label files are read."""
        return None

    def _reader(self, table: LabelMap) -> LabelReader:
        if (reader := self.readers.get(table)) is None:
            frames = (self.frame(index) for index in range(len(self)))
            files = [f.labels for f in frames if f.table is table and f.labels is not None]
            named, folder = self.labels_as(table), str(files[0].parent) if files else ""
            wanted = Reading.named(named) if named else None
            made = LabelReader(table.source, files, name=folder, wanted=wanted, logs=False)
            reader = self.readers.setdefault(table, made)
        return reader

    def inspect_frame(self, frame: FrameFiles, *, flow: bool = False) -> Inspection:
        """Reads a frame, with its exact flow if asked."""
        return inspect_frame(frame, self.void, self._reader(frame.table), flow=flow)

    def inspect(self, index: int) -> Inspection:
        """Reads a labelled photograph."""
        return self.inspect_frame(self.frame(index))

    def files_of(self, index: int) -> tuple[Path, ...]:
        """The files of a labelled photograph, the picture first."""
        return self.frame(index).files

    def read(self, index: int) -> Photograph:
        """Reads a labelled photograph, or raises the SimBridgeError of the first problem."""
        return whole(self.inspect(index))

    def fingerprint(self) -> Fingerprint:
        """Tells this set from another one, wherever it lies: a training resumes with the same alone."""
        pictures = [self.files_of(i)[0] for i in range(len(self))]
        pictures += [frame.picture for clip in self.clips for frame in clip.frames]
        names = "\n".join("/".join(file.parts[-2:]) for file in pictures)
        return Fingerprint(len(self), hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest())

    def refuse_problems(self) -> None:
        """Raises the listing's first problem, a UsageError, and says how many more there are."""
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
        """Reads one photograph, or those of a slice."""
        if isinstance(index, slice):
            return [self.read(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.read(index % len(self))


def whole(inspected: Inspection) -> Photograph:
    """The photograph, or raises its first problem."""
    if inspected.photograph is None:
        raise inspected.problems[0].error
    return inspected.photograph


def in_threads(step: Callable[[int], T], count: int, threads: int) -> list[T]:
    """``step(0)`` to ``step(count - 1)``, in order; decoding images leaves Python's lock, so threads are enough."""
    if not threads:
        return [step(i) for i in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(step, range(count)))
