"""From which picture a translated frame was made, by content: names of folders say nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from sim_bridge.errors import ImageError, UsageError
from sim_bridge.recordings.read import Folder, RecordedFrame, Recording, stays_inside

SOURCE: Final = "source"
"""Manifest key of a translated frame: the picture it was made from, relative to the source."""
CONTENT: Final = "source_sha256"
"""Manifest key of a translated frame: the :func:`fingerprint` of what it was made from."""
_ENDS: Final = 1 << 15  # bytes; the last ones of a PNG hold the checksum of all its pixels


def fingerprint(picture: Path, labels: Path) -> str:
    """16 hexadecimal digits of the SHA-256 of both files' sizes, first and last bytes.

    Raises ImageError when one cannot be read.
    """
    digest = hashlib.sha256()
    for path in (picture, labels):
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest.update(size.to_bytes(8, "big") + file.read(_ENDS))
                file.seek(max(0, size - _ENDS))
                digest.update(file.read(_ENDS))
        except OSError as error:
            raise ImageError(f"{path} cannot be read ({error.strerror}): record it again") from error
    return digest.hexdigest()[:16]


def refuse_other_source(recording: Recording, destination: Path, made: Mapping[tuple[str, int], RecordedFrame]) -> None:
    """Raises UsageError when a frame that ``destination`` holds was not made from the recording's frame of its number.

    A frame whose source cannot be read any more is let pass.
    """
    cameras = recording.whole.cameras()
    frames = {(frame.camera, frame.number): frame for camera in cameras for frame in recording.whole.frames(camera)}
    for (camera, number), frame in made.items():
        source = frames.get((camera, number))
        where = f"the destination {destination} holds frame {number} of camera {camera!r}, which"
        advice = "choose another folder, or remove that one"
        if source is None:
            raise UsageError(f"{where} the source {recording.root} has not: {advice}")
        files = source.picture, source.files.get(Folder.SEMANTIC)
        if files[0] is None or files[1] is None or not all(file.is_file() for file in files if file):
            continue
        if frame.extra.get(CONTENT) != fingerprint(files[0], files[1]):
            raise UsageError(f"{where} was not made from {files[0]} and its labels as they are now: {advice}")


def find_origin(recording: Recording, frame: RecordedFrame) -> Path | None:
    """The picture that a translated frame was made from; None where it is not to be found, or has changed."""
    name, labels = frame.extra.get(SOURCE), frame.files.get(Folder.SEMANTIC)
    if not isinstance(name, str) or ".." in Path(name).parts or labels is None or not labels.is_file():
        return None
    for folder in _sources(recording):
        picture = folder / name
        if (
            picture.is_relative_to(folder)
            and picture.is_file()
            and fingerprint(picture, labels) == frame.extra.get(CONTENT)
        ):
            return picture
    return None


def _sources(recording: Recording) -> Iterator[Path]:
    """Where the source of a translation may lie: where it was, or beside the translation."""
    said = recording.info.translation or {}
    folder, name = said.get("folder"), said.get("source")
    if isinstance(folder, str):
        yield Path(folder)
    if isinstance(name, str) and stays_inside(name):
        root = recording.root.resolve()
        yield from (above / name for above in root.parents[:3])
