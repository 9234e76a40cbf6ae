"""What happens to a frame between the wire and the network, and back.

Training and the live bridge both call :func:`fit_pair` and :class:`~sim_bridge.pixels.labels.LabelMap`, so a picture
gives the network the same input either way. The network computes the edge map itself, from the RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import ImageError, LabelError, MissingExtraError, SizeMismatchError
from sim_bridge.frames import ByteArray, Encoding, Frame, PixelArray
from sim_bridge.pixels.images import encode_jpeg, encode_png, to_ids, to_rgb
from sim_bridge.pixels.labels import LabelMap
from sim_bridge.pixels.taxonomy import Taxonomies

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
        labels: uint8 ``(H, W)``, ids into the translator's classes; all zero when it has none.
        stray: Pixels outside the taxonomy, now ``unlabeled``.
        width: Width in pixels at which the network works.
        height: Height in pixels at which the network works.
    """

    rgb: ByteArray
    labels: ByteArray
    stray: int
    width: int
    height: int


def fit_rgb(rgb: ByteArray, size: tuple[int, int] | None) -> ByteArray:
    """Resizes uint8 ``(H, W, 3)`` to ``(width, height)``: by area when it shrinks, linearly when a side grows.

    Returns ``rgb`` itself for None or its own size.
    """
    height, width = rgb.shape[:2]
    if size is None or size == (width, height):
        return rgb
    shrinks = size[0] <= width and size[1] <= height
    # Linear, not cubic: the overshoot of a cubic kernel beside a step is an edge that the render does not have.
    return _bytes(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def fit_labels(ids: ByteArray, size: tuple[int, int] | None) -> ByteArray:
    """Resizes class ids uint8 ``(H, W)`` to ``(width, height)``: nearest pixel centre, so no new id appears.

    Returns ``ids`` itself for None or its own size.
    """
    return fit_ids(ids, size)


def fit_ids(ids: npt.NDArray[Integer], size: tuple[int, int] | None) -> npt.NDArray[Integer]:
    """As :func:`fit_labels`, of 8 or 16 bits."""
    height, width = ids.shape
    if size is None or size == (width, height):
        return ids
    # INTER_NEAREST would take each cell's upper left pixel, half a cell away from what the RGB's area mean shows.
    return np.asarray(cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST_EXACT), ids.dtype)


def fit_pair(rgb: ByteArray, ids: ByteArray, size: tuple[int, int] | None) -> tuple[ByteArray, ByteArray]:
    """:func:`fit_rgb` and :func:`fit_labels`. Raises SizeMismatchError when the two differ in size."""
    if rgb.shape[:2] != ids.shape:
        raise SizeMismatchError(_mismatch(rgb.shape[1], rgb.shape[0], ids.shape[1], ids.shape[0]))
    return fit_rgb(rgb, size), fit_labels(ids, size)


class Preprocessor:
    """Turns the two messages of a tick into a network's input. One thread uses it at a time.

    Args:
        classes: The translator's class names by id; without any, labels are not decoded.
        size: ``(width, height)`` at which the network works, or None for the input's own size.
        taxonomies: Those that a frame may name; by default the shipped ones and those that packages bring.
    """

    def __init__(
        self, classes: Sequence[str], size: tuple[int, int] | None, taxonomies: Taxonomies | None = None
    ) -> None:
        self._classes = tuple(classes)
        self._size = size
        self._taxonomies = taxonomies or Taxonomies()
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

        Raises LabelError when no taxonomy has this name.
        """
        table = self._maps.get(name)
        if table is None:
            table = self._maps[name] = LabelMap.build(self._taxonomies.named(name), self._classes)
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
    """Brings a translated picture uint8 ``(H, W, 3)`` into the encoding of its CG frame.

    Returns:
        uint8 ``(H, W, C)`` for raw encodings (``bgra8`` with alpha 255), bytes uint8 ``(n,)`` for ``jpeg`` and ``png``.

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
    Encoding.JPEG: lambda rgb: encode_jpeg(rgb, JPEG_QUALITY),
    Encoding.PNG: encode_png,
}
