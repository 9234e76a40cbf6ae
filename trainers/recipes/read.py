"""Finds, reads and checks recipes; mistakes become sentences."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sim_bridge.errors import UsageError
from sim_bridge.mistakes import Mistake, mistakes_in
from trainers.recipes.schema import DataRecipe, Recipe
from trainers.systems import find_system

RECIPES: Final = Path(__file__).parent

RecipeT = TypeVar("RecipeT", bound=Recipe)
_UNKNOWN: Final = ("extra_forbidden", "unexpected_keyword_argument")
_MISTAKES: Final = 5
"""Largest number of mistakes in one message."""


def find_recipe(name_or_path: str) -> Path:
    """Path of a recipe, given by path or by the name of a shipped one.

    Raises:
        UsageError: There is none; the message lists the known ones.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = RECIPES / f"{path.stem}.yaml"
    if shipped.is_file() and path.name in {path.stem, shipped.name}:
        return shipped
    known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
    raise UsageError(f"recipe {name_or_path!r} is neither a file nor a known recipe ({known}): give one of them")


def load_recipe(kind: type[RecipeT], name_or_path: str, overrides: Mapping[str, Any] | None = None) -> RecipeT:
    """Reads and checks a recipe; its key ``system`` decides what the other keys may be.

    Args:
        kind: What it must be: :class:`Recipe` for any system's.
        name_or_path: See :func:`find_recipe`.
        overrides: Top-level keys that replace the file's.

    Raises:
        UsageError: No such recipe, not YAML, another system's, or a value is wrong; the message names the key.
    """
    path = find_recipe(name_or_path)
    return _validate(kind, f"recipe {path}", _read(path) | dict(overrides or {}), path.parent)


def set_keys(kind: type[RecipeT], name_or_path: str, assignments: Sequence[str]) -> RecipeT:
    """As :func:`load_recipe`, with ``key=value`` replacements: dotted keys, list positions as numbers, YAML values.

    Raises:
        UsageError: As there, or an assignment has no ``=`` or leads nowhere.
    """
    path = find_recipe(name_or_path)
    raw = _read(path)
    for assignment in assignments:
        _assign(raw, assignment)
    named = f"recipe {path}" + (f" with --set {' '.join(assignments)}" if assignments else "")
    return _validate(kind, named, raw, path.parent)


def recipe_of_card(card: Mapping[str, Any], bundle: str) -> Recipe:
    """The recipe on a bundle's card; a bundle names no code, so its system must be an installed one.

    Raises:
        UsageError: There is none, or a key or value is not one of this version's.
    """
    system = card.get("system", "")
    if not isinstance(system, str) or not system or ":" in system:
        what = f"names the system {system!r}, which is no installed one" if system else "names no system"
        raise UsageError(f"card of {bundle}: recipe {what}: take the run that it was exported from")
    return _validate(Recipe, f"card of {bundle}: recipe", dict(card), Path())


def data_of_card(raw: Mapping[str, Any], bundle: str) -> DataRecipe:
    """The section ``data`` of the recipe on a bundle's card.

    Raises:
        UsageError: A key or value is not one of this version's.
    """
    try:
        return DataRecipe.model_validate(raw)
    except ValidationError as e:
        raise UsageError(
            f"card of {bundle}: recipe.data: {_mistakes(DataRecipe, e)}: update, or correct the card"
        ) from e


def dump_recipe(recipe: BaseModel) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def keys_of(kind: type[BaseModel]) -> set[str]:
    """All keys of a recipe and its sections."""
    schema = kind.model_json_schema()
    return {key for part in (schema, *schema.get("$defs", {}).values()) for key in part.get("properties", {})}


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as e:
        raise UsageError(f"recipe {path} is not YAML ({_yaml_reason(e)}): correct it") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"recipe {path} is not UTF-8 (byte {e.start} is {e.object[e.start]:#x}): save it so") from e
    except OSError as e:
        raise UsageError(f"recipe {path} cannot be read ({e.strerror}): check its rights") from e
    if not isinstance(raw, dict):
        raise UsageError(f"recipe {path} is not a mapping of keys: correct it")
    return raw


def _yaml_reason(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the lines that the parser draws."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    return f"line {error.problem_mark.line + 1}: {error.problem}"


def _assign(raw: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UsageError(f"--set is {assignment!r}: give key=value, like batch=8 or stages.0.lr=1e-4")
    place: Any = raw
    *parents, last = [int(part) if part.isdecimal() else part for part in key.split(".")]
    try:
        value = yaml.safe_load(text)
        for parent in parents:
            if isinstance(place, dict) and place.get(parent) is None:
                place[parent] = {}
            place = place[parent]
        if not isinstance(place, dict):
            place[last]  # a list does not grow
        place[last] = value
    except yaml.YAMLError as e:
        raise UsageError(f"--set {assignment!r}: the value is not YAML ({_yaml_reason(e)}): correct it") from e
    except (LookupError, TypeError) as e:
        raise UsageError(f"--set {assignment!r}: the recipe has no {key!r}: name a key of docs/recipes.md") from e


def _validate(kind: type[RecipeT], named: str, raw: dict[str, Any], folder: Path) -> RecipeT:
    if not isinstance(system := raw.get("system"), str):
        raise UsageError(f"{named}: system: say what is trained, like sflow or segmenter")
    found = find_system(system, folder)
    if not issubclass(found.system.Recipe, kind):
        wanted = kind.model_fields["system"].default
        raise UsageError(f"{named} trains the system {system!r}, not {wanted!r}: give another recipe")
    try:
        resolved = found.system.Recipe.model_validate(raw | {"system": found.name})
    except ValidationError as e:
        raise UsageError(f"{named}: {_mistakes(found.system.Recipe, e)}: correct it") from e
    assert isinstance(resolved, kind)
    return resolved


def _mistakes(kind: type[BaseModel], error: ValidationError) -> str:
    """Where something is wrong, and what: the first ones, unknown keys before all, and how many more."""
    found = sorted(mistakes_in(error), key=lambda mistake: mistake.kind not in _UNKNOWN)
    named = [_sentence(kind, mistake) for mistake in found[:_MISTAKES]]
    more = len(found) - len(named)
    return "; ".join([*named, f"and {more} more"] if more else named)


def _sentence(kind: type[BaseModel], mistake: Mistake) -> str:
    """Without the value that is not there or that a sentence of ours already names."""
    place, what, value, message = mistake
    if what in _UNKNOWN:
        near = difflib.get_close_matches(place.rpartition(".")[2], keys_of(kind), 1)
        message = f"unknown key{f', did you mean {near[0]}' if near else ', leave it out'}"
    elif what not in ("missing", "value_error") and place:
        message += f", not {value!r}"
    return f"{place or 'recipe'}: {message}"
