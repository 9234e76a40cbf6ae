"""Class ids: taxonomies, the table from a stream's taxonomy to a network's classes, and ids out of label images.

A taxonomy is one YAML table in ``taxonomies/``; classes carry Cityscapes' names wherever Cityscapes has the class. A
stream's ids become a network's ids by name, and where the network lacks a class by the chains that are written in
``taxonomies/fallbacks.yaml``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from sim_bridge.errors import ForeignIdsError, LabelError
from sim_bridge.frames import ByteArray, PixelArray

Color = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

UNLABELED: Final = "unlabeled"
STRAY_SHARE: Final = 0.001
"""Share of an image's pixels that may be outside the taxonomy before the image is refused."""
STRAY_ID: Final = 255
"""What a stray colour becomes; a stray id itself, so that the reader of the ids counts it."""

_log = logging.getLogger(__name__)
_FOLDER = resources.files("sim_bridge.pixels") / "taxonomies"
_FALLBACKS = "fallbacks"


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """What the class ids of a stream mean.

    Attributes:
        name: Its name in headers and settings.
        ids: Canonical class name by id.
        palette: Colour by id, as the set's own colour images have it.
        aliases: Canonical name by the set's own name, where the two differ.
    """

    name: str
    ids: Mapping[int, str]
    palette: Mapping[int, Color]
    aliases: Mapping[str, str]


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


def taxonomy_names() -> tuple[str, ...]:
    """Names of all taxonomies, sorted."""
    stems = (entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted(stem for stem in stems if stem != _FALLBACKS))


@functools.cache
def taxonomy(name: str) -> Taxonomy:
    """Returns the taxonomy of that name.

    Raises:
        LabelError: There is none; the message lists those there are.
    """
    if name not in taxonomy_names():
        raise LabelError(f"the taxonomy {name!r} is unknown: use one of {', '.join(taxonomy_names())}")
    classes = _load(name)["classes"]
    return Taxonomy(
        name=name,
        ids=MappingProxyType({entry["id"]: entry["name"] for entry in classes}),
        palette=MappingProxyType({entry["id"]: tuple(entry["color"]) for entry in classes}),
        aliases=MappingProxyType({entry["called"]: entry["name"] for entry in classes if "called" in entry}),
    )


def canonical_name(name: str) -> str:
    """This project's name of a class that a data set or model card may call otherwise (``Tree`` -> ``vegetation``)."""
    plain = name.strip().lower().replace("-", " ").replace("_", " ")
    return _aliases().get(plain, plain)


def fallback_chain(name: str) -> tuple[str, ...]:
    """The classes that stand in for a class where a network lacks it, best first; ``unlabeled`` follows them all."""
    return tuple(_load(_FALLBACKS)["fallbacks"].get(name, ()))


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
        """Builds the table by class names and the written fallback chains.

        Args:
            source: The stream's taxonomy.
            target_classes: The network's class names by id; aliases are understood.
            unlabeled: Target class for what has no other place; None means the target's own ``unlabeled``.

        Raises:
            LabelError: The target has no such class, or more than 256.
        """
        target = tuple(target_classes)
        places = _places(target)
        rest = canonical_name(unlabeled or UNLABELED)
        if rest not in places:
            raise LabelError(
                f"the network's classes {', '.join(target)} have no '{rest}' for what is none of them: "
                f"add '{UNLABELED}' to the classes, or say which class takes it"
            )
        table = np.full(256, places[rest], np.uint8)
        report = []
        for number, name in source.ids.items():
            chosen, via = _choose(name, places, rest)
            table[number] = places[chosen]
            report.append(Mapped(number, name, target[places[chosen]], via))
        table.flags.writeable = False
        return cls(source, target, table, tuple(report), table.tobytes(), bytes(source.ids))

    def apply(self, ids: ByteArray) -> MappedLabels:
        """Maps an image of ids.

        Args:
            ids: uint8 ``(H, W)``, ids of the source taxonomy.

        Returns:
            uint8 ``(H, W)`` ids of the target, and the number of stray pixels (at most 0.1 %); these are ``unlabeled``.

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
    """Reads ids out of a colour-coded label image.

    Where a taxonomy gives several classes one colour, the lowest id is taken.

    Args:
        rgb: uint8 ``(H, W, 3)``, red first.
        source: Whose colours these are.

    Returns:
        uint8 ``(H, W)``; stray colours (at most 0.1 % of the pixels) are :data:`STRAY_ID`.

    Raises:
        LabelError: More pixels than that have colours outside the taxonomy; the message names the most frequent one and
            the taxonomy that fits best.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise LabelError(f"a colour-coded label image is {rgb.dtype} {rgb.shape}, but must be uint8 (H, W, 3)")
    codes = _color_codes(rgb)
    known, ids = _palette_table(source.name)
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
    """Reads ids out of a label image as a file holds it, whichever of the usual ways it holds them.

    One channel holds ids. Of several channels of 16 bits the first in the file is the class (SYNTHIA). Of several
    channels of 8 bits with green and blue all zero, red is the id (CARLA's raw images); else they are colours.

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


@functools.cache
def _load(stem: str) -> Mapping[str, Any]:
    """One of this package's own tables."""
    table: Mapping[str, Any] = yaml.safe_load((_FOLDER / f"{stem}.yaml").read_text(encoding="utf-8"))
    return table


@functools.cache
def _aliases() -> Mapping[str, str]:
    return {alias: name for name, aliases in _load(_FALLBACKS)["aliases"].items() for alias in aliases}


def _places(target: tuple[str, ...]) -> dict[str, int]:
    """Target id by canonical name; of two classes of one name the first counts."""
    if len(target) > 256:
        raise LabelError(f"the network has {len(target)} classes, the limit is 256: class ids are one byte")
    places: dict[str, int] = {}
    for number, name in enumerate(target):
        places.setdefault(canonical_name(name), number)
    strange = sorted(places.keys() - _load(_FALLBACKS)["fallbacks"].keys() - {UNLABELED})
    if strange:
        _log.warning("no taxonomy knows the classes %s: they will never occur in a network's input", ", ".join(strange))
    return places


def _choose(name: str, places: Mapping[str, int], rest: str) -> tuple[str, Via]:
    if name in places:
        return name, Via.NAME
    for candidate in fallback_chain(name):
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
        yield name, float(np.isin(codes, _palette_table(name)[0]).mean())


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


@functools.cache
def _palette_table(name: str) -> tuple[npt.NDArray[np.uint32], ByteArray]:
    """The palette's colour codes, sorted, and the id of each."""
    lowest: dict[int, int] = {}
    for number, (red, green, blue) in sorted(taxonomy(name).palette.items()):
        lowest.setdefault(red << 16 | green << 8 | blue, number)
    codes = sorted(lowest)
    return np.array(codes, np.uint32), np.array([lowest[code] for code in codes], np.uint8)
