"""Cityscapes (Cordts et al.): street photographs with labels, and the video frames around them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sim_bridge.pixels.labels import LabelMap, taxonomy
from sim_bridge.pixels.taxonomy import class_list
from sim_bridge.recordings.listing import list_folders
from trainers.data.clips import FrameFiles, Video, predicted_labels
from trainers.data.pairs import PairedImages, list_images, pair_up, refuse_unknown_names
from trainers.data.problems import MissingCounterpartError, Problem

CITYSCAPES_CLASSES: Final = class_list("cityscapes")
"""The 19 train classes, in the order of their train ids, and ``unlabeled``."""

BEFORE, AFTER = 19, 10
"""Frames of the video before and after a labelled photograph."""
PICTURE, LABELS, INSTANCES = "_leftImg8bit", "_gtFine_labelIds", "_gtFine_instanceIds"


class Cityscapes(PairedImages):
    """Cityscapes as it is downloaded.

    ``ROOT/leftImg8bit/SPLIT/CITY/CITY_SEQ_FRAME_leftImg8bit.png`` and
    ``ROOT/gtFine/SPLIT/CITY/CITY_SEQ_FRAME_gtFine_labelIds.png`` (2048x1024, 34 ids).

    Ids become the 19 train classes by name and fallback chain, as in the live bridge: scores are not the benchmark's.

    Args:
        exclude: Cities left out.
        instances: Read ``..._gtFine_instanceIds.png``, too (16 bits; what is no thing has its class' id).

    Raises:
        UsageError: A file or a city to exclude is missing.
    """

    classes = CITYSCAPES_CLASSES
    licence = "Cityscapes-Terms-of-Use"
    credit = "Cityscapes, Cordts et al., non-commercial"

    def __init__(
        self,
        root: Path,
        split: str,
        exclude: tuple[str, ...] = (),
        share: str = "all",
        *,
        instances: bool = False,
        strict: bool = True,
    ) -> None:
        self._instances, notes = instances, list[str]()
        self._sequences = root / "leftImg8bit_sequence" / split
        photographs, annotations = root / "leftImg8bit" / split, root / "gtFine" / split

        def files(folder: Path, ending: str) -> list[Path]:
            return list_images(folder, f"*/*{ending}.*", {".png"}, notes=notes)

        def wanted(found: list[Path]) -> list[Path]:
            return [file for file in found if file.parent.name not in exclude]

        def label_of(image: Path) -> Path:
            return annotations / image.parent.name / f"{self.name_of(image)}{LABELS}.png"

        held = {city.name for side in list_folders(root / "leftImg8bit") for city in list_folders(side)}
        refuse_unknown_names("exclude", exclude, held, root)
        pictures = files(photographs, PICTURE)
        listing = pair_up(wanted(pictures), wanted(files(annotations, LABELS)), label_of)
        listing.notes.extend(notes)
        missing = [file for _, labels in listing.pairs if (file := self.instances_of(labels)) and not file.is_file()]
        for file in missing:
            sentence = f"instance ids {file} are missing: unpack gtFine whole, or leave out sees_instance_edges"
            listing.problems.append(Problem(file, MissingCounterpartError(sentence)))
        self._map = LabelMap.build(taxonomy("cityscapes"), self.classes)
        self.description = f"Cityscapes {split}, {share} frames, without {', '.join(exclude) or 'none'}"
        hint = "give --root the folder that holds leftImg8bit/ and gtFine/"
        super().__init__(root, listing, pictures, hint, share, folder=photographs, strict=strict)

    def name_of(self, image: Path) -> str:
        """``CITY_SEQ_FRAME``."""
        return image.stem.removesuffix(PICTURE)

    def instances_of(self, labels: Path) -> Path | None:
        """Beside the labels."""
        return labels.with_name(labels.name.replace(LABELS, INSTANCES)) if self._instances else None

    def label_map(self, labels: Path) -> LabelMap:
        """Cityscapes' labelIds."""
        return self._map

    def videos(self) -> list[Video]:
        """The unlabelled frames in ``ROOT/leftImg8bit_sequence/SPLIT/CITY`` around each photograph, 17 a second."""
        found = list_images(self._sequences, f"*/*{PICTURE}.*", {".png"})
        there = {file.with_suffix(".png"): file for file in found}
        videos = (self._video(index, there) for index in range(len(self)))
        return [video for video in videos if len(video) > 1]

    def _video(self, index: int, there: Mapping[Path, Path]) -> Video:
        labelled = self.frame(index)
        city, sequence, moment = labelled.name.rsplit("_", 2)
        folder, now = self._sequences / city, int(moment)
        video = {now: labelled}
        for time in range(now - BEFORE, now + AFTER + 1):
            name = f"{city}_{sequence}_{time:0{len(moment)}d}"
            file = there.get(folder / f"{name}{PICTURE}.png")
            if time != now and file is not None:
                guess = predicted_labels(self._root, file)
                video[time] = FrameFiles(name, file, None, self._map, predicted=guess)
        return video
