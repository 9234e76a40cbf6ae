"""The images of a recorded frame as arrays and as frames of the wire. Needs OpenCV (the ``engine`` extra)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from sim_bridge.errors import ImageError, LabelError, SizeMismatchError, UsageError
from sim_bridge.frames import ByteArray, Encoding, Frame, Kind
from sim_bridge.pixels.images import read_image, read_labels, stored_to_rgb
from sim_bridge.pixels.readings import Reading, read_stored
from sim_bridge.pixels.taxonomy import Taxonomy, find_taxonomy
from sim_bridge.recordings.labels import LabelReader
from sim_bridge.recordings.read import DESCRIPTION, Folder, RecordedFrame, Recording


@dataclass(frozen=True, slots=True)
class Capture:
    """The two images of one tick.

    Attributes:
        rgb: uint8 ``(H, W, 3)``.
        ids: uint8 ``(H, W)``, class ids of the taxonomy ``labels``; None without labels.
        labels: Name of the taxonomy.
    """

    rgb: ByteArray
    ids: ByteArray | None
    labels: str | None

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    @property
    def nbytes(self) -> int:
        """Of both arrays."""
        return self.rgb.nbytes + (0 if self.ids is None else self.ids.nbytes)


def recording_taxonomy(recording: Recording, labels: str | None) -> Taxonomy:
    """The taxonomy of a recording's label images: the one asked for, else the one that the recording names.

    Args:
        recording: The recording; it may hold the file of its own taxonomy.
        labels: A name, or any ``.yaml`` file.

    Raises:
        UsageError: Neither names one, there is none of that name, or its file cannot be used.
    """
    name = labels or recording.info.taxonomy
    if name is None:
        raise UsageError(
            f"the recording {recording.root} does not say what its label ids mean: write its taxonomy into"
            f' {DESCRIPTION}, like {{"taxonomy": "cityscapes"}}, or give --labels NAME where the command has it'
        )
    try:
        return find_taxonomy(name, None if labels else recording.root)
    except LabelError as error:
        raise UsageError(f"the labels of the recording {recording.root}: {error}") from error


def label_reader(recording: Recording, source: Taxonomy, labels_as: str | None = None) -> LabelReader:
    """The reader of a recording's label files.

    Args:
        recording: The recording.
        source: Their taxonomy.
        labels_as: The only :class:`Reading` to take; None takes the one that the recording names, if any.

    Raises:
        UsageError: There is no such reading.
    """
    named = labels_as or recording.info.labels_as
    frames = (frame for camera in recording.cameras() for frame in recording.frames(camera))
    files = [frame.files[Folder.SEMANTIC] for frame in frames if Folder.SEMANTIC in frame.files]
    return LabelReader(source, files, name=str(recording.root), wanted=Reading.named(named) if named else None)


def read_rgb(path: Path) -> ByteArray:
    """Reads a colour or grey image file as uint8 ``(H, W, 3)`` RGB; an alpha channel is dropped.

    Raises ImageError when it cannot be decoded, or has more than 8 bits a channel.
    """
    return stored_to_rgb(read_image(path, full_range=True), str(path))


def read_ids(path: Path, source: Taxonomy) -> ByteArray:
    """Reads one label file as uint8 ``(H, W)``; ids of one channel are not held against the taxonomy.

    Raises:
        ImageError: It cannot be decoded.
        LabelError: It is a JPEG, or its colours are outside the taxonomy.
    """
    stored = read_labels(path)
    try:
        return read_stored(stored, source)[1]
    except LabelError as error:
        raise LabelError(f"{path}: {error}") from error


def read_capture(frame: RecordedFrame, labels: LabelReader | Taxonomy | None) -> Capture:
    """Reads the images of a recorded frame.

    Args:
        frame: The frame.
        labels: The reader of its source, or the taxonomy of a frame that stands alone; None leaves labels unread.

    Raises:
        ImageError: A file is missing or cannot be decoded.
        SizeMismatchError: The two images differ in size.
        LabelError: The labels are a JPEG, or ids or colours are outside the taxonomy.
    """
    picture = _file(frame, Folder.RGB)
    rgb = read_rgb(picture)
    if labels is None:
        return Capture(rgb, None, None)
    reader = LabelReader(labels) if isinstance(labels, Taxonomy) else labels
    file = _file(frame, Folder.SEMANTIC)
    ids = reader.read(file)
    if ids.shape != rgb.shape[:2]:
        raise SizeMismatchError(
            f"{picture} is {rgb.shape[1]}x{rgb.shape[0]} and its labels {file} are {ids.shape[1]}x{ids.shape[0]} "
            "pixels, but a pair must agree: record both cameras at the same image size"
        )
    reader.compare(frame, rgb, ids)
    return Capture(rgb, ids, reader.source.name)


def _file(frame: RecordedFrame, folder: Folder) -> Path:
    path = frame.picture if folder is Folder.RGB else frame.files.get(folder)
    if path is None:
        raise ImageError(f"frame {frame.number} of camera {frame.camera!r} has no {folder} image: record it again")
    return path


def to_frames(
    frame: RecordedFrame, capture: Capture, *, session: str, seconds: float, fov: float | None = None
) -> tuple[Frame, ...]:
    """The RGB frame of a capture and, where it has labels, the semantic one; time in seconds, ``fov`` in degrees."""
    width, height = capture.size

    def make(kind: Kind, encoding: Encoding, pixels: ByteArray, labels: str | None) -> Frame:
        return Frame(
            camera=frame.camera,
            kind=kind,
            number=frame.number,
            time=seconds,
            session=session,
            encoding=encoding,
            width=width,
            height=height,
            pixels=pixels,
            sent=time.time_ns(),
            labels=labels,
            fov=fov,
            pose=frame.pose,
        )

    rgb = make(Kind.RGB, Encoding.RGB8, capture.rgb, None)
    if capture.ids is None:
        return (rgb,)
    return rgb, make(Kind.SEMANTIC, Encoding.MONO8, capture.ids, capture.labels)
