"""The label files of a source, all read in one way. Needs OpenCV (the ``engine`` extra)."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from sim_bridge.errors import ForeignIdsError, LabelError, SimBridgeError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.alignment import Alignment
from sim_bridge.pixels.images import read_labels
from sim_bridge.pixels.one_class import lone_class
from sim_bridge.pixels.readings import Reading, StoredLabels, fitting, foreign_ids, read_stored
from sim_bridge.pixels.taxonomy import Taxonomy
from sim_bridge.recordings.read import RecordedFrame

_log = logging.getLogger(__name__)

_SIBLINGS: Final = 8
"""Files of a source that are looked at where one file alone leaves two readings."""
_COMPARED: Final = 16
"""Frames of a camera whose labels are held against their pictures."""
_NEAR: Final = 0.5
"""Seconds between two frames of which the later follows the earlier; frame numbers, where times are unknown."""
_NEAR_NUMBERS: Final = 10
_LONG: Final = 100
"""Frames of one class in a row after which a source that goes on is suspicious."""


class LabelReader:
    """Reads label files of one source; logs once which reading it chose. Safe to use from several threads.

    Args:
        source: The taxonomy.
        files: The source's label files; where one leaves two readings, the others decide.
        name: What to call the source in messages.
        wanted: The only reading to take.
        logs: Whether it logs the reading, too; suspicions always.

    Attributes:
        source: The taxonomy.
        name: Of the source.
        suspicions: Sentences about what may be wrong; each was logged as a warning.
    """

    def __init__(
        self,
        source: Taxonomy,
        files: Sequence[Path] = (),
        *,
        name: str = "",
        wanted: Reading | None = None,
        logs: bool = True,
    ) -> None:
        self.source = source
        self.suspicions: list[str] = []
        self._files = files
        self.name = name
        self._wanted = wanted
        self._logs = logs
        self._lock = threading.Lock()
        self._chosen: Counter[Reading] = Counter()
        self._siblings: dict[bool, list[frozenset[Reading]]] | None = None
        self._alone: int | None = None
        self._frames = self._alike = 0
        self._compared: dict[str, tuple[RecordedFrame | None, Alignment]] = {}
        self._misplaced: set[str] = set()

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Those taken so far, the most frequent first."""
        return tuple(reading for reading, _ in self._chosen.most_common())

    def read(self, path: Path) -> ByteArray:
        """Reads one file, uint8 ``(H, W)``.

        Raises:
            ImageError: It cannot be decoded.
            LabelError: It is a JPEG, or ids or colours are outside the taxonomy.
        """
        stored = read_labels(path)
        try:
            reading, ids = read_stored(
                stored, self.source, self._wanted, lambda fits: self._prefer(fits, stored.palette is not None)
            )
            if reading is Reading.IDS and (error := foreign_ids(ids, self.source)) is not None:
                raise error
        except ForeignIdsError as error:
            raise ForeignIdsError(f"{path}: {error.fact}", error.advice) from error
        except LabelError as error:
            raise LabelError(f"{path}: {error}") from error
        self._note(path, reading, ids)
        return ids

    def compare(self, frame: RecordedFrame, rgb: ByteArray, ids: ByteArray) -> None:
        """Holds a frame's labels uint8 ``(H, W)`` against its picture; frames of a camera come in order."""
        with self._lock:
            before, seen = self._compared.get(frame.camera, (None, Alignment()))
            if seen.frames >= _COMPARED:
                return
            seen.add(rgb, ids, follows=before is not None and _follows(before, frame))
            self._compared[frame.camera] = (frame, seen)
            if seen.frames == _COMPARED:
                self._suspect_place(frame.camera)

    def finish(self) -> None:
        """Says what all that was read shows, as one class alone; call it when a source was read whole."""
        with self._lock:
            for camera in self._compared:
                self._suspect_place(camera)
            if self._frames and self._alike == self._frames:
                self._suspect_one_class()
            self._frames = self._alike = 0

    def _note(self, path: Path, reading: Reading, ids: ByteArray) -> None:
        with self._lock:
            if reading not in self._chosen:
                self._say(path, reading)
            self._chosen[reading] += 1
            alone = lone_class(ids)
            self._alike = self._alike + 1 if alone is not None and alone == self._alone else int(alone is not None)
            self._alone = alone
            self._frames += 1
            if self._alike == _LONG:
                self._suspect_one_class()

    def _say(self, path: Path, reading: Reading) -> None:
        name = self.name or str(path)
        if not self._chosen:
            if self._logs:
                _log.info("labels of %s are read as %s of %s", name, reading, self.source.name)
            return
        before = " and ".join(self.readings)
        self._suspect(
            f"labels of {name} are read as {before}, but {path} as {reading}: give --labels-as if one of them is wrong"
        )

    def _suspect_one_class(self) -> None:
        assert self._alone is not None
        what = self.source.ids.get(self._alone, "no class")
        frames = "the label image" if self._alike == 1 else f"{self._alike} label images"
        self._suspect(
            f"{frames} of {self.name or 'this source'} hold id {self._alone} ({what}) alone: "
            "check that they are labels, and their taxonomy"
        )

    def _suspect_place(self, camera: str) -> None:
        finding = self._compared[camera][1].finding()
        if finding is not None and camera not in self._misplaced:
            self._misplaced.add(camera)
            where = f"{self.name or 'this source'}, camera {camera!r}"
            self._suspect(f"{where}: {finding}; record RGB and labels at one tick, with one pose and one lens")

    def _suspect(self, sentence: str) -> None:
        if sentence not in self.suspicions:
            self.suspicions.append(sentence)
            _log.warning(sentence)

    def _prefer(self, fits: Sequence[Reading], palette: bool) -> Reading:
        """The first of the readings that fits the source's other files, too."""
        with self._lock:
            if self._siblings is None:
                self._siblings = self._look_at_siblings()
        others = self._siblings[palette]
        return next((reading for reading in fits if all(reading in other for other in others)), fits[0])

    def _look_at_siblings(self) -> dict[bool, list[frozenset[Reading]]]:
        """The readings that fit each of a few files, apart for those with a palette."""
        found: dict[bool, list[frozenset[Reading]]] = {True: [], False: []}
        places = np.linspace(0, len(self._files) - 1, min(_SIBLINGS, len(self._files))).round().astype(int)
        for path in (self._files[place] for place in places):
            try:
                stored = read_labels(path)
                fits = frozenset(fitting(stored, self.source))
            except SimBridgeError:
                continue  # whoever reads this file says what is wrong with it
            if fits and not _is_plain(stored):
                found[stored.palette is not None].append(fits)
        return found


def _follows(before: RecordedFrame, frame: RecordedFrame) -> bool:
    """Whether a camera can hardly have moved elsewhere in between."""
    if before.time is None or frame.time is None:
        return 0 < frame.number - before.number <= _NEAR_NUMBERS
    return 0 < frame.time - before.time <= _NEAR


def _is_plain(stored: StoredLabels) -> bool:
    """Whether it can only be ids."""
    return stored.palette is None and (stored.pixels.ndim == 2 or stored.pixels.dtype != np.uint8)
