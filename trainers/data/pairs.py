"""Data sets of two files a sample: a picture and its labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from sim_bridge.errors import ForeignIdsError, ImageError, LabelError, UsageError
from sim_bridge.pixels.images import read_image
from sim_bridge.pixels.labels import LabelMap, MappedLabels
from sim_bridge.recordings.captures import read_ids, read_rgb
from trainers.data.dataset import DataSet, take_share
from trainers.data.photograph import Inspection, InstanceIds, Photograph
from trainers.data.problems import EmptySplitError, MissingCounterpartError, Problem, ProblemCollector

PICTURES: Final = frozenset({".png", ".jpg", ".jpeg"})
"""Endings of image files, in any case."""


class Listing(NamedTuple):
    """Picture and label file of the samples that have both, and a problem for every file that lacks the other."""

    pairs: list[tuple[Path, Path]]
    problems: list[Problem]


def list_images(folder: Path, pattern: str = "*", endings: Collection[str] = PICTURES) -> list[Path]:
    """Image files below a folder by a glob, sorted; hidden ones (macOS leaves ``._NAME`` beside files) are none."""
    return sorted(
        file for file in folder.glob(pattern) if file.suffix.lower() in endings and not file.name.startswith(".")
    )


def refuse_unknown_names(key: str, names: Iterable[str], held: Collection[str], root: Path) -> None:
    """A name that is not there has no effect: what it should leave out would be trained on.

    Args:
        key: Of the recipe's section ``data``.
        names: What it names.
        held: What there is; nothing is said where there is nothing.
        root: Where.

    Raises:
        UsageError: One of the names is not there.
    """
    if held and (unknown := set(names) - set(held)):
        raise UsageError(
            f"data.{key} names {', '.join(sorted(unknown))}, but {root} holds {', '.join(sorted(held))}: name those"
        )


def pair_up(images: Iterable[Path], labels: Iterable[Path], label_of: Callable[[Path], Path]) -> Listing:
    """Finds the labels of every picture, and label files that belong to none.

    Args:
        images: Pictures, in the order of the samples.
        labels: All label files.
        label_of: Where the labels of a picture must be, with a lower-case ending; the file's may be in any case.
    """
    pairs: list[tuple[Path, Path]] = []
    problems: list[Problem] = []
    left = {file.with_suffix(file.suffix.lower()): file for file in labels}
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
    for orphan in sorted(left.values()):
        sentence = f"labels {orphan} have no picture: complete the data set, or take the labels away"
        problems.append(Problem(orphan, MissingCounterpartError(sentence)))
    return Listing(pairs, problems)


class PairedImages(DataSet):
    """Base of the data sets of two files a sample; a subclass lists them and says what their ids mean."""

    def __init__(self, listing: Listing, folder: Path, hint: str, share: str, *, strict: bool) -> None:
        """Takes up the files.

        Args:
            listing: The files.
            folder: Where they were looked for.
            hint: What to do when nothing was found.
            share: Every sample, or only the ``odd`` or ``even`` ones.
            strict: Raise a problem of the listing, instead of keeping it in :attr:`problems`.
        """
        self.files = take_share(listing.pairs, share)
        """Picture and label file of every sample."""
        self.problems = tuple(listing.problems)
        if not self.files:
            nothing = f"{folder} holds no photographs with labels: {hint}"
            empty = nothing_left(folder, len(listing.pairs), share, nothing)
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

    @abstractmethod
    def label_map(self, labels: Path) -> LabelMap:
        """What the ids of a label file mean, in the data set's classes."""

    def instances_of(self, labels: Path) -> Path | None:
        """The file of instance ids beside a label file; None where there is none, or nobody asked for it."""
        return None

    def inspect(self, index: int) -> Inspection:
        """Reads one sample; see :meth:`DataSet.inspect`."""
        image, labels = self.files[index]
        attempt = ProblemCollector()
        rgb = attempt(image, lambda: read_rgb(image))
        mapped = attempt(labels, lambda: read_labels(labels, self.label_map(labels)))
        attempt.same_size(labels, None if mapped is None else mapped.labels, image, rgb)
        file, instances = self.instances_of(labels), None
        if file is not None and file.is_file():  # a missing one is a problem of the listing
            instances = attempt(file, lambda: read_instances(file))
            attempt.same_size(file, instances, image, rgb)
        if rgb is None or mapped is None or attempt.problems:
            return Inspection(None, tuple(attempt.problems))
        return Inspection(Photograph(self.name_of(image), rgb, mapped.labels, None, mapped.stray, instances), ())


def nothing_left(folder: Path, found: int, share: str, nothing: str) -> EmptySplitError:
    """Why a split is empty: the sentence ``nothing`` where nothing was found, or the recipe's share leaves nothing."""
    if not found:
        return EmptySplitError(nothing)
    return EmptySplitError(f"data.share is {share!r}, which is none of the {found} samples of {folder}: set it to all")


def read_instances(file: Path) -> InstanceIds:
    """Reads instance ids, one number a pixel, of 8 or 16 bits.

    Raises:
        ImageError: It cannot be decoded, or has several channels.
    """
    stored = read_image(file)
    if stored.ndim != 2:
        raise ImageError(
            f"{file} has {stored.shape[2]} channels, but instance ids are one number a pixel: unpack the file again"
        )
    return stored.astype(np.uint16)


def read_labels(file: Path, table: LabelMap) -> MappedLabels:
    """Reads a label file in a data set's classes.

    Raises:
        ImageError: It cannot be decoded.
        LabelError: Ids or colours are outside the taxonomy; the message names the file, the id and its share.
    """
    ids = read_ids(file, table.source)
    try:
        return table.apply(ids)
    except ForeignIdsError as error:
        advice = "mend the labels, or set data.kind to the set that they are of"
        raise LabelError(f"{file}: {error.fact}: {advice}") from error
    except LabelError as error:
        raise LabelError(f"{file}: {error}") from error
