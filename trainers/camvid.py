"""CamVid (Brostow et al.): street photographs with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from sim_bridge.errors import UsageError
from sim_bridge.images import read_image
from trainers.data import VOID, DataSet, Photograph
from trainers.road_lines import mark_road_lines

CAMVID_CLASSES: Final = (
    "sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person", "bicyclist",
    "unlabeled",
)  # fmt: skip


WITH_ROAD_LINES: Final = (*CAMVID_CLASSES[:-1], "road line", CAMVID_CLASSES[-1])


class CamVid(DataSet):
    """CamVid in the layout ``ROOT/{train,val}/NAME.jpg`` and ``ROOT/{train,val}annot/NAME.png`` (12 classes, 480x360).

    Args:
        root: The data set's folder.
        split: ``train`` or ``val``.
        exclude: Drives left out, by the name before the first underscore.
        share: Every sample, or only the ``odd`` or ``even`` ones (a judge and a loss must not learn from the same
            frames).
        road_lines: Give road markings a class of their own, see :mod:`trainers.road_lines`.

    Raises:
        UsageError: The folder is missing or empty, or a photograph has no labels.
    """

    licence = "CC-BY-NC-4.0"
    credit = "CamVid, Brostow et al."

    def __init__(
        self, root: Path, split: str, exclude: tuple[str, ...] = (), share: str = "all", *, road_lines: bool = False
    ) -> None:
        self.classes = WITH_ROAD_LINES if road_lines else CAMVID_CLASSES
        self._road_lines = road_lines
        self.files = _pairs(root, split, exclude, share)
        """Photograph and label file of every sample, sorted by name."""
        self.description = f"CamVid {split}, {share} frames, without {', '.join(exclude) or 'none'}"

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Photograph:
        """Reads one sample; see :meth:`DataSet.read`."""
        image, labels = self.files[index]
        rgb = np.ascontiguousarray(read_image(image)[..., ::-1], np.uint8)
        ids = np.asarray(read_image(labels), np.uint8)
        if ids.shape != rgb.shape[:2]:
            raise UsageError(
                f"labels {labels} are {ids.shape[1]}x{ids.shape[0]}, their photograph is {rgb.shape[1]}x{rgb.shape[0]}:"
                " they must have one size"
            )
        void = CAMVID_CLASSES.index(VOID)
        if (top := int(ids.max())) > void:
            share = float((ids > void).mean())
            raise UsageError(
                f"labels {labels} hold class id {top} ({share:.2%} above {void}): they are not CamVid's 12 classes"
            )
        if self._road_lines:
            ids = np.where(ids == void, np.uint8(self.void), ids)
            ids = mark_road_lines(rgb, ids, self.classes.index("road"), self.classes.index("road line"))
        return Photograph(image.stem, rgb, ids)


def _pairs(root: Path, split: str, exclude: tuple[str, ...], share: str) -> list[tuple[Path, Path]]:
    folder = root / split
    images = sorted(p for p in folder.glob("*") if p.suffix.lower() in {".jpg", ".png"})
    images = [p for p in images if p.stem.split("_")[0] not in exclude]
    if not images:
        raise UsageError(
            f"CamVid split {folder} holds no photographs: give --root the folder that holds train/ and trainannot/"
        )
    pairs = [(p, root / f"{split}annot" / f"{p.stem}.png") for p in images]
    missing = [labels for _, labels in pairs if not labels.is_file()]
    if missing:
        raise UsageError(
            f"CamVid labels {missing[0]} are missing ({len(missing)} of {len(pairs)}): complete the data set"
        )
    start, step = {"all": (0, 1), "odd": (1, 2), "even": (0, 2)}[share]
    return pairs[start::step]
