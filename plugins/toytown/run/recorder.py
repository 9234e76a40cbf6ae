"""Writes what the simulator sees as a recording: training sets, and captures to replay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from plugins.toytown.run.setup import Look
from plugins.toytown.run.simulator import Shot, Simulator
from plugins.toytown.town.surfaces import TAXONOMY
from sim_bridge.errors import UsageError
from sim_bridge.recordings.read import (
    DEFAULT_CAMERA,
    DESCRIPTION,
    MANIFEST,
    CameraInfo,
    Folder,
    RecordedFrame,
    Recording,
    RecordingInfo,
    read_manifest,
)
from sim_bridge.recordings.write import RecordingWriter

LICENCE: Final = "CC0-1.0"
"""Of the images: nothing in them comes from anywhere else."""


_IMAGES: Final[Mapping[Folder, Callable[[Shot], npt.NDArray[Any]]]] = {
    Folder.RGB: Shot.cg,
    Folder.SEMANTIC: Shot.semantic,
    Folder.PHOTO: Shot.photo,
    Folder.INSTANCE: Shot.instance,
    Folder.DEPTH: Shot.depth,
    Folder.FLOW: Shot.flow,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written beside the class ids.

    Attributes:
        looks: The looks.
        instance: Instance ids.
        depth: Planar depth.
        flow: Optical flow to the next tick.
    """

    looks: tuple[Look, ...] = (Look.CG,)
    instance: bool = False
    depth: bool = False
    flow: bool = False

    def folders(self) -> tuple[Folder, ...]:
        """The folders that they go into."""
        asked = {
            Folder.RGB: Look.CG in self.looks,
            Folder.SEMANTIC: True,
            Folder.PHOTO: Look.PHOTO in self.looks,
            Folder.INSTANCE: self.instance,
            Folder.DEPTH: self.depth,
            Folder.FLOW: self.flow,
        }
        return tuple(folder for folder, wanted in asked.items() if wanted)


class Recorder:
    """Writes ticks of a simulator into a folder; one that was begun with the same setup is gone on with.

    Args:
        simulator: What is recorded.
        root: The recording's folder.
        wanted: What is written.

    Raises:
        UsageError: The folder holds another recording.
        SimBridgeError: It cannot be written.
    """

    def __init__(self, simulator: Simulator, root: Path, wanted: Wanted) -> None:
        self._simulator, self._folders = simulator, wanted.folders()
        info = describe(simulator)
        names = tuple(mount.name for mount in simulator.setup.mounts)
        if (root / DESCRIPTION).exists() and Recording.describe(root) != info:
            raise UsageError(
                f"{root} holds another recording, made with another seed, preset, size, step or camera: "
                "choose another folder, or remove it"
            )
        self._before = _recorded(root)
        self._done = {key for key, files in self._before.items() if set(self._folders) <= set(files)}
        self._writer = RecordingWriter(root, info, camera_folders=names != (DEFAULT_CAMERA,))

    def record(self, frames: int, first: int = 0) -> Iterator[int]:
        """Writes ticks ``first`` to ``first + frames - 1``; yields the number of each when it is on disk.

        Raises:
            SimBridgeError: A file cannot be written.
        """
        for number in range(first, first + frames):
            if not all((mount.name, number) in self._done for mount in self._simulator.setup.mounts):
                for shot in self._simulator.tick(number):
                    self._write(shot)
            yield number

    def close(self) -> None:
        """Closes the recording."""
        self._writer.close()

    def _write(self, shot: Shot) -> None:
        files = {
            folder: self._writer.write_image(shot.camera, folder, shot.number, _IMAGES[folder](shot))
            for folder in self._folders
        }
        # What an earlier run with other wishes wrote of the frame stays listed.
        files = {**self._before.get((shot.camera, shot.number), {}), **files}
        self._writer.add(RecordedFrame(shot.camera, shot.number, shot.time, shot.pose, files))


def describe(simulator: Simulator) -> RecordingInfo:
    """What ``recording.json`` says of a simulation; its session names all that decides over the images."""
    setup = simulator.setup
    cameras = {}
    for mount in setup.mounts:
        lens = simulator.lens_of(mount)
        rows = tuple((float(a), float(b), float(c)) for a, b, c in lens.K)
        cameras[mount.name] = CameraInfo(width=lens.width, height=lens.height, fov=lens.fov, K=rows)
    pace = "scattered" if setup.scatter else f"{setup.step:g}s"
    # Where the cameras are and what casts the rays decide over the images, too, but are too long to be written out.
    rest = hashlib.sha256(repr((setup.mounts, setup.backend)).encode()).hexdigest()[:8]
    session = f"toytown-{setup.seed}-{setup.preset.name}-{setup.traffic}-{pace}-{rest}"
    return RecordingInfo(cameras=cameras, taxonomy=TAXONOMY, session=session, licence=LICENCE)


def _recorded(root: Path) -> dict[tuple[str, int], Mapping[Folder, Path]]:
    """The files of the frames that are there, by camera and number."""
    if not (root / MANIFEST).exists():
        return {}
    return {(frame.camera, frame.number): frame.files for frame in read_manifest(root)}
