"""The folder of a run: recipe, checkpoints, samples, statistics. A run is never overwritten."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel

from sim_bridge.errors import UsageError
from trainers.recipe import dump_recipe, load_recipe

RECIPE: Final = "recipe.yaml"
CHECKPOINT: Final = "checkpoint.pt"


def without_place(text: str) -> str:
    """Of an absolute path no more than its name, anything else as it is: for what is published."""
    return Path(text).name if Path(text).is_absolute() else text


class RunFolder:
    """One training's files.

    Args:
        path: The folder.
        resume: Go on with what is there; otherwise the folder must be new or empty.
        writes: Whether this process does; of several that train together the first one alone, and the others' calls
            of what saves do nothing.

    Raises:
        UsageError: It holds a run and ``resume`` was not asked for, or the other way round.
    """

    def __init__(self, path: Path, *, resume: bool, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self.checkpoint = path / CHECKPOINT
        self.samples = path / "samples"
        if not writes:
            return
        if resume and not self.checkpoint.is_file():
            raise UsageError(
                f"run {path} has no {CHECKPOINT}, there is nothing to go on with: train it first, without --resume"
            )
        if not resume and path.is_dir() and any(path.iterdir()):
            way = (
                "give another --run, or --resume to go on with it"
                if self.checkpoint.is_file()
                else f"it has no {CHECKPOINT}, so it goes on elsewhere or ended before its first; remove it if it ended"
            )
            raise UsageError(f"run folder {path} is not empty: {way}")
        path.mkdir(parents=True, exist_ok=True)

    def save_recipe(self, recipe: BaseModel, step: int = 0, *, may_differ: bool = False) -> None:
        """Writes the resolved recipe; one that it replaces is kept as ``recipe-until-STEP.yaml``.

        Raises:
            UsageError: The run has another one, and ``may_differ`` was not given.
        """
        if not self.writes:
            return
        file, text = self.path / RECIPE, dump_recipe(recipe)
        if file.is_file() and not self._holds(recipe):
            before = file.read_text(encoding="utf-8")
            if not may_differ:
                raise UsageError(
                    f"run {self.path} was begun with another recipe than this one: give {file} as --recipe,"
                    " or --recipe-changed to go on with the new one"
                )
            (self.path / f"recipe-until-{step:06d}.yaml").write_text(before, encoding="utf-8")
        file.write_text(text, encoding="utf-8")

    def _holds(self, recipe: BaseModel) -> bool:
        """Whether the run's recipe is this one; keys that it was written without have their defaults."""
        try:
            return load_recipe(type(recipe), str(self.path / RECIPE)) == recipe
        except UsageError:
            return False

    def recipe_changes(self) -> list[int]:
        """Steps at which the recipe was changed."""
        return sorted(int(p.stem.rpartition("-")[2]) for p in self.path.glob("recipe-until-*.yaml"))

    def save_command(self, command: str) -> None:
        """Adds a command line to the run's history; the bundle's card tells it."""
        if not self.writes:
            return
        with (self.path / "commands.txt").open("a", encoding="utf-8") as file:
            file.write(command + "\n")

    def commands(self) -> list[str]:
        """The command lines of the run so far."""
        file = self.path / "commands.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []

    def save(self, state: dict[str, Any]) -> None:
        """Writes the checkpoint; a crash while writing leaves the last one whole."""
        if not self.writes:
            return
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def load(self) -> dict[str, Any]:
        """Reads the checkpoint; tensors and plain values only, never code.

        Raises:
            UsageError: It is damaged.
        """
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as e:
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            raise UsageError(
                f"checkpoint {self.checkpoint} cannot be read ({reason}): restore it from a copy, or train anew"
            ) from e
        return state
