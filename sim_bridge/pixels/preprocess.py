"""What happens to a frame between the wire and the network, and back.

Training and the live bridge both call :func:`fit_pair` and the :class:`~sim_bridge.pixels.labels.LabelMap`, so a
picture gives the network the same input either way. The network computes the edge map itself, from the RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import ImageError, LabelError, MissingExtraError, SizeMismatchError
from sim_bridge.frames import Encoding, Frame, PixelArray
from sim_bridge.pixels.images import to_ids, to_rgb
from sim_bridge.pixels.labels import LabelMap, taxonomy
from sim_bridge.translators import ByteArray

try:
    import cv2
except ImportError as error:
    raise MissingExtraError("opencv-python-headless", "engine", "preparing frames for a network") from error

Integer = TypeVar("Integer", np.uint8, np.uint16)

JPEG_QUALITY = 95
"""Quality of photoreal frames that leave as JPEG; at 95 the coding error stays below what the eye sees at 1:1."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A pair as the network takes it.

    Attributes:
        rgb: uint8 ``(H, W, 3)``; may be a read-only view of the received message.
        labels: uint8 ``(H, W)``, ids into the translator's classes; all zero when it does not look at labels.
        stray: Pixels whose class id was outside the taxonomy and became ``unlabeled``.
        width: Width in pixels at which the network works.
        height: Height in pixels at which the network works.
    """

    rgb: ByteArray
    labels: ByteArray
    stray: int
    width: int
    height: int


def fit_rgb(rgb: ByteArray, size: tuple[int, int] | None) -> ByteArray:
    """Resizes a picture: by area when it shrinks, linearly when a side grows.

    Linear, not cubic: the overshoot of a cubic kernel beside a step is an edge that the render does not have.

    Args:
        rgb: uint8 ``(H, W, 3)``.
        size: ``(width, height)`` in pixels, or None to keep the picture's own.

    Returns:
        uint8 ``(height, width, 3)``; ``rgb`` itself when it already has that size.
    """
    height, width = rgb.shape[:2]
    if size is None or size == (width, height):
        return rgb
    shrinks = size[0] <= width and size[1] <= height
    return _bytes(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def fit_labels(ids: ByteArray, size: tuple[int, int] | None) -> ByteArray:
    """Resizes class ids to the nearest pixel centre, so that no id appears that was not there.

    ``INTER_NEAREST`` would take the pixel at each cell's upper left corner, half a cell away from what the RGB's area
    mean shows.

    Args:
        ids: uint8 ``(H, W)``.
        size: ``(width, height)`` in pixels, or None to keep the image's own.

    Returns:
        uint8 ``(height, width)``; ``ids`` itself when it already has that size.
    """
    return fit_ids(ids, size)


def fit_ids(ids: npt.NDArray[Integer], size: tuple[int, int] | None) -> npt.NDArray[Integer]:
    """As :func:`fit_labels`, of 8 or 16 bits."""
    height, width = ids.shape
    if size is None or size == (width, height):
        return ids
    return np.asarray(cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST_EXACT), ids.dtype)


def fit_pair(rgb: ByteArray, ids: ByteArray, size: tuple[int, int] | None) -> tuple[ByteArray, ByteArray]:
    """Brings a picture and its class ids to the network's size.

    Args:
        rgb: uint8 ``(H, W, 3)``.
        ids: uint8 ``(H, W)``.
        size: ``(width, height)`` in pixels, or None to keep the input's.

    Returns:
        The two at that size; unchanged inputs are passed through without a copy.

    Raises:
        SizeMismatchError: The two differ in size.
    """
    if rgb.shape[:2] != ids.shape:
        raise SizeMismatchError(_mismatch(rgb.shape[1], rgb.shape[0], ids.shape[1], ids.shape[0]))
    return fit_rgb(rgb, size), fit_labels(ids, size)


class Preprocessor:
    """Turns the two messages of a tick into a network's input. One thread uses it at a time.

    Args:
        classes: The translator's class names by id; empty when it does not look at labels, which then are not decoded.
        size: ``(width, height)`` at which the network works, or None for the input's own size.
    """

    def __init__(self, classes: Sequence[str], size: tuple[int, int] | None) -> None:
        self._classes = tuple(classes)
        self._size = size
        self._maps: dict[str, LabelMap] = {}
        self._blank: ByteArray = np.zeros((0, 0), np.uint8)

    def prepare(self, rgb: Frame, semantic: Frame) -> Prepared:
        """Decodes, resizes and maps one pair.

        Raises:
            SizeMismatchError: The two images differ in size.
            ImageError: A payload cannot be decoded or has an encoding that is no picture.
            LabelError: The taxonomy is unknown or too many ids are outside it.
        """
        if (rgb.width, rgb.height) != (semantic.width, semantic.height):
            raise SizeMismatchError(_mismatch(rgb.width, rgb.height, semantic.width, semantic.height))
        picture = fit_rgb(to_rgb(rgb), self._size)
        height, width = picture.shape[:2]
        if not self._classes:
            return Prepared(picture, self._no_labels(width, height), 0, width, height)
        mapped = self._map_of(semantic).apply(fit_labels(to_ids(semantic), self._size))
        return Prepared(picture, mapped.labels, mapped.stray, width, height)

    def label_map(self, name: str) -> LabelMap:
        """The look-up table from a taxonomy to the translator's classes; built once per taxonomy.

        Raises:
            LabelError: No taxonomy has this name.
        """
        table = self._maps.get(name)
        if table is None:
            table = self._maps[name] = LabelMap.build(taxonomy(name), self._classes)
        return table

    def _map_of(self, semantic: Frame) -> LabelMap:
        if semantic.labels is None:
            raise LabelError(
                f"semantic frame {semantic.number} of camera {semantic.camera!r} names no taxonomy: "
                "its sender must set the header key 'labels', for example to 'carla-0.9.14'"
            )
        return self.label_map(semantic.labels)

    def _no_labels(self, width: int, height: int) -> ByteArray:
        if self._blank.shape != (height, width):
            self._blank = np.zeros((height, width), np.uint8)
        return self._blank


def postprocess(rgb: ByteArray, like: Frame) -> PixelArray:
    """Brings a translated picture into the encoding its CG frame came in.

    Args:
        rgb: uint8 ``(H, W, 3)``.
        like: The RGB input frame; only its encoding is looked at.

    Returns:
        uint8 ``(H, W, C)`` for raw encodings (``bgra8`` with alpha 255), the compressed bytes uint8 ``(n,)`` for
        ``jpeg`` and ``png``.

    Raises:
        ImageError: The encoding cannot hold a colour picture.
    """
    encode = _ENCODERS.get(like.encoding)
    if encode is None:
        raise ImageError(
            f"frame {like.number} of camera {like.camera!r} has encoding {like.encoding.value!r}, "
            f"but a colour picture needs one of {', '.join(sorted(_ENCODERS))}: publish RGB in one of these"
        )
    return encode(rgb)


def _to_jpeg(rgb: ByteArray) -> ByteArray:
    # 4:4:4, since thin coloured things (lights, signs, road lines) are what halved chroma blurs first.
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _compress(".jpg", rgb, flags)


def _to_png(rgb: ByteArray) -> ByteArray:
    # Level 1: higher levels cost several times the time for some per cent of the size, and this runs once a frame.
    return _compress(".png", rgb, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _compress(extension: str, rgb: ByteArray, flags: list[int]) -> ByteArray:
    done, data = cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), flags)
    if not done:
        height, width = rgb.shape[:2]
        raise ImageError(f"a {width}x{height} picture could not be encoded as {extension[1:]}: publish raw RGB instead")
    return _bytes(data).reshape(-1)


def _bytes(image: PixelArray) -> ByteArray:
    """Narrows OpenCV's loosely typed result; it hands back the element type it was given."""
    return image.view(np.uint8)


def _mismatch(width: int, height: int, other_width: int, other_height: int) -> str:
    return (
        f"the RGB image is {width}x{height} and the semantic image {other_width}x{other_height}, "
        "but a pair must agree: give both cameras the same image size"
    )


_ENCODERS: dict[Encoding, Callable[[ByteArray], PixelArray]] = {
    Encoding.RGB8: lambda rgb: rgb,
    Encoding.BGR8: lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
    Encoding.BGRA8: lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA),
    Encoding.JPEG: _to_jpeg,
    Encoding.PNG: _to_png,
}
