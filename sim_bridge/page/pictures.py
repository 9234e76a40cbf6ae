"""Pictures of a tick as a browser takes them, and stills with their metadata. Runs in the page's own worker thread."""

from __future__ import annotations

import json
import struct
import zlib
from enum import StrEnum
from typing import Final

from sim_bridge import __version__
from sim_bridge.frames import ByteArray
from sim_bridge.live.work import Work
from sim_bridge.pixels.images import encode_jpeg, encode_png, to_ids, to_rgb
from sim_bridge.translators import ShowsEdges

JPEG_QUALITY: Final = 88
METADATA_KEY: Final = "sim-bridge"
"""Keyword of the text chunk in a still."""
_IHDR_END: Final = 33  # signature 8, IHDR 25: a text chunk may follow


class Panel(StrEnum):
    """What the page can show of a tick."""

    CG = "cg"
    LABELS = "labels"
    LAPLACIAN = "laplacian"
    """The edge operator's own map E(x)."""
    DNED = "dned"
    """The edge map that the generator saw."""
    PHOTOREAL = "photoreal"


def encode(tick: Work, panel: Panel) -> bytes | None:
    """A panel of a tick for a browser; None where the tick has no such picture.

    Labels are a grey PNG of class ids, exact; edges a grey PNG or JPEG; pictures JPEG without halved chroma.

    Raises ImageError when a payload cannot be decoded.
    """
    pixels = _pixels(tick, panel)
    if pixels is None:
        return None
    if panel in (Panel.LABELS, Panel.LAPLACIAN):
        return encode_png(pixels).tobytes()
    return encode_jpeg(pixels, JPEG_QUALITY).tobytes()


_LARGEST_IN_JAVASCRIPT: Final = 2**53
"""Its numbers lose digits above."""


def describe(tick: Work) -> dict[str, object]:
    """Where a tick's pictures come from, as plain values for JSON."""
    rgb, semantic, made = tick.pair.rgb, tick.pair.semantic, tick.provenance
    assert made is not None and tick.translator is not None
    return {
        "camera": tick.camera,
        "frame": rgb.number if rgb.number <= _LARGEST_IN_JAVASCRIPT else str(rgb.number),
        "session": rgb.session,
        "time": rgb.time,
        "sent": rgb.sent,
        "received": made.received,
        "inferred": made.inferred,
        "published": made.published,
        "bundle": tick.translator.name,
        "model": made.model,
        "seed": made.seed,
        "style": dict(made.style),
        "used": dict(tick.used),
        "status": str(made.status),
        "taxonomy": semantic.labels,
        "fov": rgb.fov,
        "pose": None if rgb.pose is None else rgb.pose.ravel().tolist(),
    }


def still(tick: Work, panel: Panel) -> bytes | None:
    """A panel as a PNG without loss, the tick's metadata in a text chunk; None where the tick has no such picture.

    The chunk is an ``iTXt`` with the keyword :data:`METADATA_KEY` and JSON as its text; it comes before the pixels.

    Raises ImageError when a payload cannot be decoded.
    """
    pixels = _pixels(tick, panel)
    if pixels is None:
        return None
    png = encode_png(pixels).tobytes()
    text = json.dumps({**describe(tick), "panel": str(panel), "software": f"sim-bridge {__version__}"})
    return png[:_IHDR_END] + _text_chunk(METADATA_KEY, text) + png[_IHDR_END:]


def _pixels(tick: Work, panel: Panel) -> ByteArray | None:
    """uint8 ``(H, W)`` or ``(H, W, 3)`` RGB."""
    match panel:
        case Panel.CG:
            return to_rgb(tick.pair.rgb)
        case Panel.LABELS:
            return to_ids(tick.pair.semantic)
        case Panel.PHOTOREAL:
            return to_rgb(tick.pair.rgb) if tick.rgb is None else tick.rgb
        case Panel.DNED:
            return tick.edges
        case Panel.LAPLACIAN:
            if isinstance(tick.translator, ShowsEdges) and tick.cg is not None:
                return tick.translator.edge_map(tick.cg)
            return None


def _text_chunk(keyword: str, text: str) -> bytes:
    """A PNG ``iTXt`` chunk, not compressed: keyword, two flags, no language, no translated keyword, UTF-8 text."""
    body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
