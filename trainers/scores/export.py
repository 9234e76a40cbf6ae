"""From a run to a bundle, and a bundle's scores."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from models.bundles.files import CARD, Card, find_bundle, read_card, save_bundle
from sim_bridge.errors import UsageError
from trainers.data.dataset import DataSet
from trainers.data.open import open_data
from trainers.data.photograph import Photograph
from trainers.loop.device import pick_device
from trainers.loop.run_folder import RECIPE, RunFolder, published, published_command
from trainers.recipes.read import data_of_card, load_recipe, recipe_of_card
from trainers.recipes.schema import DataRecipe, Recipe
from trainers.scores.evaluate import (
    Metric,
    Scorer,
    find_metrics,
    rounded,
    style_differences,
    validation_photographs,
)
from trainers.systems import find_system
from trainers.systems.base import System
from trainers.systems.segmentation import Judge

EXPORTED_SEEDS = (0, 1, 2, 3, 4, 5)


def score_network(
    system: type[System[Any]],
    network: Any,
    photographs: Sequence[Photograph],
    classes: Sequence[str],
    judge: Judge | None = None,
    seeds: Sequence[int] = (0,),
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, Any]:
    """Scores by style seed, and how far the seeds' pictures lie apart; where there are renders, theirs.

    The system's variants are scored with the first seed. Renders are scored as if they were the pictures: that is what
    translation is worth.
    """
    if not system.makes_pictures:
        return system.score(network, photographs, classes)
    scorer = Scorer(photographs, classes, judge, metrics)
    by_seed = {seed: system.pictures(network, photographs, seed) for seed in seeds}
    result = {f"seed_{seed}": scorer.score(pictures, seed) for seed, pictures in by_seed.items()}
    for name, paint in system.variants(network).items():
        result[f"seed_{seeds[0]}_{name}"] = scorer.score(paint(network, photographs), seeds[0])
    if all(p.render is not None for p in photographs):
        result["render"] = scorer.score([p.shown_rgb for p in photographs], None)
    apart = {"smallest_style_difference": round(style_differences(by_seed), 2)} if len(seeds) > 1 else {}
    return {**rounded(result), **apart}


def score_bundle(
    name: str,
    root: Path,
    judge: str | None,
    seeds: Sequence[int],
    every: int,
    edges: str | None = None,
    metrics: Sequence[str] = (),
) -> dict[str, Any]:
    """Scores of a bundle on the validation split of the kind of data it was trained with, every n-th picture.

    ``judge`` names a segmenter's bundle. ``edges``, ``render`` or ``photograph``, says whose edges the network sees;
    None takes those it was trained with. ``metrics`` as in :func:`trainers.scores.evaluate.find_metrics`. UsageError
    where that kind of data has no renders, or the judge's features trained the bundle.
    """
    opened, found = OpenedBundle.load(name), find_metrics(metrics)
    data = opened.data
    if edges == "render" and data.kind != "recordings":
        raise UsageError(f"--edges render needs recordings, and {name} was trained on photographs alone: leave it out")
    if edges is not None:
        data = data.model_copy(update={"edges_from": edges})
    judging = None if judge is None else Judge.load(judge, opened.recipe.feature_bundle)
    val = open_data(data, root, "val")
    photographs, network = validation_photographs(val, every), opened.network.to(pick_device())
    return score_network(opened.system, network, photographs, val.classes, judging, seeds, found)


@dataclass(frozen=True, slots=True)
class OpenedBundle:
    """A bundle, seen by the system that trained it; its network is in evaluation mode, on the CPU."""

    card: Card
    recipe: Recipe
    system: type[System[Any]]
    network: Any

    @classmethod
    def load(cls, name: str) -> Self:
        """Reads card and weights; UsageError where no system fits the card or a key is not this version's."""
        folder = find_bundle(name)
        card = read_card(folder)
        data_of_card(card.recipe.get("data", {}), name)  # the section that most often differs, by its own name
        recipe = recipe_of_card(card.recipe, name)
        system = find_system(recipe.system).system
        return cls(card, recipe, system, system.load(folder, recipe, card.classes))

    @property
    def data(self) -> DataRecipe:
        """What it was trained with."""
        return self.recipe.data


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run at its last checkpoint."""

    folder: RunFolder
    recipe: Recipe
    state: dict[str, Any]

    @classmethod
    def load(cls, run: Path) -> Self:
        """Reads recipe and checkpoint; UsageError where it has none or they are damaged."""
        folder = RunFolder(run, resume=True)
        return cls(folder, load_recipe(Recipe, str(run / RECIPE)), folder.load())

    @property
    def system(self) -> type[System[Any]]:
        """What trained."""
        return find_system(self.recipe.system).system

    def network(self, classes: Sequence[str]) -> Any:
        """The averaged network, in evaluation mode, for the classes of the data it was trained on."""
        return exported_network(self.recipe, self.state, classes)


def exported_network(recipe: Recipe, state: Mapping[str, Any], classes: Sequence[str]) -> Any:
    """The averaged network of a checkpoint, in evaluation mode."""
    network = find_system(recipe.system).system.build(recipe, classes)
    network.load_state_dict(state["average"])
    return network.eval()


def export_run(
    run: Path, root: Path, target: Path, judge: str | None, *, replace: bool = False, every: int = 5
) -> Card:
    """Writes the averaged network of a run as a bundle with its scores on the card; see :func:`write_bundle`.

    Scores every n-th validation photograph by the segmenter in the bundle ``judge``. UsageError, before anything is
    scored: the judge's features trained the network, or ``target`` cannot be written or holds something that is no
    bundle to ``replace``.
    """
    trained = TrainedRun.load(run)
    recipe = trained.recipe
    data, val = (open_data(recipe.data, root, split) for split in ("train", "val"))
    judging = None if judge is None else Judge.load(judge, recipe.feature_bundle)
    network = trained.network(data.classes)
    _make_target(target, replace)
    photographs = validation_photographs(val, every)
    seen = network.to(pick_device())
    metrics = score_network(trained.system, seen, photographs, val.classes, judging, EXPORTED_SEEDS)
    return write_bundle(trained.folder, recipe, trained.state, target, data, metrics)


def write_bundle(
    folder: RunFolder,
    recipe: Recipe,
    state: Mapping[str, Any],
    target: Path,
    data: DataSet,
    metrics: dict[str, Any],
) -> Card:
    """Writes a bundle of ``state``, the checkpoint, with ``metrics`` on its card.

    ``training.safetensors`` beside the weights holds the networks as they were trained, so that training goes on from
    them, where there is more than one or they are averaged.
    """
    network = exported_network(recipe, state, data.classes)
    said = find_system(recipe.system).system.card(network, recipe, data.classes)
    licence = " AND ".join(dict.fromkeys([data.licence, *said.pop("licences", [])]))
    trained_on = "; ".join(filter(None, (data.description, said.pop("data", ""))))
    card = Card(
        **said,
        classes=list(data.classes),
        size=list(recipe.data.crop),
        data=trained_on,
        command="; ".join(map(published_command, folder.commands())),
        recipe=published(recipe),
        recipe_changes=folder.recipe_changes(),
        steps=int(state["step"]),
        metrics=metrics,
        licence_weights=licence,
        licence_data=f"{licence} ({data.credit})",
    )
    training: dict[str, torch.Tensor] = {}
    for name, weights in state["networks"].items():
        training |= {f"{name}.{k}": v for k, v in weights.items()}
    alone = len(state["networks"]) == 1 and not recipe.ema
    return save_bundle(target, network, card, None if alone else training)


def _make_target(target: Path, replace: bool) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)  # first: NEW/../BUNDLE is a folder only when NEW is there
        if any(target.iterdir()):
            if not (target / CARD).is_file():
                raise UsageError(f"{target} is not empty and holds no bundle: give a new folder as --bundle")
            if not replace:
                raise UsageError(f"{target} holds a bundle: give another --bundle, or --replace to replace it")
        tempfile.TemporaryFile(dir=target).close()
    except OSError as e:
        raise UsageError(
            f"{target} cannot be written ({e.strerror}): give a --bundle that can be made and written"
        ) from e
