"""How far pictures are from a set of photographs, in features of a network that trained nothing here."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.nets.features import FeatureNetwork
from sim_bridge.frames import ByteArray
from trainers.scores.colour import lab

SIDE: Final = 160
"""Of a crop, pixels."""
OF_RENDER: Final = 40
OF_PHOTOGRAPH: Final = 12
ACCEPTED: Final = 0.6  # distance of layout up to which crops are paired
DEPTHS: Final = 4  # strides 4, 8, 16, 32
SEED: Final = 3
AT_ONCE: Final = 16

Features = list[npt.NDArray[np.float64]]
"""One array ``(crops, 2 C)`` a depth: means and standard deviations over a crop."""


class Scene(NamedTuple):
    """RGB uint8 ``(H, W, 3)`` and class ids uint8 ``(H, W)``, the same classes for renders and photographs."""

    rgb: ByteArray
    labels: npt.NDArray[np.uint8]


class Place(NamedTuple):
    """Where a crop is, and its layout: label histogram, then the height of its middle, 0..1."""

    picture: int
    top: int
    left: int
    layout: npt.NDArray[np.float64]


class Matches(NamedTuple):
    """Crops of renders, of the photographs paired with them, and of other photographs of the same layout."""

    renders: list[Place]
    photographs: list[Place]
    others: list[Place]


@dataclass(frozen=True, slots=True)
class PhotoDistance:
    """Distances by depth, fine to coarse, and how many pairs of crops they come from."""

    pictures: tuple[float, ...]
    render: tuple[float, ...]
    floor: tuple[float, ...]
    pairs: int

    @property
    def left_by_depth(self) -> tuple[float, ...]:
        """Share of the render's distance above the floor that is left, at each depth."""
        both = zip(self.pictures, self.render, self.floor, strict=True)
        return tuple((p - f) / (r - f) if r > f else float("nan") for p, r, f in both)

    @property
    def left(self) -> float:
        """Mean of these: 1 is as far as the render, 0 as near as other photographs."""
        return float(np.mean(self.left_by_depth))


def places(scenes: Sequence[Scene], count: int, classes: int, rng: random.Random) -> list[Place]:
    """Crops drawn at random, ``count`` of each picture.

    Raises:
        ValueError: A picture is smaller than a crop.
    """
    out = []
    for i, scene in enumerate(scenes):
        h, w = scene.labels.shape
        if min(h, w) < SIDE:
            raise ValueError(f"a picture is {w}x{h}, but crops are {SIDE}x{SIDE}: give larger pictures")
        for _ in range(count):
            top, left = rng.randint(0, h - SIDE), rng.randint(0, w - SIDE)
            ids = scene.labels[top : top + SIDE, left : left + SIDE]
            shares = np.bincount(ids.ravel(), minlength=classes) / SIDE**2
            out.append(Place(i, top, left, np.append(shares, (top + SIDE / 2) / h)))
    return out


def match(renders: Sequence[Place], photographs: Sequence[Place], rng: random.Random) -> Matches:
    """Gives each crop of a render the unused photograph's with the nearest layout, if it is near enough.

    Raises:
        ValueError: Fewer than two pairs came about, or there are not twice as many photographs' crops.
    """
    layouts, free = np.stack([p.layout for p in photographs]), np.ones(len(photographs), bool)
    kept, paired = [], []
    for place in renders:
        apart = np.where(free, np.abs(layouts - place.layout).sum(1), np.inf)
        nearest = int(apart.argmin())
        if apart[nearest] < ACCEPTED:
            free[nearest] = False
            kept.append(place)
            paired.append(photographs[nearest])
    rest = [place for place, unused in zip(photographs, free, strict=True) if unused]
    if not 2 <= len(paired) <= len(rest):
        raise ValueError(
            f"{len(paired)} crops of renders found photographs of their layout and {len(rest)} are left over: give"
            " more photographs, of the same kind of places"
        )
    rng.shuffle(rest)
    others = [rest.pop(_nearest(place, rest)) for place in paired]
    return Matches(kept, paired, others)


def _nearest(place: Place, among: Sequence[Place]) -> int:
    return int(np.argmin([np.abs(other.layout - place.layout).sum() for other in among]))


def kernel_distance(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Unbiased MMD^2 with (x.y / n + 1)^3, both standardised by ``b``, the photographs; ``(crops, n)`` each."""
    mean, spread = b.mean(0), b.std(0, ddof=1) + 1e-6
    x, y = (a - mean) / spread, (b - mean) / spread
    xx, yy, xy = ((u @ v.T / u.shape[1] + 1) ** 3 for u, v in ((x, x), (y, y), (x, y)))
    return float(_off_diagonal(xx) + _off_diagonal(yy) - 2 * xy.mean())


def _off_diagonal(k: npt.NDArray[np.float64]) -> float:
    return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))


class PhotoJudge:
    """Compares what becomes of renders with one set of photographs; crops are drawn and paired once.

    The network trains nothing (EfficientNet-Lite2). ``tone_removed`` first brings every picture to the photographs'
    mean and spread in Lab.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        renders: Sequence[Scene],
        photographs: Sequence[Scene],
        classes: int,
        tone_removed: bool = False,
    ) -> None:
        rng = random.Random(SEED)
        drawn = places(renders, OF_RENDER, classes, rng), places(photographs, OF_PHOTOGRAPH, classes, rng)
        self._network = network
        self._matches = match(*drawn, rng)
        real = [s.rgb for s in photographs]
        self._prepare: Callable[[ByteArray], ByteArray] = ToneRemover(real) if tone_removed else np.asarray
        self._real = self._features(real, self._matches.photographs)
        self._floor = self._distances(self._features(real, self._matches.others))
        self._render = self._distances(self._features([s.rgb for s in renders], self._matches.renders))

    def __call__(self, pictures: Sequence[ByteArray]) -> PhotoDistance:
        """Of the translated renders, in their order and sizes."""
        distances = self._distances(self._features(pictures, self._matches.renders))
        return PhotoDistance(distances, self._render, self._floor, len(self._matches.renders))

    def _features(self, pictures: Sequence[ByteArray], where: Sequence[Place]) -> Features:
        ready = {i: self._prepare(pictures[i]) for i in sorted({p.picture for p in where})}
        crops = [ready[p.picture][p.top : p.top + SIDE, p.left : p.left + SIDE] for p in where]
        return crop_features(self._network, crops)

    def _distances(self, found: Features) -> tuple[float, ...]:
        return tuple(kernel_distance(a, b) for a, b in zip(found, self._real, strict=True))


@torch.inference_mode()
def crop_features(network: FeatureNetwork, crops: Sequence[ByteArray]) -> Features:
    """Mean and standard deviation of the coarsest maps over each crop, uint8 ``(side, side, 3)``."""
    batches: list[list[Tensor]] = []
    for i in range(0, len(crops), AT_ONCE):
        pixels = torch.from_numpy(np.stack(crops[i : i + AT_ONCE])).permute(0, 3, 1, 2).float() / 127.5 - 1
        maps = network.features(pixels)[-DEPTHS:]
        batches.append([torch.cat([m.mean((2, 3)), m.std((2, 3))], 1) for m in maps])
    return [torch.cat(depth).double().numpy() for depth in zip(*batches, strict=True)]


class ToneRemover:
    """Brings a picture to the mean and spread in Lab that photographs have together."""

    def __init__(self, photographs: Sequence[ByteArray], every: int = 37) -> None:
        pixels = np.concatenate([lab(p).reshape(-1, 3)[::every] for p in photographs])
        self._mean, self._spread = pixels.mean(0), pixels.std(0)

    def __call__(self, picture: ByteArray) -> ByteArray:
        """Same shape and type out as in."""
        values = lab(picture)
        flat = values.reshape(-1, 3)
        toned = (values - flat.mean(0)) / (flat.std(0) + 1e-6) * self._spread + self._mean
        rgb = cv2.cvtColor(toned.astype(np.float32), cv2.COLOR_LAB2RGB)
        return np.asarray((rgb.clip(0, 1) * 255).round(), np.uint8)
