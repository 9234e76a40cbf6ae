"""One frame as training holds it: pixels, labels and edges, bit for bit as they enter the live bridge."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.edges import LaplacianEdges
from sim_bridge.frames import ByteArray
from trainers.data.dataset import DataSet, in_threads
from trainers.data.photograph import Flow, InstanceIds, Photograph, within

Value = TypeVar("Value", bound=np.generic)
_LARGEST_HALF: Final = float(torch.finfo(torch.float16).max)
BoolArray = npt.NDArray[np.bool_]


def edge_strength(operator: LaplacianEdges, rgb: Tensor) -> Tensor:
    """Response over limit, float16 ``(N, S, H, W)`` by scale: beyond -1 and 1 is an edge, above 0 its dark side."""
    measured = [scale.measure(rgb) for scale in operator.scales]
    # A threshold of 0 makes 0/0 of flat areas, which have no edge, and infinities of the rest.
    ratios = [(response / limit).nan_to_num(0.0).clamp(-_LARGEST_HALF, _LARGEST_HALF) for response, limit in measured]
    return torch.stack([ratio.to(torch.float16) for ratio in ratios], 1)


class Sample(NamedTuple):
    """What training holds of a frame.

    Attributes:
        rgb: uint8 ``(H, W, 3)``.
        labels: uint8 ``(H, W)``.
        edges: E(x), bool ``(P, H, W)``.
        shown: What DNED sees undegraded, bool ``(P, H, W)``: E(x), or the render's map.
        strength: float16 ``(S, H, W)`` of ``shown``, see :func:`edge_strength`.
        shown_rgb: uint8 ``(H, W, 3)``: ``rgb``, or the render. Its edges are shown; hints come from it.
        instances: uint16 ``(H, W)``, see :class:`Photograph`; as are ``labelled`` and ``flow``.
    """

    rgb: ByteArray
    labels: ByteArray
    edges: BoolArray
    shown: BoolArray
    strength: npt.NDArray[np.float16]
    shown_rgb: ByteArray
    instances: InstanceIds | None = None
    labelled: bool = True
    flow: Flow | None = None

    @property
    def frames(self) -> tuple[Sample]:
        """A clip of one."""
        return (self,)

    def crop(self, top: int, left: int, height: int, width: int, *, flip: bool) -> Sample:
        """A window of it, mirrored left to right if asked."""
        rows, columns, turn = slice(top, top + height), slice(left, left + width), -1 if flip else 1

        def picture(array: npt.NDArray[Value]) -> npt.NDArray[Value]:
            return array[rows, columns][:, ::turn]

        def planes(array: npt.NDArray[Value]) -> npt.NDArray[Value]:
            return array[:, rows, columns][:, :, ::turn]

        def motion(flow: Flow) -> Flow:
            return within(flow[rows, columns])[:, ::turn] * np.array((turn, 1), np.float32)

        rgb = picture(self.rgb)
        return Sample(
            rgb,
            picture(self.labels),
            planes(self.edges),
            planes(self.shown),
            planes(self.strength),
            # Without a render both are one picture, which is then converted once.
            rgb if self.shown_rgb is self.rgb else picture(self.shown_rgb),
            None if self.instances is None else picture(self.instances),
            self.labelled,
            None if self.flow is None else motion(self.flow),
        )


def prepare(photograph: Photograph, operator: LaplacianEdges) -> Sample:
    """Runs the edge operator over a whole photograph, so that crops of it have no border of their own."""
    edges = operator(torch.from_numpy(photograph.rgb)[None])[0].numpy()
    shown_rgb = torch.from_numpy(photograph.shown_rgb)[None]
    return Sample(
        photograph.rgb,
        photograph.labels,
        edges,
        edges if photograph.render is None else operator(shown_rgb)[0].numpy(),
        edge_strength(operator, shown_rgb)[0].numpy(),
        photograph.shown_rgb,
        photograph.instances,
        photograph.labelled,
        photograph.flow,
    )


def load_all(data: DataSet, operator: LaplacianEdges, threads: int = 0) -> list[Sample]:
    """All photographs of a set in memory (CamVid: 0.4 GB), read by this many threads; 0 is the caller's alone."""
    return in_threads(lambda i: prepare(data[i], operator), len(data), threads)
