"""The card of a bundle, ``card.json``: what it says, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FORMAT: Final = 1
CARD: Final = "card.json"
NORMALISATION: Final = "rgb / 127.5 - 1"
_MAX_CARD_BYTES: Final = 1 << 20
_TYPES: Final[Mapping[str, type]] = {
    **dict.fromkeys(("arch", "data", "command", "licence_weights", "licence_data", "normalisation", "sha256"), str),
    **dict.fromkeys(("args", "edge", "metrics", "recipe"), dict),
    **dict.fromkeys(("classes", "size", "ensemble", "recipe_changes"), list),
    **dict.fromkeys(("steps", "format"), int),
}
_OPTIONAL: Final = frozenset({"edge", "normalisation", "ensemble", "metrics", "recipe", "recipe_changes"})


class BundleError(ValueError):
    """A bundle is missing, damaged, or of an unknown kind; one sentence for the user."""


class BundleNotFoundError(BundleError):
    """There is no bundle of that name or at that path."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a bundle says of itself.

    Attributes:
        arch: ``sflow``, ``enhance``, ``unet-segmenter``, ``pyramid-segmenter`` or ``pspnet-segmenter``.
        args: Arguments of the architecture.
        classes: Canonical class names by id.
        size: ``[width, height]`` of the training crops; networks take any size.
        edge: Fields of :class:`~models.edges.EdgeSettings`.
        ensemble: DNED's learned ensemble weights.
        licence_weights, licence_data: SPDX ids, or a name for the data's.
        recipe_changes: Steps at which ``recipe`` replaced another one.
        sha256: Of the weights file.
    """

    arch: str
    args: dict[str, Any]
    classes: list[str]
    size: list[int]
    data: str
    command: str
    steps: int
    licence_weights: str
    licence_data: str
    edge: dict[str, Any] = field(default_factory=dict)
    normalisation: str = NORMALISATION
    ensemble: list[float] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    recipe_changes: list[int] = field(default_factory=list)
    sha256: str = ""
    format: int = FORMAT


def read_card(path: Path) -> Card:
    """Reads and checks the card in a bundle's folder.

    Raises:
        BundleError: It is not JSON, lacks a key, has an unknown one, or is of another format version.
    """
    file = path / CARD
    if file.stat().st_size > _MAX_CARD_BYTES:
        raise BundleError(
            f"card {file} has {file.stat().st_size} bytes, at most {_MAX_CARD_BYTES} are read: it is no card"
        )
    try:
        raw = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:
        raise BundleError(f"card {file} is not JSON ({e}): fetch the bundle again") from e
    if not isinstance(raw, dict):
        raise BundleError(f"card {file} is not a JSON object: fetch the bundle again")
    if raw.get("format") != FORMAT:
        raise BundleError(
            f"card {file} is of format {raw.get('format')!r}, this version reads format {FORMAT}: update sim-bridge"
        )
    _check_card(raw, file)
    return Card(**raw)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _check_card(raw: Mapping[str, Any], file: Path) -> None:
    if missing := _TYPES.keys() - _OPTIONAL - raw.keys():
        raise BundleError(f"card {file} lacks {', '.join(sorted(missing))}: fetch the bundle again")
    if unknown := raw.keys() - _TYPES.keys():
        raise BundleError(
            f"card {file} has unknown keys {', '.join(sorted(unknown))}: update sim-bridge or remove them"
        )
    for name, value in raw.items():
        if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
            kind = _TYPES[name].__name__
            raise BundleError(f"card {file}: {name} is {value!r}, it must be a {kind}: fetch the bundle again")
    if unnamed := [c for c in raw["classes"] if not isinstance(c, str)]:
        raise BundleError(f"card {file}: the class {unnamed[0]!r} is not a name: fetch the bundle again")
    if (found := raw.get("normalisation", NORMALISATION)) != NORMALISATION:
        raise BundleError(f"card {file}: normalisation is {found!r}, known is {NORMALISATION!r}: update sim-bridge")
    if raw["args"].get("classes") != len(raw["classes"]):
        raise BundleError(
            f"card {file} names {len(raw['classes'])} classes for a network of {raw['args'].get('classes')!r}:"
            " fetch the bundle again"
        )
