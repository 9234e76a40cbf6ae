"""Recordings on disk: the project's own layout, and foreign folders that are read as if they had it.

The layout is ``ROOT/[<camera>/]<kind folder>/<frame>.<ext>`` with an optional ``manifest.jsonl`` (one line per frame
and camera) and ``recording.json`` (cameras, taxonomy, session, licence); docs/recordings.md has the details. Paths that
come out of a file are used only when they stay inside the recording.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError, field_validator

from sim_bridge.errors import UsageError
from sim_bridge.frames import CAMERA_NAME
from sim_bridge.mistakes import first_mistake
from sim_bridge.pixels.taxonomy import is_file_name
from sim_bridge.recordings.file_pairs import Pairing, pair_files
from sim_bridge.recordings.listing import Listing, left_out, list_files, list_folders

ModelT = TypeVar("ModelT", bound=BaseModel)

MANIFEST: Final = "manifest.jsonl"
DESCRIPTION: Final = "recording.json"
DEFAULT_CAMERA: Final = "camera"
"""Name of the only camera of a recording that has no camera folders."""


class Folder(StrEnum):
    """The folders of one camera."""

    RGB = "rgb"
    SEMANTIC = "semantic"
    INSTANCE = "instance"
    DEPTH = "depth"
    FLOW = "flow"
    PHOTO = "photo"
    """A photograph taken by a real camera, for training sets."""
    PHOTOREAL = "photoreal"


EXTENSIONS: Final[Mapping[Folder, tuple[str, ...]]] = {
    Folder.RGB: (".png", ".jpg", ".jpeg"),
    Folder.SEMANTIC: (".png",),
    Folder.INSTANCE: (".png",),
    Folder.DEPTH: (".npy",),
    Folder.FLOW: (".npy",),
    Folder.PHOTO: (".png", ".jpg", ".jpeg"),
    Folder.PHOTOREAL: (".png", ".jpg", ".jpeg"),
}
"""What a folder's files may end in; other files in it are not looked at."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One simulator tick of one camera, on disk.

    Attributes:
        camera: Name of the camera.
        number: The simulator's frame number.
        time: Simulator time in seconds, or None where the recording does not say.
        pose: ``(4, 4)`` float64 camera-to-world matrix in metres, or None.
        files: The file of each kind that there is; absolute or relative to the working directory as the root was given.
        extra: What else the manifest's line says (model, seed ...).
    """

    camera: str
    number: int
    time: float | None
    pose: npt.NDArray[np.float64] | None
    files: Mapping[Folder, Path]
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def picture(self) -> Path | None:
        """What a network sees: the CG image, or in a translation the photoreal one."""
        return self.files.get(Folder.RGB) or self.files.get(Folder.PHOTOREAL)


class CameraInfo(BaseModel):
    """One camera as ``recording.json`` describes it; all may be missing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    fov: float | None = Field(default=None, gt=0, lt=180, description="Horizontal field of view in degrees.")
    K: tuple[tuple[float, float, float], ...] | None = Field(
        default=None, min_length=3, max_length=3, description="Intrinsic matrix, 3 rows of 3, in pixels."
    )


class RecordingInfo(BaseModel):
    """``recording.json``. Readers ignore keys they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cameras: Mapping[str, CameraInfo] = Field(default_factory=dict)
    taxonomy: str | None = Field(
        default=None, description="Of the semantic images: a name, or a YAML file in the recording."
    )
    labels_as: str | None = Field(
        default=None, description="How to read the semantic images, where two readings fit: ids, palette-indices ..."
    )
    session: str | None = Field(default=None, description="Id of the simulator run.")
    licence: str | None = None
    translation: Mapping[str, object] | None = Field(
        default=None, description="How the photoreal images were made: source, bundle, model, seed, size."
    )


class Recording:
    """A recording to read.

    Use :meth:`open` for the project's layout and :meth:`foreign` for any other.

    Attributes:
        root: The folder.
        info: What ``recording.json`` says, or what is known of a foreign folder.
        notes: Sentences a user should see: how pairs were made, what is left out.
        whole: The recording with all its cameras.
    """

    def __init__(
        self,
        root: Path,
        info: RecordingInfo,
        frames: Mapping[str, Sequence[RecordedFrame]],
        notes: Sequence[str] = (),
        whole: Recording | None = None,
    ) -> None:
        self.whole: Recording = whole or self
        self.root = root
        self.info = info
        self.notes = tuple(notes)
        self._frames = frames

    @classmethod
    def open(cls, root: Path) -> Recording:
        """Reads a folder in the project's layout; the manifest may be missing.

        Raises UsageError when there is no such folder, it holds no frames, or its manifest or description is broken.
        """
        _require_folder(root)
        info = _read_description(root / DESCRIPTION)
        frames, notes = (_read_manifest(root), []) if (root / MANIFEST).exists() else _scan(root)
        if not any(frames.values()):
            raise UsageError(
                f"the folder {root} holds no {MANIFEST} and no numbered images in rgb/ or semantic/: for another "
                "layout give --rgb GLOB, --semantic GLOB and --labels NAME"
            )
        return cls(root, info, frames, notes)

    @classmethod
    def foreign(
        cls,
        root: Path,
        *,
        rgb: str,
        semantic: str,
        labels: str,
        camera: str = DEFAULT_CAMERA,
        pairing: Pairing = "identity",
    ) -> Recording:
        """Reads a folder of any layout; :func:`~sim_bridge.recordings.file_pairs.pair_files` joins its files.

        Args:
            root: The folder.
            rgb: Glob of the RGB images, relative to it.
            semantic: Glob of the label images.
            labels: Their taxonomy, by name or file.
            camera: Name to give the camera.
            pairing: How to join pictures and labels.

        Raises:
            UsageError: A glob matches nothing, or the files cannot be paired.
        """
        _require_folder(root)
        if not CAMERA_NAME.fullmatch(camera):
            raise UsageError(
                f"the camera name {camera!r} may hold letters, digits, '_', '-' and '.' only: choose another"
            )
        pictures, ids = _glob(root, rgb, "--rgb"), _glob(root, semantic, "--semantic")
        pairs, notes = pair_files(pictures.found, ids.found, pairing)
        notes += dict.fromkeys((*pictures.notes, *ids.notes))
        frames = [
            RecordedFrame(camera, pair.number, pair.time, None, {Folder.RGB: pair.rgb, Folder.SEMANTIC: pair.semantic})
            for pair in pairs
        ]
        named = None if is_file_name(labels) else labels  # the user's file is no file of this folder
        return cls(root, RecordingInfo(cameras={camera: CameraInfo()}, taxonomy=named), {camera: frames}, notes)

    @staticmethod
    def describe(root: Path) -> RecordingInfo:
        """What ``recording.json`` in a folder says; empty when there is none. Raises UsageError when it is broken."""
        return _read_description(root / DESCRIPTION)

    def only(self, camera: str) -> Recording:
        """The same recording with no camera but this one. Raises UsageError when the recording has no such camera."""
        return Recording(self.root, self.info, {camera: tuple(self.frames(camera))}, self.notes, self.whole)

    def cameras(self) -> tuple[str, ...]:
        """The cameras that have frames, sorted by name."""
        return tuple(sorted(name for name, frames in self._frames.items() if frames))

    def frames(self, camera: str) -> Iterator[RecordedFrame]:
        """The frames of a camera by rising frame number. Raises UsageError when the recording has no such camera."""
        if camera not in self._frames:
            raise UsageError(f"the recording {self.root} has no camera {camera!r}: it has {', '.join(self.cameras())}")
        return iter(self._frames[camera])

    def __len__(self) -> int:
        """Frames of all cameras together."""
        return sum(len(frames) for frames in self._frames.values())


def open_recording(
    folder: Path,
    *,
    rgb: str | None,
    semantic: str | None,
    labels: str | None,
    camera: str | None,
    pairing: Pairing | None = None,
) -> Recording:
    """Opens a recording in the project's layout, or a foreign one when globs are given.

    Args:
        folder: The folder.
        rgb: Glob of the RGB images of a foreign folder.
        semantic: Glob of its label images.
        labels: Their taxonomy, by name or file.
        camera: Of a recording the only camera wanted; of a foreign folder the name to give it.
        pairing: How to join a foreign folder's pictures and labels; None takes ``identity``.

    Raises:
        UsageError: The folder cannot be used, or only a part of what a foreign folder needs was given.
    """
    if rgb is None and semantic is None:
        if pairing is not None:
            raise UsageError(f"--pair {pairing} is for a folder of another layout: give --rgb and --semantic, too")
        recording = Recording.open(folder)
        return recording if camera is None else recording.only(camera)
    missing = [f for f, value in (("--rgb", rgb), ("--semantic", semantic), ("--labels", labels)) if value is None]
    if rgb is None or semantic is None or labels is None:
        raise UsageError(
            f"a folder of another layout needs --rgb, --semantic and --labels: add {' and '.join(missing)}"
        )
    return Recording.foreign(
        folder,
        rgb=rgb,
        semantic=semantic,
        labels=labels,
        camera=camera or DEFAULT_CAMERA,
        pairing=pairing or "identity",
    )


def _glob(root: Path, pattern: str, flag: str) -> Listing:
    path = PurePosixPath(pattern)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise UsageError(
            f"{flag} {pattern!r} must be relative to the folder {root}, and stay in it: write it like 'rgb/*.png'"
        )
    listing = list_files(root, pattern)
    if not listing.found:
        more = "".join(f"; {sentence}" for sentence in listing.notes)
        raise UsageError(
            f"{flag} {pattern!r} matches no file in {root}: quote it so that the shell leaves it alone{more}"
        )
    return listing


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}: check the path")


def _read_description(path: Path) -> RecordingInfo:
    if not path.exists():
        return RecordingInfo()
    try:
        return from_json(RecordingInfo, path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    except ValidationError as error:
        raise UsageError(f"{path} is broken {_where(error)}: correct it or remove the file") from error


def _where(error: ValidationError) -> str:
    place, _, _, message = first_mistake(error)
    return f"at {place!r} ({message})" if place else f"({message})"


def _scan(root: Path) -> tuple[dict[str, list[RecordedFrame]], list[str]]:
    """The frames of a recording without manifest, by camera, and sentences about what is left out.

    Raises UsageError when two files are one frame, or the name of a folder or a file shuts out what it holds.
    """
    folders = list_folders(root)
    _refuse_other_case(root, folders)
    holding = [folder for folder in folders if folder.name not in set(Folder) and _holds_kinds(folder)]
    if any(folder.name in set(Folder) for folder in folders):
        cameras, nested = {DEFAULT_CAMERA: root}, holding
    else:
        cameras, nested = {_camera_name(folder): folder for folder in holding}, []
    frames, others = dict[str, list[RecordedFrame]](), list[Path]()
    notes = left_out(f"folder beside the images of {root}", f"folders beside the images of {root}", nested)
    for camera, folder in cameras.items():
        frames[camera] = _scan_camera(camera, folder, others, notes)
    what = ("file whose name is no frame number", "files whose names are no frame numbers")
    return {camera: found for camera, found in frames.items() if found}, [*notes, *left_out(*what, others)]


def _holds_kinds(folder: Path) -> bool:
    inside = list_folders(folder)
    _refuse_other_case(folder, inside)
    return any(path.name in set(Folder) for path in inside)


def _refuse_other_case(root: Path, folders: Sequence[Path]) -> None:
    names = {folder.name for folder in folders}
    for name in sorted(names - set(Folder)):
        if name.lower() in set(Folder) - names:
            raise UsageError(f"the folder {root / name} is not read, since case counts: rename it {name.lower()}")


def _camera_name(folder: Path) -> str:
    if not CAMERA_NAME.fullmatch(folder.name):
        raise UsageError(
            f"the folder {folder} holds images, but its name is no camera's, which has letters, digits, '_', '-' and "
            "'.' only, 64 at most: rename it"
        )
    return folder.name


def _scan_camera(camera: str, folder: Path, others: list[Path], notes: list[str]) -> list[RecordedFrame]:
    """The frames of a camera by rising number; ``others`` and ``notes`` take what is left out."""
    files: dict[int, dict[Folder, Path]] = {}
    for kind in Folder:
        listing = list_files(folder / kind, "*", EXTENSIONS[kind])
        notes += listing.notes
        for path in listing.paths:
            if not (path.stem.isascii() and path.stem.isdigit()):
                others.append(path)
                continue
            number = int(path.stem)
            if number >= 2**64:
                raise UsageError(f"the frame number of {path} is above {2**64 - 1}: rename it")
            other = files.setdefault(number, {}).setdefault(kind, path)
            if other is not path:
                raise UsageError(f"{other} and {path} are two files of frame {number}: take one away")
    return [RecordedFrame(camera, number, None, None, files[number]) for number in sorted(files)]


def _read_manifest(root: Path) -> dict[str, list[RecordedFrame]]:
    frames: dict[str, dict[int, RecordedFrame]] = {}
    for frame in read_manifest(root):
        frames.setdefault(frame.camera, {})[frame.number] = frame  # a later line replaces an earlier one
    return {camera: [found[number] for number in sorted(found)] for camera, found in frames.items()}


def read_manifest(root: Path) -> Iterator[RecordedFrame]:
    """The lines of ``manifest.jsonl`` in the order they were written.

    A last line without its newline is one whose writer was stopped in the middle: it is left out.

    Raises UsageError when a line is broken, or names a file outside the recording.
    """
    path = root / MANIFEST
    with path.open("rb") as lines:
        for count, line in enumerate(lines, start=1):
            if count == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            if not line.endswith(b"\n"):
                break
            try:
                yield _manifest_frame(root, line)
            except ValidationError as error:
                raise UsageError(f"line {count} of {path} is broken {_where(error)}: correct or remove it") from error


class _ManifestLine(BaseModel):
    """One line of a manifest as it must be; keys it does not know are kept as ``extra``."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    frame: Annotated[int, Field(strict=True, ge=0, lt=2**64)]
    camera: Annotated[str, Field(pattern=f"^{CAMERA_NAME.pattern}$")] = DEFAULT_CAMERA
    time: Annotated[float | None, Field(strict=True)] = None
    pose: Annotated[list[float] | None, Field(min_length=16, max_length=16)] = None
    files: dict[str, InstanceOf[str]]  # any string: names of files may be no UTF-8

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value.values():
            if not stays_inside(name):
                raise ValueError(f"the path {name!r} leaves the recording, or has no forward slashes")
        return value


def stays_inside(name: str) -> bool:
    """Whether a relative path out of a file stays in its folder, on any system."""
    path = PurePosixPath(name)
    foreign = "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    return bool(name) and not foreign and not path.is_absolute() and ".." not in path.parts


def from_json(model: type[ModelT], text: bytes) -> ModelT:
    """Reads JSON, where names of files that are no UTF-8 are escaped surrogates; raises ValidationError."""
    try:
        return model.model_validate_json(text)
    except ValidationError:
        if b"\\ud" not in text.lower():
            raise
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if value is None:
            raise
    return model.model_validate(value)


def _manifest_frame(root: Path, line: bytes) -> RecordedFrame:
    entry = from_json(_ManifestLine, line)
    pose = None if entry.pose is None else np.array(entry.pose, dtype=np.float64).reshape(4, 4)
    files = {Folder(kind): root / name for kind, name in entry.files.items() if kind in set(Folder)}
    return RecordedFrame(entry.camera, entry.frame, entry.time, pose, files, dict(entry.model_extra or {}))
