"""Sample sheets of a training: what the network makes of a few validation photographs, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.network import SFlowNetwork
from sim_bridge.images import write_png
from trainers.data import ByteArray, Photograph
from trainers.evaluate import evaluate, generate, generate_plain
from trainers.report import Collector


def as_planes(edges: torch.Tensor) -> ByteArray:
    """Edge planes ``(P, H, W)`` in 0..1 as a grey picture uint8 ``(H, W, 3)``."""
    grey = edges.amax(0).float().mul(255).to(torch.uint8).numpy()
    return np.repeat(grey[..., None], 3, 2)


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
            rgb = torch.from_numpy(photograph.rgb)[None]
            with torch.inference_mode():
                e = network.operator(rgb)
                ensemble = torch.sigmoid(network.dned(e.to(network.dtype)).fused)
            rows.append(np.hstack([as_planes(e[0]), as_planes(ensemble[0]), *pictures, photograph.rgb]))
        path = self._folder / f"{step:06d}.png"
        write_png(path, np.ascontiguousarray(np.vstack(rows)[..., ::-1]))
        if self._collector is not None:
            result = evaluate(self._photographs, learned, 0, None, 0)
            self._collector.add(val_sharpness=result.sharpness, val_pxy=result.pxy, val_psnr=result.psnr)
        return path
