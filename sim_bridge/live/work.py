"""The one record of a tick that grows from stage to stage, and the engine that works on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sim_bridge.frames import ByteArray, FrameStatus, Kind, PixelArray, Provenance, Style
from sim_bridge.live.pairing import Pair
from sim_bridge.pixels.preprocess import Prepared, Preprocessor
from sim_bridge.pixels.taxonomy import Taxonomies
from sim_bridge.translators import Shot, Translation, Translator
from sim_bridge.translators.history import History

logger = logging.getLogger(__name__)

MAX_WARM_SIZES: Final = 16
"""Sizes come from the stream; warm-ups cost memory and must not go on for ever."""


class Engine:
    """A translator with its label tables, its history and the sizes it is warm for.

    The preparing thread uses ``preprocessor``, the network's thread everything else.
    """

    def __init__(
        self, translator: Translator, size: tuple[int, int] | None, batch: int, taxonomies: Taxonomies
    ) -> None:
        self.translator = translator
        self.wants = translator.wants
        self.size = size
        self.preprocessor = Preprocessor(translator.classes, size, taxonomies)
        self.history = History(translator)
        self.warm: set[tuple[int, int]] = set()
        self._batch = batch

    def warm_up(self, size: tuple[int, int]) -> None:
        """Does the slow first-call work for a size that is new."""
        if size not in self.warm and len(self.warm) < MAX_WARM_SIZES:
            logger.info("translator %s warms up for %dx%d", self.translator.name, *size)
            self.translator.warm_up([size], self._batch)
            self.warm.add(size)


@dataclass(slots=True)
class Work:
    """A tick of one camera on its way through the bridge. Each stage adds what it made.

    Attributes:
        pair: The frames, as they came (receive).
        taken: When the last of them was taken from the socket, ``perf_counter_ns`` (receive).
        overhead: Nanoseconds that the bridge itself spent on it so far (every stage).
        waited: Nanoseconds that it waited between stages so far.
        engine: What translates it (prepare).
        prepared: Its pictures at the network's size (prepare).
        inputs: The further kinds at the network's size (prepare).
        error: Why it could not be prepared; the network's stage decides what becomes of it (prepare).
        style: The style that is wanted (network).
        shot: What the translator got (network).
        translation: What it answered; None passes the CG frame on (network).
        inferred: When the network was done, nanoseconds since the epoch (network).
        provenance: What the published frame says of itself (publish).
    """

    pair: Pair
    taken: int = 0
    overhead: int = 0
    waited: int = 0
    engine: Engine | None = None
    prepared: Prepared | None = None
    inputs: Mapping[Kind, PixelArray] = field(default_factory=dict)
    error: Exception | None = None
    style: Style = field(default_factory=Style)
    shot: Shot | None = None
    translation: Translation | None = None
    inferred: int = 0
    provenance: Provenance | None = None

    @property
    def camera(self) -> str:
        """The camera."""
        return self.pair.camera

    @property
    def translator(self) -> Translator | None:
        """What translates it; None before it is prepared."""
        return None if self.engine is None else self.engine.translator

    @property
    def cg(self) -> ByteArray | None:
        """The RGB picture as the network saw it, uint8 ``(H, W, 3)``; None when it did not get that far."""
        return None if self.shot is None or self.translation is None else self.shot.rgb

    @property
    def rgb(self) -> ByteArray | None:
        """The photoreal picture, uint8 ``(H, W, 3)``; None when the CG frame is passed on."""
        return None if self.translation is None else self.translation.rgb

    @property
    def edges(self) -> ByteArray | None:
        """The edge map that the generator saw, uint8 ``(H, W)``; None without one."""
        return None if self.translation is None else self.translation.edges

    @property
    def used(self) -> Style:
        """Style values that the translator chose itself."""
        return Style() if self.translation is None else self.translation.used

    @property
    def fallback(self) -> bool:
        """Whether the CG frame was passed on."""
        return self.provenance is not None and self.provenance.status is FrameStatus.FALLBACK
