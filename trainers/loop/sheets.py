"""Sample sheets of a training: what the network makes of a few validation photographs, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from sim_bridge.frames import ByteArray
from sim_bridge.pixels.images import write_png
from sim_bridge.recordings.sheet import class_color, headings
from trainers.data.photograph import Photograph
from trainers.loop.report import Collector
from trainers.scores.evaluate import Scorer
from trainers.systems.base import System

SCORES: Final = ("sharpness", "chroma_detail", "pxy", "psnr")
"""Scores that are reported with a sheet, as ``val_NAME``."""

MARGIN: Final = 4
"""Pixels left of a heading."""


class SampleSheet:
    """Writes ``samples/NNNNNN.png``: a row a photograph, each column under its heading.

    Columns are the labels, the system's own, and the photograph.

    Args:
        system: Makes its columns.
        folder: Where to.
        photographs: Rows.
        classes: Names by id, for the labels' colours.
        collector: Gets the scores of the pictures made.
    """

    def __init__(
        self,
        system: type[System[Any]],
        folder: Path,
        photographs: Sequence[Photograph],
        classes: Sequence[str],
        collector: Collector | None = None,
    ) -> None:
        self._system, self._folder, self._collector = system, folder, collector
        self._photographs = list(photographs)
        self._colors = np.array([class_color(name) for name in classes], np.uint8)
        self._scorer = Scorer(self._photographs, ()) if system.makes_pictures else None

    def write(self, network: nn.Module, step: int) -> Path:
        """Generates the rows with ``network`` and writes the sheet of a step."""
        columns = [self._system.sheet(network, photograph) for photograph in self._photographs]
        rows = [self._row(made, p) for made, p in zip(columns, self._photographs, strict=True)]
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{step:06d}.png"
        width = max(row.shape[1] for row in rows)  # photographs may differ in size
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        write_png(path, np.ascontiguousarray(np.vstack(padded)[..., ::-1]))
        if self._collector is not None and self._scorer is not None:
            scores = self._scorer.score([[*made.values()][-1] for made in columns])
            self._collector.add(**{f"val_{name}": scores[name] for name in SCORES})
        return path

    def _row(self, made: Mapping[str, ByteArray], photograph: Photograph) -> ByteArray:
        shown = {"labels": self._colors[photograph.labels], **made, f"photograph {photograph.name}": photograph.rgb}
        strip = np.hstack([*shown.values()])
        lefts = np.cumsum([0, *(picture.shape[1] for picture in shown.values())])
        texts = [(int(left) + MARGIN, text) for left, text in zip(lefts, shown, strict=False)]
        return np.vstack([headings(strip.shape[1], texts), strip])
