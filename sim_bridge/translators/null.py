"""The translator that does nothing: for tests and benchmarks of the bridge alone."""

from __future__ import annotations

from collections.abc import Sequence

from sim_bridge.errors import UsageError
from sim_bridge.translators import Shot, Translation, Translator
from sim_bridge.translators.load import TranslatorSettings


class NullTranslator(Translator):
    """Passes every frame through, the same array."""

    @property
    def name(self) -> str:
        """``null``."""
        return "null"

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        """Each shot's own ``rgb``, and no edges."""
        return [Translation(shot.rgb) for shot in shots]


def load(reference: str, settings: TranslatorSettings) -> Translator:
    """Makes it; ``reference`` must be empty or ``null``."""
    del settings
    if reference not in ("", "null"):
        raise UsageError(f"the translator null takes no argument and got {reference!r}: write --bundle null")
    return NullTranslator()
