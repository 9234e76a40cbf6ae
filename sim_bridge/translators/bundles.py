"""Opens a bundle for a translator: a user's mistake and a damaged file become different errors."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from sim_bridge.errors import MissingExtraError, TranslatorError, UsageError

try:
    import torch

    from models.bundles.files import Bundle, BundleError, BundleNotFoundError, load_bundle
    from sim_bridge.translators.device import Target, has_bf16
except ImportError as error:
    raise MissingExtraError(error.name or "torch", "engine", "running a bundle") from error

_log = logging.getLogger(__name__)

_FREE_LICENCES: Final = frozenset(
    {"apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "isc", "mit", "unlicense"}
)


def open_bundle(bundle: str, target: Target) -> Bundle:
    """Loads it by shipped name or path; warns of emulated arithmetic and of weights that are not free.

    Raises:
        TranslatorError: The bundle is damaged or of another format.
        UsageError: There is no such bundle.
    """
    try:
        loaded = load_bundle(Path(bundle).expanduser() if bundle.startswith("~") else bundle)
    except BundleNotFoundError as error:
        raise UsageError(str(error)) from error
    except BundleError as error:
        raise TranslatorError(str(error)) from error
    if target.dtype is torch.bfloat16 and not has_bf16(target.device):
        _log.warning("%s has no bf16 arithmetic and emulates it: --precision fp32 is faster", target.describe())
    if (licence := loaded.card.licence_weights).lower() not in _FREE_LICENCES:
        _log.warning("the weights of bundle %s are licensed %s", loaded.name, licence)
    return loaded
