"""Cityscapes (Cordts et al.): street photographs with labels, and the video frames around them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.labels import LabelMap, taxonomy
from sim_bridge.pixels.taxonomy import class_list
from sim_bridge.recordings.captures import read_rgb
from trainers.data.pairs import PairedImages, list_images, pair_up, refuse_unknown_names
from trainers.data.problems import MissingCounterpartError, Problem

CITYSCAPES_CLASSES: Final = class_list("cityscapes")
"""The 19 train classes, in the order of their train ids, and ``unlabeled``."""

PICTURE, LABELS, INSTANCES = "_leftImg8bit", "_gtFine_labelIds", "_gtFine_instanceIds"


class Cityscapes(PairedImages):
    """Cityscapes as it is downloaded.

    ``ROOT/leftImg8bit/SPLIT/CITY/CITY_SEQ_FRAME_leftImg8bit.png`` and
    ``ROOT/gtFine/SPLIT/CITY/CITY_SEQ_FRAME_gtFine_labelIds.png`` (2048x1024, 34 ids).

    The ids become the 19 train classes by name and by the fallback chains, as a stream's do in the live bridge: parking
    and rail track are road, guard rail is fence, caravan is car. Cityscapes' own benchmark leaves those pixels out, so
    scores on these labels are not its scores.

    Args:
        root: The data set's folder.
        split: ``train`` or ``val``.
        exclude: Cities left out.
        share: Every sample, or only the ``odd`` or ``even`` ones.
        instances: Read ``..._gtFine_instanceIds.png``, too (16 bits; what is no thing has its class' id).
        strict: Raise problems of the listing.

    Raises:
        UsageError: The folder is missing or empty, a photograph, its labels or instances are missing, or there is no
            city to exclude.
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
        self._instances = instances
        self._frames = root / "leftImg8bit_sequence" / split
        photographs, annotations = root / "leftImg8bit" / split, root / "gtFine" / split

        def files(folder: Path, ending: str) -> list[Path]:
            found = list_images(folder, f"*/*{ending}.*", {".png"})
            return [file for file in found if file.parent.name not in exclude]

        def label_of(image: Path) -> Path:
            return annotations / image.parent.name / f"{self.name_of(image)}{LABELS}.png"

        held = {city.name for city in (root / "leftImg8bit").glob("*/*") if city.is_dir()}
        refuse_unknown_names("exclude", exclude, held, root)
        listing = pair_up(files(photographs, PICTURE), files(annotations, LABELS), label_of)
        missing = [file for _, labels in listing.pairs if (file := self.instances_of(labels)) and not file.is_file()]
        for file in missing:
            sentence = f"instance ids {file} are missing: unpack gtFine whole, or leave out sees_instance_edges"
            listing.problems.append(Problem(file, MissingCounterpartError(sentence)))
        self._map = LabelMap.build(taxonomy("cityscapes"), self.classes)
        self.description = f"Cityscapes {split}, {share} frames, without {', '.join(exclude) or 'none'}"
        hint = "give --root the folder that holds leftImg8bit/ and gtFine/"
        super().__init__(listing, photographs, hint, share, strict=strict)

    def name_of(self, image: Path) -> str:
        """``CITY_SEQ_FRAME``."""
        return image.stem.removesuffix(PICTURE)

    def instances_of(self, labels: Path) -> Path | None:
        """Beside the labels."""
        return labels.with_name(labels.name.replace(LABELS, INSTANCES)) if self._instances else None

    def label_map(self, labels: Path) -> LabelMap:
        """Cityscapes' labelIds."""
        return self._map

    def neighbours(self, index: int, before: int, after: int) -> list[Path]:
        """Files of the video frames around a labelled photograph, itself included, in the order of time.

        They are those of ``ROOT/leftImg8bit_sequence/SPLIT/CITY``, 17 a second; around every labelled frame Cityscapes
        has 19 before and 10 after it. They have no labels.

        Args:
            index: Of the labelled photograph.
            before: How many frames before it.
            after: How many after it.

        Raises:
            UsageError: One of the frames is not there.
        """
        image = self.files[index][0]
        city, sequence, frame = self.name_of(image).rsplit("_", 2)
        numbers = range(int(frame) - before, int(frame) + after + 1)
        folder = self._frames / image.parent.name
        found = [folder / f"{city}_{sequence}_{number:0{len(frame)}d}{PICTURE}.png" for number in numbers]
        missing = [file for file in found if not file.is_file()]
        if missing:
            raise UsageError(
                f"video frame {missing[0]} is missing ({len(missing)} of the {len(found)} around {image.name}): unpack"
                " leftImg8bit_sequence, or ask for at most 19 before and 10 after"
            )
        return found

    def read_neighbours(self, index: int, before: int, after: int) -> list[ByteArray]:
        """The frames of :meth:`neighbours`, each uint8 ``(H, W, 3)`` RGB.

        Raises:
            UsageError: One of the frames is not there.
            ImageError: One cannot be decoded.
        """
        return [read_rgb(file) for file in self.neighbours(index, before, after)]
