"""Label files of all kinds, made by hand: OpenCV writes no palettes."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.pixels.taxonomy import taxonomy

Bytes = npt.NDArray[np.uint8]

VOC = np.array(
    [[sum(((n >> (3 * b + c)) & 1) << (7 - b) for b in range(3)) for c in range(3)] for n in range(256)], np.uint8
)
"""The colour map of Pascal VOC, which many tools write beside the ids."""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows: Bytes, color: int, *more: bytes, bits: int = 8) -> bytes:
    """A PNG of rows ``(H, W)`` or ``(H, W, C)``, red first, with chunks in front of its pixels."""
    width, flat = rows.shape[1], rows.reshape(len(rows), -1)
    if bits < 8:
        flat = np.packbits(
            ((flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1).reshape(len(flat), -1).astype(np.uint8), axis=1
        )
    header = struct.pack(">IIBBBBB", width, len(rows), bits, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in flat))
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *more, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def grey(ids: Bytes) -> bytes:
    return png(ids, 0)


def with_palette(indices: Bytes, palette: Bytes, bits: int = 8) -> bytes:
    return png(indices, 3, chunk(b"PLTE", palette.astype(np.uint8).tobytes()), bits=bits)


def coloured(ids: Bytes, name: str) -> Bytes:
    """The taxonomy's colours, ``(H, W, 3)``."""
    table = np.zeros((256, 3), np.uint8)
    for number, color in taxonomy(name).palette.items():
        table[number] = color
    return table[ids]


def colours(ids: Bytes, name: str) -> bytes:
    return png(coloured(ids, name), 2)


def optimised(picture: Bytes, bits: int = 8) -> bytes:
    """Colours ``(H, W, 3)`` as an optimiser writes them: the colours that occur, and indices to them."""
    palette, indices = np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True)
    return with_palette(indices.reshape(picture.shape[:2]).astype(np.uint8), palette.astype(np.uint8), bits)


def with_alpha(pixels: Bytes) -> bytes:
    """Grey ``(H, W)`` or RGB ``(H, W, 3)``, opaque but for the first row."""
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    alpha = np.full((*planes.shape[:2], 1), 255, np.uint8)
    alpha[0] = 0
    return png(np.concatenate([planes, alpha], 2), 4 if pixels.ndim == 2 else 6)


def raw(ids: Bytes) -> bytes:
    """As CARLA saves its raw image: the id in red."""
    return png(np.dstack([ids, np.zeros_like(ids), np.zeros_like(ids)]), 2)


def jpeg(picture: Bytes) -> bytes:
    return bytes(cv2.imencode(".jpg", picture if picture.ndim == 2 else picture[..., ::-1])[1].tobytes())
