"""Finds the translator that a ``bundle`` setting means, in the entry-point group ``sim_bridge.translators``.

An entry point names a function ``load(reference, settings) -> Translator``. ``--bundle NAME:REST`` calls the one called
NAME with REST. A bundle's folder or name goes to the one called as its card's ``arch``, a file ``*.onnx`` to ``onnx``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, Protocol, cast

from sim_bridge.errors import MissingExtraError, TranslatorError, UsageError
from sim_bridge.translators import OPTIONAL_INPUTS, Translator

TRANSLATOR_GROUP: Final = "sim_bridge.translators"
ONNX_SUFFIX: Final = ".onnx"


class TranslatorSettings(Protocol):
    """The settings that a translator is made from."""

    @property
    def bundle(self) -> str:
        """Name or folder of a bundle, an ``.onnx`` file, ``null``, or ``NAME:REST``."""

    @property
    def device(self) -> str:
        """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""

    @property
    def precision(self) -> str:
        """``auto``, ``fp32`` or ``bf16``."""


Loader = Callable[[str, TranslatorSettings], Translator]


def translator_names() -> tuple[str, ...]:
    """The names of all installed translators, sorted."""
    return tuple(sorted({entry.name for entry in entry_points(group=TRANSLATOR_GROUP)}))


def load_translator(settings: TranslatorSettings) -> Translator:
    """Loads what the settings' ``bundle`` names, not yet warm. Call it in the thread that will translate.

    Raises:
        TranslatorError: The bundle, ONNX file or sidecar cannot be used.
        MissingExtraError: The package it runs on is not installed.
        UsageError: The bundle, the ONNX file, the translator or the device is not there.
    """
    name, reference = resolve(settings.bundle)
    entry = next(iter(entry_points(group=TRANSLATOR_GROUP, name=name)))
    translator = _loader(entry)(reference, settings)
    if not isinstance(translator, Translator):
        raise UsageError(f"{entry.value} made a {type(translator).__name__}: it must return a sim_bridge Translator")
    odd = [str(kind) for kind in translator.wants if kind not in OPTIONAL_INPUTS]
    if odd:
        raise UsageError(
            f"the translator {translator.name} wants {', '.join(odd)}: it may want {', '.join(OPTIONAL_INPUTS)}"
        )
    return translator


def resolve(bundle: str) -> tuple[str, str]:
    """Name of the translator that ``bundle`` means, and what to give to its loader.

    Raises:
        UsageError: There is no such bundle, or no translator for it.
        TranslatorError: The bundle's card cannot be read.
        MissingExtraError: It is a bundle, and the extra ``engine`` is not installed.
    """
    names = translator_names()
    scheme, colon, rest = bundle.partition(":")
    if colon and scheme in names:
        return scheme, rest
    if bundle in names and not Path(bundle).is_dir():
        return bundle, ""
    if bundle.lower().endswith(ONNX_SUFFIX):
        return "onnx", bundle
    arch = _arch_of(bundle)
    if arch not in names:
        raise UsageError(
            f"the bundle {bundle} holds a network of type {arch!r}, which is no translator: translators are"
            f" {', '.join(names)}"
        )
    return arch, bundle


def _arch_of(bundle: str) -> str:
    try:
        from models.bundles.files import BundleError, BundleNotFoundError, find_bundle, read_card
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "engine", "running a bundle") from error
    try:
        return read_card(find_bundle(Path(bundle).expanduser() if bundle.startswith("~") else bundle)).arch
    except BundleNotFoundError as error:
        raise UsageError(str(error)) from error
    except BundleError as error:
        raise TranslatorError(str(error)) from error


def _loader(entry: EntryPoint) -> Loader:
    try:
        loaded = entry.load()
    except MissingExtraError:
        raise
    # Foreign code: whatever its import raises must end in a sentence.
    except Exception as error:
        package = entry.dist.name if entry.dist is not None else "an unknown package"
        raise UsageError(
            f"the translator {entry.name!r} of {package} cannot be loaded ({type(error).__name__}: {error}): install"
            f" what it needs, or remove {package}"
        ) from error
    if not callable(loaded):
        raise UsageError(f"{entry.value} is no function: a translator's entry point names load(reference, settings)")
    return cast("Loader", loaded)
