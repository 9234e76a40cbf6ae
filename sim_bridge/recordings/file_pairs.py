"""Which RGB image and which label image of a foreign folder belong together, and which frame number they get."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sim_bridge.errors import UsageError
from sim_bridge.recordings.identities import (
    Joined,
    Sides,
    joined,
    last_number,
    numbers_of,
    strict_rules,
)
from sim_bridge.recordings.listing import NUMBER, Found, left_out, natural_path
from sim_bridge.recordings.stamps import ByStamp, join_by_stamp

Pairing = Literal["identity", "stamp", "sorted"]
"""How to pair: by what the paths say, by each name's last number as a time stamp, or by sorted order."""
_LARGEST: Final = 2**64 - 1  # frame number of the wire


class Pair(NamedTuple):
    """The files of one frame, its number, and its time in seconds where the RGB file's name is one."""

    number: int
    rgb: Path
    semantic: Path
    time: float | None = None


def pair_files(
    pictures: Sequence[Found], labels: Sequence[Found], how: Pairing = "identity"
) -> tuple[list[Pair], list[str]]:
    """Joins the RGB and the label files of a foreign folder.

    Args:
        pictures: At least one RGB image, in natural order.
        labels: At least one label image, in natural order.
        how: By identity, files are joined whose folders, words and numbers agree; by stamp at one period alone.

    Returns:
        The pairs by rising frame number, and the notes that say which rule was used and what has no partner.

    Raises:
        UsageError: No rule fits, two files are one frame, or a file is both picture and labels.
    """
    both = {found.path for found in pictures} & {found.path for found in labels}
    if both:
        raise UsageError(f"{min(both)} is matched both as RGB and as labels: narrow the globs")
    pairs, rule = (_in_order if how == "sorted" else _by_stamp if how == "stamp" else _by_identity)(pictures, labels)
    notes = [f"{'1 pair' if len(pairs) == 1 else f'{len(pairs)} pairs'} of RGB and labels made by {rule}"]
    for what, side, paired in zip(("RGB", "label"), (pictures, labels), zip(*pairs, strict=True), strict=True):
        alone = {found.path for found in side} - {found.path for found in paired}
        notes += _without_partner(f"{what} image", alone)
    return _numbered(pairs, notes)


def _in_order(pictures: Sequence[Found], labels: Sequence[Found]) -> tuple[Joined, str]:
    if len(pictures) != len(labels):
        raise _cannot(pictures, labels, "since --pair sorted needs equally many of both", "narrow the globs")
    return list(zip(pictures, labels, strict=True)), "sorted order"


def _by_stamp(pictures: Sequence[Found], labels: Sequence[Found]) -> tuple[Joined, str]:
    made = join_by_stamp(Sides.of(pictures, labels), any_number=True)
    if made is None:
        reason = "since the last numbers of their names have not one period and a constant offset below half of it"
        raise _cannot(pictures, labels, reason, "leave --pair stamp out")
    return made.pairs, _stamp_rule(made)


def _by_identity(pictures: Sequence[Found], labels: Sequence[Found]) -> tuple[Joined, str]:
    sides = Sides.of(pictures, labels)
    best: tuple[Joined, str] = [], ""
    twins: tuple[Found, Found] | None = None
    for rule, picture_key, label_key in strict_rules(sides):
        pairs, alike = joined(sides, picture_key, label_key)
        twins = twins or alike
        if len(pairs) > len(best[0]):
            best = pairs, rule
    if len(best[0]) * 2 < min(len(pictures), len(labels)):
        made = join_by_stamp(sides)
        if made is not None and len(made.pairs) > len(best[0]):
            return made.pairs, _stamp_rule(made)
    counted = None if best[0] else last_number(sides)
    if counted is not None:
        best = joined(sides, counted.get, counted.get)[0], "the last number in the file names"
    if best[0]:
        return best
    advice = "narrow the globs, or give --pair sorted where both sides are complete and in order"
    if twins is not None:
        reason = f"since {twins[0].path} and {twins[1].path} have the same numbers"
        raise _cannot(pictures, labels, reason, f"take one away, {advice}")
    raise _cannot(pictures, labels, "since nothing in their names says which belong together", advice)


def _stamp_rule(made: ByStamp) -> str:
    period, offset = (_range(values) for values in (made.periods, made.offsets))
    return f"nearest stamp: both have a period of {period}, and the labels' stamps are {offset} later"


def _range(values: tuple[float, float]) -> str:
    return " to ".join(dict.fromkeys(f"{value:.6g}" for value in values))


def _cannot(pictures: Sequence[Found], labels: Sequence[Found], reason: str, advice: str) -> UsageError:
    return UsageError(
        f"{len(pictures)} RGB images and {len(labels)} label images cannot be paired, {reason} "
        f"({pictures[0].path.name!r} against {labels[0].path.name!r}): {advice}"
    )


def _numbered(pairs: Joined, notes: list[str]) -> tuple[list[Pair], list[str]]:
    pairs = sorted(pairs, key=lambda pair: natural_path(pair[0].path))
    found = [picture for picture, _ in pairs]
    numbers, reason = _frame_numbers(found)
    if reason:
        notes = [*notes, f"frames are numbered from 0 in sorted order, since the names' last numbers {reason}"]
    times = _times(found)
    made = [
        Pair(number, rgb.path, ids.path, time) for number, time, (rgb, ids) in zip(numbers, times, pairs, strict=True)
    ]
    return sorted(made, key=lambda pair: pair.number), notes


def _frame_numbers(files: Sequence[Found]) -> tuple[list[int], str]:
    """The last number of each name, or the files' places and why the numbers cannot be used."""
    order, last = list(range(len(files))), [numbers_of(found)[-1:] for found in files]
    if not all(last):
        return order, "are missing"
    values = [number[0].value for number in last]
    if any(number[0].is_decimal for number in last):
        return order, "are decimal"
    if max(values) > _LARGEST:
        return order, f"are above {_LARGEST}"
    if len(set(values)) < len(values):
        return order, "repeat"
    if _interleaved(files, [int(value) for value in values]):
        return order, "mix the sequences"
    return [int(value) for value in values], ""


def _interleaved(files: Sequence[Found], numbers: Sequence[int]) -> bool:
    """Whether the numbers of two folders, or of two names but for their numbers, lie between each other."""
    of = dict(zip(numbers, files, strict=True))
    seen, current = set[object](), None
    for number in sorted(of):
        path = of[number].path
        before = path.parent, *NUMBER.split(path.stem), *numbers_of(of[number])[:-1]
        if before != current and before in seen:
            return True
        seen.add(before)
        current = before
    return False


def _times(files: Sequence[Found]) -> Sequence[float | None]:
    """Seconds, where all names end in decimal stamps that rise."""
    last = [number for found in files for number in numbers_of(found)[-1:] if number.is_decimal]
    rising = all(before.value < after.value for before, after in pairwise(last))
    return [float(number.value) for number in last] if rising and len(last) == len(files) else [None] * len(files)


def _without_partner(what: str, paths: set[Path]) -> list[str]:
    return left_out(f"{what} has no partner and", f"{what}s have no partner and", paths)
