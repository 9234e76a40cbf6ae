"""Reads the files of one frame and names all that is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.content import missing_file_content
from sim_bridge.errors import ForeignIdsError, ImageError, LabelError
from sim_bridge.pixels.images import read_image
from sim_bridge.pixels.labels import LabelMap, MappedLabels
from sim_bridge.recordings.captures import read_rgb
from sim_bridge.recordings.labels import LabelReader
from trainers.data.clips import FrameFiles
from trainers.data.photograph import Inspection, InstanceIds, Photograph
from trainers.data.problems import ProblemCollector


def inspect_frame(frame: FrameFiles, void: int, reader: LabelReader, *, flow: bool = False) -> Inspection:
    """Reads a frame, its labels by ``reader``, with its flow if asked; without labels it is ``void`` everywhere."""
    collect = ProblemCollector()
    first = frame.picture if frame.render is None else frame.render
    base = collect(first, lambda: read_rgb(first))
    labels, stray = _labels(frame, first, base, void, reader, collect)
    rgb = base
    if first != frame.picture:
        rgb = collect(frame.picture, lambda: read_rgb(frame.picture))
        collect.same_size(frame.picture, rgb, first, base)
    instances, moved = None, None
    if (file := frame.instances) is not None and file.is_file():  # a missing one is a problem of the listing
        instances = collect(file, lambda: read_instances(file))
        collect.same_size(file, instances, first, base)
    if flow and (motion := frame.flow) is not None:
        moved = collect(motion, lambda: read_flow(motion))
        collect.same_size(motion, moved, first, base)
    if base is None or rgb is None or labels is None or collect.problems:
        return Inspection(None, tuple(collect.problems))
    render = base if frame.shows_render else None
    made = Photograph(frame.name, rgb, labels, render, stray, instances, frame.labels is not None, moved)
    return Inspection(made, ())


def _labels(
    frame: FrameFiles,
    first: Path,
    base: npt.NDArray[np.uint8] | None,
    void: int,
    reader: LabelReader,
    collect: ProblemCollector,
) -> tuple[npt.NDArray[np.uint8] | None, int]:
    """The labels and how many of their pixels are stray; all void where the frame has none."""
    if (file := frame.labels) is None:
        return (None if base is None else np.full(base.shape[:2], void, np.uint8)), 0
    mapped = collect(file, lambda: read_labels(file, frame.table, reader))
    collect.same_size(file, None if mapped is None else mapped.labels, first, base)
    return (None, 0) if mapped is None else (mapped.labels, mapped.stray)


def read_labels(file: Path, table: LabelMap, reader: LabelReader) -> MappedLabels:
    """Reads a label file in a data set's classes; ImageError and LabelError (ids outside the taxonomy) name it."""
    try:
        return table.apply(reader.read(file))
    except ForeignIdsError as error:
        advice = "correct the labels, or set data.kind to the set that they are of"
        raise LabelError(f"{error.fact}: {advice}") from error


def read_instances(file: Path) -> InstanceIds:
    """Reads instance ids of 8 or 16 bits; ImageError where it has several channels."""
    stored = read_image(file)
    if stored.ndim != 2:
        raise ImageError(
            f"{file} has {stored.shape[2]} channels, but instance ids are one number a pixel: unpack the file again"
        )
    return stored.astype(np.uint16)


def read_flow(file: Path) -> npt.NDArray[np.float32]:
    """Reads flow, float32 ``(H, W, 2)``: pixels to the right and down, NaN where hidden; ImageError for all else."""
    try:
        stored = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if (missing := missing_file_content(file)) is not None:
            raise ImageError(f"flow {file} {missing.fact}: {missing.advice}") from error
        raise ImageError(f"flow {file} cannot be read ({error}): record it again") from error
    if not isinstance(stored, np.ndarray) or stored.dtype != np.float32 or stored.ndim != 3 or stored.shape[2] != 2:
        raise ImageError(f"flow {file} is not float32 of shape (H, W, 2): record it again")
    return stored
