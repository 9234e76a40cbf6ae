"""What can be wrong with a data set: every problem is a sentence with a kind, and one does not hide another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import ImageError, LabelError, SimBridgeError, SizeMismatchError, UsageError

T = TypeVar("T")
Picture = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class MissingCounterpartError(UsageError):
    """A photograph without labels, or labels without their photograph."""


class EmptySplitError(UsageError):
    """A split of a data set holds nothing."""


class MissingViewError(UsageError):
    """A download of SYNTHIA has no pictures of a view that the recipe takes."""


_KINDS: Final = {
    MissingCounterpartError: "missing counterpart",
    EmptySplitError: "empty split",
    MissingViewError: "missing view",
    SizeMismatchError: "size mismatch",
    LabelError: "label id",
    ImageError: "unreadable file",
}


class Problem(NamedTuple):
    """What is wrong with a file or folder of a data set; the error's message is the sentence for the user."""

    file: Path
    error: SimBridgeError

    @property
    def kind(self) -> str:
        """Short stable name of the kind of problem."""
        return next((name for error, name in _KINDS.items() if isinstance(self.error, error)), "other")


class ProblemCollector:
    """Runs the steps of reading a sample and notes the problems of each, so that one does not hide another."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def __call__(self, file: Path, step: Callable[[], T]) -> T | None:
        """The step's result, or None where it failed."""
        try:
            return step()
        except SimBridgeError as error:
            self.problems.append(Problem(file, error))
            return None

    def same_size(self, file: Path, picture: Picture | None, other: Path, second: Picture | None) -> None:
        """Notes a problem where both were read and differ in size."""
        if picture is None or second is None or picture.shape[:2] == second.shape[:2]:
            return
        sizes = [f"{name} is {a.shape[1]}x{a.shape[0]}" for name, a in ((file, picture), (other, second))]
        self.problems.append(Problem(file, SizeMismatchError(f"{' and '.join(sizes)}: a pair must have one size")))
