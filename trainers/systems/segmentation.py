"""Scoring of segmentation networks, and what they make of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from models.bundles.files import BundleError, Card, find_bundle, load_bundle, read_card
from models.nets.segmenter import Segmenter
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.labels import LabelMap, Taxonomy
from trainers.data.photograph import VOID

IGNORE_RULE: Final = (
    "pixels labelled {void!r} count nowhere; {void!r} predicted elsewhere is wrong; one confusion matrix for all"
    " pictures; the mean is over the classes that occur in the labels"
)


@dataclass(frozen=True, slots=True)
class SegmentationScore:
    """Agreement with the labels under one rule for what is ignored, :data:`IGNORE_RULE`."""

    pixel_accuracy: float  # share of the counted pixels whose class is right
    mean_iou: float  # over the classes that occur in the labels; NaN where none does
    iou: tuple[float, ...]  # by class; NaN where it does not occur
    ignored: float  # share of all pixels

    def by_name(self, classes: Sequence[str]) -> dict[str, float]:
        """IoU of the classes that occur, three digits, by name."""
        return {name: round(value, 3) for name, value in zip(classes, self.iou, strict=True) if value == value}


def score(predicted: Iterable[ByteArray], labels: Iterable[ByteArray], classes: int, void: int) -> SegmentationScore:
    """Scores class ids, uint8 ``(H, W)`` each, by one confusion matrix for all; ignores pixels labelled ``void``."""
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
    """Class ids of pictures uint8 ``(H, W, 3)`` RGB, cropped at the bottom right to multiples of 16."""
    out = []
    for rgb in pictures:
        h, w = (side // 16 * 16 for side in rgb.shape[:2])
        out.append(network.predict(torch.from_numpy(np.ascontiguousarray(rgb[:h, :w]))[None])[0].cpu().numpy())
    return out


CELL: Final = 32
"""Side of the squares of the picture that deep features are averaged over, pixels."""


@torch.inference_mode()
def deep_features(network: Segmenter, pictures: Sequence[ByteArray]) -> npt.NDArray[np.float32]:
    """The deepest features of a segmenter, averaged over squares of :data:`CELL` pixels; float32 ``(squares, d)``.

    A street has a hundred squares, so a small set has more samples than the features have dimensions.
    """
    out = []
    for rgb in pictures:
        h, w = (side // CELL * CELL for side in rgb.shape[:2])
        deepest = network.features(network.as_input(torch.from_numpy(np.ascontiguousarray(rgb[:h, :w]))[None]))[-1]
        cells = F.adaptive_avg_pool2d(deepest, (h // CELL, w // CELL))[0]
        out.append(cells.flatten(1).T.cpu().numpy())
    return np.concatenate(out)


def _weights_of(name: str) -> str | None:
    """The hash of a bundle's weights; None where there is no such bundle."""
    try:
        return read_card(find_bundle(name)).sha256
    except BundleError:
        return None


class Judge(NamedTuple):
    """A segmenter that scores pictures, and the names of its classes."""

    network: Segmenter
    classes: tuple[str, ...]

    @classmethod
    def load(cls, name: str, trained_by: str | None = None) -> Judge:
        """The judge of a bundle; ``trained_by``: the one whose features trained what is judged, if not missing.

        UsageError where the bundle holds another kind of network, or the two are one.
        """
        if trained_by is not None and _weights_of(name) == _weights_of(trained_by) is not None:
            raise UsageError(
                f"--judge {name} is the network whose features trained what it is to judge, and so would flatter it:"
                " give another"
            )
        network, card = _segmenter(name)
        return cls(network, tuple(card.classes))

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
    """The segmenter of a bundle; UsageError where it holds another kind of network."""
    return _segmenter(name)[0]


def _segmenter(name: str) -> tuple[Segmenter, Card]:
    bundle = load_bundle(name)
    if not isinstance(bundle.network, Segmenter):
        raise UsageError(f"bundle {bundle.path} holds a {bundle.card.arch!r}: a segmenter is needed here")
    return bundle.network, bundle.card
