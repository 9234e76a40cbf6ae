"""What a translator saw last of each camera, so that every shot says what was dropped before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sim_bridge.frames import ByteArray, Frame, FrameId, Kind, PixelArray, Style
from sim_bridge.translators import Reason, Shot, Translator

_NO_INPUTS: Final[Mapping[Kind, PixelArray]] = {}


class History:
    """Makes shots for one translator, and resets it when a camera's past is over. One thread uses it."""

    def __init__(self, translator: Translator) -> None:
        self._translator = translator
        self._last: dict[str, FrameId] = {}

    def shot(
        self,
        frame: Frame,
        rgb: ByteArray,
        labels: ByteArray,
        style: Style,
        inputs: Mapping[Kind, PixelArray] = _NO_INPUTS,
    ) -> Shot:
        """The shot of ``frame``, an RGB frame, with its decoded pictures."""
        camera = frame.camera
        last = self._last.get(camera)
        if last is not None:
            reason = _why_over(last, frame.id)
            if reason is not None:
                self._translator.reset(camera, reason)
                del self._last[camera]
                last = None
        dropped = None if last is None else max(0, frame.number - last.number - 1)
        return Shot(camera, frame.session, frame.number, frame.time, rgb, labels, style, dropped, inputs)

    def translated(self, shot: Shot) -> None:
        """Notes that the translator has answered ``shot``."""
        self._last[shot.camera] = FrameId(shot.session, shot.number)


def _why_over(last: FrameId, now: FrameId) -> Reason | None:
    if last.session != now.session:
        return Reason.SESSION
    return Reason.REWIND if now.number < last.number else None
