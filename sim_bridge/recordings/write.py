"""Writes recordings so that a process may be killed at any moment: what is listed is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import ImageError, SimBridgeError, UsageError
from sim_bridge.frames import CAMERA_NAME
from sim_bridge.pixels.taxonomy import Taxonomy
from sim_bridge.recordings.read import (
    DEFAULT_CAMERA,
    DESCRIPTION,
    EXTENSIONS,
    MANIFEST,
    Folder,
    RecordedFrame,
    RecordingInfo,
)

_COPY_BYTES: Final = 1 << 20
_UNFINISHED: Final = re.compile(r"\..+\.\w+\.(partial|\d+\.tmp)", re.DOTALL)  # this module's and images'
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class RecordingWriter:
    """Writes a recording frame by frame, so that what is on disk is whole at any moment.

    Every file is written beside its place and moved in; a frame's manifest line follows its files. A writer opened on
    an existing recording adds to it. Only one writer may be open on a recording.

    Args:
        root: The folder; it is made when missing.
        info: What ``recording.json`` says.
        camera_folders: Give each camera a folder; else the only camera is :data:`DEFAULT_CAMERA`.
        taxonomy: That of the labels; a user's own is kept in the recording as ``NAME.yaml``.

    Raises:
        SimBridgeError: The folder cannot be written.
        UsageError: The recording holds another taxonomy of this name.
    """

    def __init__(
        self, root: Path, info: RecordingInfo, *, camera_folders: bool = False, taxonomy: Taxonomy | None = None
    ) -> None:
        self.root = root
        self._camera_folders = camera_folders
        description = to_json(info.model_dump(exclude_none=True), indent=2)
        with _writing(root):
            root.mkdir(parents=True, exist_ok=True)
            if taxonomy is not None and taxonomy.text:
                _keep_taxonomy(root / f"{taxonomy.name}.yaml", taxonomy.text.encode())
            write_bytes(root / DESCRIPTION, description + b"\n")
            self._manifest = (root / MANIFEST).open("ab+")
        self._drop_unfinished()

    def _drop_unfinished(self) -> None:
        """Removes what a killed writer left: half a manifest line, and files that were not moved into place."""
        self._manifest.seek(0)
        content = self._manifest.read()
        self._manifest.truncate(content.rfind(b"\n") + 1)
        for folder in Folder:
            for path in (*self.root.glob(f"{folder}/**/.*"), *self.root.glob(f"*/{folder}/**/.*")):
                if _UNFINISHED.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the manifest."""
        self._manifest.close()

    def path(self, camera: str, folder: Folder, number: int, suffix: str, name: str | None = None) -> Path:
        """Where a file of this recording lies, called by ``name`` or its number; the folder is made when missing.

        Raises UsageError for a second camera in a recording without camera folders, or a name that cannot be a folder.
        """
        if not CAMERA_NAME.fullmatch(camera):
            raise UsageError(
                f"the camera name {camera!r} may hold letters, digits, '_', '-' and '.' only: choose another"
            )
        if not self._camera_folders and camera != DEFAULT_CAMERA:
            raise UsageError(f"camera {camera!r} needs a folder of its own: open the recording with camera folders")
        parent = self.root / camera / folder if self._camera_folders else self.root / folder
        path = parent / f"{f'{number:06d}' if name is None else name}{suffix}"
        with _writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_image(self, camera: str, folder: Folder, number: int, pixels: npt.NDArray[Any]) -> Path:
        """Writes an image of a frame: depth and flow as ``.npy``, all others as PNG.

        ``pixels`` are uint8 ``(H, W, 3)`` RGB, uint8 or uint16 ``(H, W)`` ids, or float ``(H, W)`` or ``(H, W, 2)``.

        Raises:
            MissingExtraError: OpenCV is not installed.
            ImageError: The image cannot be encoded.
        """
        if EXTENSIONS[folder] == (".npy",):
            path = self.path(camera, folder, number, ".npy")
            with _replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, pixels.astype(np.float32, copy=False))
            return path
        from sim_bridge.pixels.images import write_png

        path = self.path(camera, folder, number, ".png")
        write_png(path, pixels[..., ::-1] if pixels.ndim == 3 else pixels)
        return path

    def copy(self, camera: str, folder: Folder, number: int, source: Path, name: str | None = None) -> Path:
        """Copies a file byte for byte, to its :meth:`path`.

        Raises:
            ImageError: The source is missing or cannot be read.
            SimBridgeError: It cannot be written.
        """
        path = self.path(camera, folder, number, source.suffix.lower(), name)
        with _replacing(path) as temporary, temporary.open("wb") as file:
            for part in _parts(source):
                file.write(part)
        return path

    def add(self, frame: RecordedFrame) -> None:
        """Appends a frame's manifest line; its files must be written and lie in this recording.

        Raises:
            UsageError: ``extra`` holds what JSON has no place for.
            SimBridgeError: The manifest cannot be written.
        """
        files = {folder.value: path.relative_to(self.root).as_posix() for folder, path in frame.files.items()}
        entry: dict[str, object] = {"frame": frame.number}
        if frame.time is not None:
            entry["time"] = frame.time
        if self._camera_folders:
            entry["camera"] = frame.camera
        if frame.pose is not None:
            entry["pose"] = [float(value) for value in frame.pose.reshape(-1)]
        check_extra(frame)
        line = to_json({**entry, "files": files, **frame.extra})
        with _writing(self.root / MANIFEST):
            self._manifest.write(line + b"\n")
            self._manifest.flush()


def to_json(value: object, indent: int | None = None) -> bytes:
    """JSON as UTF-8; what is none of a file's name is escaped, and reads back as the same name.

    Raises ValueError for NaN and Infinity, TypeError for what JSON has no place for.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def _keep_taxonomy(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() != content:
        raise UsageError(f"{path} holds another taxonomy of this name: choose another folder for the recording")
    write_bytes(path, content)


def check_extra(frame: RecordedFrame) -> None:
    """Checks that a frame's further manifest keys can be written.

    Raises UsageError when one cannot: NaN and Infinity, which Python's own JSON reader lets in, are no JSON.
    """
    for name, value in frame.extra.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the manifest key {name!r} of frame {frame.number} is {value!r}, which is no JSON: write null instead"
            ) from error


def _parts(source: Path) -> Iterator[bytes]:
    """A file's bytes; its errors must not look like those of the copy."""
    try:
        with source.open("rb") as file:
            while part := file.read(_COPY_BYTES):
                yield part
    except OSError as error:
        raise ImageError(
            f"{source} cannot be read ({error.strerror}): record it again, or take it out of the manifest"
        ) from error


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path and moves it to ``path`` when the block ends well."""
    temporary = path.with_name(f".{path.name}.partial")
    with _writing(path):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Makes a sentence of what the operating system refuses."""
    try:
        yield
    except OSError as error:
        raise SimBridgeError(
            f"{path} cannot be written ({error.strerror}): make room, or choose another folder"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that at any moment it holds the old content or the new, never a part.

    Raises SimBridgeError when the folder is missing or cannot be written.
    """
    with _replacing(path) as temporary:
        temporary.write_bytes(content)
