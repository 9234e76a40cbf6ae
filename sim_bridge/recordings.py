"""Recordings on disk: the project's own layout, and foreign folders that are read as if they had it.

The layout is ``ROOT/[<camera>/]<kind folder>/<frame>.<ext>`` with an optional ``manifest.jsonl`` (one line per frame
and camera) and ``recording.json`` (cameras, taxonomy, session, licence); docs/recordings.md has the details. Paths that
come out of a file are used only when they stay inside the recording.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Annotated, Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sim_bridge.errors import SimBridgeError, UsageError

MANIFEST: Final = "manifest.jsonl"
DESCRIPTION: Final = "recording.json"
DEFAULT_CAMERA: Final = "camera"
"""Name of the only camera of a recording that has no camera folders."""

RGB_HELP: Final = "Foreign folder: which files are the RGB images, relative to it and quoted, like 'rgb/*.png'."
SEMANTIC_HELP: Final = "Foreign folder: which files are the label images, raw ids or palette colours."
LABELS_HELP: Final = "Taxonomy of the label images, like carla-0.9.14; a recording names its own."
CAMERA_HELP: Final = "Of a recording, the only camera to take; of a foreign folder, the name to give it."

_UNFINISHED: Final = re.compile(r"\.\d{6,}\.\w+\.(partial|\d+\.tmp)")  # this module's, and those of sim_bridge.images
CAMERA_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


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
    taxonomy: str | None = Field(default=None, description="Name of the taxonomy of the semantic images.")
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
        notes: Sentences a user should see: how pairs were made, what has no partner.
    """

    def __init__(
        self, root: Path, info: RecordingInfo, frames: Mapping[str, Sequence[RecordedFrame]], notes: Sequence[str] = ()
    ) -> None:
        self.root = root
        self.info = info
        self.notes = tuple(notes)
        self._frames = frames

    @classmethod
    def open(cls, root: Path) -> Recording:
        """Reads a folder in the project's layout; the manifest may be missing.

        Raises:
            UsageError: There is no such folder, it holds no frames, or its manifest or description is broken.
        """
        _require_folder(root)
        info = _read_description(root / DESCRIPTION)
        frames = _read_manifest(root) if (root / MANIFEST).exists() else _scan(root)
        if not any(frames.values()):
            raise UsageError(
                f"the folder {root} holds no {MANIFEST} and no numbered images in rgb/ or semantic/: for another "
                "layout give --rgb GLOB, --semantic GLOB and --labels NAME"
            )
        return cls(root, info, frames)

    @classmethod
    def foreign(
        cls, root: Path, *, rgb: str, semantic: str | None, labels: str | None, camera: str = DEFAULT_CAMERA
    ) -> Recording:
        """Reads a folder of any layout.

        RGB and semantic files are paired by the first rule that gives one partner each: equal names, the last number of
        the names, all numbers of the names; else by sorted order when there are equally many. The rule used is in
        :attr:`notes`.

        Args:
            root: The folder.
            rgb: Glob of the RGB images, relative to it.
            semantic: Glob of the label images, or None when there are none.
            labels: Name of their taxonomy.
            camera: Name to give the camera.

        Raises:
            UsageError: A glob matches nothing, or the files cannot be paired.
        """
        _require_folder(root)
        if not CAMERA_NAME.fullmatch(camera):
            raise UsageError(
                f"the camera name {camera!r} may hold letters, digits, '_', '-' and '.' only: choose another"
            )
        pictures = _glob(root, rgb, "--rgb")
        if semantic is None:
            numbers, notes = _frame_numbers(pictures)
            pairs = [Pair(number, {Folder.RGB: path}) for number, path in zip(numbers, pictures, strict=True)]
        else:
            pairs, notes = pair_files(pictures, _glob(root, semantic, "--semantic"))
        frames = [RecordedFrame(camera, pair.number, None, None, pair.files) for pair in pairs]
        info = RecordingInfo(cameras={camera: CameraInfo()}, taxonomy=labels)
        return cls(root, info, {camera: frames}, notes)

    @staticmethod
    def describe(root: Path) -> RecordingInfo:
        """What ``recording.json`` in a folder says; empty when there is none.

        Raises:
            UsageError: It is broken.
        """
        return _read_description(root / DESCRIPTION)

    def only(self, camera: str) -> Recording:
        """The same recording with no camera but this one.

        Raises:
            UsageError: The recording has no such camera.
        """
        return Recording(self.root, self.info, {camera: tuple(self.frames(camera))}, self.notes)

    def cameras(self) -> tuple[str, ...]:
        """The cameras that have frames, sorted by name."""
        return tuple(sorted(name for name, frames in self._frames.items() if frames))

    def frames(self, camera: str) -> Iterator[RecordedFrame]:
        """The frames of a camera by rising frame number.

        Raises:
            UsageError: The recording has no such camera.
        """
        if camera not in self._frames:
            raise UsageError(f"the recording {self.root} has no camera {camera!r}: it has {', '.join(self.cameras())}")
        return iter(self._frames[camera])

    def __len__(self) -> int:
        """Frames of all cameras together."""
        return sum(len(frames) for frames in self._frames.values())


def open_recording(
    folder: Path, *, rgb: str | None, semantic: str | None, labels: str | None, camera: str | None
) -> Recording:
    """Opens a recording in the project's layout, or a foreign one when globs are given.

    Args:
        folder: The folder.
        rgb: Glob of the RGB images of a foreign folder.
        semantic: Glob of its label images.
        labels: Name of their taxonomy.
        camera: Of a recording the only camera wanted; of a foreign folder the name to give it.

    Raises:
        UsageError: The folder cannot be used, or only a part of what a foreign folder needs was given.
    """
    if rgb is None and semantic is None:
        recording = Recording.open(folder)
        return recording if camera is None else recording.only(camera)
    missing = [f for f, value in (("--rgb", rgb), ("--semantic", semantic), ("--labels", labels)) if value is None]
    if rgb is None or semantic is None or labels is None:
        raise UsageError(
            f"a folder of another layout needs --rgb, --semantic and --labels: add {' and '.join(missing)}"
        )
    return Recording.foreign(folder, rgb=rgb, semantic=semantic, labels=labels, camera=camera or DEFAULT_CAMERA)


class Pair(NamedTuple):
    """The files of one frame of a foreign folder."""

    number: int
    files: dict[Folder, Path]


def pair_files(pictures: Sequence[Path], labels: Sequence[Path]) -> tuple[list[Pair], list[str]]:
    """Joins RGB and label files of a foreign folder; see :meth:`Recording.foreign` for the rules.

    Args:
        pictures: At least one RGB image, sorted.
        labels: At least one label image, sorted.

    Returns:
        The pairs by rising frame number, and the notes that say which rule was used and what has no partner.

    Raises:
        UsageError: No rule fits, or a file is both picture and labels.
    """
    both = set(pictures) & set(labels)
    if both:
        raise UsageError(f"{min(both)} is matched both as RGB and as labels: narrow the globs")
    for rule, key in _PAIRING_RULES:
        left, right = _by_key(pictures, key), _by_key(labels, key)
        if left is not None and right is not None and left.keys() & right.keys():
            shared = [path for name, path in left.items() if name in right]
            notes = [f"{_pairs(len(shared))} made by {rule}"]
            notes += _without_partner("RGB image", [path for name, path in left.items() if name not in right])
            notes += _without_partner("label image", [path for name, path in right.items() if name not in left])
            partners = [right[key(path)] for path in shared]
            return _numbered(shared, partners, notes)
    if len(pictures) == len(labels):
        notes = [f"{_pairs(len(pictures))} made by sorted order, since the names share no numbers"]
        return _numbered(list(pictures), list(labels), notes)
    raise UsageError(
        f"{len(pictures)} RGB images and {len(labels)} label images cannot be paired, since no numbers in their names "
        f"agree and the counts differ ({pictures[0].name!r} against {labels[0].name!r}): narrow the globs"
    )


def _numbered(pictures: list[Path], labels: list[Path], notes: list[str]) -> tuple[list[Pair], list[str]]:
    numbers, more = _frame_numbers(pictures)
    pairs = [
        Pair(number, {Folder.RGB: picture, Folder.SEMANTIC: label})
        for number, picture, label in zip(numbers, pictures, labels, strict=True)
    ]
    return sorted(pairs, key=lambda pair: pair.number), notes + more


def _frame_numbers(paths: Sequence[Path]) -> tuple[list[int], list[str]]:
    """The frame number of each file: the last number of its name, or its position where those repeat or are missing."""
    numbers = [_numbers(path)[-1:] for path in paths]
    if all(numbers) and len(set(numbers)) == len(numbers):
        return [int(number[0]) for number in numbers], []
    return list(range(len(paths))), ["frames are numbered from 0 in sorted order, since the names' last numbers repeat"]


def _numbers(path: Path) -> tuple[int, ...]:
    """The numbers that stand alone in a file's name (not the 8 of ``leftImg8bit``); all of them where none does."""
    groups = re.findall(r"(?<![A-Za-z0-9])\d+(?![A-Za-z0-9])", path.stem) or re.findall(r"\d+", path.stem)
    return tuple(int(group) for group in groups if len(group) <= 19)  # 19 digits fit the wire's unsigned 64 bits


_PAIRING_RULES: Final[tuple[tuple[str, Callable[[Path], object]], ...]] = (
    ("equal file names", lambda path: path.stem),
    ("the last number in the file names", lambda path: _numbers(path)[-1:] or None),
    ("all numbers in the file names", lambda path: _numbers(path) or None),
)


def _by_key(paths: Iterable[Path], key: Callable[[Path], object]) -> dict[object, Path] | None:
    """The files by key, or None when a key is missing or repeats."""
    found: dict[object, Path] = {}
    for path in paths:
        name = key(path)
        if name is None or name in found:
            return None
        found[name] = path
    return found


def _pairs(count: int) -> str:
    return "1 pair of RGB and labels" if count == 1 else f"{count} pairs of RGB and labels"


def _without_partner(what: str, paths: Sequence[Path]) -> list[str]:
    if not paths:
        return []
    plural = f"1 {what} has" if len(paths) == 1 else f"{len(paths)} {what}s have"
    return [f"{plural} no partner and {'is' if len(paths) == 1 else 'are'} left out, the first is {paths[0]}"]


def _glob(root: Path, pattern: str, flag: str) -> list[Path]:
    if PurePosixPath(pattern).is_absolute() or not pattern:
        raise UsageError(f"{flag} {pattern!r} must be relative to the folder {root}: write it like 'rgb/*.png'")
    try:
        paths = sorted(path for path in root.glob(pattern) if path.is_file())
    except ValueError as error:
        raise UsageError(f"{flag} {pattern!r} is not a glob ({error}): write it like 'rgb/*.png'") from error
    if not paths:
        raise UsageError(f"{flag} {pattern!r} matches no file in {root}: quote it so that the shell leaves it alone")
    return paths


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}: check the path")


def _read_description(path: Path) -> RecordingInfo:
    if not path.exists():
        return RecordingInfo()
    try:
        return RecordingInfo.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    except ValidationError as error:
        raise UsageError(f"{path} is broken {_where(error)}: correct it or remove the file") from error


def _where(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"at {place!r} ({message})" if place else f"({message})"


def _scan(root: Path) -> dict[str, list[RecordedFrame]]:
    """Finds the frames of a recording without manifest; with camera folders or without."""
    if any((root / folder).is_dir() for folder in Folder):
        folders = {DEFAULT_CAMERA: root}
    else:
        folders = {
            path.name: path for path in sorted(root.iterdir()) if path.is_dir() and CAMERA_NAME.fullmatch(path.name)
        }
    frames = {camera: _scan_camera(camera, folder) for camera, folder in folders.items()}
    return {camera: found for camera, found in frames.items() if found}


def _scan_camera(camera: str, folder: Path) -> list[RecordedFrame]:
    files: dict[int, dict[Folder, Path]] = {}
    for kind in Folder:
        for path in sorted((folder / kind).glob("*")):
            if path.suffix.lower() in EXTENSIONS[kind] and path.stem.isascii() and path.stem.isdigit():
                files.setdefault(int(path.stem), {})[kind] = path
    return [RecordedFrame(camera, number, None, None, files[number]) for number in sorted(files)]


def _read_manifest(root: Path) -> dict[str, list[RecordedFrame]]:
    frames: dict[str, dict[int, RecordedFrame]] = {}
    for frame in read_manifest(root):
        frames.setdefault(frame.camera, {})[frame.number] = frame  # a later line replaces an earlier one
    return {camera: [found[number] for number in sorted(found)] for camera, found in frames.items()}


def read_manifest(root: Path) -> Iterator[RecordedFrame]:
    """The lines of ``manifest.jsonl`` in the order they were written.

    A last line without its newline is one whose writer was stopped in the middle: it is left out.

    Raises:
        UsageError: A line is broken, or names a file outside the recording.
    """
    path = root / MANIFEST
    with path.open("rb") as lines:
        for count, line in enumerate(lines, start=1):
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
    files: dict[str, str]

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value.values():
            path = PurePosixPath(name)
            foreign = "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
            if not name or foreign or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"the path {name!r} leaves the recording, or has no forward slashes")
        return value


def _manifest_frame(root: Path, line: bytes) -> RecordedFrame:
    entry = _ManifestLine.model_validate_json(line)
    pose = None if entry.pose is None else np.array(entry.pose, dtype=np.float64).reshape(4, 4)
    files = {Folder(kind): root / name for kind, name in entry.files.items() if kind in set(Folder)}
    return RecordedFrame(entry.camera, entry.frame, entry.time, pose, files, dict(entry.model_extra or {}))


class RecordingWriter:
    """Writes a recording frame by frame, so that what is on disk is whole at any moment.

    Every file is written beside its place and moved in; a frame's manifest line follows its files. A writer opened on
    an existing recording adds to it. Only one writer may be open on a recording.

    Args:
        root: The folder; it is made when missing.
        info: What ``recording.json`` is to say.
        camera_folders: Whether each camera gets a folder; without, the only camera is :data:`DEFAULT_CAMERA`.

    Raises:
        SimBridgeError: The folder cannot be written.
    """

    def __init__(self, root: Path, info: RecordingInfo, *, camera_folders: bool = False) -> None:
        self.root = root
        self._camera_folders = camera_folders
        with _writing(root):
            root.mkdir(parents=True, exist_ok=True)
            self._manifest = (root / MANIFEST).open("ab+")
        description = json.dumps(info.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False)
        write_bytes(root / DESCRIPTION, description.encode() + b"\n")
        self._drop_unfinished()

    def _drop_unfinished(self) -> None:
        """Removes what a killed writer left: half a manifest line, and files that were not moved into place."""
        self._manifest.seek(0)
        content = self._manifest.read()
        self._manifest.truncate(content.rfind(b"\n") + 1)
        for folder in Folder:
            for path in (*self.root.glob(f"{folder}/.*"), *self.root.glob(f"*/{folder}/.*")):
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

    def path(self, camera: str, folder: Folder, number: int, suffix: str) -> Path:
        """Where a file of this recording lies; the folder is made when missing.

        Raises:
            UsageError: A second camera in a recording without camera folders, or a name that cannot be a folder.
        """
        if not CAMERA_NAME.fullmatch(camera):
            raise UsageError(
                f"the camera name {camera!r} may hold letters, digits, '_', '-' and '.' only: choose another"
            )
        if not self._camera_folders and camera != DEFAULT_CAMERA:
            raise UsageError(f"camera {camera!r} needs a folder of its own: open the recording with camera folders")
        parent = self.root / camera / folder if self._camera_folders else self.root / folder
        with _writing(parent):
            parent.mkdir(parents=True, exist_ok=True)
        return parent / f"{number:06d}{suffix}"

    def write_image(self, camera: str, folder: Folder, number: int, pixels: npt.NDArray[Any]) -> Path:
        """Writes an image of a frame.

        Args:
            camera: Name of the camera.
            folder: Depth and flow become ``.npy``, all others PNG.
            number: Frame number.
            pixels: uint8 ``(H, W, 3)`` RGB, uint8 or uint16 ``(H, W)`` ids, or float ``(H, W)`` or ``(H, W, 2)``.

        Raises:
            MissingExtraError: OpenCV is not installed.
            ImageError: The image cannot be encoded.
        """
        if EXTENSIONS[folder] == (".npy",):
            path = self.path(camera, folder, number, ".npy")
            with _replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, pixels.astype(np.float32, copy=False))
            return path
        from sim_bridge.images import write_png

        path = self.path(camera, folder, number, ".png")
        write_png(path, pixels[..., ::-1] if pixels.ndim == 3 else pixels)
        return path

    def copy(self, camera: str, folder: Folder, number: int, source: Path) -> Path:
        """Takes a file over unchanged, byte for byte, under this recording's name for it.

        Raises:
            SimBridgeError: It cannot be written.
        """
        path = self.path(camera, folder, number, source.suffix.lower())
        with _replacing(path) as temporary:
            shutil.copyfile(source, temporary)
        return path

    def add(self, frame: RecordedFrame) -> None:
        """Appends a frame's manifest line; its files must be written and lie in this recording."""
        files = {folder.value: path.relative_to(self.root).as_posix() for folder, path in frame.files.items()}
        entry: dict[str, object] = {"frame": frame.number}
        if frame.time is not None:
            entry["time"] = frame.time
        if self._camera_folders:
            entry["camera"] = frame.camera
        if frame.pose is not None:
            entry["pose"] = [float(value) for value in frame.pose.reshape(-1)]
        line = json.dumps({**entry, "files": files, **frame.extra}, ensure_ascii=False, allow_nan=False)
        with _writing(self.root / MANIFEST):
            self._manifest.write(line.encode() + b"\n")
            self._manifest.flush()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` and moves it there when the block ends well."""
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

    Raises:
        SimBridgeError: The folder is missing or cannot be written.
    """
    with _replacing(path) as temporary:
        temporary.write_bytes(content)
