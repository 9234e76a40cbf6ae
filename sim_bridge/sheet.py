"""Contact sheets: CG, labels, edges and photoreal side by side, from recordings or from a running bridge."""

from __future__ import annotations

import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.captures import read_capture, recording_taxonomy, to_frames
from sim_bridge.client import Subscriber
from sim_bridge.errors import FrameTimeoutError, ImageError, LabelError, TranslatorError, UsageError
from sim_bridge.frames import Frame, FrameId, Kind
from sim_bridge.images import to_ids, to_rgb, write_jpeg, write_png
from sim_bridge.labels import Color, Taxonomy, fallback_chain, taxonomy
from sim_bridge.recordings import RecordedFrame, Recording, open_recording
from sim_bridge.settings import BridgeSettings
from sim_bridge.translate import PairTranslator
from sim_bridge.translators import ByteArray, Style, Translator
from sim_bridge.translators.load import load_translator

_log = logging.getLogger(__name__)

CG: Final = "CG"
LABELS: Final = "labels"
EDGES: Final = "edges"
PHOTOREAL: Final = "photoreal"
COLUMNS: Final = (CG, LABELS, EDGES, PHOTOREAL)

_PAPER: Final = (255, 255, 255)
_INK: Final = (28, 30, 34)
_FAINT: Final = (112, 116, 124)
_UNKNOWN_COLOR: Final = (60, 60, 60)
_MARGIN: Final = 24
_GAP: Final = 8
_LEGEND_SHARE: Final = 0.002  # classes on fewer pixels of the sheet are left out of the legend
_LIVE_EVERY: Final = 1.0  # seconds between two rows from a running bridge, so that they differ


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One scene.

    Attributes:
        caption: What and where from.
        images: uint8 ``(H, W, 3)`` RGB or ``(H, W)`` grey by column; missing ones stay empty.
        classes: Share of the pixels by class name, for the legend.
    """

    caption: str
    images: Mapping[str, ByteArray]
    classes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SheetContent:
    """Rows, what could not become one, and the sheet's title."""

    rows: Sequence[SheetRow]
    title: str
    problems: Sequence[str] = ()


def open_sources(
    folders: Sequence[Path], rgb: Sequence[str], semantic: Sequence[str], labels: Sequence[str]
) -> list[tuple[Recording, Taxonomy]]:
    """Opens the folders of a sheet.

    Args:
        folders: Recordings or foreign folders.
        rgb: Globs: none, one for all folders, or one per folder. An empty one means that the folder is a recording.
        semantic: The same for the label images.
        labels: The same for the taxonomies' names.

    Raises:
        UsageError: A folder cannot be used, or the counts differ.
    """
    spread = [_spread(flag, values, len(folders)) for flag, values in (("--rgb", rgb), ("--semantic", semantic))]
    names = _spread("--labels", labels, len(folders))
    opened = []
    for folder, pictures, ids, name in zip(folders, *spread, names, strict=True):
        recording = open_recording(folder, rgb=pictures, semantic=ids, labels=name, camera=None)
        opened.append((recording, recording_taxonomy(recording, name)))
    return opened


def _spread(flag: str, values: Sequence[str], count: int) -> list[str | None]:
    if len(values) not in (0, 1, count):
        raise UsageError(f"{flag} is given {len(values)} times for {count} folders: give it once, or once per folder")
    wide = list(values) * count if len(values) == 1 else list(values) or [""] * count
    return [value or None for value in wide]


def recorded_rows(
    sources: Sequence[tuple[Recording, Taxonomy]], settings: BridgeSettings, *, count: int
) -> SheetContent:
    """Translates ``count`` frames of each recording, spread evenly over it.

    Raises:
        TranslatorError: The bundle cannot be loaded.
        ImageError: No frame at all could be read.
    """
    translator = load_translator(settings)
    pairs = PairTranslator(translator, settings.size, Style(seed=settings.style_seed))
    rows, problems = [], []
    for recording, source in sources:
        frames = [frame for camera in recording.cameras() for frame in recording.frames(camera)]
        for frame in spread_evenly(frames, count):
            try:
                rows.append(_recorded_row(recording, frame, source, pairs))
            except (ImageError, LabelError, TranslatorError) as error:
                problems.append(f"left out: frame {frame.number} of {recording.root}: {error}")
    if not rows:
        raise ImageError(f"no frame could be put on the sheet: {problems[0].removeprefix('left out: ')}")
    return SheetContent(rows, _title(translator, settings), problems)


def spread_evenly(frames: Sequence[RecordedFrame], count: int) -> list[RecordedFrame]:
    """``count`` of the frames, the first and the last among them; all when there are not more."""
    if len(frames) <= count:
        return list(frames)
    if count == 1:
        return [frames[len(frames) // 2]]
    return [frames[round(index * (len(frames) - 1) / (count - 1))] for index in range(count)]


def _recorded_row(recording: Recording, frame: RecordedFrame, source: Taxonomy, pairs: PairTranslator) -> SheetRow:
    capture = read_capture(frame, source)
    rgb, semantic = to_frames(frame, capture, session="", seconds=0.0)
    translation = pairs.translate(rgb, semantic)
    images = {CG: capture.rgb, PHOTOREAL: translation.rgb[0]}
    if translation.edges is not None:
        images[EDGES] = translation.edges[0]
    caption = f"{recording.root.resolve().name}   frame {frame.number}   {capture.size[0]}x{capture.size[1]}"
    return _with_labels(caption, images, capture.ids, source)


def _with_labels(caption: str, images: dict[str, ByteArray], ids: ByteArray | None, source: Taxonomy) -> SheetRow:
    if ids is None:
        return SheetRow(caption, images)
    shares = np.bincount(ids.reshape(-1), minlength=256) / ids.size
    classes: dict[str, float] = {}
    for number in np.flatnonzero(shares):
        name = source.ids.get(int(number), "unlabeled")
        classes[name] = classes.get(name, 0.0) + float(shares[number])
    return SheetRow(f"{caption}   labels {source.name}", {**images, LABELS: color_labels(ids, source)}, classes)


def live_rows(settings: BridgeSettings, *, count: int, timeout: float) -> SheetContent:
    """Takes rows from a running bridge and the simulator it listens to.

    CG, labels and photoreal are what came over the wire, joined by session and frame number. The edges are those the
    settings' bundle sees in that CG frame; they stay empty when the bridge runs another bundle.

    Args:
        settings: ``input``, ``output``, ``topics``, ``bundle`` as the bridge has them.
        count: How many rows per camera, about a second apart.
        timeout: Seconds to wait for a frame at most.

    Raises:
        FrameTimeoutError: No frame came in time, or none that the simulator's frames belong to.
        TranslatorError: The bundle cannot be loaded.
    """
    edges = _Edges(load_translator(settings))
    rows: list[SheetRow] = []
    models: dict[str, None] = {}
    for camera in settings.topics:
        for rgb, semantic, photoreal in _live_frames(settings, camera, count, timeout):
            rows.append(_live_row(rgb, semantic, photoreal, edges))
            if photoreal.provenance is not None:
                models[photoreal.provenance.model] = None
    return SheetContent(rows, f"sim-bridge, live   model {', '.join(models)}")


def _live_frames(
    settings: BridgeSettings, camera: str, count: int, timeout: float
) -> Iterator[tuple[Frame, Frame, Frame]]:
    """RGB, semantic and photoreal frame of ``count`` ticks, about a second apart."""
    with (
        Subscriber(settings.input, camera=camera, kinds=(Kind.RGB, Kind.SEMANTIC), buffer=64) as simulator,
        Subscriber(settings.output, camera=camera, kinds=(Kind.PHOTOREAL,)) as bridge,
    ):
        inputs = _Inputs(simulator)
        due, deadline = 0.0, time.monotonic() + timeout
        while count:
            photoreal = bridge.next_frame(round(max(0.0, deadline - time.monotonic()), 2))
            pair = inputs.find(photoreal.id)
            if pair is not None and time.monotonic() >= due:
                yield *pair, photoreal
                count -= 1
                due = time.monotonic() + _LIVE_EVERY
                deadline = due + timeout
            elif time.monotonic() > deadline:
                raise FrameTimeoutError(
                    f"photoreal frames of camera {camera!r} come from {settings.output}, but for {timeout:g} s none of "
                    f"their CG frames came from {settings.input}: give the bridge's own --input"
                )


class _Edges:
    """The edge maps a network sees, for frames that a bridge has translated with it."""

    def __init__(self, translator: Translator) -> None:
        self._translator = translator
        self._pairs: dict[tuple[int, int, int], PairTranslator] = {}

    def of(self, rgb: Frame, semantic: Frame, photoreal: Frame) -> ByteArray | None:
        """uint8 ``(H, W)``; None when the frame was made by another network, or by one without edges."""
        made = photoreal.provenance
        if made is None or made.model != self._translator.model_id:
            return None
        key = (photoreal.width, photoreal.height, made.seed)
        if key not in self._pairs:
            self._pairs[key] = PairTranslator(self._translator, key[:2], Style(seed=made.seed))
        edges = self._pairs[key].translate(rgb, semantic).edges
        return None if edges is None else edges[0]


class _Inputs:
    """The simulator's last frames by identity."""

    _KEPT = 48

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self._frames: OrderedDict[FrameId, dict[Kind, Frame]] = OrderedDict()

    def find(self, identity: FrameId) -> tuple[Frame, Frame] | None:
        """The RGB and the semantic frame, if both were seen."""
        for frame in self._subscriber.frames(timeout=0.0):
            self._frames.setdefault(frame.id, {})[frame.kind] = frame
            while len(self._frames) > self._KEPT:
                self._frames.popitem(last=False)
        found = self._frames.get(identity, {})
        return (found[Kind.RGB], found[Kind.SEMANTIC]) if len(found) == 2 else None


def _live_row(rgb: Frame, semantic: Frame, photoreal: Frame, edges: _Edges) -> SheetRow:
    images = {CG: to_rgb(rgb), PHOTOREAL: to_rgb(photoreal)}
    seen = edges.of(rgb, semantic, photoreal)
    if seen is not None:
        images[EDGES] = seen
    caption = f"{rgb.camera}   frame {rgb.number}   {photoreal.width}x{photoreal.height}"
    made = photoreal.provenance
    if made is not None:
        seed = f", style seed {made.seed}" if made.seed else ""
        caption += f"   {made.status}{seed}, {(made.published - rgb.sent) / 1e6:.0f} ms after it was sent"
    return _with_labels(caption, images, to_ids(semantic), taxonomy(semantic.labels or ""))


def _title(translator: Translator, settings: BridgeSettings) -> str:
    seed = f", style seed {settings.style_seed}" if settings.style_seed else ""
    return f"sim-bridge   {translator.name} {translator.model_id}{seed}"


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


def color_labels(ids: ByteArray, source: Taxonomy) -> ByteArray:
    """Colours class ids by class name, so that sheets of different taxonomies look alike.

    Args:
        ids: uint8 ``(H, W)``.
        source: Their taxonomy.

    Returns:
        uint8 ``(H, W, 3)`` RGB.
    """
    table = np.zeros((256, 3), np.uint8)
    for number, name in source.ids.items():
        table[number] = class_color(name)
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


def write_sheet(path: Path, image: ByteArray) -> None:
    """Writes a sheet (uint8 ``(H, W, 3)`` RGB) as PNG or JPEG by the name's ending; its folder is made when missing.

    Raises:
        ImageError: It cannot be written.
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
    for row in rows:
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
        band[top : top + swatch, left : left + swatch] = class_color(name)
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
