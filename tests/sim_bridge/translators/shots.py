"""Arrays in and arrays out, for tests of translators."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim_bridge.translators import Shot, Style, Translator

ByteArray = npt.NDArray[np.uint8]


class Answer(NamedTuple):
    """The answers to a batch: uint8 ``(B, H, W, 3)``, uint8 ``(B, H, W)`` or None, and the style used."""

    rgb: ByteArray
    edges: ByteArray | None
    used: Style


def make_shots(rgb: ByteArray, labels: ByteArray, style: Style) -> list[Shot]:
    """A shot per picture, each of a camera of its own."""
    pairs = enumerate(zip(rgb, labels, strict=True))
    return [Shot(f"camera{place}", "s", 1, 0.0, picture, ids, style) for place, (picture, ids) in pairs]


def translate(translator: Translator, rgb: ByteArray, labels: ByteArray, style: Style) -> Answer:
    """Translates uint8 ``(B, H, W, 3)`` with ids uint8 ``(B, H, W)``."""
    answers = translator.translate(make_shots(rgb, labels, style))
    edges = [answer.edges for answer in answers if answer.edges is not None]
    maps = np.stack(edges) if edges else None
    return Answer(np.stack([answer.rgb for answer in answers]), maps, answers[0].used)
