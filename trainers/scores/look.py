"""The sheet by which pictures are judged: fixed crops at 1:1, the render on the left."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from models.bundles.files import CARD
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.images import write_png
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.batches.unpaired import RenderSet
from trainers.data.open import open_data
from trainers.data.photograph import Photograph
from trainers.data.recordings import recording_folders
from trainers.scores.export import OpenedBundle, TrainedRun

CROPS: Final = 8
CROP: Final = (384, 192)
"""Width and height, or the whole picture where it is smaller."""
PLACES: Final = ((0.15, 0.6), (0.85, 0.45), (0.5, 0.9), (0.5, 0.4))
"""Of crops, one after the other: shares of what is left beside them and above them."""
GAP: Final = 4


def write_look(made: Path, out: Path, data: Path, root: Path | None = None) -> None:
    """Writes the sheet of what a run or a bundle makes of recordings.

    Args:
        made: A run's folder or a bundle's.
        out: The PNG.
        data: A recording, or a folder of some.
        root: Of a run, the data set's folder, which says what its classes are.

    Raises:
        UsageError: There is no recording, or ``root`` is missing.
    """
    system, network, classes = _opened(made, root)
    folders = recording_folders(data)
    if not folders:
        raise UsageError(f"{data} holds no recording: give --data a folder of recordings")
    share, more = divmod(CROPS, len(folders))
    shown: list[Photograph] = []
    for i, folder in enumerate(folders[:CROPS]):
        held = RenderSet(folder, classes)
        held.read((1, 1))
        chosen = spread_evenly(held.renders, share + (i < more))
        shown += [Photograph(folder.name, rgb, labels).crop_to_stride() for rgb, labels in chosen]
    pictures = system.pictures(network, shown)
    pairs = [
        np.hstack([_crop(p.rgb, i), _crop(picture, i)])
        for i, (p, picture) in enumerate(zip(shown, pictures, strict=True))
    ]
    write_png(out, np.ascontiguousarray(_grid(pairs)[..., ::-1]))


def _opened(made: Path, root: Path | None) -> tuple[Any, Any, tuple[str, ...]]:
    """System, network and classes."""
    if (made / CARD).is_file() or not made.is_dir():
        bundle = OpenedBundle.load(str(made))
        return bundle.system, bundle.network, tuple(bundle.card.classes)
    if root is None:
        raise UsageError(f"{made} is a run, whose classes its data say: give --root")
    run = TrainedRun.load(made)
    classes = open_data(run.recipe.data, root, "train").classes
    return run.system, run.network(classes), classes


def _crop(picture: ByteArray, number: int) -> ByteArray:
    x, y = PLACES[number % len(PLACES)]
    width, height = (min(a, b) for a, b in zip(CROP, picture.shape[1::-1], strict=True))
    left, top = round(x * (picture.shape[1] - width)), round(y * (picture.shape[0] - height))
    return picture[top : top + height, left : left + width]


def _grid(pairs: list[ByteArray]) -> ByteArray:
    """Two pairs a row."""
    height, width = (max(p.shape[axis] for p in pairs) + GAP for axis in (0, 1))
    sheet = np.full((-(-len(pairs) // 2) * height, 2 * width, 3), 255, np.uint8)
    for i, pair in enumerate(pairs):
        top, left = i // 2 * height, i % 2 * width
        sheet[top : top + pair.shape[0], left : left + pair.shape[1]] = pair
    return sheet
