"""Which RGB image and which label image of a foreign folder belong together, and which frame number they get."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sim_bridge.errors import UsageError


class Pair(NamedTuple):
    """The files of one frame, and its number: the last one in the RGB file's name, or its place where those repeat."""

    number: int
    rgb: Path
    semantic: Path


def pair_files(pictures: Sequence[Path], labels: Sequence[Path]) -> tuple[list[Pair], list[str]]:
    """Joins the RGB and the label files of a foreign folder.

    By the first rule that gives one partner each: equal names, the last number of the names, all numbers of the names;
    else by sorted order when there are equally many.

    Args:
        pictures: At least one RGB image, sorted.
        labels: At least one label image, sorted.

    Returns:
        The pairs by rising frame number, and the notes that say which rule was used and what has no partner.

    Raises:
        UsageError: No rule fits, or a file is both picture and labels.
    """
    both = set(pictures) & set(labels)
    if both:
        raise UsageError(f"{min(both)} is matched both as RGB and as labels: narrow the globs")
    for rule, key in _PAIRING_RULES:
        left, right = _by_key(pictures, key), _by_key(labels, key)
        if left is not None and right is not None and left.keys() & right.keys():
            shared = [path for name, path in left.items() if name in right]
            notes = [f"{_pairs(len(shared))} made by {rule}"]
            notes += _without_partner("RGB image", [path for name, path in left.items() if name not in right])
            notes += _without_partner("label image", [path for name, path in right.items() if name not in left])
            partners = [right[key(path)] for path in shared]
            return _numbered(shared, partners, notes)
    if len(pictures) == len(labels):
        notes = [f"{_pairs(len(pictures))} made by sorted order, since the names share no numbers"]
        return _numbered(list(pictures), list(labels), notes)
    raise UsageError(
        f"{len(pictures)} RGB images and {len(labels)} label images cannot be paired, since no numbers in their names "
        f"agree and the counts differ ({pictures[0].name!r} against {labels[0].name!r}): narrow the globs"
    )


def _numbered(pictures: list[Path], labels: list[Path], notes: list[str]) -> tuple[list[Pair], list[str]]:
    numbers, more = _frame_numbers(pictures)
    pairs = [Pair(*parts) for parts in zip(numbers, pictures, labels, strict=True)]
    return sorted(pairs), notes + more


def _frame_numbers(paths: Sequence[Path]) -> tuple[list[int], list[str]]:
    """The frame number of each file: the last number of its name, or its position where those repeat or are missing."""
    numbers = [_numbers(path)[-1:] for path in paths]
    if all(numbers) and len(set(numbers)) == len(numbers):
        return [int(number[0]) for number in numbers], []
    return list(range(len(paths))), ["frames are numbered from 0 in sorted order, since the names' last numbers repeat"]


def _numbers(path: Path) -> tuple[int, ...]:
    """The numbers that stand alone in a file's name (not the 8 of ``leftImg8bit``); all of them where none does."""
    groups = re.findall(r"(?<![A-Za-z0-9])\d+(?![A-Za-z0-9])", path.stem) or re.findall(r"\d+", path.stem)
    return tuple(int(group) for group in groups if len(group) <= 19)  # 19 digits fit the wire's unsigned 64 bits


_PAIRING_RULES: Final[tuple[tuple[str, Callable[[Path], object]], ...]] = (
    ("equal file names", lambda path: path.stem),
    ("the last number in the file names", lambda path: _numbers(path)[-1:] or None),
    ("all numbers in the file names", lambda path: _numbers(path) or None),
)


def _by_key(paths: Iterable[Path], key: Callable[[Path], object]) -> dict[object, Path] | None:
    """The files by key, or None when a key is missing or repeats."""
    found: dict[object, Path] = {}
    for path in paths:
        name = key(path)
        if name is None or name in found:
            return None
        found[name] = path
    return found


def _pairs(count: int) -> str:
    return "1 pair of RGB and labels" if count == 1 else f"{count} pairs of RGB and labels"


def _without_partner(what: str, paths: Sequence[Path]) -> list[str]:
    if not paths:
        return []
    plural = f"1 {what} has" if len(paths) == 1 else f"{len(paths)} {what}s have"
    return [f"{plural} no partner and {'is' if len(paths) == 1 else 'are'} left out, the first is {paths[0]}"]
