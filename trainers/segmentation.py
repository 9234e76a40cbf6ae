"""Training and scoring of segmentation networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from models.bundle import Bundle, Card, load_bundle, save_bundle
from models.published import WeightsError
from models.segmenter import SEGMENTERS, PSPNetSegmenter, Segmenter, backbone_file, load_backbone
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.labels import LabelMap, Taxonomy
from trainers.data import VOID, DataSet, Photograph, in_threads
from trainers.data_sets import open_data
from trainers.device import pick_device
from trainers.recipe import ColourAugmentation, SegmenterRecipe
from trainers.report import Collector, Progress, check_finite
from trainers.sampling import coloured, draw_place

IGNORE_RULE: Final = (
    "pixels labelled {void!r} count nowhere; {void!r} predicted elsewhere is wrong; one confusion matrix for all"
    " pictures; the mean is over the classes that occur in the labels"
)


@dataclass(frozen=True, slots=True)
class SegmentationScore:
    """Agreement with the labels under one rule for what is ignored, :data:`IGNORE_RULE`.

    Attributes:
        pixel_accuracy: Share of the counted pixels whose class is right.
        mean_iou: Mean intersection over union of the classes that occur in the labels; NaN where none does.
        iou: By class; NaN where the class does not occur.
        ignored: Share of all pixels that is ignored.
    """

    pixel_accuracy: float
    mean_iou: float
    iou: tuple[float, ...]
    ignored: float

    def by_name(self, classes: Sequence[str]) -> dict[str, float]:
        """IoU of the classes that occur, three digits, by name."""
        return {name: round(value, 3) for name, value in zip(classes, self.iou, strict=True) if value == value}


def score(predicted: Iterable[ByteArray], labels: Iterable[ByteArray], classes: int, void: int) -> SegmentationScore:
    """Scores pictures together, one confusion matrix for all.

    Args:
        predicted: Class ids, uint8 ``(H, W)``.
        labels: The true ones, likewise.
        classes: Number of classes.
        void: The class whose pixels are ignored.
    """
    confusion: npt.NDArray[np.int64] = np.zeros((classes, classes), np.int64)
    pixels = 0
    for p, truth in zip(predicted, labels, strict=True):
        counted = truth != void
        pixels += truth.size
        index = truth[counted].astype(np.int64) * classes + p[counted]
        confusion += np.bincount(index, minlength=classes * classes).reshape(classes, classes)
    right = np.diag(confusion).astype(float)
    occurs = confusion.sum(1) > 0
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    iou = np.where(occurs, right / np.maximum(union, 1), np.nan)
    counted_pixels = int(confusion.sum())
    return SegmentationScore(
        pixel_accuracy=float(right.sum() / max(1, counted_pixels)),
        mean_iou=float(iou[occurs].mean()) if occurs.any() else float("nan"),
        iou=tuple(iou.tolist()),
        ignored=1 - counted_pixels / max(1, pixels),
    )


def predict(network: Segmenter, pictures: Sequence[ByteArray]) -> list[ByteArray]:
    """Class ids of pictures uint8 ``(H, W, 3)`` RGB, one by one, cropped at the bottom right to multiples of 16."""
    out = []
    for rgb in pictures:
        h, w = (side // 16 * 16 for side in rgb.shape[:2])
        out.append(network.predict(torch.from_numpy(np.ascontiguousarray(rgb[:h, :w]))[None])[0].numpy())
    return out


CELL: Final = 32
"""Side of the squares of the picture that deep features are averaged over, pixels."""


@torch.inference_mode()
def deep_features(network: Segmenter, pictures: Sequence[ByteArray]) -> npt.NDArray[np.float32]:
    """The deepest features of a segmenter, averaged over squares of :data:`CELL` pixels; float32 ``(squares, d)``.

    Squares instead of whole pictures: a street has a hundred of them, so that a small set has more samples than the
    features have dimensions.
    """
    out = []
    for rgb in pictures:
        h, w = (side // CELL * CELL for side in rgb.shape[:2])
        deepest = network.features(network.as_input(torch.from_numpy(np.ascontiguousarray(rgb[:h, :w]))[None]))[-1]
        cells = F.adaptive_avg_pool2d(deepest, (h // CELL, w // CELL))[0]
        out.append(cells.flatten(1).T.numpy())
    return np.concatenate(out)


class Judge(NamedTuple):
    """A segmenter that scores pictures, and the names of its classes."""

    network: Segmenter
    classes: tuple[str, ...]

    @classmethod
    def load(cls, name: str) -> Judge:
        """The judge of a bundle.

        Raises:
            UsageError: The bundle holds another kind of network.
        """
        return cls(load_segmenter(name), tuple(load_bundle(name).card.classes))

    @property
    def void(self) -> int:
        """Id of the class that counts for nothing."""
        return self.classes.index(VOID)

    def labels_of(self, labels: Sequence[ByteArray], classes: Sequence[str]) -> list[ByteArray]:
        """A data set's labels in the judge's classes, by name: its markings are road to a judge that knows none."""
        source = Taxonomy("data set", dict(enumerate(classes)), {}, {})
        table = LabelMap.build(source, self.classes).table
        return [table[ids] for ids in labels]


def load_segmenter(name: str) -> Segmenter:
    """The segmenter of a bundle.

    Raises:
        UsageError: The bundle holds another kind of network.
    """
    bundle = load_bundle(name)
    if not isinstance(bundle.network, Segmenter):
        raise UsageError(f"bundle {bundle.path} holds a {bundle.card.arch!r}: a segmenter is needed here")
    return bundle.network


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


def train_segmenter(recipe: SegmenterRecipe, root: Path, folder: Path, command: str) -> Bundle:
    """Trains a segmenter, scores it on the validation photographs and writes it into ``folder / "bundle"``."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    data = open_data(recipe.data, root, "train")
    samples = in_threads(data.read, len(data), recipe.data.workers)
    device = pick_device()
    network = _build(recipe, len(data.classes)).to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    weights = _class_weights(samples, len(data.classes), data.void).to(device)
    collector, progress = Collector(), Progress(folder, recipe.steps, images=recipe.batch)
    for step in range(recipe.steps):
        x, y = (t.to(device) for t in _batch(samples, recipe, rng))
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * min(1.0, (step + 1) / 20) * max(0.02, 1 - step / recipe.steps)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = network(x)
        loss = F.cross_entropy(logits.float(), y, weights)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        collector.add(loss=loss)
        if (step + 1) % recipe.report_every == 0 or step + 1 == recipe.steps:
            means = collector.collect()
            check_finite(means, step + 1)
            progress.report(step + 1, recipe.arch, means)
    return _finish(recipe, network.eval().cpu(), data, open_data(recipe.data, root, "val"), folder, command)


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


def _finish(
    recipe: SegmenterRecipe, network: Segmenter, data: DataSet, val: DataSet, folder: Path, command: str
) -> Bundle:
    photographs = [p.crop_to_stride() for p in val]
    result = score(
        predict(network, [p.rgb for p in photographs]), [p.labels for p in photographs], len(val.classes), val.void
    )
    metrics = {
        "val_pixel_accuracy": round(result.pixel_accuracy, 4),
        "val_mean_iou": round(result.mean_iou, 4),
        "val_iou": result.by_name(val.classes),
        "val_ignored": round(result.ignored, 4),
        "ignore_rule": IGNORE_RULE.format(void=val.classes[val.void]),
    }
    backbone = None if recipe.backbone is None else backbone_file(recipe.backbone, recipe.backbone_weights).name
    card = Card(
        arch=recipe.arch,
        args=network.args,
        classes=list(val.classes),
        size=list(recipe.data.crop),
        data=data.description + (f"; backbone trained on ImageNet, {backbone}" if backbone else ""),
        command=command,
        steps=recipe.steps,
        metrics=metrics,
        licence_weights=data.licence,
        licence_data=f"{data.licence} ({data.credit})",
    )
    path = folder / "bundle"
    return Bundle(path, save_bundle(path, network, card), network)
