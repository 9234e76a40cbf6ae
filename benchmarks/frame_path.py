"""Times what is done to a frame outside the network: ``python benchmarks/frame_path.py``.

One frame at a time, the same functions as in the bridge. Each figure is over many calls; the machine should be idle.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from sim_bridge.frames import Encoding, Frame, Kind, PixelArray
from sim_bridge.pixels.preprocess import Preprocessor, postprocess
from sim_bridge.tools.bench_source import TAXONOMY, draw_street

CLASSES = (
    *("sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign"),
    *("fence", "car", "person", "bicyclist", "unlabeled"),
)
CALLS = 400
WARM_UP_CALLS = 20


@dataclass(frozen=True)
class Row:
    """One line: what was timed, and p50 and p99 in milliseconds."""

    encoding: Encoding
    source: tuple[int, int]
    network: tuple[int, int]
    prepare: tuple[float, float]
    finish: tuple[float, float]


def time_calls(call: Callable[[], object]) -> tuple[float, float]:
    """p50 and p99 of a call, milliseconds."""
    samples = []
    for i in range(WARM_UP_CALLS + CALLS):
        start = time.perf_counter_ns()
        call()
        if i >= WARM_UP_CALLS:
            samples.append(time.perf_counter_ns() - start)
    p50, p99 = np.percentile(samples, (50, 99)) / 1e6
    return float(p50), float(p99)


def make_pair(encoding: Encoding, size: tuple[int, int]) -> tuple[Frame, Frame]:
    """An RGB and a semantic frame as they come from the wire, read-only."""
    bgra, ids = draw_street(*size, shift=3)
    pixels: PixelArray
    match encoding:
        case Encoding.BGRA8:
            pixels = bgra
        case Encoding.RGB8:
            pixels = np.ascontiguousarray(bgra[..., 2::-1])
        case _:
            done, data = cv2.imencode(f".{encoding.value}", bgra[..., :3])
            assert done
            pixels = np.asarray(data.reshape(-1))
    rgb = Frame("camera", Kind.RGB, 0, 0.0, "bench", encoding, *size, pixels, sent=1)
    semantic = replace(rgb, kind=Kind.SEMANTIC, encoding=Encoding.MONO8, pixels=ids, labels=TAXONOMY)
    for frame in (rgb, semantic):
        frame.pixels.flags.writeable = False
    return rgb, semantic


def measure(encoding: Encoding, source: tuple[int, int], network: tuple[int, int]) -> Row:
    """Times one encoding at one pair of sizes."""
    rgb, semantic = make_pair(encoding, source)
    preprocessor = Preprocessor(CLASSES, network)
    picture = preprocessor.prepare(rgb, semantic).rgb
    return Row(
        encoding,
        source,
        network,
        time_calls(lambda: preprocessor.prepare(rgb, semantic)),
        time_calls(lambda: postprocess(picture, rgb)),
    )


def measure_all() -> list[Row]:
    """The usual cases."""
    small, large = (512, 256), (1280, 720)
    return [
        *(measure(encoding, small, small) for encoding in (Encoding.BGRA8, Encoding.RGB8, Encoding.JPEG)),
        *(measure(encoding, large, small) for encoding in (Encoding.BGRA8, Encoding.JPEG)),
        measure(Encoding.BGRA8, large, large),
    ]


def as_markdown(rows: list[Row]) -> str:
    """The rows as a table."""
    lines = [
        "| encoding | frame | network | preprocess p50 / p99 ms | postprocess p50 / p99 ms |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        sizes = " | ".join(f"{width}x{height}" for width, height in (row.source, row.network))
        times = " | ".join(f"{p50:.3f} / {p99:.3f}" for p50, p99 in (row.prepare, row.finish))
        lines.append(f"| {row.encoding} | {sizes} | {times} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(as_markdown(measure_all()) + "\n")
