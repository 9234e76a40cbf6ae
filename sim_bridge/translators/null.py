"""The translator that does nothing: it measures the bridge alone and lets the wire be tested without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sim_bridge.frames import ByteArray
from sim_bridge.translators import Style, Translation

MODEL_ID: Final = "0" * 12
"""Stands where a trained bundle has the digits of its hash."""


class NullTranslator:
    """Passes every frame through, the same array, untouched."""

    @property
    def name(self) -> str:
        """``null``."""
        return "null"

    @property
    def model_id(self) -> str:
        """Twelve zeros: there are no weights."""
        return MODEL_ID

    @property
    def classes(self) -> tuple[str, ...]:
        """Empty: labels are not looked at."""
        return ()

    def translate(self, rgb: ByteArray, labels: ByteArray, style: Style) -> Translation:
        """Returns ``rgb`` (uint8 ``(B, H, W, 3)``) itself, and no edges."""
        del labels, style
        return Translation(rgb, None)

    def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        """Nothing is slow here."""

    def reset(self, camera: str) -> None:
        """Nothing is remembered."""
