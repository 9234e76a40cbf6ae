"""Pairs by time stamp, for cameras that run at one rate but are not triggered together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from sim_bridge.recordings.identities import Joined, Sides, numbers_of
from sim_bridge.recordings.listing import Found

_FEWEST: Final = 3
"""Stamps of a side that show a period."""
_SAME_PERIOD: Final = Fraction(1, 100)
_JITTER: Final = Fraction(1, 4)
"""How far a stamp may be from its place, in periods."""
_DRIFT: Final = Fraction(1, 10)
"""How far the offset may move from the first third to the last, in periods."""

Stamped = list[tuple[Fraction, Found]]


class ByStamp(NamedTuple):
    """Pairs, the period of both sides, and how much larger the labels' stamps are; in the unit of the names."""

    pairs: Joined
    periods: tuple[float, float]
    offsets: tuple[float, float]


def join_by_stamp(sides: Sides, *, any_number: bool = False) -> ByStamp | None:
    """Pairs by nearest stamp, one to one and within half a period.

    Args:
        sides: The files.
        any_number: Take each name's last number for a stamp, not only one with a decimal point, or of 10 digits.

    Returns:
        None where the names hold no stamps, the periods differ, or the offset is not constant.
    """
    left, right = (_by_place(files, sides.places, any_number) for files in (sides.pictures, sides.labels))
    if left is None or right is None:
        return None
    groups = [_join(left[place], right[place]) for place in left if place in right]
    fitting = [group for group in groups if group is not None]
    if not fitting or len(fitting) != len(groups):
        return None
    periods = [float(period) for _, period, _ in fitting]
    offsets = [float(offset) for _, _, offset in fitting]
    pairs = [pair for joined, _, _ in fitting for pair in joined]
    return ByStamp(pairs, (min(periods), max(periods)), (min(offsets), max(offsets)))


def _by_place(
    files: Sequence[Found], places: Mapping[Found, Hashable], any_number: bool
) -> dict[Hashable, Stamped] | None:
    found: dict[Hashable, Stamped] = {}
    for file in files:
        stamps = [number for number in numbers_of(file) if number.is_stamp or any_number]
        if not stamps:
            return None
        found.setdefault(places[file], []).append((stamps[-1].value, file))
    for stamped in found.values():
        stamped.sort(key=lambda one: one[0])
    return found


def _join(left: Stamped, right: Stamped) -> tuple[Joined, Fraction, Fraction] | None:
    periods = [_period([stamp for stamp, _ in side]) for side in (left, right)]
    if periods[0] is None or periods[1] is None or abs(periods[0] - periods[1]) > _SAME_PERIOD * periods[0]:
        return None
    period = periods[0]
    stamps = [stamp for stamp, _ in right]
    pairs: list[tuple[Fraction, Found, Found]] = []
    taken = set[int]()
    for stamp, picture in left:
        after = bisect_left(stamps, stamp)
        nearest = min((i for i in (after - 1, after) if 0 <= i < len(stamps)), key=lambda i: abs(stamps[i] - stamp))
        offset = stamps[nearest] - stamp
        if abs(offset) >= period / 2:
            continue
        if nearest in taken:
            return None
        taken.add(nearest)
        pairs.append((offset, picture, right[nearest][1]))
    offsets = [offset for offset, _, _ in pairs]
    if len(pairs) < _FEWEST or not _constant(offsets, period):
        return None
    return [(picture, labels) for _, picture, labels in pairs], period, median(offsets)


def _period(stamps: Sequence[Fraction]) -> Fraction | None:
    """The one time between stamps, a few of which may be lost; None where there is none."""
    steps = [after - before for before, after in pairwise(stamps)]
    if len(stamps) < _FEWEST or min(steps) <= 0:
        return None
    usual = median(steps)
    counts = [max(1, round(step / usual)) for step in steps]
    if any(abs(step - count * usual) > _JITTER * usual for step, count in zip(steps, counts, strict=True)):
        return None
    return sum(steps) / Fraction(sum(counts))


def _constant(offsets: Sequence[Fraction], period: Fraction) -> bool:
    middle = median(offsets)
    third = max(1, len(offsets) // 3)
    drift = abs(median(offsets[-third:]) - median(offsets[:third]))
    return drift <= _DRIFT * period and all(abs(offset - middle) <= _JITTER * period for offset in offsets)
