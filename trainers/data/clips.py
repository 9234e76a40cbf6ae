"""Files of single frames, videos made of them, and the clips of consecutive frames that a video holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import SizeMismatchError
from sim_bridge.pixels.labels import LabelMap
from trainers.data.problems import EmptySplitError, Problem

Need = Literal["required", "predicted", "none"]
"""Frames of a clip: labelled ones, also those that a segmenter labelled, or any."""

PREDICTED: Final = "predicted"
"""Folder below a data set's root for labels that a segmenter wrote, in the set's own ids."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameFiles:
    """One frame on disk; formats of ``flow`` (to the next frame) and ``depth`` are in docs/recordings.md.

    Attributes:
        picture: What a network shall make.
        table: What the ids in ``labels`` mean.
        render: A simulator's picture of the same scene.
        shows_render: Whether the network sees the render's edges instead of the picture's.
        predicted: Where a segmenter's labels belong; the file may be missing.
        pose: ``(4, 4)``, camera to world.
    """

    name: str
    picture: Path
    labels: Path | None
    table: LabelMap
    render: Path | None = None
    shows_render: bool = False
    instances: Path | None = None
    predicted: Path | None = None
    flow: Path | None = None
    depth: Path | None = None
    pose: npt.NDArray[np.float64] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the sample, the picture first; instances are left out."""
        return tuple(file for file in (self.picture, self.labels, self.render) if file is not None)

    def labelled_by(self, need: Need) -> Path | None:
        """The label file that a clip uses."""
        if need == "predicted" and self.labels is None and self.predicted is not None and self.predicted.is_file():
            return self.predicted
        return self.labels


Video = Mapping[int, FrameFiles]
"""Frames of one camera by their place in time: neighbours differ by 1."""


class Clip(NamedTuple):
    """Frames in order of time, ``step`` places in the video from one to the next."""

    frames: tuple[FrameFiles, ...]
    step: int

    @property
    def has_flow(self) -> bool:
        """Whether the files say exactly how the pixels move: a flow file reaches to the next frame alone."""
        moving = self.frames[:-1]
        return self.step == 1 and bool(moving) and all(frame.flow is not None for frame in moving)


def predicted_labels(root: Path, picture: Path) -> Path:
    """Where a segmenter's labels of a picture belong: ``ROOT/predicted/`` and the picture's own path, as PNG."""
    return (root / PREDICTED / picture.relative_to(root)).with_suffix(".png")


def cut_clips(videos: Sequence[Video], length: int, step: int, need: Need) -> list[Clip]:
    """All clips of ``length`` frames, each ``step`` after the one before; clips of one video overlap."""
    clips = []
    for video in videos:
        usable = {t: frame for t, frame in video.items() if need == "none" or frame.labelled_by(need) is not None}
        for first in sorted(usable):
            times = range(first, first + length * step, step)
            if all(t in usable for t in times):
                clips.append(Clip(tuple(_labelled(usable[t], need) for t in times), step))
    return clips


def with_flow(clips: Sequence[Clip]) -> set[Path]:
    """Pictures of the frames whose exact flow is read: all but the clips' last, where any clip has flow."""
    if not any(clip.has_flow for clip in clips):
        return set()
    return {frame.picture for clip in clips for frame in clip.frames[:-1]}


def odd_size(clip: Clip, sizes: Mapping[Path, tuple[int, int]]) -> Problem | None:
    """The first frame that is not as large as the clip's first; sizes are (width, height) by picture."""
    known = [(frame.picture, sizes[frame.picture]) for frame in clip.frames if frame.picture in sizes]
    for picture, (width, height) in known[1:]:
        first, size = known[0]
        if (width, height) != size:
            sentence = f"{first} is {size[0]}x{size[1]} and {picture} is {width}x{height}"
            error = SizeMismatchError(f"{sentence}: frames of a clip must have one size, set data.resize")
            return Problem(picture, error)
    return None


def no_clips(where: str, videos: Sequence[Video], length: int, step: int, need: Need) -> EmptySplitError:
    """Why a set has no clip that a recipe asks for."""
    what = f"{where} has no clip of data.frames {length} at data.frame_step {step}"
    if not videos:
        return EmptySplitError(f"{what}: no two of its frames are consecutive; set data.frames to 1")
    if need != "none" and cut_clips(videos, length, step, "none"):
        files = f", or write labels into {PREDICTED}/ and set it to predicted" if need == "required" else ""
        return EmptySplitError(f"{what} in which all frames have labels ({need}): set data.labels to none{files}")
    longest = max(max(video) - min(video) + 1 for video in videos)
    return EmptySplitError(f"{what}: its longest video spans {longest} frames; lower one of the two")


def _labelled(frame: FrameFiles, need: Need) -> FrameFiles:
    labels = frame.labelled_by(need)
    return frame if labels is frame.labels else replace(frame, labels=labels)
