"""A photograph as training holds it: its pixels, its labels and what the edge operator says of it.

It enters training exactly as a frame enters the live bridge: the same class look-up, resize and edge operator, bit for
bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.edges import LaplacianEdges
from sim_bridge.frames import ByteArray
from trainers.data.dataset import DataSet, in_threads
from trainers.data.photograph import InstanceIds, Photograph


def edge_strength(operator: LaplacianEdges, rgb: Tensor) -> Tensor:
    """Signed response over limit of the edge operator: above 1 in absolute value is an edge, above 0 its dark side.

    Training varies the threshold with it; E(x) itself always comes from the operator.

    Args:
        operator: The edge operator.
        rgb: uint8 ``(N, H, W, 3)``.

    Returns:
        float16 ``(N, S, H, W)``, by scale.
    """
    measured = [scale.measure(rgb) for scale in operator.scales]
    return torch.stack([(response / limit).to(torch.float16) for response, limit in measured], 1)


class Sample(NamedTuple):
    """What training holds of a photograph; all ``(H, W, ...)`` arrays of one size.

    Attributes:
        rgb: uint8 ``(H, W, 3)``.
        labels: uint8 ``(H, W)``.
        edges: E(x), bool ``(P, H, W)``.
        shown: What DNED is shown undegraded, bool ``(P, H, W)``: E(x), or the render's map.
        strength: float16 ``(S, H, W)`` of what is shown, see :func:`edge_strength`.
        shown_rgb: uint8 ``(H, W, 3)``, the picture whose edges are shown: ``rgb``, or the render. Hints come from it.
        instances: uint16 ``(H, W)``, see :class:`Photograph`.
    """

    rgb: ByteArray
    labels: ByteArray
    edges: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    strength: npt.NDArray[np.float16]
    shown_rgb: ByteArray
    instances: InstanceIds | None = None

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """A window of it, mirrored left to right if asked."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        cut = (
            self.rgb[rows, columns],
            self.labels[rows, columns],
            self.edges[:, rows, columns],
            self.shown[:, rows, columns],
            self.strength[:, rows, columns],
            self.shown_rgb[rows, columns],
        )
        if flip:
            cut = (*(a[:, ::-1] for a in cut[:2]), *(a[:, :, ::-1] for a in cut[2:5]), cut[5][:, ::-1])
        made = Sample(*cut)
        if self.instances is not None:
            instances = self.instances[rows, columns]
            made = made._replace(instances=instances[:, ::-1] if flip else instances)
        # Without a render both are one picture: who converts it does so once.
        return made._replace(shown_rgb=made.rgb) if self.shown_rgb is self.rgb else made


def prepare(photograph: Photograph, operator: LaplacianEdges) -> Sample:
    """Runs the edge operator over a whole photograph, so that crops of it have no border of their own."""
    edges = operator(torch.from_numpy(photograph.rgb)[None])[0].numpy()
    shown_rgb = torch.from_numpy(photograph.shown_rgb)[None]
    shown = edges if photograph.render is None else operator(shown_rgb)[0].numpy()
    strength = edge_strength(operator, shown_rgb)[0].numpy()
    return Sample(photograph.rgb, photograph.labels, edges, shown, strength, photograph.shown_rgb, photograph.instances)


def load_all(data: DataSet, operator: LaplacianEdges, threads: int = 0) -> list[Sample]:
    """All samples of a set in memory, edges and all (CamVid: 0.4 GB), read by so many threads; 0 is the caller's."""
    return in_threads(lambda i: prepare(data[i], operator), len(data), threads)
