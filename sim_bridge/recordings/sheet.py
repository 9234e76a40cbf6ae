"""Contact sheets: CG, labels, edges and photoreal side by side, from recordings or from a running bridge."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.errors import ImageError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.images import write_jpeg, write_png
from sim_bridge.pixels.taxonomy import Color, Taxonomy, fallback_chain, known_classes, taxonomy

_log = logging.getLogger(__name__)

CG: Final = "CG"
LABELS: Final = "labels"
EDGES: Final = "edges"
PHOTOREAL: Final = "photoreal"
COLUMNS: Final = (CG, LABELS, EDGES, PHOTOREAL)

_PAPER: Final = (236, 238, 241)  # not white: a white sky would have no border
_INK: Final = (28, 30, 34)
_FAINT: Final = (96, 100, 108)
_UNKNOWN_COLOR: Final = (60, 60, 60)
_MARGIN: Final = 24
_GAP: Final = 8
_LEGEND_SHARE: Final = 0.002  # classes on fewer pixels of the sheet are left out of the legend


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One scene.

    Attributes:
        caption: What and where from.
        images: uint8 ``(H, W, 3)`` RGB or ``(H, W)`` grey by column; missing ones stay empty.
        classes: Share of the pixels by class name, for the legend.
        colors: Colour by class name, where a taxonomy has classes of its own.
    """

    caption: str
    images: Mapping[str, ByteArray]
    classes: Mapping[str, float] = field(default_factory=dict)
    colors: Mapping[str, Color] = field(default_factory=dict)


@functools.cache
def _class_colors() -> Mapping[str, Color]:
    """One colour per class name, whatever the taxonomy: Cityscapes', then CARLA's for what Cityscapes lacks."""
    colors: dict[str, Color] = {}
    for name in ("cityscapes", "carla-0.9.14"):
        table = taxonomy(name)
        for number, class_name in table.ids.items():
            if number in table.palette:
                colors.setdefault(class_name, table.palette[number])
    return colors


def class_color(name: str) -> Color:
    """The colour of a class on every sheet, RGB."""
    colors = _class_colors()
    for candidate in (name, *fallback_chain(name)):
        if candidate in colors:
            return colors[candidate]
    return _UNKNOWN_COLOR


def class_colors(source: Taxonomy) -> Mapping[str, Color]:
    """Colour by class name: the sheets' own, but the taxonomy's for classes that no shipped one has."""
    known = known_classes()
    return {name: class_color(name) if name in known else source.palette[number] for number, name in source.ids.items()}


def color_labels(ids: ByteArray, source: Taxonomy) -> ByteArray:
    """Colours class ids uint8 ``(H, W)`` by class name, so that sheets of different taxonomies look alike.

    Returns:
        uint8 ``(H, W, 3)`` RGB.
    """
    table = np.zeros((256, 3), np.uint8)
    colors = class_colors(source)
    for number, name in source.ids.items():
        table[number] = colors[name]
    return table[ids]


def contact_sheet(
    rows: Sequence[SheetRow], columns: Sequence[str] = COLUMNS, *, width: int = 480, title: str = ""
) -> ByteArray:
    """Draws a sheet: a heading, one row per scene with its caption, and the legend of the label colours.

    Args:
        rows: The scenes; at least one.
        columns: Which images, in this order; a column that no row has is left out.
        width: Width of each image in pixels.
        title: First line.

    Returns:
        uint8 ``(H, W, 3)`` RGB.
    """
    shown = [name for name in columns if any(name in row.images for row in rows)]
    total = 2 * _MARGIN + len(shown) * width + (len(shown) - 1) * _GAP
    bands = [_band(total, 14)]
    if title:
        bands.append(_text_band(total, [(_MARGIN, title, _INK)], 20))
    bands.append(_text_band(total, [(_MARGIN + i * (width + _GAP), name, _INK) for i, name in enumerate(shown)], 17))
    for row in rows:
        bands.append(_image_band(total, [row.images.get(name) for name in shown], width))
        bands.append(_text_band(total, [(_MARGIN, row.caption, _FAINT)], 13))
        bands.append(_band(total, _GAP))
    bands.append(_legend(total, rows))
    bands.append(_band(total, 14))
    return np.concatenate(bands)


def headings(total: int, texts: Sequence[tuple[int, str]]) -> ByteArray:
    """A line of small texts, uint8 ``(H, total, 3)``; each has its left edge in pixels."""
    return _text_band(total, [(left, text, _INK) for left, text in texts], 13)


def write_sheet(path: Path, image: ByteArray) -> None:
    """Writes a sheet (uint8 ``(H, W, 3)`` RGB) as PNG or JPEG by the name's ending; its folder is made when missing.

    Raises ImageError when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"the folder {path.parent} cannot be made ({error.strerror}): choose another") from error
    (write_png if path.suffix.lower() == ".png" else write_jpeg)(path, image[..., ::-1])


def _band(width: int, height: int) -> ByteArray:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _image_band(total: int, images: Sequence[ByteArray | None], width: int) -> ByteArray:
    # The first image, the CG's, sets the shape: a network that works at another aspect ratio is shown undone.
    first = next(image for image in images if image is not None)
    height = max(1, round(first.shape[0] * width / first.shape[1]))
    band = _band(total, height + 4)
    for index, image in enumerate(images):
        if image is not None:
            left = _MARGIN + index * (width + _GAP)
            band[:height, left : left + width] = _fit(image, width, height)
    return band


def _fit(image: ByteArray, width: int, height: int) -> ByteArray:
    shrinks = width <= image.shape[1]
    fitted = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(cv2.cvtColor(fitted, cv2.COLOR_GRAY2RGB) if fitted.ndim == 2 else fitted, dtype=np.uint8)


def _text_band(total: int, texts: Sequence[tuple[int, str, Color]], size: int) -> ByteArray:
    """A line of texts at the given left edges; ``size`` is the height of the letters' box in pixels."""
    band = _band(total, round(size * 1.8))
    for left, text, color in texts:
        _write(band, text, left, round(size * 1.25), size, color)
    return band


def _legend(total: int, rows: Sequence[SheetRow]) -> ByteArray:
    """Swatches of the classes that are visible on the sheet, the largest first, as many lines as they need."""
    shares: dict[str, float] = {}
    colors: dict[str, Color] = {}
    for row in rows:
        colors |= row.colors
        for name, share in row.classes.items():
            shares[name] = shares.get(name, 0.0) + share / len(rows)
    names = sorted((name for name, share in shares.items() if share >= _LEGEND_SHARE), key=lambda name: -shares[name])
    size, swatch, places = 13, 14, []
    left, line = _MARGIN, 0
    for name in names:
        length = swatch + 6 + _text_width(name, size) + 18
        if left + length > total - _MARGIN and left > _MARGIN:
            left, line = _MARGIN, line + 1
        places.append((name, left, line))
        left += length
    band = _band(total, (line + 1) * 24 + 6 if names else 0)
    for name, left, line in places:
        top = 6 + line * 24
        band[top : top + swatch, left : left + swatch] = colors.get(name) or class_color(name)
        _write(band, name, left + swatch + 6, top + 12, size, _INK)
    return band


_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_FINE: Final = 4
"""Letters are drawn this much larger and averaged down, since OpenCV's own smoothing is coarse."""
_OUTLINE_FONT: Final = hasattr(cv2, "FontFace")  # OpenCV 5 draws an outline font, where thickness means weight


@functools.lru_cache(maxsize=512)
def _letters(text: str, size: int) -> npt.NDArray[np.float64]:
    """A line of text as coverage 0..1, ``(2 * size, W, 1)``; the baseline is at 1.4 times ``size``."""
    mask = np.zeros((2 * size * _FINE, (len(text) + 2) * size * _FINE, 1), np.uint8)
    thickness = 1 if _OUTLINE_FONT else max(1, round(size * _FINE / 11))
    scale = size * _FINE / 30  # the font's box is about 30 pixels high at scale 1
    cv2.putText(mask, text, (_FINE, round(1.4 * size) * _FINE), _FONT, scale, (255,), thickness, cv2.LINE_AA)
    used = np.flatnonzero(mask.any(axis=(0, 2)))
    width = -(-(int(used[-1]) + 1) // _FINE) if used.size else 1
    small = mask[:, : width * _FINE].reshape(2 * size, _FINE, width, _FINE).mean(axis=(1, 3))
    return np.asarray(small[..., None] / 255.0, dtype=np.float64)


def _text_width(text: str, size: int) -> int:
    return int(_letters(text, size).shape[1])


def _write(image: ByteArray, text: str, left: int, baseline: int, size: int, color: Color) -> None:
    """Blends a line of text into ``image``; what would leave it is cut off."""
    letters = _letters(text, size)[:, : image.shape[1] - left]
    top = baseline - round(1.4 * size)
    rows = slice(max(0, top), min(image.shape[0], top + letters.shape[0]))
    alpha = letters[rows.start - top : rows.stop - top]
    region = image[rows, left : left + letters.shape[1]]
    region[:] = np.rint(region * (1 - alpha) + np.array(color) * alpha)
