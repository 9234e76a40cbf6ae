"""Recordings of simulators (docs/recordings.md) as training data: renders, labels and, where there are, photographs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from sim_bridge.errors import UsageError
from sim_bridge.pixels.labels import LabelMap
from sim_bridge.pixels.taxonomy import class_list
from sim_bridge.recordings.captures import recording_taxonomy
from sim_bridge.recordings.listing import list_folders
from sim_bridge.recordings.read import DESCRIPTION, MANIFEST, Folder, RecordedFrame, Recording
from trainers.data.clips import FrameFiles, Video
from trainers.data.dataset import DataSet, take_share
from trainers.data.pairs import nothing_left, refuse_unknown_names
from trainers.data.problems import MissingCounterpartError, Problem, ProblemCollector

STREET_CLASSES: Final = class_list("street")
"""Cityscapes' 19 train classes and road lines, which simulators tell apart and photographs' labels do not."""


MOST_APART: Final = 0.5
"""Seconds of simulator time between two consecutive frames; what is further apart is no video."""


class Recordings(DataSet):
    """Recordings in ``ROOT/<split>``: one recording, or folders that hold one each.

    The classes are those that the recordings' taxonomies train (their key ``trains``): one list for all of them.

    The picture to be made is the frame's ``photo``; frames of a recording without photographs are their own target.

    Args:
        renders: Show the network the edges of the render (``rgb``) instead of the photograph's.
        exclude: Names of recordings left out.

    Raises:
        UsageError: A recording or an image of a frame is missing.
    """

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
        self._labels_as: dict[LabelMap, str] = {}
        self.classes = ()
        collect = ProblemCollector()
        folders = recording_folders(root / split)
        named = {
            folder.name
            for side in ("train", "val")
            for folder in recording_folders(root / side)
            if folder != root / side
        }
        refuse_unknown_names("exclude", exclude, named, root)
        listed, licences = list[_Listed](), set[str]()
        for folder in folders:
            excluded = folder.name in exclude and folder != root / split
            problems = ProblemCollector() if excluded else collect
            opened = problems(folder / DESCRIPTION, partial(self._open, folder, excluded))
            if opened is not None:
                listed += [_Listed(frame, table, excluded) for frame, table in opened[1]]
                licences |= set() if excluded else {opened[0]}
        found = sum(not one.excluded for one in listed)
        frames = [one for one in take_share(listed, share) if not one.excluded]
        listing = _listing_problems(root / split, [one.frame for one in frames], renders)
        self.problems = (*collect.problems, *listing)
        if not frames and not collect.problems:
            nothing = f"{root / split} holds no recording with frames: {_HINT}"
            self.problems = (Problem(root / split, nothing_left(root / split, found, share, nothing)),)
        if strict:
            self.refuse_problems()
        needed = (Folder.RGB, Folder.SEMANTIC)
        self._frames = [one for one in frames if all(f in one.frame.files for f in needed)]
        photos = bool(self._frames) and all(Folder.PHOTO in one.frame.files for one in self._frames)
        self._target = Folder.PHOTO if photos else Folder.RGB
        self.licence = " AND ".join(sorted(licences))
        self.classes = self.classes or STREET_CLASSES
        self.credit = f"recordings in {root.name}"
        self.description = f"recordings {root.name}/{split}, {share} frames, {self._target} images"

    def _open(self, folder: Path, excluded: bool) -> tuple[str, list[tuple[RecordedFrame, LabelMap]]]:
        """The licence, and every frame of every camera with the meaning of its ids."""
        recording = Recording.open(folder)
        source = recording_taxonomy(recording, None)
        if not excluded:
            self.classes = self.classes or source.trains
            if source.trains != self.classes:
                first, other = ", ".join(self.classes), ", ".join(source.trains)
                raise UsageError(
                    f"{folder} trains the classes {other}, but those before it {first}: give their taxonomies one list "
                    "under trains:"
                )
        table = LabelMap.build(source, source.trains)
        if recording.info.labels_as:
            self._labels_as[table] = recording.info.labels_as
        frames = [(frame, table) for camera in recording.cameras() for frame in recording.frames(camera)]
        self.notes = (*self.notes, *recording.notes)
        return recording.info.licence or "unknown", frames

    def __len__(self) -> int:
        return len(self._frames)

    def labels_as(self, table: LabelMap) -> str | None:
        """What the recording's description says."""
        return self._labels_as.get(table)

    def frame(self, index: int) -> FrameFiles:
        """Picture to be made, labels, render, and the truth that the recording holds."""
        recorded, table, _ = self._frames[index]
        files = recorded.files
        render = files[Folder.RGB] if self._target is not Folder.RGB else None
        return FrameFiles(
            files[Folder.RGB].stem,
            files[self._target],
            files[Folder.SEMANTIC],
            table,
            render=render,
            shows_render=self._renders,
            flow=files.get(Folder.FLOW),
            depth=files.get(Folder.DEPTH),
            pose=recorded.pose,
        )

    def videos(self) -> Sequence[Video]:
        """One a camera, broken where the simulator's time jumps: frames of a scattered recording are unrelated."""
        videos: list[dict[int, FrameFiles]] = []
        before: _Listed | None = None
        for index, one in enumerate(self._frames):
            if before is None or not one.follows(before):
                videos.append({})
            videos[-1][one.frame.number] = self.frame(index)
            before = one
        return [*videos]


class _Listed(NamedTuple):
    """A frame of a split's listing.

    Attributes:
        frame: The frame.
        table: What its ids mean.
        excluded: Whether the recipe leaves it out; it is counted by ``share`` all the same.
    """

    frame: RecordedFrame
    table: LabelMap
    excluded: bool

    def follows(self, before: _Listed) -> bool:
        """Whether both are of one camera of one recording, and no time is skipped between them."""
        a, b = before.frame, self.frame
        if self.table is not before.table or a.camera != b.camera:
            return False
        if a.time is None or b.time is None:
            return True
        return 0 < b.time - a.time <= MOST_APART * (b.number - a.number)


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


def recording_folders(folder: Path) -> list[Path]:
    """The folder itself if it is a recording, else the recordings in it, in natural order."""
    if any((folder / name).exists() for name in (DESCRIPTION, MANIFEST, Folder.RGB)):
        return [folder]
    return list_folders(folder)
