"""The depth, flow and instance files of a recorded frame, for translators that want them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.content import missing_file_content
from sim_bridge.errors import ImageError
from sim_bridge.frames import RAW_LAYOUTS, Encoding, Frame, Kind, PixelArray
from sim_bridge.pixels.images import read_image
from sim_bridge.recordings.read import Folder, RecordedFrame

_SOURCES = {
    Kind.DEPTH: (Folder.DEPTH, Encoding.FLOAT1),
    Kind.FLOW: (Folder.FLOW, Encoding.FLOAT2),
    Kind.INSTANCE: (Folder.INSTANCE, Encoding.MONO16),
}


def read_inputs(frame: RecordedFrame, rgb: Frame, kinds: Iterable[Kind]) -> dict[Kind, Frame]:
    """Frames of these kinds beside the RGB frame of a tick.

    Raises ImageError when a file is missing, cannot be read, or has another size or type than it should.
    """
    return {kind: _read(frame, rgb, kind) for kind in kinds}


def _read(frame: RecordedFrame, rgb: Frame, kind: Kind) -> Frame:
    folder, encoding = _SOURCES[kind]
    path = frame.files.get(folder)
    if path is None:
        raise ImageError(f"frame {frame.number} of camera {frame.camera!r} has no {folder} file: record it again")
    values = _load(path)
    layout = RAW_LAYOUTS[encoding]
    wanted = layout.shape(rgb.width, rgb.height)
    if values.shape != wanted or values.dtype != layout.dtype:
        raise ImageError(f"{path} holds {values.dtype} {values.shape}, but {kind} is {layout.dtype} {wanted}")
    return replace(rgb, kind=kind, encoding=encoding, pixels=values, labels=None)


def _load(path: Path) -> PixelArray:
    if path.suffix != ".npy":
        return read_image(path, full_range=True)
    try:
        values: PixelArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if (missing := missing_file_content(path)) is not None:
            raise ImageError(f"{path} {missing.fact}: {missing.advice}") from error
        raise ImageError(f"{path} is no readable .npy file ({error}): record it again") from error
    return values
