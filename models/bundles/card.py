"""The card of a bundle, ``card.json``, read and checked, and where bundles are. Without torch."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from models.content import missing_file_content

FORMAT: Final = 1
CARD: Final = "card.json"
ZOO: Final = Path(__file__).parent / "zoo"
TRANSLATORS: Final = frozenset({"sflow", "enhance"})
"""``arch`` of bundles that make pictures; others score results or serve trainings."""
NORMALISATION: Final = "rgb / 127.5 - 1"
_MAX_CARD_BYTES: Final = 1 << 20
_TYPES: Final[Mapping[str, type]] = {
    **dict.fromkeys(("arch", "data", "command", "licence_weights", "licence_data", "normalisation", "sha256"), str),
    **dict.fromkeys(("args", "edge", "metrics", "recipe"), dict),
    **dict.fromkeys(("classes", "size", "ensemble", "recipe_changes"), list),
    **dict.fromkeys(("steps", "format"), int),
}
_ARGUMENTS: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    Sequence[int]: "a list of whole numbers",
    Sequence[float]: "a list of finite numbers",
}
_OPTIONAL: Final = frozenset({"edge", "normalisation", "ensemble", "metrics", "recipe", "recipe_changes"})


class BundleError(ValueError):
    """One sentence about a bundle that is missing, damaged, or of an unknown kind."""


class BundleNotFoundError(BundleError):
    """No bundle has that name or path."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a bundle says of itself."""

    arch: str  # "sflow", "enhance", or a key of models.nets.segmenter.SEGMENTERS
    args: dict[str, Any]  # of the network's constructor
    classes: list[str]  # canonical names by id
    size: list[int]  # [width, height] of the training crops; networks take any size
    data: str
    command: str
    steps: int
    licence_weights: str  # an SPDX id
    licence_data: str  # an SPDX id or a name
    edge: dict[str, Any] = field(default_factory=dict)  # fields of models.edges.EdgeSettings
    normalisation: str = NORMALISATION
    ensemble: list[float] = field(default_factory=list)  # DNED's learned weights
    metrics: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    recipe_changes: list[int] = field(default_factory=list)  # steps at which the recipe replaced another one
    sha256: str = ""  # of the weights file
    format: int = FORMAT


def read_card(path: Path) -> Card:
    """Reads the card in a bundle's folder; raises BundleError for any text, key, type or version that it cannot use."""
    file = path / CARD
    if file.stat().st_size > _MAX_CARD_BYTES:
        raise BundleError(
            f"card {file} has {file.stat().st_size} bytes, at most {_MAX_CARD_BYTES} are read: it is no card"
        )
    if (missing := missing_file_content(file)) is not None:
        raise BundleError(f"card {file} {missing.fact}, so not JSON: {missing.advice}")
    try:
        raw = json.loads(file.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
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
    if not isinstance(data := raw.get("recipe", {}).get("data", {}), dict):
        raise BundleError(f"card {file}: recipe.data is {data!r}, it must be a dict: fetch the bundle again")
    if (found := raw.get("normalisation", NORMALISATION)) != NORMALISATION:
        raise BundleError(f"card {file}: normalisation is {found!r}, known is {NORMALISATION!r}: update sim-bridge")
    if raw["args"].get("classes") != len(raw["classes"]):
        raise BundleError(
            f"card {file} names {len(raw['classes'])} classes for a network of {raw['args'].get('classes')!r}:"
            " fetch the bundle again"
        )


def checked_arguments(build: type, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the arguments of ``build``; raises ValueError for one whose type Python would accept and misuse."""
    parameters = inspect.signature(build, eval_str=True).parameters
    for name, value in values.items():
        kind = parameters[name].annotation if name in parameters else None
        if kind in _ARGUMENTS and not _is_a(value, kind):
            raise ValueError(f"{name} is {value!r}, it must be {_ARGUMENTS[kind]}")
    return values


def _is_a(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Sequence:
        return isinstance(value, list) and all(_is_a(one, get_args(kind)[0]) for one in value)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


def shipped_bundles() -> dict[str, Path]:
    """Folders of the package's bundles by name."""
    return {p.parent.name: p.parent for p in sorted(ZOO.glob(f"*/{CARD}"))}


def find_bundle(name_or_path: str | Path) -> Path:
    """Folder of a shipped bundle's name, or of a path with a card; raises BundleNotFoundError for anything else."""
    shipped = shipped_bundles()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if not (path / CARD).is_file():
        raise BundleNotFoundError(
            f"bundle {str(name_or_path)!r} is neither a folder with a {CARD} nor one of the shipped ones"
            f" ({', '.join(shipped) or 'none'}): give the path of a bundle's folder, or one of these"
        )
    return path
