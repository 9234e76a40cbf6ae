"""Training of segmentation networks: perceptual features, and judges."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.bundles.files import CARD, Bundle, Card, load_bundle, save_bundle
from models.bundles.published import WeightsError
from models.nets.segmenter import SEGMENTERS, PSPNetSegmenter, Segmenter, backbone_file, load_backbone
from sim_bridge.errors import UsageError
from sim_bridge.process.signals import on_signals
from trainers.batches.draw import draw_place
from trainers.batches.make import coloured
from trainers.data.dataset import DataSet, in_threads
from trainers.data.open import open_data
from trainers.data.photograph import VOID, Photograph
from trainers.loop.device import pick_device
from trainers.loop.guard import ADVICE, bad_weight
from trainers.loop.report import Collector, Progress, TrainingError, check_finite
from trainers.loop.run_folder import RunFolder, published, published_command
from trainers.recipes.schema import ColourAugmentation, SegmenterRecipe
from trainers.scores.segmentation import IGNORE_RULE, predict, score

_log = logging.getLogger(__name__)


class SegmenterTrainer:
    """Everything a training holds; :meth:`train` runs it.

    Args:
        recipe: What to do.
        classes: Class names by id.
        folder: Where checkpoints and statistics go.

    Raises:
        UsageError: The recipe's backbone has no published weights here.
    """

    def __init__(self, recipe: SegmenterRecipe, classes: Sequence[str], folder: RunFolder) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.classes, self.folder = recipe, tuple(classes), folder
        self.device = pick_device()
        network = _build(recipe, len(classes))
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(network.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
        self.rng = np.random.default_rng(recipe.seed)
        self.step = 0
        self.collector = Collector()
        self._stopping = False

    def state(self) -> dict[str, Any]:
        """All that a resumed training needs to go on as if it had not stopped."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": dict(self.rng.bit_generator.state),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a checkpoint; see :class:`~trainers.loop.run_folder.Resumable`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.step = state["step"]

    def stop(self) -> None:
        """Lets the step in progress finish, then saves and stops."""
        self._stopping = True

    def train(self, samples: Sequence[Photograph]) -> bool:
        """Trains to the recipe's end; SIGTERM and Ctrl-C save and stop.

        Returns:
            Whether the end was reached.

        Raises:
            TrainingError: The loss or a weight is no number any more; the last checkpoint is kept.
        """
        recipe = self.recipe
        progress = Progress(self.folder.path, recipe.steps, self.step, images=recipe.batch)
        weights = _class_weights(samples, len(self.classes), self.classes.index(VOID)).to(self.device)
        stopping = self._stopping
        with on_signals(self.stop):
            while self.step < recipe.steps and not stopping:
                self.train_step(samples, weights)
                self.step += 1
                stopping = self._stopping  # read once: what stops is saved
                save = stopping or self.step == recipe.steps or self.step % recipe.checkpoint_every == 0
                if save or self.step % recipe.report_every == 0:
                    means = self.collector.collect()
                    check_finite(means, self.step)
                    progress.report(self.step, recipe.arch, means)
                if save:
                    self._save()
        return self.step >= recipe.steps

    def train_step(self, samples: Sequence[Photograph], weights: Tensor) -> None:
        """One step; ``weights`` are the classes'."""
        recipe = self.recipe
        x, y = (t.to(self.device) for t in _batch(samples, recipe, self.rng))
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.lr * min(1.0, (self.step + 1) / 20) * max(0.02, 1 - self.step / recipe.steps)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = self.network(x)
        loss = F.cross_entropy(logits.float(), y, weights)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.collector.add(loss=loss)

    def _save(self) -> None:
        if (weight := bad_weight({"network": self.network})) is not None:
            raise TrainingError(f"the weight {weight} is not finite after step {self.step}: {ADVICE}")
        self.folder.save(self.state())


def train_segmenter(
    recipe: SegmenterRecipe, root: Path, folder: RunFolder, command: str, *, recipe_changed: bool = False
) -> Bundle | None:
    """Trains a segmenter, scores it on the validation photographs and writes it into ``folder / "bundle"``.

    What can be wrong with folder, recipe and photographs is found before the first step.

    Args:
        recipe: What to do.
        root: The data set's folder.
        folder: The run's.
        command: For the bundle's card.
        recipe_changed: Whether a run that goes on may do so with another recipe.

    Returns:
        The bundle, of a finished run the one that it has; None where a signal stopped the training.

    Raises:
        UsageError: The run cannot be begun, or not gone on with.
        TrainingError: The training cannot go on.
    """
    data, val = (open_data(recipe.data, root, split) for split in ("train", "val"))
    trainer = SegmenterTrainer(recipe, data.classes, folder)
    bundle = folder.path / "bundle"
    if not folder.take_up(trainer, recipe, data, may_differ=recipe_changed) and (bundle / CARD).is_file():
        return load_bundle(bundle)
    samples = in_threads(data.read, len(data), recipe.data.workers)
    photographs = in_threads(lambda i: val[i].crop_to_stride(), len(val), recipe.data.workers)
    folder.save_recipe(recipe, trainer.step, may_differ=recipe_changed)
    folder.save_command(command)
    if not trainer.train(samples):
        _log.warning("stopped and saved at step %d: go on with --resume", trainer.step)
        return None
    network = trainer.network.eval().cpu()
    history = "; ".join(map(published_command, folder.commands()))
    card = _card(recipe, network, data, _metrics(network, photographs, val), history)
    return Bundle(bundle, save_bundle(bundle, network, card), network)


def _metrics(network: Segmenter, photographs: Sequence[Photograph], val: DataSet) -> dict[str, Any]:
    predicted = predict(network, [p.rgb for p in photographs])
    result = score(predicted, [p.labels for p in photographs], len(val.classes), val.void)
    return {
        "val_pixel_accuracy": round(result.pixel_accuracy, 4),
        "val_mean_iou": round(result.mean_iou, 4),
        "val_iou": result.by_name(val.classes),
        "val_ignored": round(result.ignored, 4),
        "ignore_rule": IGNORE_RULE.format(void=val.classes[val.void]),
    }


def _card(recipe: SegmenterRecipe, network: Segmenter, data: DataSet, metrics: dict[str, Any], command: str) -> Card:
    backbone = None if recipe.backbone is None else backbone_file(recipe.backbone, recipe.backbone_weights).name
    return Card(
        arch=recipe.arch,
        args=network.args,
        classes=list(data.classes),
        size=list(recipe.data.crop),
        data=data.description + (f"; backbone trained on ImageNet, {backbone}" if backbone else ""),
        command=command,
        recipe=published(recipe),
        steps=recipe.steps,
        metrics=metrics,
        licence_weights=data.licence,
        licence_data=f"{data.licence} ({data.credit})",
    )


def _batch(samples: Sequence[Photograph], recipe: SegmenterRecipe, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    width, height = recipe.data.crop
    colour = ColourAugmentation(gain=recipe.colour_gain, shift=recipe.colour_shift)
    data = recipe.data.model_copy(update={"colour": colour})
    images, labels = [], []
    for k in rng.integers(len(samples), size=recipe.batch):
        place = draw_place(samples[k].labels.shape, data, rng)
        crop = samples[k].scaled(place.scale).cut(place.top, place.left, height, width)
        mirror = slice(None, None, -1 if place.flip else 1)
        images.append(coloured(crop.rgb[:, mirror], place.colour))
        labels.append(crop.labels[:, mirror].astype(np.int64))
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return x / 127.5 - 1, torch.from_numpy(np.stack(labels))


def _class_weights(samples: Sequence[Photograph], classes: int, void: int) -> Tensor:
    """Rare classes weigh more (ENet's rule, 1 / log(1.1 + frequency)), the void class nothing."""
    counts = sum(np.bincount(s.labels.ravel(), minlength=classes) for s in samples)
    weights = 1 / np.log(1.1 + counts / np.sum(counts))
    weights[void] = 0
    return torch.from_numpy(weights).float()


def _build(recipe: SegmenterRecipe, classes: int) -> Segmenter:
    """The network to train; a backbone begins with its published weights."""
    if recipe.backbone is None:
        return SEGMENTERS[recipe.arch](classes, recipe.width)
    try:
        network = PSPNetSegmenter(classes, recipe.width, recipe.backbone)
        network.fill_backbone(load_backbone(recipe.backbone, recipe.backbone_weights))
    except WeightsError as e:
        raise UsageError(f"recipe {recipe.name!r}: {e}") from e
    return network
