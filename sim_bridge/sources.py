"""Sources put a simulator's frames on the wire. A simulator is one class with the methods of :class:`Source`.

A package adds one by one line in its pyproject, and ``sim-bridge run --source mysim`` runs it::

    [project.entry-points."sim_bridge.sources"]
    mysim = "mysim:MySimulator"
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol, runtime_checkable

from sim_bridge.errors import MissingExtraError, UsageError
from sim_bridge.frames import Frame, Kind

SOURCE_GROUP: Final = "sim_bridge.sources"
DEFAULT_CAMERAS: Final = ("camera",)


@runtime_checkable
class Source(Protocol):
    """A simulator as the bridge sees it: opened once, iterated once, closed from any thread.

    A source with other cameras than ``camera`` has an attribute ``cameras`` with their names.
    """

    def open(self, options: Mapping[str, object]) -> None:
        """Connects, or reads what is needed to start; checks its options and raises UsageError for a bad one."""

    def __iter__(self) -> Iterator[Frame]:
        """Yields every frame when its time has come, RGB and semantic frames of one tick after each other."""

    def close(self) -> None:
        """Ends the iteration and frees what :meth:`open` took; a second call does nothing."""


@runtime_checkable
class Ticking(Protocol):
    """A source that can wait for its answers: in lockstep its ticks are used instead of its iteration."""

    def ticks(self) -> Iterator[tuple[Frame, ...]]:
        """Yields the frames of each tick, as soon as the next one is asked for."""


@runtime_checkable
class Steerable(Protocol):
    """A source that can be paused."""

    def pause(self) -> None:
        """Stops before the next tick."""

    def resume(self) -> None:
        """Goes on."""

    def step(self) -> None:
        """While paused: makes one more tick."""


@runtime_checkable
class Answerable(Protocol):
    """A source that keeps in time with the bridge by its answers."""

    session: str

    def answered(self, number: int) -> None:
        """The bridge is done with tick ``number`` and all before."""


def cameras_of(source: Source) -> tuple[str, ...]:
    """The cameras of an opened source."""
    return tuple(getattr(source, "cameras", DEFAULT_CAMERAS))


def topics_of(source: Source) -> tuple[str, ...]:
    """The topics that the bridge needs of an opened source."""
    return tuple(f"{camera}/{kind}" for camera in cameras_of(source) for kind in (Kind.RGB, Kind.SEMANTIC))


def source_names() -> tuple[str, ...]:
    """The names of all installed sources, sorted."""
    return tuple(sorted({entry.name for entry in entry_points(group=SOURCE_GROUP)}))


def load_source(name: str) -> Source:
    """Makes the source of this name, not yet opened. Raises UsageError: none has it, or its package cannot load."""
    found = [entry for entry in entry_points(group=SOURCE_GROUP) if entry.name == name]
    if not found:
        known = source_names()
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"installed are {', '.join(known) or 'none'}"
        raise UsageError(f"there is no source {name!r}: {advice}")
    source = load_entry_point(found[0])
    instance = source() if isinstance(source, type) else source
    if not isinstance(instance, Source):
        raise UsageError(
            f"the source {name!r} ({found[0].value}) lacks open, close or iteration: see sim_bridge.sources"
        )
    return instance


def load_entry_point(entry: EntryPoint) -> object:
    """Imports what an entry point names. Raises UsageError, with package and cause, when it cannot."""
    try:
        loaded: object = entry.load()
    except MissingExtraError:
        raise  # it says what to install
    # A plugin is foreign code: whatever its import raises must end in a sentence, not in the bridge's traceback.
    except Exception as error:
        package = entry.dist.name if entry.dist is not None else "an unknown package"
        raise UsageError(
            f"{entry.name!r} of {package} cannot be loaded ({type(error).__name__}: {error}): "
            f"install what it needs, or remove {package}"
        ) from error
    return loaded
