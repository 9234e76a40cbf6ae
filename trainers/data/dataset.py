"""Data sets: photographs with labels, read one at a time."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

from trainers.data.photograph import VOID, Inspection, Photograph
from trainers.data.problems import Problem

T = TypeVar("T")


class Fingerprint(NamedTuple):
    """Names of the files of a set.

    Attributes:
        pictures: How many.
        names: SHA-256 of the pictures' names with the folders they lie in, in order.
    """

    pictures: int
    names: str


def take_share(items: Sequence[T], share: str) -> list[T]:
    """All items, or only the ``odd`` or ``even`` ones: a judge and a loss must not learn from the same frames."""
    start, step = {"all": (0, 1), "odd": (1, 2), "even": (0, 2)}[share]
    return list(items[start::step])


class DataSet(Sequence[Photograph]):
    """Photographs with labels; reading one is what takes time.

    Attributes:
        classes: Class names by id.
        licence: Of the data, and so of what is trained on them: SPDX id or name.
        description: Which part of which data, for a bundle's card.
        problems: What is wrong with the listing of the files; reading them may find more.
    """

    classes: tuple[str, ...]
    licence: str
    credit: str
    description: str
    problems: tuple[Problem, ...] = ()

    @property
    def void(self) -> int:
        """Id of the class that counts for nothing."""
        return self.classes.index(VOID)

    @abstractmethod
    def inspect(self, index: int) -> Inspection:
        """Reads one sample and names all that is wrong with it."""

    @abstractmethod
    def files_of(self, index: int) -> tuple[Path, ...]:
        """The files of one sample, the picture first."""

    def read(self, index: int) -> Photograph:
        """Reads one sample.

        Raises:
            LabelError: A class id is outside the taxonomy.
            ImageError: A file cannot be decoded, or the sizes differ.
        """
        photograph, problems = self.inspect(index)
        if photograph is None:
            raise problems[0].error
        return photograph

    def fingerprint(self) -> Fingerprint:
        """What tells this set from another one, wherever it lies: a training goes on with the same alone."""
        names = "\n".join("/".join(self.files_of(i)[0].parts[-2:]) for i in range(len(self)))
        return Fingerprint(len(self), hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest())

    def refuse_problems(self) -> None:
        """Raises what is wrong with the listing of the files, and how much there is of it.

        Raises:
            UsageError: Of the first problem's kind.
        """
        if not self.problems:
            return
        error, more = self.problems[0].error, len(self.problems) - 1
        others = f" (and {more} more problems: `trainers/run.py data check` lists them)" if more else ""
        raise type(error)(f"{error}{others}")

    @overload
    def __getitem__(self, index: int) -> Photograph: ...
    @overload
    def __getitem__(self, index: slice) -> list[Photograph]: ...
    def __getitem__(self, index: int | slice) -> Photograph | list[Photograph]:
        """Reads one sample, or those of a slice."""
        if isinstance(index, slice):
            return [self.read(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.read(index % len(self))


def in_threads(step: Callable[[int], T], count: int, threads: int) -> list[T]:
    """``step(0)`` to ``step(count - 1)``, in order; decoding images leaves Python's lock, so threads are enough."""
    if not threads:
        return [step(i) for i in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(step, range(count)))
