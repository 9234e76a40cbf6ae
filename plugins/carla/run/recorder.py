"""Writes what CARLA's cameras see as a recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from plugins.carla.rig.rig import DEFAULT_CAMERA, Rig
from plugins.carla.run.options import CarlaOptions
from plugins.carla.run.source import CarlaSource
from sim_bridge.errors import UsageError
from sim_bridge.frames import Frame, Kind
from sim_bridge.recordings.read import DESCRIPTION, MANIFEST, CameraInfo, Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter

WINDOW: Final = 16
"""Ticks that may wait for the last of their images."""
_FOLDERS: Final[Mapping[Kind, Folder]] = {
    Kind.RGB: Folder.RGB,
    Kind.SEMANTIC: Folder.SEMANTIC,
    Kind.INSTANCE: Folder.INSTANCE,
    Kind.DEPTH: Folder.DEPTH,
}

_Images = dict[tuple[str, Kind], Frame]


class Recorder:
    """Writes ticks of CARLA into a new folder; a tick is written when all its images are there.

    Args:
        source: What is recorded; it is opened here.
        root: The recording's folder.
        options: Of :class:`~plugins.carla.run.options.CarlaOptions`.

    Raises:
        UsageError: The folder holds a recording, or an option cannot be used.
        CarlaError: The server does not do what is asked.

    Attributes:
        written: Ticks on disk.
        left_out: Ticks after the first whole one of which an image, or all, did not come or was pushed out by newer
            ones; by their numbers, so that none is forgotten.
    """

    def __init__(self, source: CarlaSource, root: Path, options: Mapping[str, object]) -> None:
        if (root / DESCRIPTION).exists() or (root / MANIFEST).exists():
            raise UsageError(f"{root} holds a recording already: choose another folder, or remove it")
        checked = CarlaOptions.checked(options)
        self._source = source
        self.written = self.left_out = 0
        source.open(options)
        try:
            attachment = source.attachment
            session, labels = ("", "") if attachment is None else (attachment.session, attachment.labels)
            info = describe(checked.rig, session, labels)
            self._keys = tuple((name, kind) for name in checked.rig.names for kind in checked.all_kinds)
            self._writer = RecordingWriter(root, info, camera_folders=checked.rig.names != (DEFAULT_CAMERA,))
        except BaseException:
            source.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()
        self._writer.close()

    def record(self, frames: int, every: int = 1) -> Iterator[int]:
        """Writes ticks until there are enough, or the source is closed; yields how many are on disk.

        Args:
            frames: How many.
            every: Which of those that are whole: all, every second ...

        Raises:
            CarlaError: The server, its world or the vehicle is gone.
            SimBridgeError: A file cannot be written.
        """
        for whole, images in enumerate(self._whole_ticks()):
            if whole % every == 0:
                self._write(images)
                self.written += 1
                yield self.written
            if self.written == frames:
                return

    def _whole_ticks(self) -> Iterator[_Images]:
        waiting: dict[int, _Images] = {}
        done: int | None = None
        for frame in self._source:
            if done is not None and frame.number <= done:
                continue  # sent again, or one of a tick that is left out already
            images = waiting.setdefault(frame.number, {})
            images[frame.camera, frame.kind] = frame
            if len(images) == len(self._keys):
                self.left_out += 0 if done is None else frame.number - done - 1
                done = frame.number
                for number in [number for number in waiting if number <= done]:
                    del waiting[number]
                yield images
            elif len(waiting) > WINDOW:
                oldest = min(waiting)
                self.left_out += 1 if done is None else oldest - done
                done = oldest
                del waiting[oldest]

    def _write(self, images: _Images) -> None:
        for camera in dict.fromkeys(name for name, _ in self._keys):
            seen = {kind: images[name, kind] for name, kind in self._keys if name == camera}
            files = {
                _FOLDERS[kind]: self._writer.write_image(camera, _FOLDERS[kind], frame.number, _values(frame))
                for kind, frame in seen.items()
            }
            rgb = seen[Kind.RGB]
            self._writer.add(RecordedFrame(camera, rgb.number, rgb.time, rgb.pose, files))


def _values(frame: Frame) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """As the writer wants them: RGB for colours."""
    return frame.pixels[..., 2::-1] if frame.kind is Kind.RGB else frame.pixels


def describe(rig: Rig, session: str, labels: str) -> RecordingInfo:
    """What ``recording.json`` says of a drive."""
    cameras = {}
    for name, camera in rig.cameras.items():
        width, height = camera.size
        focal = width / 2 / float(np.tan(np.radians(camera.fov) / 2))
        rows = ((focal, 0.0, width / 2), (0.0, focal, height / 2), (0.0, 0.0, 1.0))
        cameras[name] = CameraInfo(width=width, height=height, fov=camera.fov, K=rows)
    return RecordingInfo(cameras=cameras, taxonomy=labels, session=session)
