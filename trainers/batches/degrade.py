"""Degrades the edge maps of photographs to what CG renders have; DNED learns to undo it (S-Flow GAN, section 2.1)."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from trainers.batches.sample import Sample
from trainers.recipes.schema import EdgeAugmentation

BoolArray = npt.NDArray[np.bool_]


class Degradation(NamedTuple):
    """What was drawn for a clip; holes have the same place in all its frames."""

    threshold: npt.NDArray[np.float32]
    """Factor of the edge threshold by class."""
    speck: int | None
    """Smallest component that stays, pixels; None keeps all."""
    bare: BoolArray
    """Classes that keep only their outline."""
    holes: npt.NDArray[np.uint8] | None
    """``(8, 16)``, 1 where a block is punched out."""


def draw_degradation(settings: EdgeAugmentation, classes: int, rng: np.random.Generator) -> Degradation:
    """Draws what will be done to a clip's maps, without looking at them."""
    s = settings
    image = rng.uniform(-s.image_threshold, s.image_threshold)
    per_class = rng.uniform(-s.class_threshold, s.class_threshold, classes)
    speck = int(rng.choice(s.speck_sizes)) if rng.random() < s.speck_share else None
    bare = rng.random(classes) < s.bare_class
    holes = (rng.random((8, 16)) < s.holes).astype(np.uint8) if rng.random() < s.holes_share else None
    return Degradation(np.exp(image + per_class).astype(np.float32), speck, bare, holes)


def apply_degradation(sample: Sample, drawn: Degradation) -> BoolArray:
    """Edge planes bool ``(P, H, W)`` as a render of the same scene could have them."""
    signed = len(sample.shown) == 2 * len(sample.strength)
    planes: list[BoolArray] = []
    for strength in sample.strength.astype(np.float32):
        kept = _kept(strength, sample.labels, drawn)
        planes += [kept & (strength > 0), kept & (strength < 0)] if signed else [kept]
    return np.stack(planes)


def _kept(strength: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8], drawn: Degradation) -> BoolArray:
    keep = np.abs(strength) > drawn.threshold[labels]
    if drawn.speck is not None:
        keep &= _without_specks(keep, drawn.speck)
    if drawn.bare.any():
        keep &= ~drawn.bare[labels] | _near_outline(labels)
    if drawn.holes is not None:
        keep &= cv2.resize(drawn.holes, labels.shape[::-1], interpolation=cv2.INTER_NEAREST) == 0
    return keep


def degrade(sample: Sample, settings: EdgeAugmentation, classes: int, rng: np.random.Generator) -> BoolArray:
    """Draws a degradation and applies it; edge planes bool ``(P, H, W)``."""
    return apply_degradation(sample, draw_degradation(settings, classes, rng))


def _without_specks(edges: BoolArray, smallest: int) -> BoolArray:
    """The 8-connected components of at least ``smallest`` pixels."""
    _, component, stats, _ = cv2.connectedComponentsWithStats(edges.astype(np.uint8), connectivity=8)
    large = np.asarray(stats[:, cv2.CC_STAT_AREA] >= smallest)
    large[0] = False
    return np.asarray(large[component])


def _near_outline(labels: npt.NDArray[np.uint8]) -> BoolArray:
    """Within a pixel or two of a class boundary."""
    outline = np.zeros(labels.shape, np.uint8)
    outline[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    outline[1:] |= labels[1:] != labels[:-1]
    return np.asarray(cv2.dilate(outline, np.ones((3, 3), np.uint8)) > 0)
