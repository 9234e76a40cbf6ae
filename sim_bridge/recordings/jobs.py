"""Several recordings and style seeds in one job: which of them goes where, and what its files are called."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sim_bridge.errors import UsageError
from sim_bridge.recordings.read import DESCRIPTION, Recording, stays_inside
from sim_bridge.settings import MAX_STYLE_SEED


@dataclass(frozen=True, slots=True)
class Task:
    """One recording at one seed.

    Attributes:
        name: What tells it from the job's others; empty where there are none.
    """

    recording: Recording
    destination: Path
    seed: int
    name: str = ""


def plan(recordings: Sequence[Recording], destination: Path, seeds: Sequence[int]) -> list[Task]:
    """Gives each recording a folder of its name, and each seed one in it, where there are several of them.

    Raises UsageError when a recording or a seed is given twice, or ``destination`` is one recording itself.
    """
    twice = [seed for i, seed in enumerate(seeds) if seed in seeds[:i]]
    if twice:
        raise UsageError(f"the style seed {twice[0]} is given twice: give each once")
    names = folder_names([recording.root for recording in recordings])
    tasks = []
    for recording, name in zip(recordings, names, strict=True):
        for seed in seeds:
            parts = [name] * (len(recordings) > 1) + [f"seed-{seed}"] * (len(seeds) > 1)
            tasks.append(Task(recording, destination.joinpath(*parts), seed, "/".join(parts)))
    if len(tasks) > 1 and (destination / DESCRIPTION).exists():
        raise UsageError(f"the destination {destination} is a recording itself: choose another folder for several")
    return tasks


def folder_names(roots: Sequence[Path]) -> list[str]:
    """The folders' names; those of the folders above before them where they are equal.

    Raises UsageError when one is given twice.
    """
    whole = [root.resolve() for root in roots]
    twice = [root for i, root in enumerate(whole) if root in whole[:i]]
    if twice:
        raise UsageError(f"the folder {twice[0]} is given twice: give each once")
    longest = max(len(root.parts) for root in whole)
    for count in range(1, longest + 1):
        names = ["_".join(root.parts[-count:]).replace(root.anchor, "") for root in whole]
        if len(set(names)) == len(names):
            return names
    raise UsageError(f"the folders {', '.join(map(str, roots))} have names that cannot be told apart: rename one")


def seeds_of(several: str | None, one: int | None, default: int) -> list[int]:
    """The seeds of ``--style-seeds``, like ``0,1,2``, or the only one.

    Raises UsageError when both flags are given, or a seed is none.
    """
    if several is None:
        return [default]
    if one is not None:
        raise UsageError(f"--style-seed {one} and --style-seeds {several} are both given: leave one out")
    numbers = [part.strip() for part in several.split(",")]
    for part in numbers:
        if not (part.isascii() and part.isdigit() and int(part) <= MAX_STYLE_SEED):
            raise UsageError(f"the style seed {part!r} is not 0 to {MAX_STYLE_SEED}: write --style-seeds like 0,1,2")
    return [int(part) for part in numbers]


Names = Mapping[tuple[str, int], str]
"""Path of a frame's files in their folder, without ending, by camera and frame number."""


def kept_names(recording: Recording) -> Names:
    """The pictures' paths below the folder that all pictures of a camera share.

    Raises UsageError when two pictures differ in their ending alone, or a recording cannot list a name.
    """
    names: dict[tuple[str, int], str] = {}
    for camera in recording.whole.cameras():
        frames = [(frame.number, frame.picture) for frame in recording.whole.frames(camera)]
        pictures = {number: picture for number, picture in frames if picture is not None}
        if not pictures:
            continue
        above = os.path.commonpath([str(picture.parent) for picture in pictures.values()])
        taken: dict[str, Path] = {}
        for number, picture in pictures.items():
            name = picture.relative_to(above).with_suffix("").as_posix()
            other = taken.setdefault(name, picture)
            if other is not picture:
                raise UsageError(f"{other} and {picture} have one name: rename one, or leave --keep-names out")
            if not stays_inside(name) or any(part.startswith(".") for part in name.split("/")):
                raise UsageError(
                    f"the name {name!r} of {picture} begins with a point or has a backslash or a colon in a place that "
                    "a recording cannot list: rename it, or leave --keep-names out"
                )
            names[camera, number] = name
    return names
