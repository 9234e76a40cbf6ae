"""What the headless demo leaves behind: a film, a contact sheet and statistics."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import cv2
import numpy as np

from sim_bridge.errors import ImageError, MissingExtraError
from sim_bridge.frames import ByteArray
from sim_bridge.live.bridge import Bridge
from sim_bridge.live.work import Work
from sim_bridge.pixels.images import to_ids, to_rgb
from sim_bridge.pixels.labels import taxonomy
from sim_bridge.recordings.sheet import CG, EDGES, LABELS, PHOTOREAL, SheetRow, color_labels, contact_sheet, write_sheet

try:
    import av
except ImportError as error:
    raise MissingExtraError("av", "demo", "writing a film") from error

SHEET_ROWS: Final = 4
_CLOCK: Final = 90_000
"""Ticks of the film's clock per second, as is usual for H.264."""


def panels(tick: Work) -> dict[str, ByteArray]:
    """The pictures of a tick by the sheet's column, uint8 ``(H, W, 3)``; those that it has.

    Raises:
        ImageError: The labels cannot be decoded.
    """
    semantic = tick.pair.semantic
    images = {
        CG: to_rgb(tick.pair.rgb) if tick.cg is None else tick.cg,
        LABELS: color_labels(to_ids(semantic), taxonomy(semantic.labels or "")),
    }
    if tick.edges is not None:
        images[EDGES] = np.repeat(tick.edges[..., None], 3, 2)
    if tick.rgb is not None:
        images[PHOTOREAL] = tick.rgb
    return images


class Film:
    """Watches a bridge and writes ``demo.mp4``, ``demo.png`` and ``demo.json`` into a folder.

    The film shows CG and labels above, edges and photoreal below, at the simulator's own speed.

    Args:
        bridge: The bridge to watch.
        folder: Where to; made when missing.
        frames: How many frames to wait for.
        done: Called, from the film's thread, when they are written.

    Raises:
        ImageError: The folder cannot be made.
    """

    def __init__(self, bridge: Bridge, folder: Path, frames: int, done: Callable[[], None]) -> None:
        self._bridge, self._folder, self._frames, self._done = bridge, folder, frames, done
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"the folder {folder} cannot be made ({error.strerror}): give another --out") from error
        self._camera = bridge.settings.topics[0]
        self._changed = threading.Condition()
        self._ended = False
        self._newest: Work | None = None
        self._rows: list[SheetRow] = []
        self._thread = threading.Thread(target=self._write, name="demo-film", daemon=True)
        self.error: Exception | None = None
        """What ended the film early."""
        self.written = 0
        """Frames in the film so far."""
        self._began: float | None = None
        self._published_before = 0

    def on_tick(self, tick: Work) -> None:
        """See :class:`~sim_bridge.live.tap.Watcher`."""
        if tick.camera == self._camera:
            with self._changed:
                self._newest = tick
                self._changed.notify_all()

    def on_status(self, camera: str, body: Mapping[str, object]) -> None:
        """See :class:`~sim_bridge.live.tap.Watcher`."""

    def __enter__(self) -> Self:
        self._bridge.tap.open(self)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        self._bridge.tap.close(self)

    def _write(self) -> None:
        try:
            self._film()
            if self._rows:
                translator = self._bridge.settings.bundle
                write_sheet(self._folder / "demo.png", contact_sheet(self._rows, title=f"sim-bridge   {translator}"))
        except (OSError, av.error.FFmpegError) as error:
            self.error = _unwritable(self._folder, error)
        except Exception as error:  # noqa: BLE001 - raised by the command, in its own thread
            self.error = error
        self._done()

    def _film(self) -> None:
        with av.open(str(self._folder / "demo.mp4"), "w") as container:
            stream = None
            last, clock = None, _FilmClock()
            while self.written < self._frames and (tick := self._next(last)) is not None:
                last = tick
                images = panels(tick)
                picture = _grid(images)
                if stream is None:
                    stream = container.add_stream("libx264", options={"preset": "veryfast", "crf": "18"})
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, _CLOCK)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = clock.at(tick), Fraction(1, _CLOCK)
                container.mux(stream.encode(frame))
                self._count(tick, images)
            if stream is not None:
                container.mux(stream.encode())

    def _next(self, last: Work | None) -> Work | None:
        """The newest tick that comes after ``last``; None when the bridge ends."""
        with self._changed:
            while not self._ended:
                if self._newest is not last:
                    return self._newest
                self._changed.wait()
        return None

    def _count(self, tick: Work, images: dict[str, ByteArray]) -> None:
        if self._began is None:
            self._began = time.monotonic()
            self._published_before = self._bridge.outputs.of(self._camera).published
        if self.written % max(1, self._frames // SHEET_ROWS) == 0 and len(self._rows) < SHEET_ROWS:
            rgb = tick.pair.rgb
            self._rows.append(SheetRow(f"frame {rgb.number}   {rgb.width}x{rgb.height}", images))
        self.written += 1

    def write_statistics(self, first_frame: float | None) -> dict[str, object]:
        """Writes ``demo.json``: rates, latencies, counters, and what they were measured on.

        Args:
            first_frame: Seconds from the command to the first photoreal frame.
        """
        bridge, camera = self._bridge, self._camera
        seconds = 0.0 if self._began is None else time.monotonic() - self._began
        published = bridge.outputs.of(camera).published - self._published_before
        statistics: dict[str, object] = {
            "frames": self.written,
            "frames_per_s": round(published / seconds, 2) if seconds else None,
            "first_frame_s": None if first_frame is None else round(first_frame, 2),
            "bundle": bridge.settings.bundle,
            "style_seed": bridge.settings.style_seed,
            "latency_ms": {
                stage: {name: round(value, 3) for name, value in percentiles.items()}
                for stage, percentiles in bridge.latency.percentiles_ms().items()
            },
            "counters": {topic: account.as_counters() for topic, account in bridge.ledger.snapshot().items()},
            "cores": os.cpu_count(),
            "load_average": [round(value, 2) for value in os.getloadavg()],
        }
        try:
            (self._folder / "demo.json").write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        return statistics


SESSION_GAP: Final = 0.05
"""Between two sessions the simulator's time says nothing; what one tick takes by default, seconds."""


class _FilmClock:
    """The film's time of ticks: the simulator's, which begins again with every session; always rising."""

    def __init__(self) -> None:
        self._session = ""
        self._offset = self._last = 0.0

    def at(self, tick: Work) -> int:
        """When to show a tick, in 1/90,000 s."""
        rgb = tick.pair.rgb
        if rgb.session != self._session:
            gap = SESSION_GAP if self._session else 0.0
            self._session, self._offset = rgb.session, self._last + gap - rgb.time
        self._last = max(self._last + 1 / _CLOCK, rgb.time + self._offset) if self._last else rgb.time + self._offset
        return round(self._last * _CLOCK)


def _unwritable(folder: Path, error: Exception) -> ImageError:
    return ImageError(f"the folder {folder} cannot be written ({error}): give another --out")


def _grid(images: Mapping[str, ByteArray]) -> ByteArray:
    """Four panels of one even size; H.264 with halved chroma knows no odd ones."""
    height, width = (side // 2 * 2 for side in images[CG].shape[:2])
    empty = np.zeros((height, width, 3), np.uint8)
    cells = [images.get(name, empty) for name in (CG, LABELS, EDGES, PHOTOREAL)]
    fitted = [cv2.resize(c, (width, height), interpolation=cv2.INTER_NEAREST) if c.shape[:2] != (height, width) else c
              for c in cells]  # fmt: skip
    return np.vstack([np.hstack(fitted[:2]), np.hstack(fitted[2:])]).astype(np.uint8, copy=False)
