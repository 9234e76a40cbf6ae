"""CamVid (Brostow et al.): street photographs with labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sim_bridge.pixels.labels import LabelMap, taxonomy
from sim_bridge.pixels.taxonomy import class_list
from trainers.data.clips import FrameFiles, Video
from trainers.data.pairs import PairedImages, list_images, pair_up, refuse_unknown_names
from trainers.data.photograph import Inspection
from trainers.data.road_lines import mark_road_lines

CAMVID_CLASSES: Final = class_list("camvid")
ROAD_LINE: Final = "road line"
WITH_ROAD_LINES: Final = (*CAMVID_CLASSES[:-1], ROAD_LINE, CAMVID_CLASSES[-1])
DRIVES: Final = frozenset({"0001TP", "0006R0", "0016E5", "Seq05VD"})
"""All that were published. Recipes may exclude any of them, also of a copy that holds only some."""
FRAMES_APART: Final = 2
"""Labelled frames of the 15 Hz drive are this far apart in the numbers of their names."""
_NUMBER: Final = re.compile(r"\d+$")


class CamVid(PairedImages):
    """CamVid: ``ROOT/{train,val}/NAME.jpg`` or ``.png`` and ``ROOT/{train,val}annot/NAME.png`` (12 classes, 480x360).

    Args:
        exclude: Drives left out, by the name before the first underscore.
        road_lines: Give road markings a class of their own, see :mod:`trainers.data.road_lines`.

    Raises:
        UsageError: A file or a drive to exclude is missing.
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

        annotations, notes = root / f"{split}annot", list[str]()
        pictures, found = list_images(root / split, notes=notes), list_images(annotations, notes=notes)
        images, labels = ([file for file in files if _drive(file) not in exclude] for files in (pictures, found))
        held = {_drive(file) for folder in ("train", "val") for file in list_images(root / folder)}
        refuse_unknown_names("exclude", set(exclude) - DRIVES, held, root)
        listing = pair_up(images, labels, lambda image: annotations / f"{image.stem}.png")
        listing.notes.extend(notes)
        self._map = LabelMap.build(taxonomy("camvid"), self.classes)
        self.description = f"CamVid {split}, {share} frames, without {', '.join(exclude) or 'none'}"
        hint = "give --root the folder that holds train/ and trainannot/"
        super().__init__(root, listing, pictures, hint, share, folder=root / split, strict=strict)

    def videos(self) -> list[Video]:
        """The drives. Numbers count 30 frames a second, of which every other one may be labelled."""
        drives: dict[tuple[str, int], dict[int, FrameFiles]] = {}
        for index, (image, _) in enumerate(self.files):
            if (number := _NUMBER.search(image.stem)) is not None:
                place, phase = divmod(int(number[0]), FRAMES_APART)
                drives.setdefault((_drive(image), phase), {})[place] = self.frame(index)
        return list(drives.values())

    def inspect_frame(self, frame: FrameFiles, *, flow: bool = False) -> Inspection:
        """Reads a frame; road markings are found here."""
        found = super().inspect_frame(frame, flow=flow)
        if found.photograph is None or not self._road_lines:
            return found
        road, line = self.classes.index("road"), self.classes.index(ROAD_LINE)
        labels = mark_road_lines(found.photograph.rgb, found.photograph.labels, road, line)
        return found._replace(photograph=found.photograph._replace(labels=labels))

    def label_map(self, labels: Path) -> LabelMap:
        """CamVid's 12 ids."""
        return self._map


def _drive(file: Path) -> str:
    return file.stem.split("_")[0]
