"""What the pixels of a label image mean: ids, palette colours, palette indices or CARLA's raw image.

The container says first: a palette, one channel, several. Where it leaves two readings, the taxonomy decides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import ForeignIdsError, LabelError, UsageError
from sim_bridge.frames import ByteArray, PixelArray
from sim_bridge.pixels.taxonomy import Taxonomy, taxonomy, taxonomy_names

STRAY_SHARE: Final = 0.001
"""Share of an image's pixels that may be outside the taxonomy before the image is refused."""
STRAY_ID: Final = 255
"""What a stray colour becomes; a stray id itself, so that the reader of the ids counts it."""
_ADVISED_SHARE: Final = 0.9  # a taxonomy that fits fewer pixels is not recommended
_BLENDS: Final = 8  # stray colours, from which on they are blends of neighbours rather than classes


class Reading(StrEnum):
    """A way to read ids out of a label image."""

    IDS = "ids"
    """One channel, or red, green and blue alike."""
    COLOURS = "palette colours"
    """Of the taxonomy's palette."""
    INDICES = "palette indices"
    """Of a PNG with a palette: the index is the id, whatever its colour."""
    RAW = "CARLA raw"
    """The id is in red; green and blue are zero."""

    @classmethod
    def named(cls, text: str) -> Reading:
        """The reading of that name, in any case and with spaces or hyphens. Raises UsageError for any other."""
        for reading in cls:
            if text.replace("-", " ").casefold() == reading.casefold():
                return reading
        raise UsageError(f"labels cannot be read as {text!r}: use one of {', '.join(r.flag for r in cls)}")

    @property
    def flag(self) -> str:
        """As a word on the command line."""
        return self.lower().replace(" ", "-")


class StoredLabels(NamedTuple):
    """A label image as its file holds it.

    Attributes:
        pixels: uint8 or uint16 ``(H, W)`` or ``(H, W, 3 or 4)`` in OpenCV's order (BGR, BGRA); with a palette, indices.
        palette: uint8 ``(n, 3)``, red first; None without.
    """

    pixels: PixelArray
    palette: ByteArray | None = None


Prefer = Callable[[Sequence[Reading]], Reading]
"""Chooses among readings that fit and differ; they come best first."""


def read_stored(
    stored: StoredLabels, source: Taxonomy, wanted: Reading | None = None, prefer: Prefer = lambda fits: fits[0]
) -> tuple[Reading, ByteArray]:
    """Reads class ids, uint8 ``(H, W)``, and says how.

    Args:
        stored: The image.
        source: Its taxonomy.
        wanted: The only reading to try; None lets the image and the taxonomy decide.
        prefer: Asked where two readings fit and differ.

    Raises:
        LabelError: No reading fits; at most 0.1 % of the pixels may be outside the taxonomy. One channel is ids,
            whatever its values: :func:`foreign_ids` checks those.
    """
    fits = fitting(stored, source)
    if wanted is not None:
        if wanted is Reading.INDICES and stored.pixels.ndim == 2 and stored.palette is None:
            wanted = Reading.IDS  # an optimiser took the palette away
        if wanted not in fits:
            raise LabelError(f"it cannot be read as {wanted}: {_misfit(stored, source, wanted)}")
        return wanted, fits[wanted]
    if not fits:
        raise _misfit(stored, source, None)
    first, *others = fits
    if any(not np.array_equal(fits[first], fits[other]) for other in others):
        first = prefer(tuple(fits))
    return first, fits[first]


def fitting(stored: StoredLabels, source: Taxonomy) -> dict[Reading, ByteArray]:
    """The ids by every reading that fits, best first. Raises LabelError when the image is none of labels."""
    pixels = _checked(stored.pixels)
    if stored.palette is not None:
        return _fitting_palette(pixels.astype(np.uint8, copy=False), stored.palette, source)
    if pixels.ndim == 2 or pixels.dtype == np.uint16:
        return {Reading.IDS: _to_bytes(pixels if pixels.ndim == 2 else pixels[..., 2])}
    return _fitting_colours(pixels.astype(np.uint8, copy=False), source)


def ids_from_image(image: PixelArray, source: Taxonomy) -> ByteArray:
    """Reads ids out of a decoded label image.

    - One channel: ids. Several of 16 bits: the first in the file is the class (SYNTHIA).
    - Several of 8 bits: the taxonomy's colours; ids, where all channels are alike; or CARLA's raw image.

    Args:
        image: uint8 or uint16 ``(H, W)`` or ``(H, W, C)`` in OpenCV's order (BGR, BGRA).
        source: Whose ids or colours these are.

    Returns:
        uint8 ``(H, W)``.

    Raises:
        LabelError: The image is none of these, holds ids above 255, or colours outside the taxonomy.
    """
    return read_stored(StoredLabels(image), source)[1]


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
    ids, strays = _from_colours(rgb, source)
    if strays > STRAY_SHARE * ids.size:
        raise LabelError(_stray_color_sentence(rgb, source))
    return ids


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


def foreign_ids(ids: ByteArray, source: Taxonomy) -> ForeignIdsError | None:
    """The error of an image of ids with too many outside the taxonomy; None where it is right."""
    strays = _strays(ids, source)
    if len(strays) <= STRAY_SHARE * ids.size:
        return None
    counts = np.bincount(np.frombuffer(strays, dtype=np.uint8))
    worst = int(counts.argmax())
    fact = (
        f"class id {worst} is not in the taxonomy '{source.name}' (ids {_ranges(source)}): it is on "
        f"{_percent(int(counts[worst]), ids.size)} of the pixels, strays together on "
        f"{_percent(len(strays), ids.size)}, the limit is {STRAY_SHARE:.1%}"
    )
    return ForeignIdsError(fact, f"name the taxonomy the ids come from ({', '.join(taxonomy_names())})")


def _checked(image: PixelArray) -> PixelArray:
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise LabelError(
            f"a label image is {image.dtype} {image.shape}, but must have 1, 3 or 4 channels of 8 or 16 bits"
        )
    return image


def _fitting_colours(pixels: ByteArray, source: Taxonomy) -> dict[Reading, ByteArray]:
    """Of an image of 3 or 4 channels; alpha says nothing."""
    colours, strays = _from_colours(pixels[..., 2::-1], source)
    fits = {}
    for reading, holds in ((Reading.IDS, _is_grey), (Reading.RAW, _is_raw)):
        red = pixels[..., 2]
        if holds(pixels) and _are_known(red, source):
            fits[reading] = np.ascontiguousarray(red)
    if strays > STRAY_SHARE * colours.size:
        return fits
    # Black is a colour of most palettes: a few other pixels that are all ids decide against it.
    return {**fits, Reading.COLOURS: colours} if strays else {Reading.COLOURS: colours, **fits}


def _fitting_palette(indices: ByteArray, palette: ByteArray, source: Taxonomy) -> dict[Reading, ByteArray]:
    """Of indices ``(H, W)`` into a PNG's own palette."""
    counts = np.bincount(indices.ravel(), minlength=256)
    used = np.flatnonzero(counts)
    own = np.arange(256, dtype=np.uint8)
    tables = {Reading.INDICES: own} if _share_known(own, counts, source) else {}
    if used[-1] < len(palette) and not _says_nothing(palette, used):
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(palette)] = palette
        if counts[~_in_palette(colours, source)].sum() <= STRAY_SHARE * indices.size:
            by_colour = {Reading.COLOURS: _from_colours(colours[None], source)[0][0]}
            tables = {**tables, **by_colour} if _foreign(palette, source) else {**by_colour, **tables}
        grey = colours[:, 0]
        if _is_grey(palette) and _share_known(grey, counts, source):
            alone = len(palette) == 1 and Reading.COLOURS in tables  # black, most likely
            tables = {**tables, Reading.IDS: grey} if alone else {Reading.IDS: grey, **tables}
    return {reading: table[indices] for reading, table in tables.items()}


def _says_nothing(palette: ByteArray, used: npt.NDArray[np.intp]) -> bool:
    """Whether all indices, or all that are used, have one colour."""
    return any(len(part) > 1 and (part == part[0]).all() for part in (palette, palette[used]))


def _foreign(palette: ByteArray, source: Taxonomy) -> bool:
    """Whether most of a PNG's colours are none of the taxonomy's, as those of a general colour map."""
    colours = np.unique(palette[palette.any(axis=1)], axis=0)
    return bool(2 * np.count_nonzero(~_in_palette(colours, source)) > len(colours))


def _is_grey(pixels: ByteArray) -> bool:
    """Whether the first three channels are alike everywhere; a coarse grid of them says no at once."""
    return all(
        np.array_equal(part[..., 0], part[..., 1]) and np.array_equal(part[..., 1], part[..., 2])
        for part in (pixels[::16], pixels)
    )


def _is_raw(pixels: ByteArray) -> bool:
    return not any(part[..., :2].any() for part in (pixels[::16], pixels))


def _strays(ids: ByteArray, source: Taxonomy) -> bytes:
    # bytes.translate is a plain table walk, much faster than a look-up by numpy, which widens every index to 64 bits.
    return ids.tobytes().translate(None, delete=bytes(source.ids))


def _are_known(ids: ByteArray, source: Taxonomy) -> bool:
    return len(_strays(ids, source)) <= STRAY_SHARE * ids.size


def _share_known(table: ByteArray, counts: npt.NDArray[np.intp], source: Taxonomy) -> bool:
    """As :func:`_are_known`, of what a table makes of indices with these counts."""
    known = np.isin(table, np.array(sorted(source.ids), np.uint8))
    return bool(counts[~known].sum() <= STRAY_SHARE * counts.sum())


def _to_bytes(ids: PixelArray) -> ByteArray:
    if ids.size and int(np.max(ids)) > 255:
        raise LabelError(
            f"a label image holds the value {int(np.max(ids))}, but class ids are at most 255: "
            "give the class image (labelIds), not the one of instances"
        )
    return np.ascontiguousarray(ids, dtype=np.uint8)


def _misfit(stored: StoredLabels, source: Taxonomy, wanted: Reading | None) -> LabelError:
    """Why an image that no reading fits, or not the one wanted, is refused."""
    pixels = _checked(stored.pixels)
    if stored.palette is not None:
        return LabelError(_palette_sentence(pixels, stored.palette, source, wanted))
    if pixels.ndim == 2 or pixels.dtype == np.uint16 or wanted is Reading.INDICES:
        return LabelError("it holds numbers without a palette" if pixels.ndim == 2 else "it is a PNG without a palette")
    colours = pixels.astype(np.uint8, copy=False)
    like_ids = wanted in (None, Reading.IDS) and _is_grey(colours)
    like_raw = wanted in (None, Reading.RAW) and _is_raw(colours)
    red = np.ascontiguousarray(colours[..., 2])
    mostly = wanted is not None or 2 * len(_strays(red, source)) <= red.size
    if (like_ids or like_raw) and mostly and (error := foreign_ids(red, source)) is not None:
        return error
    if wanted is Reading.IDS:
        return LabelError("its channels are not alike")
    if wanted is Reading.RAW:
        return LabelError("green and blue are not zero")
    return LabelError(_stray_color_sentence(colours[..., 2::-1], source))


def _palette_sentence(indices: PixelArray, palette: ByteArray, source: Taxonomy, wanted: Reading | None) -> str:
    known = len(palette)
    beyond = int(indices.max())
    by_index = "its palette indices are no ids of the taxonomy"
    if beyond >= known:
        return f"its palette has {known} colours, but index {beyond} is used" + ("" if wanted else f", and {by_index}")
    if wanted is Reading.IDS:
        return "its palette is not grey, or its grey values are no ids of the taxonomy"
    if wanted is Reading.RAW:
        return "it is a PNG with a palette"
    if wanted is Reading.INDICES:
        return f"{by_index} '{source.name}' (ids {_ranges(source)})"
    sentence = _stray_color_sentence(palette[indices], source)
    return sentence if wanted else f"{sentence}; {by_index} either"


def _stray_color_sentence(rgb: ByteArray, source: Taxonomy) -> str:
    codes = _color_codes(rgb)
    strays = codes[~np.isin(codes, _palette_table(source)[0])]
    if not strays.size:
        return f"its colours are those of the taxonomy '{source.name}', but say nothing: they are all alike"
    colors, counts = np.unique(strays, return_counts=True)
    worst = int(colors[counts.argmax()])
    color = (worst >> 16, worst >> 8 & 255, worst & 255)
    return (
        f"colour {color} is not in the palette of the taxonomy '{source.name}': it is on "
        f"{_percent(int(counts.max()), codes.size)} of the pixels, strays together on "
        f"{_percent(strays.size, codes.size)}, the limit is {STRAY_SHARE:.1%}; "
        f"{_color_advice(source, codes, counts, strays.size)}"
    )


def _color_advice(source: Taxonomy, codes: npt.NDArray[np.uint32], counts: npt.NDArray[np.intp], strays: int) -> str:
    asked = 1 - strays / codes.size
    others = (fit for fit in _fits(codes) if fit[0] != source.name)
    best, share = max(others, key=lambda fit: fit[1], default=("", 0.0))
    if share > asked and share >= _ADVISED_SHARE:
        return f"'{best}' fits best ({share:.1%} of the pixels)"
    if asked > 0.5 and len(counts) >= _BLENDS and 2 * int(counts.max()) < strays:
        return "borders are blended: save labels as PNG, with no antialiasing, no smooth scaling and never as JPEG"
    return "no known taxonomy fits better" if asked > 0.5 else "no known taxonomy fits"


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


def _from_colours(rgb: ByteArray, source: Taxonomy) -> tuple[ByteArray, int]:
    """Ids by the taxonomy's palette, and how many colours are not in it; those are :data:`STRAY_ID`."""
    codes = _color_codes(rgb)
    known, ids = _palette_table(source)
    places = np.minimum(np.searchsorted(known, codes), known.size - 1)
    fits = known[places] == codes
    return np.where(fits, ids[places], np.uint8(STRAY_ID)), int(fits.size - np.count_nonzero(fits))


def _in_palette(rgb: ByteArray, source: Taxonomy) -> npt.NDArray[np.bool_]:
    return np.isin(_color_codes(rgb), _palette_table(source)[0])


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
