"""Data sets of two files a sample: a picture and its labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sim_bridge.captures import read_ids, read_rgb
from sim_bridge.errors import LabelError
from sim_bridge.labels import LabelMap, MappedLabels
from trainers.data import DataSet, Inspection, Photograph
from trainers.problems import Attempts, EmptySplitError, MissingCounterpartError, Problem


class Listing(NamedTuple):
    """Picture and label file of the samples that have both, and a problem for every file that lacks the other."""

    pairs: list[tuple[Path, Path]]
    problems: list[Problem]


def pair_up(images: Iterable[Path], labels: Iterable[Path], label_of: Callable[[Path], Path]) -> Listing:
    """Finds the labels of every picture, and label files that belong to none.

    Args:
        images: Pictures, in the order of the samples.
        labels: All label files.
        label_of: Where the labels of a picture must be.
    """
    pairs: list[tuple[Path, Path]] = []
    problems: list[Problem] = []
    left = set(labels)
    for image in images:
        expected = label_of(image)
        if expected in left:
            left.remove(expected)
            pairs.append((image, expected))
        else:
            sentence = f"labels {expected} of the picture {image} are missing: complete the data set"
            problems.append(Problem(image, MissingCounterpartError(sentence)))
    for orphan in sorted(left):
        sentence = f"labels {orphan} have no picture: complete the data set, or take the labels away"
        problems.append(Problem(orphan, MissingCounterpartError(sentence)))
    return Listing(pairs, problems)


class PairedImages(DataSet):
    """Base of the data sets of two files a sample; a subclass lists them and says what their ids mean."""

    def __init__(self, listing: Listing, folder: Path, hint: str, *, strict: bool) -> None:
        """Takes up the files.

        Args:
            listing: The files.
            folder: Where they were looked for.
            hint: What to do when nothing was found.
            strict: Raise a problem of the listing, instead of keeping it in :attr:`problems`.
        """
        self.files = listing.pairs
        """Picture and label file of every sample."""
        self.problems = tuple(listing.problems)
        if not self.files:
            empty = EmptySplitError(f"{folder} holds no photographs with labels: {hint}")
            self.problems = (Problem(folder, empty), *self.problems)
        if strict:
            self.refuse_problems()

    def __len__(self) -> int:
        return len(self.files)

    def files_of(self, index: int) -> tuple[Path, ...]:
        """Picture and labels of one sample."""
        return self.files[index]

    def name_of(self, image: Path) -> str:
        """Name of the sample of a picture."""
        return image.stem

    def label_map(self, labels: Path) -> LabelMap:
        """What the ids of a label file mean, in the data set's classes."""
        raise NotImplementedError

    def inspect(self, index: int) -> Inspection:
        """Reads one sample; see :meth:`DataSet.inspect`."""
        image, labels = self.files[index]
        attempt = Attempts()
        rgb = attempt(image, lambda: read_rgb(image))
        mapped = attempt(labels, lambda: read_labels(labels, self.label_map(labels)))
        attempt.same_size(labels, None if mapped is None else mapped.labels, image, rgb)
        if rgb is None or mapped is None or attempt.problems:
            return Inspection(None, tuple(attempt.problems))
        return Inspection(Photograph(self.name_of(image), rgb, mapped.labels, stray=mapped.stray), ())


def read_labels(file: Path, table: LabelMap) -> MappedLabels:
    """Reads a label file in a data set's classes.

    Raises:
        ImageError: It cannot be decoded.
        LabelError: Ids or colours are outside the taxonomy; the message names the file, the id and its share.
    """
    ids = read_ids(file, table.source)
    try:
        return table.apply(ids)
    except LabelError as error:
        raise LabelError(f"{file}: {error}") from error
