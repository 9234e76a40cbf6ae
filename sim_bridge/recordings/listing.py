"""The one way in which files are found: natural order, hidden ones never, links followed, what is left out counted."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from sim_bridge.errors import UsageError

NUMBER: Final = re.compile(r"(?<![\d.])\d+\.\d+(?!\d|\.\d)|\d+")
"""A number in a name; one point between two numbers is a decimal point, more are not."""
_WILDCARD: Final = re.compile(r"(\*+|\?|\[!?\]?[^\]]*\])")
_ANY_FOLDERS: Final = "**"


class Found(NamedTuple):
    """A file, and what the wildcards of its glob matched: in the folders' names, and in its own."""

    path: Path
    folders: tuple[str, ...] = ()
    name: tuple[str, ...] = ()


class Listing(NamedTuple):
    """Files in natural order, and sentences that count and name what was left out."""

    found: tuple[Found, ...]
    notes: tuple[str, ...]

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [found.path for found in self.found]


def natural(name: str) -> tuple[object, ...]:
    """A key that sorts the numbers in names by value: 2 before 10, 1.25 before 1.5."""
    texts, numbers = NUMBER.split(name), [Fraction(number) for number in NUMBER.findall(name)]
    return (*(part for pair in zip(texts, [*numbers, Fraction(0)], strict=True) for part in pair), name)


def natural_path(path: Path) -> tuple[tuple[object, ...], ...]:
    """A key that sorts paths folder by folder, each by :func:`natural` order."""
    return tuple(natural(part) for part in path.parts)


def list_folders(folder: Path) -> list[Path]:
    """The folders in a folder, links to folders among them, in natural order; none where it is missing."""
    return [path for path in _entries(folder) if path.is_dir() and not _hidden(path)]


def list_files(root: Path, pattern: str, endings: Collection[str] | None = None) -> Listing:
    """The files below a folder that match a glob; letters' case counts.

    Args:
        root: The folder; a missing one holds nothing.
        pattern: Relative to it, with forward slashes; ``**`` is any number of folders, at its end any file in them.
        endings: Those that a name may have, in lower case and found in any; None for all.

    Raises:
        UsageError: A folder cannot be read.
    """
    walk = _Walk(PurePosixPath(pattern).parts)
    every = {found.path: found for found in walk.below(root, 0, Found(root), ())}
    kept = [found for path, found in every.items() if endings is None or path.suffix.lower() in endings]
    others = [path for path in every if endings is not None and path.suffix.lower() not in endings]
    ends = "/".join(sorted(endings or ()))
    notes = (
        *left_out(f"file that ends in none of {ends}", f"files that end in none of {ends}", others),
        *left_out("hidden file or folder", "hidden files and folders", walk.hidden),
        *left_out("folder that matches the glob", "folders that match the glob", walk.folders),
        *left_out("link that leads nowhere or in a circle", "links that lead nowhere or in a circle", walk.links),
    )
    return Listing(tuple(sorted(kept, key=lambda found: natural_path(found.path))), notes)


def left_out(one: str, many: str, paths: Collection[Path]) -> list[str]:
    """The sentence for what was left out, in a list; an empty list where nothing was."""
    if not paths:
        return []
    first = min(paths, key=natural_path)
    if len(paths) == 1:
        return [f"1 {one} is left out: {first}"]
    return [f"{len(paths)} {many} are left out, the first is {first}"]


class _Walk:
    """Follows a glob down the folders, and remembers what it passed over."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = [part for i, part in enumerate(parts) if part != _ANY_FOLDERS or parts[i - 1 : i] != (part,)]
        if self._parts[-1:] == [_ANY_FOLDERS]:
            self._parts.append("*")
        self._patterns = [re.compile(_regex(part), re.DOTALL) for part in self._parts]
        self.hidden: set[Path] = set()
        self.folders: set[Path] = set()
        self.links: set[Path] = set()

    def below(self, folder: Path, index: int, so_far: Found, above: tuple[str, ...]) -> Iterator[Found]:
        """The files that the glob's parts from ``index`` on match; ``above`` are the real folders on the way."""
        part, last = self._parts[index], index == len(self._parts) - 1
        if part == _ANY_FOLDERS:
            yield from self._any_folders(folder, index, so_far, above, "")
            return
        for path in _entries(folder) if _WILDCARD.search(part) else [folder / part]:
            match = self._patterns[index].fullmatch(path.name) if path.name else None
            wild = match.groups() if match else ()
            if match is None and part != "..":
                continue
            if _hidden(path):
                self.hidden.add(path)
            elif path.is_dir() and not last:
                yield from self.below(path, index + 1, Found(path, (*so_far.folders, *wild)), above)
            elif path.is_dir():
                self.folders.add(path)
            elif last and path.exists():
                yield Found(path, so_far.folders, wild)
            elif path.is_symlink():
                self.links.add(path)

    def _any_folders(
        self, folder: Path, index: int, so_far: Found, above: tuple[str, ...], way: str
    ) -> Iterator[Found]:
        yield from self.below(folder, index + 1, Found(folder, (*so_far.folders, way)), above)
        above = (*above, os.path.realpath(folder))
        for path in _entries(folder):
            if not path.is_dir():
                if path.is_symlink() and not path.exists():
                    self.links.add(path)
            elif _hidden(path):
                self.hidden.add(path)
            elif os.path.realpath(path) in above:
                self.links.add(path)
            else:
                yield from self._any_folders(path, index, so_far, above, f"{way}/{path.name}".removeprefix("/"))


def _regex(part: str) -> str:
    """A part of a glob as a regular expression, every wildcard a group."""
    pieces = []
    for piece in _WILDCARD.split(part):
        if piece.startswith("*"):
            pieces.append("(.*)")
        elif piece == "?":
            pieces.append("(.)")
        elif _WILDCARD.fullmatch(piece):
            pieces.append(f"({fnmatch.translate(piece).removeprefix('(?s:').rpartition(')')[0]})")
        else:
            pieces.append(re.escape(piece))
    return "".join(pieces)


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") and path.name not in (".", "..")


def _entries(folder: Path) -> list[Path]:
    """Everything in a folder, in natural order; nothing where it is missing or no folder."""
    try:
        return sorted(folder.iterdir(), key=lambda path: natural(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be read ({error.strerror}): check its permissions") from error
