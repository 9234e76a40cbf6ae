"""What is trained: networks, losses, phases, and what its pictures are.

How anything is trained lives in trainers/loop.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sim_bridge.errors import UsageError

if TYPE_CHECKING:
    from trainers.systems.base import System

GROUP: Final = "sim_bridge.systems"
"""Entry points of installed systems."""


class Found(NamedTuple):
    """A system and the name that finds it again from anywhere."""

    name: str
    system: type[System[Any]]


def find_system(name: str, folder: Path = Path()) -> Found:
    """The system of a recipe.

    Args:
        name: ``sflow``: the ``SYSTEM`` of a module in this folder, or an entry point of ``sim_bridge.systems``;
            ``FILE.py:CLASS`` or ``MODULE:CLASS`` for one's own.
        folder: Where a relative ``FILE.py`` is looked for first, then in the working directory.

    Raises:
        UsageError: There is none.
    """
    from trainers.systems.base import System

    place, colon, attribute = name.rpartition(":")
    if colon and place.endswith(".py"):
        file = next((f.resolve() for f in (folder / place, Path(place)) if f.is_file()), None)
        if file is None:
            raise UsageError(f"system {name!r}: there is no file {place} beside the recipe or here: check the path")
        name, found = f"{file}:{attribute}", getattr(_module_of(file), attribute, None)
    else:
        found = _imported(name, place, attribute) if colon else _named(name)
    if not (isinstance(found, type) and issubclass(found, System)):
        known = ", ".join(sorted(system_names()))
        raise UsageError(f"system {name!r} is none of {known}, nor a class System in a file: give one of them")
    return Found(name, found)


def system_names() -> set[str]:
    """Names of the shipped and the installed systems."""
    shipped = {f.stem for f in Path(__file__).parent.glob("*.py") if "\nSYSTEM = " in f.read_text(encoding="utf-8")}
    return shipped | {entry.name for entry in entry_points(group=GROUP)}


def _named(name: str) -> object:
    if name.isidentifier() and (Path(__file__).parent / f"{name}.py").is_file():
        return getattr(importlib.import_module(f"{__name__}.{name}"), "SYSTEM", None)
    for entry in entry_points(group=GROUP, name=name):
        return entry.load()
    return None


def _imported(name: str, module: str, attribute: str) -> object:
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError as e:
        raise UsageError(f"system {name!r}: {e}: install it, or name a FILE.py:CLASS") from e


def _module_of(file: Path) -> ModuleType:
    """The module of a file, loaded once."""
    name = f"sim_bridge_system_{file.stem}_{abs(hash(file)):x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # before it runs: dataclasses and pydantic look their module up
        try:
            spec.loader.exec_module(module)
        except Exception:
            del sys.modules[name]
            raise
    return sys.modules[name]
