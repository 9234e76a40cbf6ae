"""Recordings of simulators (docs/recordings.md) as training data: renders, labels and, where there are, photographs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from sim_bridge.pixels.labels import LabelMap
from sim_bridge.recordings.captures import read_rgb, recording_taxonomy
from sim_bridge.recordings.read import DESCRIPTION, MANIFEST, Folder, RecordedFrame, Recording
from trainers.data.dataset import DataSet, take_share
from trainers.data.pairs import nothing_left, read_labels, refuse_unknown_names
from trainers.data.photograph import VOID, Inspection, Photograph
from trainers.data.problems import MissingCounterpartError, Problem, ProblemCollector

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
        exclude: Names of recordings left out.
        share: Every frame, or only the ``odd`` or ``even`` ones.
        strict: Raise problems of the listing.

    Raises:
        UsageError: A folder is missing or holds no recording, frames lack an image that others have, or there is no
            recording to exclude.
    """

    classes = STREET_CLASSES

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        renders: bool = False,
        exclude: tuple[str, ...] = (),
        share: str = "all",
        strict: bool = True,
    ) -> None:
        self._renders = renders
        frames: list[tuple[RecordedFrame, LabelMap]] = []
        licences = set()
        attempt = ProblemCollector()
        held = {folder.name for side in ("train", "val") for folder in _recordings(root / side, ())}
        refuse_unknown_names("exclude", exclude, held, root)
        for folder in _recordings(root / split, exclude):
            opened = attempt(folder / DESCRIPTION, partial(self._open, folder))
            if opened is not None:
                recording, table = opened
                licences.add(recording.info.licence or "unknown")
                frames += [(frame, table) for camera in recording.cameras() for frame in recording.frames(camera)]
        found, frames = len(frames), take_share(frames, share)
        listing = _listing_problems(root / split, [frame for frame, _ in frames], renders)
        self.problems = (*attempt.problems, *listing)
        if not frames and not attempt.problems:
            nothing = f"{root / split} holds no recording with frames: {_HINT}"
            self.problems = (Problem(root / split, nothing_left(root / split, found, share, nothing)),)
        if strict:
            self.refuse_problems()
        needed = (Folder.RGB, Folder.SEMANTIC)
        self._frames = [(frame, table) for frame, table in frames if all(f in frame.files for f in needed)]
        photos = bool(self._frames) and all(Folder.PHOTO in frame.files for frame, _ in self._frames)
        self._target = Folder.PHOTO if photos else Folder.RGB
        self.licence = " AND ".join(sorted(licences))
        self.credit = f"recordings in {root.name}"
        self.description = f"recordings {root.name}/{split}, {share} frames, {self._target} images"

    def _open(self, folder: Path) -> tuple[Recording, LabelMap]:
        recording = Recording.open(folder)
        return recording, LabelMap.build(recording_taxonomy(recording, None), self.classes)

    def __len__(self) -> int:
        return len(self._frames)

    def files_of(self, index: int) -> tuple[Path, ...]:
        """Picture to be made, labels, and the render where its edges are shown."""
        files = self._frames[index][0].files
        renders = (files[Folder.RGB],) if self._target is not Folder.RGB else ()
        return (files[self._target], files[Folder.SEMANTIC], *renders)

    def inspect(self, index: int) -> Inspection:
        """Reads one sample; see :meth:`DataSet.inspect`."""
        frame, table = self._frames[index]
        render_file, labels_file, photo_file = (frame.files[f] for f in (Folder.RGB, Folder.SEMANTIC, self._target))
        attempt = ProblemCollector()
        render = attempt(render_file, lambda: read_rgb(render_file))
        mapped = attempt(labels_file, lambda: read_labels(labels_file, table))
        attempt.same_size(labels_file, None if mapped is None else mapped.labels, render_file, render)
        photo = render
        if photo_file != render_file:
            photo = attempt(photo_file, lambda: read_rgb(photo_file))
            attempt.same_size(photo_file, photo, render_file, render)
        if photo is None or mapped is None or attempt.problems:
            return Inspection(None, tuple(attempt.problems))
        shown = render if self._renders else None
        return Inspection(Photograph(render_file.stem, photo, mapped.labels, shown, mapped.stray), ())


def _listing_problems(folder: Path, frames: list[RecordedFrame], renders: bool) -> list[Problem]:
    """Every frame must have a render and labels; a ``photo`` all of them or none."""
    problems = []
    for frame in frames:
        for needed in (Folder.RGB, Folder.SEMANTIC):
            if needed not in frame.files:
                alone = needed is Folder.RGB and Folder.PHOTO in frame.files
                advice = "photographs that have no renders go into rgb/" if alone else "record it"
                held = next(iter(frame.files.values()), folder)
                sentence = f"{held} of camera {frame.camera!r} has no {needed} image beside it: {advice}"
                problems.append(Problem(held, MissingCounterpartError(sentence)))
    photos = sum(Folder.PHOTO in frame.files for frame in frames)
    if photos not in (0, len(frames)):
        sentence = f"{photos} of {len(frames)} frames in {folder} have a photo: record it for all or for none"
        problems.append(Problem(folder, MissingCounterpartError(sentence)))
    if renders and not photos:
        sentence = (
            f"edges of renders need photographs to be trained towards, {folder} has none: record --looks cg,photo"
        )
        problems.append(Problem(folder, MissingCounterpartError(sentence)))
    return problems


_HINT: Final = "give --root the folder that holds train/ and val/ recordings"


def _recordings(folder: Path, exclude: tuple[str, ...]) -> list[Path]:
    """The folder itself if it is a recording, else the recordings in it, sorted by name."""
    if any((folder / name).exists() for name in (DESCRIPTION, MANIFEST, Folder.RGB)):
        return [folder]
    return sorted(p for p in folder.glob("*") if p.is_dir() and p.name not in exclude and not p.name.startswith("."))
