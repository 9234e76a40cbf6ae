"""Class ids: the table from a stream's taxonomy to a network's classes, and ids out of label images.

A stream's ids become a network's ids by name, and where the network lacks a class by fallback chains.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import ForeignIdsError, LabelError
from sim_bridge.frames import ByteArray, PixelArray
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

STRAY_SHARE: Final = 0.001
"""Share of an image's pixels that may be outside the taxonomy before the image is refused."""
STRAY_ID: Final = 255
"""What a stray colour becomes; a stray id itself, so that the reader of the ids counts it."""

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
        if len(strays) > STRAY_SHARE * ids.size:
            advice = f"name the taxonomy the ids come from ({', '.join(taxonomy_names())})"
            raise ForeignIdsError(_stray_sentence(self.source, strays, ids.size), advice)
        labels = np.frombuffer(bytearray(raw.translate(self._translation)), dtype=np.uint8)
        return MappedLabels(labels.reshape(ids.shape), len(strays))


def ids_from_palette(rgb: ByteArray, source: Taxonomy) -> ByteArray:
    """Reads ids out of a colour-coded label image; of classes that share a colour it takes the lowest id.

    Args:
        rgb: uint8 ``(H, W, 3)``, red first.
        source: Whose colours these are.

    Returns:
        uint8 ``(H, W)``; stray colours (at most 0.1 % of the pixels) are :data:`STRAY_ID`.

    Raises:
        LabelError: More have colours outside the taxonomy; the message names the worst and the taxonomy that fits best.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise LabelError(f"a colour-coded label image is {rgb.dtype} {rgb.shape}, but must be uint8 (H, W, 3)")
    codes = _color_codes(rgb)
    known, ids = _palette_table(source)
    places = np.minimum(np.searchsorted(known, codes), known.size - 1)
    fits = known[places] == codes
    strays = codes[~fits]
    if strays.size > STRAY_SHARE * codes.size:
        raise LabelError(_stray_color_sentence(source, strays, codes))
    return np.where(fits, ids[places], np.uint8(STRAY_ID))


def ids_from_carla_raw(image: ByteArray, order: Literal["bgra", "rgb"]) -> ByteArray:
    """Reads ids out of CARLA's raw semantic image, which has them in the red channel.

    Args:
        image: uint8 ``(H, W, 3 or 4)``.
        order: ``bgra`` for live buffers and for what OpenCV reads, ``rgb`` for what others read.

    Returns:
        uint8 ``(H, W)``.

    Raises:
        LabelError: The image has another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise LabelError(f"a raw semantic image is {image.dtype} {image.shape}, but must be uint8 (H, W, 3 or 4)")
    return np.ascontiguousarray(image[..., 2 if order == "bgra" else 0])


def ids_from_image(image: PixelArray, source: Taxonomy) -> ByteArray:
    """Reads ids out of a label image as a file holds it.

    - One channel: ids.
    - Several channels of 16 bits: the first in the file is the class (SYNTHIA).
    - Several of 8 bits: colours; with green and blue all zero, red is the id (CARLA's raw images).

    Args:
        image: uint8 or uint16 ``(H, W)`` or ``(H, W, C)`` in OpenCV's order (BGR, BGRA).
        source: Whose ids or colours these are.

    Returns:
        uint8 ``(H, W)``.

    Raises:
        LabelError: The image is none of these, holds ids above 255, or colours outside the taxonomy.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise LabelError(
            f"a label image is {image.dtype} {image.shape}, but must have 1, 3 or 4 channels of 8 or 16 bits"
        )
    if channels == 1:
        return _to_bytes(image)
    if image.dtype == np.uint16:
        return _to_bytes(image[..., 2])
    pixels = np.asarray(image, dtype=np.uint8)
    if not pixels[..., :2].any():
        return ids_from_carla_raw(pixels, "bgra")
    return ids_from_palette(pixels[..., 2::-1], source)


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


def _to_bytes(ids: PixelArray) -> ByteArray:
    if ids.size and int(np.max(ids)) > 255:
        raise LabelError(
            f"a label image holds the value {int(np.max(ids))}, but class ids are at most 255: "
            "give the class image (labelIds), not the one of instances"
        )
    return np.ascontiguousarray(ids, dtype=np.uint8)


def _stray_sentence(source: Taxonomy, strays: bytes, pixels: int) -> str:
    counts = np.bincount(np.frombuffer(strays, dtype=np.uint8))
    worst = int(counts.argmax())
    return (
        f"class id {worst} is not in the taxonomy '{source.name}' (ids {_ranges(source)}): it is on "
        f"{_percent(int(counts[worst]), pixels)} of the pixels, strays together on {_percent(len(strays), pixels)}, "
        f"the limit is {STRAY_SHARE:.1%}"
    )


def _stray_color_sentence(source: Taxonomy, strays: npt.NDArray[np.uint32], codes: npt.NDArray[np.uint32]) -> str:
    colors, counts = np.unique(strays, return_counts=True)
    worst = int(colors[counts.argmax()])
    color = (worst >> 16, worst >> 8 & 255, worst & 255)
    best, share = max(_fits(codes), key=lambda fit: fit[1])
    advice = f"'{best}' fits best ({share:.1%} of the pixels)" if share > 0.5 else "no known taxonomy fits"
    return (
        f"colour {color} is not in the palette of the taxonomy '{source.name}': it is on "
        f"{_percent(int(counts.max()), codes.size)} of the pixels, strays together on "
        f"{_percent(strays.size, codes.size)}, the limit is {STRAY_SHARE:.1%}; {advice}"
    )


def _fits(codes: npt.NDArray[np.uint32]) -> Iterator[tuple[str, float]]:
    for name in taxonomy_names():
        yield name, float(np.isin(codes, _palette_table(taxonomy(name))[0]).mean())


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %"


def _ranges(source: Taxonomy) -> str:
    """Ids in short: ``0-18, 255``."""
    runs: list[list[int]] = []
    for number in sorted(source.ids):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _color_codes(rgb: ByteArray) -> npt.NDArray[np.uint32]:
    codes = rgb[..., 0].astype(np.uint32)
    for channel in (1, 2):
        codes <<= np.uint32(8)
        codes |= rgb[..., channel]
    return codes


@functools.lru_cache(maxsize=64)
def _palette_table(source: Taxonomy) -> tuple[npt.NDArray[np.uint32], ByteArray]:
    """The palette's colour codes, sorted, and the id of each."""
    lowest: dict[int, int] = {}
    for number, (red, green, blue) in sorted(source.palette.items()):
        lowest.setdefault(red << 16 | green << 8 | blue, number)
    codes = sorted(lowest)
    return np.array(codes, np.uint32), np.array([lowest[code] for code in codes], np.uint8)
