"""Data sets of photographs with labels, and the network's view of them.

A photograph enters training exactly as a frame enters the live bridge: the same class look-up, the same resize, the
same edge operator, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dned import STRIDE
from models.edges import LaplacianEdges
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.images import read_image

CAMVID_CLASSES: Final = (
    "sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person", "bicyclist",
    "unlabeled",
)  # fmt: skip
CAMVID_VOID: Final = len(CAMVID_CLASSES) - 1


class Photograph(NamedTuple):
    """One sample, whole.

    Attributes:
        name: File name without its ending.
        rgb: uint8 ``(H, W, 3)``.
        labels: uint8 ``(H, W)``, ids into the data set's classes.
    """

    name: str
    rgb: ByteArray
    labels: ByteArray

    def crop_to_stride(self) -> Photograph:
        """The middle rows and the leftmost columns, as many as the networks' stride divides."""
        height, width = (side // STRIDE * STRIDE for side in self.labels.shape)
        top = (self.labels.shape[0] - height) // 2
        rows, columns = slice(top, top + height), slice(0, width)
        return Photograph(
            self.name, np.ascontiguousarray(self.rgb[rows, columns]), np.ascontiguousarray(self.labels[rows, columns])
        )


@dataclass(frozen=True, slots=True)
class CamVid:
    """CamVid in the layout ``ROOT/{train,val}/NAME.jpg`` and ``ROOT/{train,val}annot/NAME.png`` (12 classes, 480x360).

    Attributes:
        root: The data set's folder.
        split: ``train`` or ``val``.
        exclude: Drives left out, by the name before the first underscore.
        share: Every sample, or only the ``odd`` or ``even`` ones (a judge and a loss must not learn from the same
            frames).
    """

    root: Path
    split: str
    exclude: tuple[str, ...] = ()
    share: str = "all"

    classes = CAMVID_CLASSES
    void = CAMVID_VOID

    def files(self) -> list[tuple[Path, Path]]:
        """Photograph and label file of every sample, sorted by name.

        Raises:
            UsageError: The folder is missing or empty, or a photograph has no labels.
        """
        folder = self.root / self.split
        images = sorted(p for p in folder.glob("*") if p.suffix.lower() in {".jpg", ".png"})
        images = [p for p in images if p.stem.split("_")[0] not in self.exclude]
        if not images:
            raise UsageError(
                f"CamVid split {folder} holds no photographs: give --root the folder that holds train/ and trainannot/"
            )
        pairs = [(p, self.root / f"{self.split}annot" / f"{p.stem}.png") for p in images]
        missing = [labels for _, labels in pairs if not labels.is_file()]
        if missing:
            raise UsageError(
                f"CamVid labels {missing[0]} are missing ({len(missing)} of {len(pairs)}): complete the data set"
            )
        start, step = {"all": (0, 1), "odd": (1, 2), "even": (0, 2)}[self.share]
        return pairs[start::step]

    def __iter__(self) -> Iterator[Photograph]:
        """Reads the samples one by one."""
        for image, labels in self.files():
            yield self.read(image, labels)

    def read(self, image: Path, labels: Path) -> Photograph:
        """Reads one sample.

        Raises:
            UsageError: Sizes differ or a class id is outside the taxonomy.
            ImageError: A file cannot be decoded.
        """
        rgb = np.ascontiguousarray(read_image(image)[..., ::-1], np.uint8)
        ids = np.asarray(read_image(labels), np.uint8)
        if ids.shape != rgb.shape[:2]:
            raise UsageError(
                f"labels {labels} are {ids.shape[1]}x{ids.shape[0]}, their photograph is {rgb.shape[1]}x{rgb.shape[0]}:"
                " they must have one size"
            )
        if (top := int(ids.max())) > self.void:
            share = float((ids > self.void).mean())
            raise UsageError(
                f"labels {labels} hold class id {top} ({share:.2%} above {self.void}): they are not CamVid's 12 classes"
            )
        return Photograph(image.stem, rgb, ids)


def edge_strength(operator: LaplacianEdges, rgb: Tensor) -> Tensor:
    """Signed response over limit of the edge operator: above 1 in absolute value is an edge, above 0 its dark side.

    Training varies the threshold with it; E(x) itself always comes from the operator.

    Args:
        operator: The edge operator.
        rgb: uint8 ``(N, H, W, 3)``.

    Returns:
        float16 ``(N, H, W)``.
    """
    response, limit = operator.measure(rgb)
    return (response / limit).to(torch.float16)


class Sample(NamedTuple):
    """What training holds of a photograph; all ``(H, W, ...)`` arrays of one size.

    Attributes:
        rgb: uint8 ``(H, W, 3)``.
        labels: uint8 ``(H, W)``.
        edges: E(x), bool ``(P, H, W)``.
        strength: float16 ``(H, W)``, see :func:`edge_strength`.
    """

    rgb: ByteArray
    labels: ByteArray
    edges: npt.NDArray[np.bool_]
    strength: npt.NDArray[np.float16]

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """A window of it, mirrored left to right if asked."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        cut = (
            self.rgb[rows, columns],
            self.labels[rows, columns],
            self.edges[:, rows, columns],
            self.strength[rows, columns],
        )
        if not flip:
            return Sample(*cut)
        return Sample(cut[0][:, ::-1], cut[1][:, ::-1], cut[2][:, :, ::-1], cut[3][:, ::-1])


def prepare(photograph: Photograph, operator: LaplacianEdges) -> Sample:
    """Runs the edge operator over a whole photograph, so that crops of it have no border of their own."""
    rgb = torch.from_numpy(photograph.rgb)[None]
    return Sample(photograph.rgb, photograph.labels, operator(rgb)[0].numpy(), edge_strength(operator, rgb)[0].numpy())


def load_all(data: CamVid, operator: LaplacianEdges) -> list[Sample]:
    """All samples of a set in memory, edges and all (CamVid: 0.3 GB)."""
    return [prepare(p, operator) for p in data]
