"""Translators: what turns a CG frame and its labels into a photoreal frame.

:class:`Translator` is the interface; ``sflow`` is ours, ``onnx`` runs networks made elsewhere, ``null`` passes frames
through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sim_bridge.frames import ByteArray

__all__ = ["ByteArray", "Ensemble", "ShowsEdges", "Style", "Translation", "Translator"]

Ensemble = tuple[float, float, float, float, float, float]
"""The weights of DNED's six side outputs, from stride 1 to stride 32."""


@dataclass(frozen=True, slots=True)
class Style:
    """Which of the many photoreal versions of a scene is wanted.

    Attributes:
        seed: 0 is the learned ensemble; any other seed draws repeatable ensemble weights.
        ensemble: The six ensemble weights themselves, overriding the seed's; they are normalised to sum 1.
    """

    seed: int = 0
    ensemble: Ensemble | None = None


@dataclass(frozen=True, slots=True)
class Translation:
    """A translator's answer.

    Attributes:
        rgb: uint8 ``(B, H, W, 3)``.
        edges: uint8 ``(B, H, W)``, the edge map the generator saw (0 none, 255 sure), or None where a translator has
            none.
        ensemble: The six ensemble weights it was made with, sum 1, or None where a translator has none.
    """

    rgb: ByteArray
    edges: ByteArray | None
    ensemble: Ensemble | None = None

    def of(self, index: int) -> Translation:
        """The answer to one picture of the batch, as a batch of one."""
        edges = None if self.edges is None else self.edges[index : index + 1]
        return Translation(self.rgb[index : index + 1], edges, self.ensemble)


@runtime_checkable
class Translator(Protocol):
    """Anything that can stand in the bridge's network stage. One thread calls it at a time."""

    @property
    def name(self) -> str:
        """Short name for tables and logs."""

    @property
    def model_id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the weights."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Canonical class names by id, which the labels given to :meth:`translate` index; empty: labels are ignored."""

    def translate(self, rgb: ByteArray, labels: ByteArray, style: Style) -> Translation:
        """Translates a batch.

        Args:
            rgb: uint8 ``(B, H, W, 3)``, the CG render.
            labels: uint8 ``(B, H, W)``, ids into :attr:`classes`.
            style: Which photoreal version.
        """

    def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        """Does all slow first-call work, so that none falls into the stream.

        Args:
            sizes: Each ``(width, height)``.
            batch: Batches of 1 up to so many pictures will come.
        """

    def reset(self, camera: str) -> None:
        """Forgets what it remembers of a camera (a new session began)."""


@runtime_checkable
class ShowsEdges(Protocol):
    """A translator that can also show the edge operator's own map, which its network sees."""

    def edge_map(self, rgb: ByteArray) -> ByteArray:
        """E(x) of a picture uint8 ``(H, W, 3)``: uint8 ``(H, W)``, 0 or 255.

        Called from one other thread, beside :meth:`Translator.translate`.
        """
