"""Finds the translator that a ``bundle`` setting means; torch and ONNX Runtime are imported only when it needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sim_bridge.translators import Translator
from sim_bridge.translators.null import NullTranslator


class TranslatorSettings(Protocol):
    """The part of the settings a translator is made from."""

    @property
    def bundle(self) -> str:
        """Name of a shipped bundle, folder of a bundle, an ``.onnx`` file, or ``null``."""

    @property
    def device(self) -> str:
        """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""

    @property
    def precision(self) -> str:
        """``auto``, ``fp32`` or ``bf16``."""


def load_translator(settings: TranslatorSettings) -> Translator:
    """Loads what the settings' ``bundle`` names, ready to be warmed up. Call it in the thread that will translate.

    Raises:
        TranslatorError: The bundle, ONNX file or sidecar cannot be used.
        MissingExtraError: The package it runs on is not installed.
        UsageError: The bundle, the ONNX file or the device is not there.
    """
    if settings.bundle == "null":
        return NullTranslator()
    if settings.bundle.lower().endswith(".onnx"):
        from sim_bridge.translators.onnx import OnnxTranslator

        return OnnxTranslator.load(Path(settings.bundle).expanduser(), device=settings.device)
    from sim_bridge.translators.sflow import SFlowTranslator

    return SFlowTranslator.load(settings.bundle, device=settings.device, precision=settings.precision)
