"""Image files and compressed payloads, and frames as plain arrays. Needs OpenCV (the ``engine`` extra).

Sizes are checked before anything is decoded, and a file that ends early is refused: OpenCV alone allocates whatever a
header asks for, and fills missing rows with grey.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from models.content import READ, missing_content
from sim_bridge.errors import ImageError, LabelError, MissingExtraError
from sim_bridge.frames import MAX_PIXELS, MAX_SIDE, ByteArray, Encoding, Frame, PixelArray
from sim_bridge.pixels.readings import StoredLabels

try:
    import cv2
except ImportError as error:
    raise MissingExtraError("opencv-python-headless", "engine", "reading and writing images") from error

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_FILE_BYTES: Final = 1 << 29
"""Largest image file that is read."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # per colour type
_GREY, _PALETTE, _GREY_ALPHA = 0, 3, 4  # PNG colour types
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame: all C0..CF but DHT, JPG, DAC
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_JPEG_SCAN, _JPEG_END = 0xDA, b"\xff\xd9"


class ImageHeader(NamedTuple):
    """What a file's header says, before decoding."""

    format: Encoding
    width: int
    height: int
    bits: int = 8
    """Of a channel, or of a palette's index."""
    color: int | None = None
    """A PNG's colour type."""

    @property
    def grey_step(self) -> int:
        """What OpenCV multiplies the values of a grey PNG of 1, 2 or 4 bits with, to fill 0 to 255."""
        return 255 // ((1 << self.bits) - 1) if self.color == _GREY and self.bits < 8 else 1


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS, full_range: bool = False) -> PixelArray:
    """Reads a PNG or JPEG file as it is stored.

    Args:
        path: The file.
        max_pixels: Largest width times height that is decoded.
        full_range: Spread a grey PNG of 1, 2 or 4 bits over 0 to 255, for brightness; else its numbers stay, for ids.

    Returns:
        uint8 or uint16 ``(H, W)`` or ``(H, W, 3 or 4)`` in OpenCV's order (BGR, BGRA).

    Raises:
        ImageError: The file is missing, too large, truncated, damaged or neither PNG nor JPEG.
    """
    return _decode(_bytes_of(path), str(path), None, max_pixels, full_range)


def read_labels(path: Path, *, max_pixels: int = MAX_PIXELS) -> StoredLabels:
    """Reads a label file as it is stored: indices where it has a palette, one channel where it is grey with alpha.

    Raises:
        ImageError: The file is missing, too large, truncated, damaged or neither PNG nor JPEG.
        LabelError: It is a JPEG, whatever its name.
    """
    data = _bytes_of(path)
    header = read_header(data, str(path))
    if header.format is Encoding.JPEG:
        raise LabelError(f"{path}: labels must not be JPEG: it changes ids at every border; write them again as PNG")
    return _decode_labels(data, header, str(path), None, max_pixels)


def decode_image(
    data: Buffer, *, expect: tuple[int, int] | None, max_pixels: int = MAX_PIXELS, full_range: bool = False
) -> PixelArray:
    """Decodes a PNG or JPEG payload as it is stored.

    Args:
        data: The compressed image.
        expect: ``(width, height)`` it must have, or None for any within the limits.
        max_pixels: Largest width times height that is decoded.
        full_range: As for :func:`read_image`.

    Returns:
        As :func:`read_image`.

    Raises:
        ImageError: The payload is too large, truncated, damaged, of another size, or neither PNG nor JPEG.
    """
    return _decode(data, "the image payload", expect, max_pixels, full_range)


def read_header(data: Buffer, name: str = "the image payload") -> ImageHeader:
    """Reads format and size of a PNG or JPEG and checks that the file is whole (PNG: every chunk's checksum, too).

    Args:
        data: The compressed image.
        name: What to call it in errors.

    Raises:
        ImageError: It is truncated, damaged, or neither PNG nor JPEG.
    """
    view = memoryview(data)
    if bytes(view[:8]) == _PNG_SIGNATURE:
        return _read_png_header(view, name)
    if bytes(view[:3]) == b"\xff\xd8\xff":
        return _read_jpeg_header(bytes(view), name)
    if (missing := missing_content(bytes(view[:READ]))) is not None:
        raise ImageError(f"{name} {missing.fact}, so neither PNG nor JPEG: {missing.advice}")
    raise ImageError(f"{name} ({view.nbytes} bytes) is neither PNG nor JPEG: convert it to PNG")


def write_png(path: Path, array: PixelArray) -> None:
    """Writes uint8 or uint16 ``(H, W)`` or ``(H, W, 3 or 4)`` in OpenCV's order; a reader sees all of it or nothing.

    Raises ImageError when the array cannot be a PNG, or the file cannot be written.
    """
    # Level 1: level 6 takes three to five times as long for files a tenth smaller (measured on rendered frames).
    _write(path, ".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def write_jpeg(path: Path, array: PixelArray, quality: int = 95) -> None:
    """Writes uint8 ``(H, W)`` or ``(H, W, 3)`` in OpenCV's order; a reader sees all of it or nothing.

    Raises ImageError when the array cannot be a JPEG, or the file cannot be written.
    """
    if array.dtype != np.uint8 or (array.ndim == 3 and array.shape[2] != 3):
        raise ImageError(
            f"{path}: a JPEG holds 8 bits and 1 or 3 channels, not {array.dtype} {array.shape}: write a PNG"
        )
    _write(path, ".jpg", array, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_jpeg(rgb: ByteArray, quality: int) -> ByteArray:
    """A JPEG of uint8 ``(H, W, 3)`` RGB or ``(H, W)`` grey, as bytes uint8 ``(n,)``.

    4:4:4, since thin coloured things (lights, signs, road lines) are what halved chroma blurs first.

    Raises ImageError when it cannot be encoded.
    """
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return _encode(".jpg", rgb, [*flags, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])


def encode_png(rgb: ByteArray) -> ByteArray:
    """A PNG of uint8 ``(H, W, 3)`` RGB or ``(H, W)`` grey, as bytes uint8 ``(n,)``.

    Raises ImageError when it cannot be encoded.
    """
    # OpenCV's own choice for speed: level 1 took twice the time for larger files (measured on streets and labels).
    return _encode(".png", rgb, [])


def stored_to_rgb(pixels: PixelArray, name: str) -> ByteArray:
    """A decoded picture (grey, BGR or BGRA) as uint8 ``(H, W, 3)`` RGB; an alpha channel is dropped.

    Raises ImageError when it has more than 8 bits a channel; ``name`` is what the message calls it.
    """
    if pixels.dtype != np.uint8:
        raise ImageError(f"{name} has {pixels.dtype} pixels, but an RGB image has 8 bits a channel: convert it")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels]
    return _convert(pixels, code)


def to_rgb(frame: Frame) -> ByteArray:
    """A frame's picture as contiguous uint8 ``(H, W, 3)``, RGB; of an ``rgb8`` frame the view itself, read-only.

    Raises ImageError when the payload cannot be decoded, or the encoding is not a colour picture's.
    """
    pixels: Any = frame.pixels
    match frame.encoding:
        case Encoding.RGB8:
            return np.ascontiguousarray(pixels, dtype=np.uint8)
        case Encoding.BGR8:
            return _convert(pixels, cv2.COLOR_BGR2RGB)
        case Encoding.BGRA8:
            return _convert(pixels, cv2.COLOR_BGRA2RGB)
        case Encoding.JPEG | Encoding.PNG:
            return stored_to_rgb(_decode_frame(frame, full_range=True), f"the picture of {frame.topic}")
        case _:
            raise ImageError(
                f"frame {frame.number} of {frame.topic} has the encoding '{frame.encoding}', not a picture's"
            )


def to_ids(frame: Frame) -> ByteArray:
    """A frame's class ids as uint8 ``(H, W)``; of a ``mono8`` frame the view itself, read-only.

    Raises ImageError when the payload cannot be decoded, or is no grey PNG of up to 8 bits: the wire takes ids alone.
    """
    if frame.encoding is Encoding.MONO8:
        return np.asarray(frame.pixels, dtype=np.uint8)
    if frame.encoding is not Encoding.PNG:
        raise ImageError(
            f"frame {frame.number} of {frame.topic} has the encoding '{frame.encoding}': send mono8 or png"
        )
    data, name = frame.pixels.data, f"frame {frame.number} of {frame.topic}"
    header = read_header(data, name)
    if header.color != _GREY or header.bits > 8:
        raise ImageError(
            f"{name} is {_described(header)}, but class ids are one channel of 8 bits: convert it to ids before sending"
        )
    ids = _decode_labels(data, header, name, (frame.width, frame.height), MAX_PIXELS).pixels
    return np.asarray(ids, dtype=np.uint8)


def _described(header: ImageHeader) -> str:
    if header.format is Encoding.JPEG:
        return "a JPEG, which changes ids at every border"
    kinds = {_GREY: "one channel", _PALETTE: "a palette", _GREY_ALPHA: "grey and alpha"}
    return f"a PNG of {header.bits} bits with {kinds.get(header.color or 0, 'colours')}"


def _bytes_of(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{path} has {size} bytes, the limit is {MAX_FILE_BYTES}: give a smaller file")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}): check the path and its rights") from error


def _decode_labels(
    data: Buffer, header: ImageHeader, name: str, expect: tuple[int, int] | None, max_pixels: int
) -> StoredLabels:
    """Decodes a PNG of labels: transparency says nothing, and indices stay indices."""
    plain, palette = _plain_png(memoryview(data), header)
    if header.color == _PALETTE and palette is None:
        raise ImageError(f"{name} is a damaged PNG: its palette is missing, write it again")
    pixels = _decode(plain, name, expect, max_pixels, full_range=False)
    if header.color == _GREY_ALPHA:
        pixels = np.ascontiguousarray(pixels[..., 0])
    return StoredLabels(pixels, palette)


def _plain_png(data: memoryview, header: ImageHeader) -> tuple[bytes, ByteArray | None]:
    """A whole PNG's pixels alone, indices as grey, and its palette ``(n, 3)``.

    A grey PNG has the rows of one with a palette, and OpenCV would look the colours up.
    """
    parts, palette = [_PNG_SIGNATURE], None
    position = len(_PNG_SIGNATURE)
    while position < data.nbytes and (kind := bytes(data[position + 4 : position + 8])) != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4])
        body = bytes(data[position + 8 : end - 4])
        if kind == b"IHDR" and header.color == _PALETTE:
            parts.append(_chunk(kind, body[:9] + bytes([_GREY]) + body[10:]))
        elif kind in (b"IHDR", b"IDAT"):
            parts.append(bytes(data[position:end]))
        elif kind == b"PLTE" and header.color == _PALETTE:
            palette = np.frombuffer(body[: len(body) // 3 * 3], dtype=np.uint8).reshape(-1, 3)
        position = end
    return b"".join([*parts, _chunk(b"IEND", b"")]), palette


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def _decode(data: Buffer, name: str, expect: tuple[int, int] | None, max_pixels: int, full_range: bool) -> PixelArray:
    header = read_header(data, name)
    _check_size(header, name, expect, max_pixels)
    try:
        # IMREAD_UNCHANGED also keeps EXIF rotation out: labels beside the picture would not turn with it.
        pixels = cv2.imdecode(np.frombuffer(memoryview(data), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"{name} is a damaged {header.format} ({error.err}): write it again") from error
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise ImageError(
            f"{name} is a damaged {header.format} of {header.width}x{header.height} pixels: write it again"
        )
    if header.grey_step > 1 and not full_range:
        return np.asarray(pixels, dtype=np.uint8) // np.uint8(header.grey_step)
    return np.asarray(pixels)


def _check_size(header: ImageHeader, name: str, expect: tuple[int, int] | None, max_pixels: int) -> None:
    width, height = header.width, header.height
    if expect is not None and (width, height) != expect:
        raise ImageError(
            f"{name} has {width}x{height} pixels, but {expect[0]}x{expect[1]} were announced: send what you say"
        )
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= max_pixels):
        allowed = f"1 to {MAX_SIDE} on a side and at most {max_pixels} in all"
        raise ImageError(f"{name} has {width}x{height} pixels, but must have {allowed}: resize it")


def _read_png_header(data: memoryview, name: str) -> ImageHeader:
    """Walks all chunks: OpenCV decodes a PNG that ends early, or with a flipped bit, without a word."""
    header: ImageHeader | None = None
    position = len(_PNG_SIGNATURE)
    while position + 12 <= data.nbytes:
        length = int.from_bytes(data[position : position + 4])
        body = position + 8
        end = body + length
        if end + 4 > data.nbytes:
            break
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise ImageError(f"{name} is a damaged PNG (checksum wrong at byte {position}): write it again")
        kind = bytes(data[position + 4 : body])
        if header is None:
            header = _read_ihdr(kind, bytes(data[body:end]), name)
        if kind == b"IEND":
            return header
        position = end + 4
    raise ImageError(f"{name} is a truncated PNG: it ends after {data.nbytes} bytes, write it again")


def _read_ihdr(kind: bytes, body: bytes, name: str) -> ImageHeader:
    if kind != b"IHDR" or len(body) != 13 or body[8] not in _PNG_DEPTHS.get(body[9], ()):
        raise ImageError(f"{name} is a damaged PNG: its first chunk is no valid header, write it again")
    return ImageHeader(Encoding.PNG, int.from_bytes(body[:4]), int.from_bytes(body[4:8]), body[8], body[9])


def _read_jpeg_header(data: bytes, name: str) -> ImageHeader:
    """Walks the segments up to the scan; the end marker cannot occur inside a scan, so its absence is truncation."""
    header: ImageHeader | None = None
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF or marker in _JPEG_BARE:
            position += 1 if marker == 0xFF else 2
            continue
        segment = data[position + 4 : position + 9]
        if marker in _JPEG_FRAMES and len(segment) == 5:
            header = ImageHeader(Encoding.JPEG, int.from_bytes(segment[3:5]), int.from_bytes(segment[1:3]))
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker == _JPEG_SCAN:
            if header is None or data.find(_JPEG_END, position) < 0:
                break
            return header
    raise ImageError(f"{name} is a truncated or damaged JPEG of {len(data)} bytes: write it again")


def _write(path: Path, extension: str, array: PixelArray, options: list[int]) -> None:
    try:
        done, data = cv2.imencode(extension, np.asarray(array), options)
    except cv2.error as error:
        raise ImageError(
            f"{path}: {array.dtype} {array.shape} cannot be written as {extension} ({error.err})"
        ) from error
    if not done:
        raise ImageError(
            f"{path}: {array.dtype} {array.shape} cannot be written as {extension}: give 8 or 16 bit pixels"
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data.tobytes())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ImageError(
            f"{path} cannot be written ({error.strerror}): check the folder, its rights and the disk"
        ) from error


def _encode(extension: str, pixels: ByteArray, options: list[int]) -> ByteArray:
    stored = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(extension, stored, options)
    if not done:
        height, width = pixels.shape[:2]
        raise ImageError(f"a {width}x{height} picture could not be encoded as {extension[1:]}: publish raw RGB instead")
    return np.asarray(data, dtype=np.uint8).reshape(-1)


def _decode_frame(frame: Frame, *, full_range: bool) -> PixelArray:
    return decode_image(frame.pixels.data, expect=(frame.width, frame.height), full_range=full_range)


def _convert(pixels: Any, code: int) -> ByteArray:
    return np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)
