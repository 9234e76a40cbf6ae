"""What a file's path says about which frame it is of: the rules by which a picture finds its labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from sim_bridge.recordings.listing import NUMBER, Found, natural_path

_STANDING: Final = re.compile(rf"(?<![^\W_])(?:{NUMBER.pattern})(?![^\W_])")  # not the 8 of leftImg8bit
_WORD: Final = re.compile(r"[^\W_]+")
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")  # Camera, RGB and 0 of CameraRGB0
_KIND_WORDS: Final = {
    *("rgb", "bgr", "cg", "color", "colour", "image", "img", "picture", "photo", "render", "raw", "frame"),
    *("sem", "semantic", "semseg", "seg", "segmentation", "label", "labelid", "id", "mask", "gt", "fine", "bit"),
    *("annot", "annotation", "class", "camera", "cam", "sensor"),
}
_LARGE: Final = 10**9  # seconds since 1970, and all finer stamps
Joined = list[tuple[Found, Found]]
Rows = list[tuple[Fraction, ...]]


class Number(NamedTuple):
    """A number in a name."""

    value: Fraction
    is_decimal: bool

    @property
    def is_stamp(self) -> bool:
        """Whether it has a decimal point, or is too large to count frames."""
        return self.is_decimal or self.value >= _LARGE


def numbers_of(found: Found) -> tuple[Number, ...]:
    """The numbers that stand alone in a file's name; all of them where none does."""
    stem = found.path.stem
    return tuple(map(_number, _STANDING.findall(stem) or NUMBER.findall(stem)))


def _number(text: str) -> Number:
    return Number(Fraction(text), "." in text)


class Sides(NamedTuple):
    """The two lists of files, each with the folders that tell its files apart and can be compared with the other's."""

    pictures: Sequence[Found]
    labels: Sequence[Found]
    places: dict[Found, Hashable]

    @classmethod
    def of(cls, pictures: Sequence[Found], labels: Sequence[Found]) -> Sides:
        """Compares what the wildcards matched of folders' names."""
        left, right = ([found.folders for found in side] for side in (pictures, labels))
        if {len(place) for place in left} != {len(place) for place in right}:
            left, right = _without_constants(left), _without_constants(right)
        if {len(place) for place in left} != {len(place) for place in right}:
            left, right = [()] * len(left), [()] * len(right)  # then the names must be enough
        if not set(left) & set(right):
            left, right = ([tuple(map(_without_kinds, place)) for place in side] for side in (left, right))
        return cls(pictures, labels, dict(zip((*pictures, *labels), (*left, *right), strict=True)))


def _without_constants(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    varying = [len(set(column)) > 1 for column in zip(*rows, strict=False)]
    return [tuple(value for value, keep in zip(row, varying, strict=True) if keep) for row in rows]


def _without_kinds(text: str) -> str:
    """A text without the words that tell pictures from labels."""
    return " ".join(part for part in _PART.findall(text) if not _is_kind(part))


def _is_kind(word: str) -> bool:
    return word.lower() in _KIND_WORDS or word.lower().removesuffix("s") in _KIND_WORDS


Key = Callable[[Found], Hashable | None]


def strict_rules(sides: Sides) -> Iterable[tuple[str, Key, Key]]:
    """The rules that compare all that a name says: what to call each, its key of a picture and of labels."""

    def stem(found: Found) -> Hashable:
        return sides.places[found], found.path.stem

    def wild(found: Found) -> Hashable:
        return sides.places[found], *found.name[:-1], found.name[-1].removesuffix(found.path.suffix)

    yield "equal file names", stem, stem
    if all(found.name for found in (*sides.pictures, *sides.labels)):
        yield "what the globs' wildcards matched", wild, wild
    for pattern in (_STANDING, NUMBER):
        for stamps in (True, False):
            keys = _name_keys(sides, pattern, stamps) or {}
            count = max((len(numbers) for _, _, numbers in keys.values()), default=0)
            rule = ("the words", "the last number")[count] if count < 2 else "all numbers"
            full = {found: key for found, key in keys.items() if key[1] or key[2]}
            yield f"{rule} in the file names", full.get, full.get


class _Names:
    """Words and numbers of the names of one side.

    Args:
        side: The files.
        pattern: Of the numbers; where a name has none of these, all its numbers count.
        stamps: Whether stamps count, too, in a name that has other numbers.
    """

    def __init__(self, side: Sequence[Found], pattern: re.Pattern[str], stamps: bool) -> None:
        self.numbers: Rows = []
        self.counts_cameras: list[tuple[bool, ...]] = []
        self.words: list[tuple[str, ...]] = []
        for stem in (found.path.stem for found in side):
            chosen = pattern if pattern.search(stem) else NUMBER
            numbers = [(_number(match[0]), _kind_before(stem[: match.start()])) for match in chosen.finditer(stem)]
            frames = numbers if stamps else [one for one in numbers if not one[0].is_stamp] or numbers
            self.numbers.append(tuple(number.value for number, _ in frames))
            self.counts_cameras.append(tuple(camera for _, camera in frames))
            self.words.append(tuple(_WORD.findall(chosen.sub(" ", stem))))

    def words_beside(self, other: _Names) -> list[tuple[str, ...]]:
        """The words of each name, without those that all names here have and none of the other side has."""
        kind = set(self.words[0]).intersection(*self.words).difference(*other.words)
        return [tuple(word for word in row if word not in kind) for row in self.words]


def _name_keys(
    sides: Sides, pattern: re.Pattern[str], stamps: bool
) -> dict[Found, tuple[Hashable, tuple[str, ...], tuple[Fraction, ...]]] | None:
    """Place, words and numbers of each file; None where the names of both sides cannot be compared."""
    left, right = (_Names(side, pattern, stamps) for side in (sides.pictures, sides.labels))
    compared = _comparable(left, right)
    if compared is None:
        return None
    files = (*sides.pictures, *sides.labels)
    parts = zip(
        files, (*left.words_beside(right), *right.words_beside(left)), (*compared[0], *compared[1]), strict=True
    )
    return {found: (sides.places[found], words, numbers) for found, words, numbers in parts}


def _kind_before(text: str) -> bool:
    """Whether a text ends in a word for pictures, labels or cameras, so that a number after it counts these."""
    parts = _PART.findall(text)
    return bool(parts) and _is_kind(parts[-1])


def _comparable(left: _Names, right: _Names) -> tuple[Rows, Rows] | None:
    """The numbers of both sides, column by column, without those that count cameras or that one side alone has."""
    if len({len(row) for row in (*left.numbers, *right.numbers)}) == 1:
        kept = [i for i in range(len(left.numbers[0])) if not _only_names_cameras(left, right, i)]
        return _columns(left.numbers, kept), _columns(right.numbers, kept)
    sides = []
    for rows in (left.numbers, right.numbers):
        if len({len(row) for row in rows}) != 1 or not rows[0]:
            return None
        last = len(rows[0]) - 1
        sides.append(_columns(rows, [i for i in range(last + 1) if i == last or len({row[i] for row in rows}) > 1]))
    return (sides[0], sides[1]) if len(sides[0][0]) == len(sides[1][0]) else None


def _only_names_cameras(left: _Names, right: _Names, column: int) -> bool:
    """Whether a column is ``rgb_0`` in all pictures and ``sem_1`` in all labels."""
    values = [{row[column] for row in side.numbers} for side in (left, right)]
    cameras = all(row[column] for side in (left, right) for row in side.counts_cameras)
    last = column == len(left.numbers[0]) - 1
    return cameras and not last and len(values[0]) == len(values[1]) == 1 and values[0] != values[1]


def _columns(rows: Rows, kept: Sequence[int]) -> Rows:
    return [tuple(row[i] for i in kept) for row in rows]


def last_number(sides: Sides) -> dict[Found, Hashable] | None:
    """Each file's last number that is no stamp, where it counts on through all files of its side; else None.

    Also None where both sides have equally many numbers: then the others contradict.
    """
    keys: dict[Found, Hashable] = {}
    counts = set[int]()
    for side in (sides.pictures, sides.labels):
        numbers = {found: [number.value for number in numbers_of(found) if not number.is_stamp] for found in side}
        counts.update({len(row) for row in numbers.values()} or {0})
        last = [numbers[found][-1:] for found in sorted(side, key=_order)]
        if not all(last) or sorted(last) != last:
            return None
        keys |= {found: (sides.places[found], row[-1]) for found, row in numbers.items()}
    return keys if len(counts) > 1 else None


def _order(found: Found) -> tuple[tuple[object, ...], ...]:
    return natural_path(found.path)


def joined(sides: Sides, picture_key: Key, label_key: Key) -> tuple[Joined, tuple[Found, Found] | None]:
    """The pairs that a rule makes, and two files of one side that it cannot tell apart, for which it makes none."""
    left, twins = _by_key(sides.pictures, picture_key)
    right, others = _by_key(sides.labels, label_key)
    if twins or others:
        return [], twins or others
    return [(found, right[key]) for key, found in left.items() if key in right], None


def _by_key(side: Sequence[Found], key: Key) -> tuple[dict[Hashable, Found], tuple[Found, Found] | None]:
    found: dict[Hashable, Found] = {}
    for file in side:
        name = key(file)
        if name is None:
            continue
        if name in found:
            return {}, (found[name], file)
        found[name] = file
    return found, None
