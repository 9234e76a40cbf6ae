"""A recorded folder as a source of frames."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from plugins.replay.faults import Arrival
from sim_bridge.errors import ImageError, LabelError
from sim_bridge.frames import Frame
from sim_bridge.recordings.file_pairs import Pairing
from sim_bridge.recordings.read import RecordedFrame, Recording, open_recording
from sim_bridge.source_options import CheckedOptions

_log = logging.getLogger(__name__)

CACHE_BYTES: Final = 256 << 20
"""Decoded images kept between the passes of a loop."""
DEFAULT_RATE: Final = 20.0


class ReplayOptions(CheckedOptions):
    """What a replay can be told; unknown names are errors."""

    folder: Path
    rgb: str | None = None
    semantic: str | None = None
    labels: str | None = None
    labels_as: str | None = None
    camera: str | None = None
    pair: Pairing | None = None
    rate: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)] = DEFAULT_RATE
    loop: bool = False
    frames: Annotated[int | None, Field(ge=1)] = None


class ReplaySource:
    """Publishes a recording tick by tick; see :class:`~sim_bridge.sources.Source`.

    Every pass over the recording is a session of its own, as if the simulator had been started again.

    Attributes:
        notes: Sentences a user should see, after :meth:`open`.
        problems: One sentence per frame that could not be read and was left out.
        published: Frames (of one camera at one tick each) handed out so far.
        passes: Passes over the recording begun so far.
    """

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self.problems: dict[tuple[str, int], str] = {}
        self.published = 0
        self.passes = 0
        self._closed = threading.Event()
        self._cache: dict[tuple[str, int], tuple[Frame, ...]] = {}
        self._cached_bytes = 0

    def open(self, options: Mapping[str, object]) -> None:
        """Reads the folder's index (no image yet).

        Args:
            options: The fields of :class:`ReplayOptions`.

        Raises:
            UsageError: An option is unknown or out of bounds, or the folder cannot be used.
            MissingExtraError: OpenCV is not installed.
        """
        self._options = ReplayOptions.checked_for("replay", options)
        recording = open_recording(
            self._options.folder,
            rgb=self._options.rgb,
            semantic=self._options.semantic,
            labels=self._options.labels,
            camera=self._options.camera,
            pairing=self._options.pair,
        )
        from sim_bridge.recordings.captures import label_reader, recording_taxonomy

        self._labels = label_reader(
            recording, recording_taxonomy(recording, self._options.labels), self._options.labels_as
        )
        self._recording = recording
        self.notes = recording.notes
        self.cameras = recording.cameras()
        self._ticks = _by_tick(recording, self.cameras)

    @property
    def suspicions(self) -> list[str]:
        """Sentences about what may be wrong with the labels, so far."""
        return self._labels.suspicions

    @property
    def ticks(self) -> int:
        """Ticks of one pass."""
        return len(self._ticks)

    def __iter__(self) -> Iterator[Frame]:
        """Yields the RGB and the semantic frame of every tick of every camera, when its time has come."""
        start = time.monotonic()
        for due, frame in self.scheduled():
            if due > 0 and self._closed.wait(start + due - time.monotonic()):
                return
            yield frame

    def scheduled(self) -> Iterator[Arrival]:
        """The same frames without waiting, each with its time in seconds since the start; always 0 without a rate."""
        index = 0
        run = uuid.uuid4().hex[:12]
        for turn in count() if self._options.loop else range(1):
            session = f"{run}-{turn}"
            before = index
            if index == self._options.frames:
                return
            self.passes += 1
            for position, tick in enumerate(self._ticks):
                if self._closed.is_set() or index == self._options.frames:
                    return
                frames = [frame for recorded in tick for frame in self._frames(recorded, session, position)]
                if not frames:
                    continue
                due = index / self._options.rate if self._options.rate > 0 else 0.0
                yield from (Arrival(due, frame) for frame in frames)
                self.published += len(frames) // 2
                index += 1
            self._labels.finish()
            if index == before:
                return

    def close(self) -> None:
        """Ends the iteration."""
        self._closed.set()

    def _frames(self, recorded: RecordedFrame, session: str, position: int) -> tuple[Frame, ...]:
        key = (recorded.camera, recorded.number)
        if key in self.problems:
            return ()
        frames = self._cache.get(key)
        if frames is None:
            try:
                frames = self._read(recorded, position)
            except (ImageError, LabelError) as error:
                self.problems[key] = str(error)
                _log.error("frame %d of camera %r is left out: %s", recorded.number, recorded.camera, error)
                return ()
        return tuple(replace(frame, session=session) for frame in frames)

    def _read(self, recorded: RecordedFrame, position: int) -> tuple[Frame, ...]:
        from sim_bridge.recordings.captures import read_capture, to_frames

        capture = read_capture(recorded, self._labels)
        camera = self._recording.info.cameras.get(recorded.camera)
        seconds = position / (self._options.rate or DEFAULT_RATE) if recorded.time is None else recorded.time
        fov = None if camera is None else camera.fov
        frames = to_frames(recorded, capture, session="", seconds=seconds, fov=fov)
        if self._options.loop and self._cached_bytes + capture.nbytes <= CACHE_BYTES:
            self._cache[recorded.camera, recorded.number] = frames
            self._cached_bytes += capture.nbytes
        return frames


def _by_tick(recording: Recording, cameras: tuple[str, ...]) -> list[list[RecordedFrame]]:
    """The frames of all cameras that share a frame number, by rising number."""
    ticks: dict[int, list[RecordedFrame]] = {}
    for camera in cameras:
        for frame in recording.frames(camera):
            ticks.setdefault(frame.number, []).append(frame)
    return [ticks[number] for number in sorted(ticks)]
