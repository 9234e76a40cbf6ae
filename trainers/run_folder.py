"""The folder of a run: recipe, checkpoints, samples, statistics. A run is never overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from sim_bridge.errors import UsageError
from trainers.recipe import dump_recipe


class RunFolder:
    """One training's files.

    Args:
        path: The folder.
        resume: Go on with what is there; otherwise the folder must be new or empty.

    Raises:
        UsageError: It holds a run and ``resume`` was not asked for, or the other way round.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        if resume and not self.checkpoint.is_file():
            raise UsageError(f"run {path} has no {self.checkpoint.name} to resume from: start it without --resume")
        if not resume and path.is_dir() and any(path.iterdir()):
            raise UsageError(f"run folder {path} is not empty: give another --run, or --resume to go on with it")
        (path / "samples").mkdir(parents=True, exist_ok=True)

    def save_recipe(self, recipe: BaseModel) -> None:
        """Writes the resolved recipe."""
        (self.path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")

    def save_command(self, command: str) -> None:
        """Adds a command line to the run's history; the bundle's card tells it."""
        with (self.path / "commands.txt").open("a", encoding="utf-8") as file:
            file.write(command + "\n")

    def commands(self) -> list[str]:
        """The command lines of the run so far."""
        file = self.path / "commands.txt"
        return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []

    def save(self, state: dict[str, Any]) -> None:
        """Writes the checkpoint; a crash while writing leaves the last one whole."""
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def load(self) -> dict[str, Any]:
        """Reads the checkpoint; tensors and plain values only, never code."""
        state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        return state
