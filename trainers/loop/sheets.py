"""Sample sheets of a training: what the network makes of a few validation photographs, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from sim_bridge.pixels.images import write_png
from trainers.data.photograph import Photograph
from trainers.loop.report import Collector
from trainers.scores.evaluate import Scorer
from trainers.systems.base import System

SCORES: Final = ("sharpness", "chroma_detail", "pxy", "psnr")
"""Scores that are reported with a sheet, as ``val_NAME``."""


class SampleSheet:
    """Writes ``samples/NNNNNN.png``: a row a photograph, the system's columns, the photograph last.

    Args:
        system: Makes the columns.
        folder: Where to.
        photographs: Rows.
        collector: Gets the scores of the last columns' pictures.
    """

    def __init__(
        self,
        system: type[System[Any]],
        folder: Path,
        photographs: Sequence[Photograph],
        collector: Collector | None = None,
    ) -> None:
        self._system, self._folder, self._collector = system, folder, collector
        self._photographs = list(photographs)
        self._scorer = Scorer(self._photographs, ()) if system.makes_pictures else None

    def write(self, network: nn.Module, step: int) -> Path:
        """Generates the rows with ``network`` and writes the sheet of a step."""
        columns = [self._system.sheet(network, photograph) for photograph in self._photographs]
        rows = [np.hstack([*made, p.rgb]) for made, p in zip(columns, self._photographs, strict=True)]
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{step:06d}.png"
        width = max(row.shape[1] for row in rows)  # photographs may differ in size
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        write_png(path, np.ascontiguousarray(np.vstack(padded)[..., ::-1]))
        if self._collector is not None and self._scorer is not None:
            scores = self._scorer.score([made[-1] for made in columns])
            self._collector.add(**{f"val_{name}": scores[name] for name in SCORES})
        return path
