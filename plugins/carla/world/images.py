"""Pixels of CARLA's cameras: BGRA buffers to colours, class ids, metres and instance ids.

A buffer's length is not checked by the client: everything here begins with :func:`bgra`, which does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import ImageError
from sim_bridge.frames import ByteArray, Kind
from sim_bridge.live.once import OncePerCause
from sim_bridge.pixels.labels import ids_from_carla_raw, taxonomy

if TYPE_CHECKING:
    import carla

CHANNELS: Final = 4
FAR_METRES: Final = 1000.0
"""Where CARLA's depth camera ends; what is as far is sky."""
_DEEPEST: Final = 2**24 - 1
PER_CLASS: Final = 1000
"""Instance ids are class * 1000 + n."""
COUNTED: Final = frozenset({"person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"})
"""Classes whose instances are told apart; of all others n is 0."""

BLUEPRINTS: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.RGB: "sensor.camera.rgb",
        Kind.SEMANTIC: "sensor.camera.semantic_segmentation",
        Kind.INSTANCE: "sensor.camera.instance_segmentation",
        Kind.DEPTH: "sensor.camera.depth",
    }
)
"""Which of CARLA's cameras makes a kind of image."""

_log = logging.getLogger(__name__)


def bgra(image: carla.Image) -> ByteArray:
    """The pixels of an image, uint8 ``(H, W, 4)``, read-only.

    A view of memory that belongs to ``image``: copy what is kept for longer than it.

    Raises:
        ImageError: The buffer is not as long as the image's size says.
    """
    return bgra_from(image.raw_data, int(image.width), int(image.height))


def bgra_from(buffer: Any, width: int, height: int) -> ByteArray:
    """A buffer of BGRA pixels as uint8 ``(H, W, 4)``, a read-only view.

    Raises:
        ImageError: The buffer is not ``width * height * 4`` bytes long, or a side is 0.
    """
    length, expected = len(buffer), width * height * CHANNELS
    if length != expected or not expected:
        raise ImageError(
            f"CARLA sent an image of {length} bytes that says it is {width}x{height}, which takes {expected}: "
            "see that client and server are of one version"
        )
    pixels = np.frombuffer(buffer, np.uint8).reshape(height, width, CHANNELS)
    pixels.flags.writeable = False
    return pixels


def semantic_ids(pixels: ByteArray) -> ByteArray:
    """Class ids, uint8 ``(H, W)``: the red channel of a semantic camera's BGRA pixels."""
    return ids_from_carla_raw(pixels, "bgra")


def depth_metres(pixels: ByteArray) -> npt.NDArray[np.float32]:
    """Planar depth in metres, float32 ``(H, W)``; inf is sky.

    CARLA's documentation: ``1000 * (R + 256 G + 65536 B) / (2^24 - 1)``.

    Args:
        pixels: uint8 ``(H, W, 4)`` BGRA of a depth camera.
    """
    blue, green, red = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    code = red | green << np.uint32(8) | blue << np.uint32(16)
    metres: npt.NDArray[np.float32] = (code * (FAR_METRES / _DEEPEST)).astype(np.float32)
    metres[code == _DEEPEST] = np.inf
    return metres


class InstanceNumbers:
    """Numbers the instances of each class from 1 in order of appearance, the same one alike in every image.

    CARLA's instance cameras have the class in red and 16 bits of an actor's id in green (low) and blue; the wire has
    room for 999 instances of a class.

    Args:
        labels: Name of the taxonomy of the class ids.
    """

    def __init__(self, labels: str) -> None:
        ids = taxonomy(labels).ids
        self._counted = np.zeros(256, bool)
        self._counted[[number for number, name in ids.items() if name in COUNTED]] = True
        self._numbers: dict[int, int] = {}
        self._next = np.ones(256, np.int64)
        self._once = OncePerCause(_log)

    def number(self, pixels: ByteArray) -> npt.NDArray[np.uint16]:
        """Instance ids, uint16 ``(H, W)``: class * 1000 + n.

        Args:
            pixels: uint8 ``(H, W, 4)`` BGRA of an instance camera.

        Raises:
            ImageError: A class id is above 65, for which 16 bits have no room.
        """
        tags = pixels[..., 2]
        if int(tags.max()) > np.iinfo(np.uint16).max // PER_CLASS:
            raise ImageError(
                f"CARLA sent the class id {int(tags.max())} in an instance image, but class * {PER_CLASS} + n has room "
                "for ids to 65: leave instances out"
            )
        codes = tags.astype(np.uint32) << np.uint32(16) | pixels[..., 0].astype(np.uint32) << np.uint32(8)
        codes |= pixels[..., 1]
        seen, places = np.unique(codes, return_inverse=True)
        found = np.array([self._number_of(int(code)) for code in seen], np.uint16)
        return found[places.reshape(codes.shape)]

    def _number_of(self, code: int) -> int:
        tag = code >> 16
        if not self._counted[tag]:
            return tag * PER_CLASS
        if code not in self._numbers:
            number = int(self._next[tag])
            if number >= PER_CLASS:
                self._once.warn(
                    ("instances", tag),
                    f"class id {tag} has more than {PER_CLASS - 1} instances, for which its ids have no room: "
                    "further ones get the number 0",
                )
                number = 0
            self._next[tag] += 1
            self._numbers[code] = tag * PER_CLASS + number
        return self._numbers[code]
