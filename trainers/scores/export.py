"""From a run to a bundle, and a bundle's scores."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from models.bundles.files import CARD, Card, load_bundle, save_bundle
from models.nets.sflow import SFlowNetwork
from sim_bridge.errors import UsageError
from trainers.data.dataset import DataSet
from trainers.data.open import open_data
from trainers.loop.device import pick_device
from trainers.loop.run_folder import RECIPE, RunFolder, published, published_command
from trainers.recipes.schema import ImageRecipe, data_of_card, load_recipe
from trainers.scores.evaluate import evaluate, generate, style_differences, validation_photographs
from trainers.scores.segmentation import Judge
from trainers.systems.sflow import build_network


def score_network(
    network: SFlowNetwork, data: DataSet, judge: Judge | None, seeds: list[int], every: int
) -> dict[str, Any]:
    """Evaluations by style seed, and how far the seeds' pictures lie apart.

    A network that takes colour hints gets those of the pictures that are seen, which are the very pictures to be made
    where there are no renders; so its first seed is scored without hints, too. Where there are, they are scored as if
    they were the pictures: what translation is worth.
    """
    photographs = validation_photographs(data, every)
    first = seeds[0]
    by_seed = {seed: generate(network, photographs, seed) for seed in seeds}
    result: dict[str, Any] = {
        f"seed_{seed}": evaluate(photographs, pictures, seed, judge, data.classes).rounded()
        for seed, pictures in by_seed.items()
    }
    if network.takes_hints:
        pictures = generate(network, photographs, first, hints=False)
        result[f"seed_{first}_without_hints"] = evaluate(photographs, pictures, first, judge, data.classes).rounded()
    if all(p.render is not None for p in photographs):
        renders = [p.shown_rgb for p in photographs]
        result["render"] = evaluate(photographs, renders, None, judge, data.classes).rounded()
    if len(seeds) > 1:
        result["smallest_style_difference"] = round(style_differences(by_seed), 2)
    return result


def score_bundle(
    name: str, root: Path, judge: str | None, seeds: list[int], every: int, edges: str | None = None
) -> dict[str, Any]:
    """Scores of a translation bundle on the validation split of the kind of data it was trained with.

    Args:
        name: The bundle.
        root: The data set's folder.
        judge: Bundle of the segmenter that judges.
        seeds: Style seeds.
        every: Take every n-th picture.
        edges: ``render`` or ``photograph``: whose edges the network sees; None for those it was trained with.

    Raises:
        UsageError: There are no renders in the kind of data it was trained with, or the judge's features trained it.
    """
    bundle = load_bundle(name)
    trained = bundle.card.recipe.get("data", {})
    if edges == "render" and trained.get("kind") != "recordings":
        raise UsageError(f"--edges render needs recordings, and {name} was trained on photographs alone: leave it out")
    data = open_data(data_of_card(trained if edges is None else trained | {"edges": edges}, name), root, "val")
    network = bundle.sflow.to(pick_device())
    return score_network(network, data, _judge(judge, bundle.card.recipe.get("perceptual_bundle")), seeds, every)


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run of ``trainers/run.py image`` as it stands.

    Attributes:
        folder: Its files.
        recipe: What was trained.
        state: The checkpoint.
    """

    folder: RunFolder
    recipe: ImageRecipe
    state: dict[str, Any]

    @classmethod
    def load(cls, run: Path) -> Self:
        """Reads the folder of a run.

        Raises:
            UsageError: It has no checkpoint or no recipe.
        """
        folder = RunFolder(run, resume=True)
        return cls(folder, load_recipe(ImageRecipe, str(run / RECIPE)), folder.load())

    def network(self, classes: Sequence[str]) -> SFlowNetwork:
        """The averaged network, in evaluation mode, for the classes of the data it was trained on."""
        network = build_network(self.recipe, classes, with_seeds=True)
        network.load_state_dict(self.state["average"])
        return network.eval()


def export_run(
    run: Path, root: Path, target: Path, judge: str | None, *, replace: bool = False, every: int = 5
) -> Card:
    """Writes the averaged network of a run as a bundle with its scores on the card.

    ``training.safetensors`` beside it holds generator and discriminator as they were trained, so that training goes
    on from it.

    Args:
        run: Its folder.
        root: The data set's folder.
        target: The folder of the bundle.
        judge: Bundle of the segmenter that judges.
        replace: Whether a bundle in ``target`` may be replaced.
        every: Score every n-th validation photograph.

    Raises:
        UsageError: The judge's features trained the network, or the folder holds something (and ``replace`` was not
            given, or it is no bundle) or cannot be written: found before anything is scored.
    """
    trained = TrainedRun.load(run)
    folder, recipe, state = trained.folder, trained.recipe, trained.state
    data, val = (open_data(recipe.data, root, split) for split in ("train", "val"))
    judging = _judge(judge, recipe.perceptual_bundle)
    network = trained.network(data.classes)
    _make_target(target, replace)
    metrics = score_network(network.to(pick_device()), val, judging, [0, 1, 2, 3, 4, 5], every)
    network.cpu()
    card = Card(
        arch="sflow",
        args=network.args,
        classes=list(data.classes),
        size=list(recipe.data.crop),
        edge=recipe.edge.as_dict(),
        ensemble=[round(v, 4) for v in network.dned.learned_weights().tolist()],
        data=data.description,
        command="; ".join(map(published_command, folder.commands())),
        recipe=published(recipe),
        recipe_changes=folder.recipe_changes(),
        steps=int(state["step"]),
        metrics=metrics,
        licence_weights=data.licence,
        licence_data=f"{data.licence} ({data.credit})",
    )
    training: dict[str, torch.Tensor] = {}
    for part in ("network", "discriminator"):
        training |= {f"{part}.{k}": v for k, v in state[part].items()}
    return save_bundle(target, network, card, training)


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


def _judge(name: str | None, trained_by: str | None) -> Judge | None:
    return None if name is None else Judge.load(name, trained_by)
