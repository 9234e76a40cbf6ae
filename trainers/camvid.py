"""CamVid (Brostow et al.): street photographs with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sim_bridge.labels import LabelMap, taxonomy
from trainers.data import Inspection, take_share
from trainers.pairs import Listing, PairedImages, pair_up
from trainers.road_lines import mark_road_lines

CAMVID_CLASSES: Final = (
    "sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person", "bicyclist",
    "unlabeled",
)  # fmt: skip
WITH_ROAD_LINES: Final = (*CAMVID_CLASSES[:-1], "road line", CAMVID_CLASSES[-1])


class CamVid(PairedImages):
    """CamVid in the layout ``ROOT/{train,val}/NAME.jpg`` and ``ROOT/{train,val}annot/NAME.png`` (12 classes, 480x360).

    Args:
        root: The data set's folder.
        split: ``train`` or ``val``.
        exclude: Drives left out, by the name before the first underscore.
        share: Every sample, or only the ``odd`` or ``even`` ones.
        road_lines: Give road markings a class of their own, see :mod:`trainers.road_lines`.
        strict: Raise problems of the listing.

    Raises:
        UsageError: The folder is missing or empty, or a photograph has no labels.
    """

    licence = "CC-BY-NC-4.0"
    credit = "CamVid, Brostow et al."

    def __init__(
        self,
        root: Path,
        split: str,
        exclude: tuple[str, ...] = (),
        share: str = "all",
        *,
        road_lines: bool = False,
        strict: bool = True,
    ) -> None:
        self.classes = WITH_ROAD_LINES if road_lines else CAMVID_CLASSES
        self._road_lines = road_lines

        def belongs(file: Path) -> bool:
            return file.suffix.lower() in {".jpg", ".png"} and file.stem.split("_")[0] not in exclude

        annotations = root / f"{split}annot"
        images, labels = (sorted(filter(belongs, folder.glob("*"))) for folder in (root / split, annotations))
        pairs, problems = pair_up(images, labels, lambda image: annotations / f"{image.stem}.png")
        self._map = LabelMap.build(taxonomy("camvid"), self.classes)
        self.description = f"CamVid {split}, {share} frames, without {', '.join(exclude) or 'none'}"
        hint = "give --root the folder that holds train/ and trainannot/"
        super().__init__(Listing(take_share(pairs, share), problems), root / split, hint, strict=strict)

    def inspect(self, index: int) -> Inspection:
        """Reads one sample; see :meth:`DataSet.inspect`."""
        found = super().inspect(index)
        if found.photograph is None or not self._road_lines:
            return found
        road, line = self.classes.index("road"), self.classes.index("road line")
        labels = mark_road_lines(found.photograph.rgb, found.photograph.labels, road, line)
        return found._replace(photograph=found.photograph._replace(labels=labels))

    def label_map(self, labels: Path) -> LabelMap:
        """CamVid's 12 ids."""
        return self._map
