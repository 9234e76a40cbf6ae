"""Sample sheets of a training: what the network makes of a few validation photographs, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.nets.sflow import SFlowNetwork
from sim_bridge.pixels.images import write_png
from trainers.data.photograph import Photograph
from trainers.loop.report import Collector
from trainers.scores.evaluate import edge_maps, evaluate, generate, generate_plain


class SampleSheet:
    """Writes ``samples/NNNNNN.png``.

    Columns: E(x), DNED's ensemble, generated from E(x), from the ensemble, with another style seed; the photograph.

    Args:
        folder: Where to.
        photographs: Rows.
        collector: Gets the pictures' sharpness and grid amplitude.
    """

    def __init__(self, folder: Path, photographs: Sequence[Photograph], collector: Collector | None = None) -> None:
        self._folder = folder
        self._photographs = list(photographs)
        self._collector = collector

    def write(self, network: SFlowNetwork, step: int) -> Path:
        """Generates the rows with ``network`` and writes the sheet of a step."""
        plain = generate_plain(network, self._photographs)
        learned = generate(network, self._photographs)
        other = generate(network, self._photographs, style_seed=1)
        rows = []
        for photograph, *pictures in zip(self._photographs, plain, learned, other, strict=True):
            maps = [np.repeat(m[..., None], 3, 2) for m in edge_maps(network, photograph)]
            rows.append(np.hstack([*maps, *pictures, photograph.rgb]))
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{step:06d}.png"
        width = max(row.shape[1] for row in rows)  # photographs may differ in size
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        write_png(path, np.ascontiguousarray(np.vstack(padded)[..., ::-1]))
        if self._collector is not None:
            result = evaluate(self._photographs, learned, 0, None, ())
            self._collector.add(val_sharpness=result.sharpness, val_chroma_detail=result.chroma_detail)
            self._collector.add(val_pxy=result.pxy, val_psnr=result.psnr)
        return path
