"""Data sets of two files a sample: a picture and its labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sim_bridge.errors import UsageError
from sim_bridge.pixels.labels import LabelMap
from sim_bridge.recordings.listing import list_files, natural_path
from trainers.data.clips import FrameFiles
from trainers.data.dataset import DataSet, take_share
from trainers.data.problems import EmptySplitError, MissingCounterpartError, Problem

PICTURES: Final = frozenset({".png", ".jpg", ".jpeg"})
"""Endings of image files, in any case."""


class Listing(NamedTuple):
    """Picture and label file of each sample, and a problem for every file that lacks the other."""

    pairs: list[tuple[Path, Path]]
    problems: list[Problem]
    notes: list[str]
    """What the listing left out."""


def list_images(
    folder: Path, pattern: str = "*", endings: Collection[str] = PICTURES, *, notes: list[str] | None = None
) -> list[Path]:
    """Image files below a folder by a glob, as all commands list files; ``notes`` takes what is left out."""
    listing = list_files(folder, pattern, endings)
    if notes is not None:
        notes += listing.notes
    return listing.paths


def refuse_unknown_names(key: str, names: Iterable[str], held: Collection[str], root: Path) -> None:
    """Raises UsageError where the recipe's ``data.KEY`` names what ``root`` does not hold: it would be trained on.

    Where ``held`` is empty, nothing is refused.
    """
    if held and (unknown := set(names) - set(held)):
        raise UsageError(
            f"data.{key} names {', '.join(sorted(unknown))}, but {root} holds {', '.join(sorted(held))}: name those"
        )


def pair_up(images: Iterable[Path], labels: Iterable[Path], label_of: Callable[[Path], Path]) -> Listing:
    """Pairs pictures, in their order, with their labels.

    ``label_of`` says where a picture's labels must be, with a lower-case ending; the file's may be in any case.
    """
    pairs: list[tuple[Path, Path]] = []
    problems: list[Problem] = []
    left: dict[Path, Path] = {}
    for file in labels:
        other = left.setdefault(file.with_suffix(file.suffix.lower()), file)
        if other is not file:
            sentence = f"{other} and {file} are labels of one picture: take one away"
            problems.append(Problem(file, MissingCounterpartError(sentence)))
    taken: dict[Path, Path] = {}
    for image in images:
        expected = label_of(image)
        if expected in left:
            pairs.append((image, left.pop(expected)))
            taken[expected] = image
        elif expected in taken:
            sentence = f"{image} and {taken[expected]} are two pictures of the labels {expected}: take one away"
            problems.append(Problem(image, MissingCounterpartError(sentence)))
        else:
            sentence = f"labels {expected} of the picture {image} are missing: complete the data set"
            problems.append(Problem(image, MissingCounterpartError(sentence)))
    for orphan in sorted(left.values(), key=natural_path):
        sentence = f"labels {orphan} have no picture: complete the data set, or take the labels away"
        problems.append(Problem(orphan, MissingCounterpartError(sentence)))
    return Listing(pairs, problems, [])


class PairedImages(DataSet):
    """Base of the data sets of two files a sample; a subclass lists them and says what their ids mean.

    Args:
        listing: The files that the recipe does not exclude.
        pictures: All pictures of the split, also the excluded: what ``share`` counts.
        hint: What to do when ``folder`` holds nothing.
        strict: Raise problems of the listing instead of keeping them.
    """

    def __init__(
        self,
        root: Path,
        listing: Listing,
        pictures: Sequence[Path],
        hint: str,
        share: str,
        *,
        folder: Path,
        strict: bool,
    ) -> None:
        self._root = root
        shared = set(take_share(pictures, share))
        self.files = [pair for pair in listing.pairs if pair[0] in shared]
        """Picture and label file of every sample."""
        self.problems, self.notes = tuple(listing.problems), tuple(dict.fromkeys(listing.notes))
        if not self.files:
            nothing = f"{folder} holds no photographs with labels: {hint}"
            empty = nothing_left(folder, len(listing.pairs), share, nothing)
            self.problems = (Problem(folder, empty), *self.problems)
        if strict:
            self.refuse_problems()

    def __len__(self) -> int:
        return len(self.files)

    def name_of(self, image: Path) -> str:
        """Name of the sample of a picture."""
        return image.stem

    @abstractmethod
    def label_map(self, labels: Path) -> LabelMap:
        """What the ids of a label file mean, in the data set's classes."""

    def instances_of(self, labels: Path) -> Path | None:
        """The file of instance ids beside a label file, where they are wanted."""
        return None

    def frame(self, index: int) -> FrameFiles:
        """The files of a sample."""
        image, labels = self.files[index]
        instances = self.instances_of(labels)
        return FrameFiles(self.name_of(image), image, labels, self.label_map(labels), instances=instances)


def nothing_left(folder: Path, found: int, share: str, nothing: str) -> EmptySplitError:
    """Why a split is empty: ``nothing`` where nothing was found, else the recipe's share."""
    if not found:
        return EmptySplitError(nothing)
    return EmptySplitError(f"data.share is {share!r}, which is none of the {found} samples of {folder}: set it to all")
