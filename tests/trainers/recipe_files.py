"""Recipes made from the tiny one, and single steps of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trainers.loop.loop import train
from trainers.loop.training import Training
from trainers.recipes.schema import Stage
from trainers.recipes.sflow import Extensions


def merged(recipe: Path, changes: Mapping[str, object]) -> dict[str, Any]:
    """The recipe's keys with others in their place; an extension's key goes into that section."""
    raw: dict[str, Any] = yaml.safe_load(recipe.read_text())
    extensions = {k: v for k, v in changes.items() if k in Extensions.model_fields}
    raw["extensions"] = {**raw.get("extensions", {}), **extensions}
    return {**raw, **{k: v for k, v in changes.items() if k not in extensions}}


def changed_recipe(recipe: Path, changes: Mapping[str, object]) -> Path:
    """A copy with other keys, beside it."""
    path = recipe.with_name("changed.yaml")
    path.write_text(yaml.safe_dump(merged(recipe, changes)))
    return path


def one_step(run: Training, stage: Stage) -> None:
    """Trains one step of a stage; nothing is saved or reported."""
    recipe, kept = run.recipe, (run.save, run.report)
    run.recipe = recipe.model_copy(update={"stages": (stage.model_copy(update={"steps": run.step + 1}),)})
    run.save = run.report = lambda *_: None  # type: ignore[method-assign,assignment]
    assert train(run)
    run.recipe, (run.save, run.report) = recipe, kept  # type: ignore[method-assign]
