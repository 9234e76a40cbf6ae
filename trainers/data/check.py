"""Reads a whole data set before a training does, and tells everything that is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.nets.dned import STRIDE
from sim_bridge.errors import SizeMismatchError, UsageError
from sim_bridge.pixels.alignment import Alignment
from sim_bridge.pixels.one_class import LONE_SHARE
from trainers.batches.draw import too_small_to_train
from trainers.data.clips import FrameFiles, odd_size, with_flow
from trainers.data.dataset import DataSet, in_threads
from trainers.data.open import open_data
from trainers.data.problems import Problem
from trainers.recipes.schema import DataRecipe

SPLITS: Final = ("train", "val")
_COMPARED: Final = 16
"""Photographs of a split whose labels are held against their pictures."""


class _Reading(NamedTuple):
    """What is kept of one sample."""

    size: tuple[int, int] | None
    counts: npt.NDArray[np.int64]
    stray: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What is in a split.

    Attributes:
        pictures: How many have labels, wrong ones included.
        sizes: How many of the right pictures have a width and height.
        classes: Share of their pixels, by class name.
        stray: Their pixels outside the taxonomy (at most 0.1 % of a picture).
        clips: How many there are of ``data.frames`` frames; None for single frames.
        readings: How the labels of each folder are read.
        suspicions: Sentences about what may be wrong.
    """

    split: str
    pictures: int
    sizes: dict[tuple[int, int], int]
    classes: dict[str, float]
    stray: int
    problems: list[Problem] = field(default_factory=list)
    clips: int | None = None
    notes: tuple[str, ...] = ()
    """What its folders hold beside, and is left out."""
    readings: list[str] = field(default_factory=list)
    suspicions: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "pictures": self.pictures,
            **({} if self.clips is None else {"clips": self.clips}),
            "sizes": {f"{width}x{height}": count for (width, height), count in self.sizes.items()},
            "classes": {name: round(share, 6) for name, share in self.classes.items()},
            "stray_pixels": self.stray,
            "labels": self.readings,
            "suspicions": self.suspicions,
            "notes": list(self.notes),
            "problems": [{"kind": p.kind, "file": str(p.file), "message": str(p.error)} for p in self.problems],
        }


def check_data(recipe: DataRecipe, root: Path, threads: int = 0, *, instances: bool = False) -> list[SplitReport]:
    """Reads every file of both splits, of what trains also instance ids if asked.

    0 ``threads`` are one a core, at most 8.

    Raises:
        UsageError: The folder, or what the recipe names in it, is missing.
    """
    if not root.is_dir():
        raise UsageError(f"--root {root} is no folder: give the data set's")
    threads = threads or min(8, os.cpu_count() or 1)
    return [_check_split(recipe, root, split, threads, instances and split == "train") for split in SPLITS]


def _check_split(recipe: DataRecipe, root: Path, split: str, threads: int, instances: bool) -> SplitReport:
    # At the files' own size: the labels are resized only when they are known to be labels.
    data = open_data(recipe.model_copy(update={"resize": None}), root, split, instances=instances, strict=False)
    frames, moving = _frames(data), with_flow(data.clips)
    readings = in_threads(
        lambda i: _read(data, frames[i], recipe, split, flow=frames[i].picture in moving), len(frames), threads
    )
    photographs = readings[: len(data)]
    counts = sum((r.counts for r in photographs), np.zeros(len(data.classes), np.int64))
    shares = counts / max(1, int(counts.sum()))
    problems = [*data.problems, *(problem for r in readings for problem in r.problems)]
    if recipe.resize is None:
        sizes = {f.picture: r.size for f, r in zip(frames, readings, strict=True) if r.size is not None}
        odd = (odd_size(clip, sizes) for clip in data.clips)
        problems += {problem.file: problem for problem in odd if problem is not None}.values()
    classes = dict(zip(data.classes, shares.tolist(), strict=True))
    return SplitReport(
        split,
        len(data),
        dict(Counter(r.size for r in photographs if r.size is not None)),
        classes,
        sum(r.stray for r in photographs),
        problems,
        len(data.clips) if recipe.frames > 1 else None,
        data.notes,
        [f"{reader.name} as {' and '.join(reader.readings)}" for reader in data.readers.values() if reader.readings],
        [s for reader in data.readers.values() for s in reader.suspicions] + _lone_classes(classes) + _misplaced(data),
    )


def _misplaced(data: DataSet) -> list[str]:
    """Whether the labels of the first photographs lie on their pictures."""
    alignment = Alignment()
    for index in range(min(_COMPARED, len(data))):
        if (photograph := data.inspect(index).photograph) is not None:
            alignment.add(photograph.rgb, photograph.labels, follows=True)
    finding = alignment.finding()
    return [] if finding is None else [f"{finding}: pair each picture with its own labels"]


def _lone_classes(shares: Mapping[str, float]) -> list[str]:
    return [
        f"{share:.2%} of the labelled pixels are {name!r}: check that the labels are labels"
        for name, share in shares.items()
        if share > LONE_SHARE
    ]


def _frames(data: DataSet) -> list[FrameFiles]:
    """The labelled photographs, then what else is in clips."""
    listed = [data.frame(index) for index in range(len(data))]
    known = {frame.picture for frame in listed}
    others = {frame.picture: frame for clip in data.clips for frame in clip.frames if frame.picture not in known}
    return [*listed, *others.values()]


def _read(data: DataSet, frame: FrameFiles, recipe: DataRecipe, split: str, *, flow: bool) -> _Reading:
    photograph, problems = data.inspect_frame(frame, flow=flow)
    if photograph is None:
        return _Reading(None, np.zeros(len(data.classes), np.int64), 0, problems)
    counts = np.bincount(photograph.labels.ravel(), minlength=len(data.classes))
    too_small = too_small_to_train if split == "train" else _too_small_to_validate
    if (problem := too_small(photograph.size, recipe, frame.picture)) is not None:
        problems = (*problems, problem)
    return _Reading(photograph.size, counts, photograph.stray, problems)


def _too_small_to_validate(size: tuple[int, int], recipe: DataRecipe, file: Path) -> Problem | None:
    """A picture that is shorter than the networks' stride, as it is scored; see :meth:`Photograph.crop_to_stride`."""
    if min(recipe.resize or size) >= STRIDE:
        return None
    sentence = (
        f"{file} is {size[0]}x{size[1]}, and what validates must have {STRIDE} pixels a side: leave it out, or set"
        " data.resize"
    )
    return Problem(file, SizeMismatchError(sentence))


def _counted(problems: int) -> str:
    return f"{problems} problem{'s' * (problems != 1)}"


def describe(reports: Sequence[SplitReport]) -> str:
    """The reports as text: counts and sizes, a table of the classes' shares by split, and every problem."""
    lines = []
    for report in reports:
        sizes = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sorted(report.sizes.items())) or "none"
        stray = f"; {report.stray} pixels outside the taxonomy count as unlabeled" if report.stray else ""
        clips = "" if report.clips is None else f", {report.clips} clips"
        lines.append(f"{report.split}: {report.pictures} pictures{clips}; sizes {sizes}{stray}")
        lines += [f"{report.split}: labels of {reading}" for reading in report.readings]
    names = list(reports[0].classes)
    width = max(map(len, names))
    lines += ["", f"{'class':<{width}}" + "".join(f"{report.split:>11}" for report in reports)]
    lines += [f"{name:<{width}}" + "".join(f"{report.classes[name]:>11.3%}" for report in reports) for name in names]
    for report in reports:
        lines += [
            "",
            f"{report.split}: {_counted(len(report.problems))}" if report.problems else f"{report.split}: whole",
        ]
        lines += [f"  suspicious: {suspicion}" for suspicion in report.suspicions]
        lines += [f"  {problem.kind}: {problem.error}" for problem in report.problems]
        lines += [f"  note: {note}" for note in report.notes]
    return "\n".join(lines)
