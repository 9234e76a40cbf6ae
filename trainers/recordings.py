"""Recordings of simulators (docs/recordings.md) as training data: renders, labels and, where there are, photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sim_bridge.captures import read_capture, read_rgb, recording_taxonomy
from sim_bridge.errors import LabelError, SizeMismatchError, UsageError
from sim_bridge.labels import LabelMap
from sim_bridge.recordings import DESCRIPTION, MANIFEST, Folder, RecordedFrame, Recording
from trainers.data import VOID, DataSet, Photograph

STREET_CLASSES: Final = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "road line", VOID,
)  # fmt: skip
"""Cityscapes' 19 train classes and road lines, which simulators tell apart and photographs' labels do not."""


class Recordings(DataSet):
    """Recordings in ``ROOT/<split>``: one recording, or folders that hold one each.

    The picture to be made is the frame's ``photo``; frames of a recording without photographs are their own target.

    Args:
        root: The data set's folder.
        split: ``train`` or ``val``.
        renders: Show the network the edges of the render (``rgb``) instead of the photograph's.
        share: Every frame, or only the ``odd`` or ``even`` ones.

    Raises:
        UsageError: A folder is missing or holds no recording, or frames lack an image that others have.
    """

    classes = STREET_CLASSES

    def __init__(self, root: Path, split: str, *, renders: bool = False, share: str = "all") -> None:
        self._renders = renders
        self._frames: list[tuple[RecordedFrame, LabelMap]] = []
        licences = set()
        for folder in _recordings(root / split):
            recording = Recording.open(folder)
            table = LabelMap.build(recording_taxonomy(recording, None), self.classes)
            licences.add(recording.info.licence or "unknown")
            self._frames += [(frame, table) for camera in recording.cameras() for frame in recording.frames(camera)]
        start, step = {"all": (0, 1), "odd": (1, 2), "even": (0, 2)}[share]
        self._frames = self._frames[start::step]
        self._target = self._choose_target()
        self.licence = " AND ".join(sorted(licences))
        self.credit = f"recordings in {root.name}"
        self.description = f"recordings {root.name}/{split}, {share} frames, {self._target} images"

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, index: int) -> Photograph:
        """Reads one sample; see :meth:`DataSet.read`."""
        frame, table = self._frames[index]
        capture = read_capture(frame, table.source)
        assert capture.ids is not None  # a taxonomy was given
        try:
            labels = table.apply(capture.ids).labels
        except LabelError as error:
            raise LabelError(f"{frame.files[Folder.SEMANTIC]}: {error}") from error
        if self._target is Folder.RGB:
            return Photograph(frame.files[Folder.RGB].stem, capture.rgb, labels)
        photo = read_rgb(frame.files[self._target])
        if photo.shape != capture.rgb.shape:
            raise SizeMismatchError(
                f"{frame.files[self._target]} is {photo.shape[1]}x{photo.shape[0]}, its render is"
                f" {capture.rgb.shape[1]}x{capture.rgb.shape[0]}: a pair must agree"
            )
        return Photograph(frame.files[Folder.RGB].stem, photo, labels, capture.rgb if self._renders else None)

    def _choose_target(self) -> Folder:
        """``photo`` where every frame has one, ``rgb`` where none has; every frame must have labels."""
        photos = 0
        for frame, _ in self._frames:
            for folder in (Folder.RGB, Folder.SEMANTIC):
                if folder not in frame.files:
                    raise UsageError(
                        f"frame {frame.number} of camera {frame.camera!r} has no {folder} image: record it"
                    )
            photos += Folder.PHOTO in frame.files
        if photos not in (0, len(self._frames)):
            raise UsageError(f"{photos} of {len(self._frames)} frames have a photo: record it for all or for none")
        if self._renders and not photos:
            raise UsageError("edges of renders need photographs to be trained towards: record with --looks cg,photo")
        return Folder.PHOTO if photos else Folder.RGB


def _recordings(folder: Path) -> list[Path]:
    """The folder itself if it is a recording, else the recordings in it, sorted by name."""
    if any((folder / name).exists() for name in (DESCRIPTION, MANIFEST, Folder.RGB)):
        return [folder]
    found = sorted(p for p in folder.glob("*") if p.is_dir()) if folder.is_dir() else []
    if not found:
        raise UsageError(f"{folder} holds no recording: give --root the folder that holds train/ and val/ recordings")
    return found
