"""Which edge threshold suits a data set: the one that makes as many of its pixels edges as are wanted.

How many there should be is a matter of the network, not of the data: too few say nothing of a facade, too many drown
its windows. What a threshold gives depends on the size, sharpness and contrast of the photographs, so every data set
has its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from models.edges import EdgeSettings, LaplacianEdges
from sim_bridge.frames import ByteArray
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.batches.sample import edge_strength
from trainers.data.dataset import DataSet


@dataclass(frozen=True)
class Calibration:
    """Thresholds and what they give."""

    photographs: int  # how many were measured
    threshold: float  # the recipe's
    density: float  # share of the pixels that are edges by it
    calibrated_threshold: float  # the one to take, three digits
    calibrated_density: float  # what it gives; a plain operator's whole grey levels only come near what was wanted

    def rounded(self) -> dict[str, float]:
        """As plain values, what is no whole number with four digits."""
        return {k: v if isinstance(v, int) else float(f"{v:.4g}") for k, v in asdict(self).items()}


def calibrate(data: DataSet, settings: EdgeSettings, wanted: float, most: int) -> Calibration:
    """The threshold by which the share ``wanted``, in 0..1, of the pixels are edges; other settings stay.

    Measures at most ``most`` photographs, spread evenly, as they are without ``data.scale``.
    """
    pictures = [data[i].rgb for i in spread_evenly(range(len(data)), most)]
    unit = LaplacianEdges(replace(settings, threshold=1.0))
    # Response over limit does not depend on what the limit is a multiple of: this is the threshold that each pixel is
    # the last to pass, of the scale that passes most.
    strengths = [edge_strength(unit, torch.from_numpy(rgb)[None])[0].abs().amax(0).flatten() for rgb in pictures]
    passed = np.quantile(torch.cat(strengths).float().numpy(), 1 - wanted)
    threshold = float(f"{passed:.3g}")
    return Calibration(
        len(pictures),
        settings.threshold,
        edge_density(pictures, settings),
        threshold,
        edge_density(pictures, replace(settings, threshold=threshold)),
    )


def edge_density(pictures: list[ByteArray], settings: EdgeSettings) -> float:
    """Share of the pixels of pictures uint8 ``(H, W, 3)`` that are edges in any plane."""
    operator = LaplacianEdges(settings)
    maps = [operator(torch.from_numpy(rgb)[None])[0].any(0).flatten() for rgb in pictures]
    return float(torch.cat(maps).float().mean())
