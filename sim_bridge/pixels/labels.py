"""Class ids: the table from a stream's taxonomy to a network's classes.

A stream's ids become a network's ids by name, and where the network lacks a class by fallback chains.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from sim_bridge.errors import LabelError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.readings import (
    STRAY_ID,
    STRAY_SHARE,
    Reading,
    foreign_ids,
    ids_from_carla_raw,
    ids_from_image,
    ids_from_palette,
)
from sim_bridge.pixels.taxonomy import (
    UNLABELED,
    Color,
    Taxonomy,
    canonical_name,
    fallback_chain,
    known_classes,
    taxonomy,
    taxonomy_names,
)

__all__ = [
    "STRAY_ID",
    "STRAY_SHARE",
    "UNLABELED",
    "Color",
    "LabelMap",
    "Mapped",
    "MappedLabels",
    "Reading",
    "Taxonomy",
    "Via",
    "canonical_name",
    "fallback_chain",
    "ids_from_carla_raw",
    "ids_from_image",
    "ids_from_palette",
    "taxonomy",
    "taxonomy_names",
]

_log = logging.getLogger(__name__)


class Via(StrEnum):
    """How a source class found its target class."""

    NAME = "name"
    """The target has the class."""
    FALLBACK = "fallback"
    """The target has a class of the fallback chain."""
    UNLABELED = "unlabeled"
    """The target has neither."""


class Mapped(NamedTuple):
    """One line of a :attr:`LabelMap.report`."""

    id: int
    source: str
    target: str
    via: Via


class MappedLabels(NamedTuple):
    """Labels in a network's classes: uint8 ``(H, W)``, and how many pixels were outside the taxonomy."""

    labels: ByteArray
    stray: int


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """One 256-entry look-up table from a taxonomy to a network's classes.

    Attributes:
        source: The stream's taxonomy.
        target: The network's classes by id.
        table: uint8 ``(256,)``, read-only; ids outside the taxonomy lead to ``unlabeled``.
        report: For each source class where it went, and how.
    """

    source: Taxonomy
    target: tuple[str, ...]
    table: ByteArray
    report: tuple[Mapped, ...]
    _translation: bytes = field(repr=False)
    _known: bytes = field(repr=False)

    @classmethod
    def build(cls, source: Taxonomy, target_classes: Sequence[str], *, unlabeled: str | None = None) -> LabelMap:
        """Builds the table by class names and fallback chains.

        Args:
            source: The stream's taxonomy.
            target_classes: The network's class names by id; aliases are understood.
            unlabeled: Target class for what has no other place; None means the target's own ``unlabeled``.

        Raises:
            LabelError: The target has no such class, or more than 256.
        """
        target = tuple(target_classes)
        places = _places(source, target)
        rest = source.canonical_name(unlabeled or UNLABELED)
        if rest not in places:
            raise LabelError(
                f"the network's classes {', '.join(target)} have no '{rest}' for what is none of them: "
                f"add '{UNLABELED}' to the classes, or say which class takes it"
            )
        table = np.full(256, places[rest], np.uint8)
        report = []
        for number, name in source.ids.items():
            chosen, via = _choose(source, name, places, rest)
            table[number] = places[chosen]
            report.append(Mapped(number, name, target[places[chosen]], via))
        table.flags.writeable = False
        return cls(source, target, table, tuple(report), table.tobytes(), bytes(source.ids))

    def apply(self, ids: ByteArray) -> MappedLabels:
        """Maps an image of ids.

        Args:
            ids: uint8 ``(H, W)``, ids of the source taxonomy.

        Returns:
            uint8 ``(H, W)`` ids of the target, and the number of stray pixels (at most 0.1 %), which are ``unlabeled``.

        Raises:
            LabelError: More pixels than that are outside the taxonomy, or ``ids`` is no image of ids.
        """
        if ids.dtype != np.uint8 or ids.ndim != 2 or ids.size == 0:
            raise LabelError(
                f"class ids are {ids.dtype} {ids.shape}, but must be uint8 (H, W): give one channel of ids"
            )
        # bytes.translate is a plain table walk, twice as fast as numpy's take, which widens every index to 64 bits.
        raw = ids.tobytes()
        strays = raw.translate(None, delete=self._known)
        if len(strays) > STRAY_SHARE * ids.size and (error := foreign_ids(ids, self.source)) is not None:
            raise error
        labels = np.frombuffer(bytearray(raw.translate(self._translation)), dtype=np.uint8)
        return MappedLabels(labels.reshape(ids.shape), len(strays))


def _places(source: Taxonomy, target: tuple[str, ...]) -> dict[str, int]:
    """Target id by canonical name; of two classes of one name the first counts."""
    if len(target) > 256:
        raise LabelError(f"the network has {len(target)} classes, the limit is 256: class ids are one byte")
    places: dict[str, int] = {}
    for number, name in enumerate(target):
        places.setdefault(source.canonical_name(name), number)
    if strange := sorted(places.keys() - known_classes() - set(source.ids.values())):
        names = ", ".join(strange)
        _log.warning("the taxonomy %s has no classes %s: they never occur in the network's input", source.name, names)
    return places


def _choose(source: Taxonomy, name: str, places: Mapping[str, int], rest: str) -> tuple[str, Via]:
    if name in places:
        return name, Via.NAME
    for candidate in source.fallback_chain(name):
        if candidate in places:
            return candidate, Via.FALLBACK
    return rest, Via.UNLABELED
