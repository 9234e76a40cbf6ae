"""What goes on a contact sheet: frames of recordings, or frames of a running bridge."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from sim_bridge.client import Subscriber
from sim_bridge.errors import FrameTimeoutError, ImageError, LabelError, TranslatorError, UsageError
from sim_bridge.frames import ByteArray, Frame, FrameId, Kind
from sim_bridge.pixels.images import to_ids, to_rgb
from sim_bridge.pixels.taxonomy import Taxonomies, Taxonomy
from sim_bridge.recordings.captures import label_reader, read_capture, read_rgb, recording_taxonomy, to_frames
from sim_bridge.recordings.file_pairs import Pairing
from sim_bridge.recordings.inputs import read_inputs
from sim_bridge.recordings.labels import LabelReader
from sim_bridge.recordings.origins import SOURCE, find_origin
from sim_bridge.recordings.read import DESCRIPTION, Folder, RecordedFrame, Recording, open_recording
from sim_bridge.recordings.sheet import CG, EDGES, LABELS, PHOTOREAL, SheetRow, class_colors, color_labels
from sim_bridge.recordings.translate import PairTranslator
from sim_bridge.settings import BridgeSettings
from sim_bridge.translators import Style, Translator
from sim_bridge.translators.load import load_translator

T = TypeVar("T")

_LIVE_EVERY: Final = 1.0  # seconds between two rows from a running bridge, so that they differ


@dataclass(frozen=True, slots=True)
class SheetContent:
    """Rows, the sheet's title, what could not become a row, and what may be wrong with labels."""

    rows: Sequence[SheetRow]
    title: str
    problems: Sequence[str] = ()
    suspicions: Sequence[str] = ()


def open_sources(
    folders: Sequence[Path],
    rgb: Sequence[str],
    semantic: Sequence[str],
    labels: Sequence[str],
    pairing: Pairing | None = None,
) -> list[tuple[Recording, Taxonomy]]:
    """Opens the folders of a sheet.

    Args:
        folders: Recordings or foreign folders.
        rgb: Globs: none, one for all folders, or one per folder. An empty one means that the folder is a recording.
        semantic: The same for the label images.
        labels: The same for the taxonomies' names.
        pairing: How to join pictures and labels of the foreign ones.

    Raises:
        UsageError: A folder cannot be used, or the counts differ.
    """
    spread = [_spread(flag, values, len(folders)) for flag, values in (("--rgb", rgb), ("--semantic", semantic))]
    names = _spread("--labels", labels, len(folders))
    opened = []
    for folder, pictures, ids, name in zip(folders, *spread, names, strict=True):
        how = pairing if pictures else None
        recording = open_recording(folder, rgb=pictures, semantic=ids, labels=name, camera=None, pairing=how)
        opened.append((recording, recording_taxonomy(recording, name)))
    return opened


def _spread(flag: str, values: Sequence[str], count: int) -> list[str | None]:
    if len(values) not in (0, 1, count):
        raise UsageError(f"{flag} is given {len(values)} times for {count} folders: give it once, or once per folder")
    wide = list(values) * count if len(values) == 1 else list(values) or [""] * count
    return [value or None for value in wide]


def recorded_rows(
    sources: Sequence[tuple[Recording, Taxonomy]],
    settings: BridgeSettings,
    *,
    count: int,
    labels_as: str | None = None,
) -> SheetContent:
    """Rows of ``count`` frames of each recording, spread evenly over it.

    A recording is translated for it; a translation is shown beside the pictures that it was made from.
    ``labels_as`` says how labels are read.

    Raises:
        TranslatorError: The bundle cannot be loaded.
        ImageError: No frame at all could be read.
    """
    network: PairTranslator | None = None
    rows, titles = list[SheetRow](), dict[str, None]()
    problems, suspicions = list[str](), list[str]()
    for recording, source in sources:
        labels = label_reader(recording, source, labels_as)
        frames = [frame for camera in recording.cameras() for frame in recording.frames(camera)]
        for frame in spread_evenly(frames, count):
            if _is_translation(frame):
                titles[_translated_by(recording)] = None
            else:
                network = network or PairTranslator(
                    load_translator(settings), settings.size, Style(seed=settings.style_seed)
                )
                titles[_title(network.translator, settings)] = None
            try:
                if network is None or _is_translation(frame):
                    rows.append(_translated_row(recording, frame, labels, problems))
                else:
                    rows.append(_recorded_row(recording, frame, labels, network))
            except (ImageError, LabelError, TranslatorError) as error:
                problems.append(f"left out: frame {frame.number} of {recording.root}: {error}")
        labels.finish()
        suspicions += labels.suspicions
    if not rows:
        raise ImageError(f"no frame could be put on the sheet: {problems[0].removeprefix('left out: ')}")
    return SheetContent(rows, "   ".join(titles), problems, suspicions)


def spread_evenly(frames: Sequence[T], count: int) -> list[T]:
    """``count`` of the frames, the first and the last among them; all when there are not more."""
    if len(frames) <= count:
        return list(frames)
    if count == 1:
        return [frames[len(frames) // 2]]
    return [frames[round(index * (len(frames) - 1) / (count - 1))] for index in range(count)]


def _recorded_row(recording: Recording, frame: RecordedFrame, labels: LabelReader, pairs: PairTranslator) -> SheetRow:
    capture = read_capture(frame, labels)
    session = str(recording.root.resolve())  # frames of two recordings never follow each other
    rgb, semantic = to_frames(frame, capture, session=session, seconds=frame.time or 0.0)
    translation = pairs.translate(rgb, semantic, read_inputs(frame, rgb, pairs.translator.wants))
    images = {CG: capture.rgb, PHOTOREAL: translation.rgb}
    if translation.edges is not None:
        images[EDGES] = translation.edges
    caption = f"{recording.root.resolve().name}   frame {frame.number}   {capture.size[0]}x{capture.size[1]}"
    return _with_labels(caption, images, capture.ids, labels.source)


def _is_translation(frame: RecordedFrame) -> bool:
    return Folder.RGB not in frame.files and Folder.PHOTOREAL in frame.files


def _translated_row(recording: Recording, frame: RecordedFrame, labels: LabelReader, problems: list[str]) -> SheetRow:
    """Before and after; ``problems`` takes the sentence when the picture from before is not to be found."""
    capture = read_capture(frame, labels)
    images = {PHOTOREAL: capture.rgb}
    origin = find_origin(recording, frame)
    if origin is None:
        problems.append(
            f"frame {frame.number} of {recording.root} is shown without {frame.extra.get(SOURCE)!r}, which it was made "
            f"from: put the source, unchanged, back to where {DESCRIPTION} says"
        )
    else:
        images = {CG: read_rgb(origin), **images}
    size = f"{capture.size[0]}x{capture.size[1]}"
    caption = f"{recording.root.resolve().name}   frame {frame.number}   {size}   style seed {frame.extra.get('seed')}"
    return _with_labels(caption, images, capture.ids, labels.source)


def _translated_by(recording: Recording) -> str:
    said = recording.info.translation or {}
    return f"sim-bridge   {said.get('bundle', '')} {said.get('model', '')}".rstrip()


def _with_labels(caption: str, images: dict[str, ByteArray], ids: ByteArray | None, source: Taxonomy) -> SheetRow:
    if ids is None:
        return SheetRow(caption, images)
    shares = np.bincount(ids.reshape(-1), minlength=256) / ids.size
    classes: dict[str, float] = {}
    for number in np.flatnonzero(shares):
        name = source.ids.get(int(number), "unlabeled")
        classes[name] = classes.get(name, 0.0) + float(shares[number])
    colors = class_colors(source)
    images = {**images, LABELS: color_labels(ids, source)}
    return SheetRow(f"{caption}   labels {source.name}", images, classes, colors)


def live_rows(settings: BridgeSettings, *, count: int, timeout: float) -> SheetContent:
    """Takes rows from a running bridge and the simulator it listens to.

    CG, labels and photoreal are what came over the wire, joined by session and frame number. The edges are those the
    settings' bundle sees in that CG frame; they stay empty when the bridge runs another bundle.

    Args:
        settings: ``input``, ``output``, ``topics``, ``bundle``, ``curve_keys``, ``insecure`` as the bridge has them.
        count: How many rows per camera, about a second apart.
        timeout: Seconds to wait for a frame at most.

    Raises:
        FrameTimeoutError: No frame came in time, or none that the simulator's frames belong to.
        TranslatorError: The bundle cannot be loaded.
    """
    taxonomies = Taxonomies.read(settings.taxonomies)
    edges = _Edges(load_translator(settings), taxonomies)
    rows: list[SheetRow] = []
    models: dict[str, None] = {}
    for camera in settings.topics:
        for rgb, semantic, photoreal in _live_frames(settings, camera, count, timeout):
            rows.append(_live_row(rgb, semantic, photoreal, edges, taxonomies))
            if photoreal.provenance is not None:
                models[photoreal.provenance.model] = None
    return SheetContent(rows, f"sim-bridge, live   model {', '.join(models)}")


def _live_frames(
    settings: BridgeSettings, camera: str, count: int, timeout: float
) -> Iterator[tuple[Frame, Frame, Frame]]:
    """RGB, semantic and photoreal frame of ``count`` ticks, about a second apart."""
    keys, insecure = settings.curve_keys, settings.insecure
    inputs_of = (Kind.RGB, Kind.SEMANTIC)
    with (
        Subscriber(
            settings.input, camera=camera, kinds=inputs_of, buffer=64, curve_keys=keys, insecure=insecure
        ) as simulator,
        Subscriber(
            settings.output, camera=camera, kinds=(Kind.PHOTOREAL,), curve_keys=keys, insecure=insecure
        ) as bridge,
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

    def __init__(self, translator: Translator, taxonomies: Taxonomies) -> None:
        self._translator = translator
        self._taxonomies = taxonomies
        self._pairs: dict[tuple[int, int, Style], PairTranslator] = {}

    def of(self, rgb: Frame, semantic: Frame, photoreal: Frame) -> ByteArray | None:
        """uint8 ``(H, W)``; None when the frame was made by another network, or by one without edges."""
        made = photoreal.provenance
        if made is None or made.model != self._translator.model_id:
            return None
        key = (photoreal.width, photoreal.height, Style({**made.style, "seed": made.seed}))
        if key not in self._pairs:
            self._pairs[key] = PairTranslator(self._translator, key[:2], key[2], self._taxonomies)
        return self._pairs[key].translate(rgb, semantic).edges


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


def _live_row(rgb: Frame, semantic: Frame, photoreal: Frame, edges: _Edges, taxonomies: Taxonomies) -> SheetRow:
    images = {CG: to_rgb(rgb), PHOTOREAL: to_rgb(photoreal)}
    seen = edges.of(rgb, semantic, photoreal)
    if seen is not None:
        images[EDGES] = seen
    caption = f"{rgb.camera}   frame {rgb.number}   {photoreal.width}x{photoreal.height}"
    made = photoreal.provenance
    if made is not None:
        seed = f", style seed {made.seed}" if made.seed else ""
        caption += f"   {made.status}{seed}, {(made.published - rgb.sent) / 1e6:.0f} ms after it was sent"
    return _with_labels(caption, images, to_ids(semantic), taxonomies.named(semantic.labels or ""))


def _title(translator: Translator, settings: BridgeSettings) -> str:
    seed = f", style seed {settings.style_seed}" if settings.style_seed else ""
    return f"sim-bridge   {translator.name} {translator.model_id}{seed}"
