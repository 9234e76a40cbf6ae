"""The folder of a run: recipe, checkpoints, samples, statistics. A run is never overwritten."""

from __future__ import annotations

import fcntl
import logging
import os
import pickle
import re
import shlex
import socket
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import torch
from pydantic import BaseModel

from models.content import missing_file_content
from sim_bridge.errors import UsageError
from trainers.data.dataset import DataSet, Fingerprint
from trainers.errors import TrainingError
from trainers.recipes.read import dump_recipe, load_recipe
from trainers.recipes.schema import Recipe

_log = logging.getLogger(__name__)

RECIPE: Final = "recipe.yaml"
CHECKPOINT: Final = "checkpoint.pt"
LOCK: Final = "run.lock"
_TRAINED: Final[set[Path]] = set()
"""Run folders in which this process trains."""
_GUARD: Final = threading.Lock()


def without_place(text: str) -> str:
    """An absolute path's name; any other text unchanged: for what is published."""
    return Path(text).name if Path(text).is_absolute() else text


_PLACE: Final = re.compile(r"(?<![^\s:=,\[{'\"])/(?:[^\s/,\]}'\"]+/)+(?=[^\s/,\]}'\"])")
"""Folders of an absolute path that begins a value."""


def published_command(line: str) -> str:
    """A command line for a bundle's card, without the folders of absolute paths, also of those inside YAML values."""
    words = ("=".join(map(without_place, word.split("=", 1))) for word in shlex.split(line))
    return shlex.join(_PLACE.sub("", word) for word in words)


def published(recipe: BaseModel) -> dict[str, Any]:
    """A recipe for a bundle's card, without the folders of absolute paths."""
    plain: dict[str, Any] = _without_places(recipe.model_dump(mode="json"))
    return plain


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_places(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_places(v) for v in value]
    return without_place(value) if isinstance(value, str) else value


def first_reason(error: Exception) -> str:
    """The first reason in an error of many lines, shortened; torch puts a heading above its list."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    first = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return textwrap.shorten(first.rstrip("."), 120, placeholder=" ...")


def _disk_reason(error: BaseException) -> str:
    """The operating system's first complaint in a chain of errors."""
    chain: list[BaseException] = [error]
    while (before := chain[-1].__context__) is not None:
        chain.append(before)
    return next((e.strerror for e in reversed(chain) if isinstance(e, OSError) and e.strerror), str(error))


class Resumable(Protocol):
    """A training that goes on from a checkpoint."""

    step: int

    def restore(self, state: dict[str, Any]) -> None:
        """Loads a checkpoint's state."""


class RunFolder:
    """One training's files; ``resume`` goes on with the run in the folder, which otherwise must be new or empty.

    Only the first of several processes ``writes``; the others' calls do nothing. UsageError where the folder holds
    a run and ``resume`` is False, or the other way round, or it cannot be made.
    """

    def __init__(self, path: Path, *, resume: bool, writes: bool = True) -> None:
        self.path, self.resume, self.writes = path, resume, writes
        self.checkpoint = path / CHECKPOINT
        self.samples = path / "samples"
        self._data: Fingerprint | None = None
        if not writes:
            return
        try:
            self._open()
        except OSError as e:
            raise UsageError(
                f"run folder {path} cannot be used ({e.strerror}): give a --run that can be made and written"
            ) from e

    def _open(self) -> None:
        if self.resume and not self.checkpoint.is_file():
            raise UsageError(
                f"run {self.path} has no {CHECKPOINT}, there is nothing to go on with: train it first, without --resume"
            )
        if self.resume:
            return
        self.path.mkdir(parents=True, exist_ok=True)  # first: NEW/../RUN is a folder only when NEW is there
        if any(file.name != LOCK for file in self.path.iterdir()):
            way = (
                "give another --run, or --resume to go on with it"
                if self.checkpoint.is_file()
                else f"it has no {CHECKPOINT}, so it goes on elsewhere or ended before its first; remove it if it ended"
            )
            raise UsageError(f"run folder {self.path} is not empty: {way}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other trainings out of the folder; the operating system unlocks it when this process ends.

        UsageError where a training is in it, or it cannot be written.
        """
        if not self.writes:
            yield
            return
        with self._alone_in_process():  # before the file is opened: closing it again would end the other's lock
            try:
                file = (self.path / LOCK).open("a+", encoding="utf-8")
            except OSError as e:
                raise UsageError(f"run folder {self.path} cannot be written ({e.strerror}): check its rights") from e
            with file:
                self._lock(file)
                yield

    @contextmanager
    def _alone_in_process(self) -> Iterator[None]:
        """A record lock does not keep two trainings of one process apart."""
        place = self.path.resolve()
        with _GUARD:
            if place in _TRAINED:
                raise UsageError(f"this process trains in run folder {self.path} already: give another --run")
            _TRAINED.add(place)
        try:
            yield
        finally:
            _TRAINED.discard(place)

    def _lock(self, file: TextIO) -> None:
        try:
            # A record lock: forked data workers do not inherit it, and so do not keep it when this process is killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as e:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UsageError(
                f"{holder} trains in run folder {self.path}: wait for its end, or give another --run"
            ) from e
        except OSError as e:  # some network file systems have no locks
            _log.warning("%s cannot be locked (%s): see that no other training is in it", self.path, e.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} of {socket.gethostname()}\n")
        file.flush()

    # Going on

    def restore(
        self,
        trainer: Resumable,
        recipe: Recipe,
        data: DataSet | None = None,
        *,
        may_differ: bool = False,
    ) -> bool:
        """Loads the checkpoint into ``trainer`` and returns whether steps are left; nothing is written.

        UsageError where recipe or data are not the run's (unless they ``may_differ``), the recipe ends before the
        checkpoint, or that is damaged.
        """
        self._data = None if data is None else data.fingerprint()
        if not self.resume:
            return True
        self.refuse_other_recipe(recipe, may_differ=may_differ)
        state = self.load()
        if not may_differ:
            self._refuse_other_data(state)
        try:
            trainer.restore(state)
        except (RuntimeError, ValueError, TypeError, KeyError) as e:
            raise UsageError(
                f"checkpoint {self.checkpoint} is not of recipe {recipe.name!r} ({first_reason(e)}): give its own"
            ) from e
        if trainer.step > recipe.steps:
            raise UsageError(
                f"run {self.path} is at step {trainer.step}, and recipe {recipe.name!r} ends at step {recipe.steps}:"
                " give it more steps"
            )
        if trainer.step == recipe.steps and self.writes:
            _log.info(
                "run %s is finished, at step %d of %d: to train on, give the recipe more steps and --recipe-changed",
                self.path, trainer.step, recipe.steps,
            )  # fmt: skip
        if trainer.step < recipe.steps and self.writes:
            _log.info("run %s goes on at step %d of %d", self.path, trainer.step, recipe.steps)
        return trainer.step < recipe.steps

    def _refuse_other_data(self, state: dict[str, Any]) -> None:
        if self._data is None or "data" not in state:
            return
        begun = Fingerprint(**state["data"])
        if begun == self._data:
            return
        found, names = self._data.pictures, " of other names" if self._data.pictures == begun.pictures else ""
        raise UsageError(
            f"run {self.path} was begun with {begun.pictures} pictures, --root has {found}{names}: give the data that"
            " it was begun with, or --recipe-changed to go on with these"
        )

    def refuse_other_recipe(self, recipe: Recipe, *, may_differ: bool = False) -> None:
        """UsageError where the run has another recipe, unless it ``may_differ``."""
        file = self.path / RECIPE
        if self.writes and not may_differ and file.is_file() and not self._holds(recipe):
            raise UsageError(
                f"run {self.path} was begun with another recipe than this one: give {file} as --recipe,"
                " or --recipe-changed to go on with the new one"
            )

    def _holds(self, recipe: Recipe) -> bool:
        """Whether the run's recipe is this one; missing keys have their defaults."""
        try:
            return load_recipe(type(recipe), str(self.path / RECIPE)) == recipe
        except UsageError:
            return False

    # Writing

    def save_recipe(self, recipe: Recipe, step: int = 0, *, may_differ: bool = False) -> bool:
        """Writes the resolved recipe and returns whether it replaces one, which becomes ``recipe-until-STEP.yaml``.

        After several changes at one step, the first replaced recipe is kept: the others trained nothing. UsageError
        where the run has another one, unless it ``may_differ``.
        """
        if not self.writes:
            return False
        self.refuse_other_recipe(recipe, may_differ=may_differ)
        file = self.path / RECIPE
        replaces = file.is_file() and not self._holds(recipe)
        kept = self.path / f"recipe-until-{step:06d}.yaml"
        if replaces and not kept.exists():
            kept.write_bytes(file.read_bytes())
        file.write_text(dump_recipe(recipe), encoding="utf-8")
        return replaces

    def recipe_changes(self) -> list[int]:
        """Steps at which the recipe was changed."""
        return sorted(int(p.stem.rpartition("-")[2]) for p in self.path.glob("recipe-until-*.yaml"))

    def save_command(self, command: str) -> None:
        """Adds a command line to the run's history."""
        if not self.writes:
            return
        with (self.path / "commands.txt").open("a", encoding="utf-8") as file:
            file.write(command + "\n")

    def commands(self) -> list[str]:
        """The command lines of the run so far."""
        file = self.path / "commands.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []

    def save(self, state: dict[str, Any]) -> None:
        """Writes the checkpoint; TrainingError where it cannot be. A crash or error leaves the last one whole."""
        if not self.writes:
            return
        data = {} if self._data is None else {"data": self._data._asdict()}
        temporary = self.checkpoint.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(state | data, file)
                file.flush()
                os.fsync(file.fileno())  # or a machine that loses power may keep the new name of an empty file
            temporary.replace(self.checkpoint)
        except (OSError, RuntimeError) as e:  # torch's writer wraps what the disk says in errors of its own
            temporary.unlink(missing_ok=True)
            raise TrainingError(
                f"checkpoint {self.checkpoint} of step {state['step']} cannot be written ({_disk_reason(e)}), the one"
                " before is kept: make room on the disk, check its rights, and go on with --resume"
            ) from e

    def load(self) -> dict[str, Any]:
        """Reads the checkpoint, tensors and plain values only, never code; UsageError where it is damaged."""
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except PermissionError as e:
            raise UsageError(f"checkpoint {self.checkpoint} cannot be read ({e.strerror}): check its rights") from e
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as e:  # OSError: of a zip's end
            if (missing := missing_file_content(self.checkpoint)) is not None:
                raise UsageError(f"checkpoint {self.checkpoint} {missing.fact}: {missing.advice}") from e
            raise UsageError(
                f"checkpoint {self.checkpoint} cannot be read, it ends early or is damaged: restore it from a copy, or"
                " train again"
            ) from e
        return state
