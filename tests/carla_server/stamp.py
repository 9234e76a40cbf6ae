"""A picture that says which one it is: its first 64 pixels hold bits, so that tests can pair pictures by content.

The first two pixels are a 0 and a 1, so that a reader needs no more than one plane of the picture, whatever was done to
its values on the way: colours in any order, class ids of any taxonomy.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

PIXELS: Final = 64
"""The picture's first pixels in reading order."""
_FRAME_BITS: Final = 32
_CAMERA_BITS: Final = 16
_KIND_BITS: Final = 8
_CHECK_BITS: Final = PIXELS - 2 - _FRAME_BITS - _CAMERA_BITS - _KIND_BITS
_CHECK_PRIME: Final = 61
"""Divides no power of two: a single wrong bit is always found."""


class Stamp(NamedTuple):
    """Which picture this is.

    Attributes:
        frame: The tick, modulo 2**32.
        camera: Actor id of the camera, modulo 2**16.
        sensor_type: Its place in the sensor registry; see :data:`tests.carla_server.payloads.SENSOR_TYPES`.
    """

    frame: int
    camera: int
    sensor_type: int

    def bits(self) -> npt.NDArray[np.bool_]:
        """bool ``(64,)``."""
        frame, camera = self.frame % (1 << _FRAME_BITS), self.camera % (1 << _CAMERA_BITS)
        content = ((frame << _CAMERA_BITS | camera) << _KIND_BITS | self.sensor_type) << _CHECK_BITS
        number = 1 << (PIXELS - 2) | content | _check(content)
        return np.unpackbits(np.frombuffer(number.to_bytes(PIXELS // 8, "big"), np.uint8)).view(np.bool_)


def read_stamp(plane: npt.NDArray[Any]) -> Stamp:
    """Reads the stamp out of one channel of a picture.

    Args:
        plane: ``(H, W)``, of any type.

    Raises:
        ValueError: It holds none.
    """
    row = plane.reshape(-1)[:PIXELS].astype(np.float64)
    if row.size < PIXELS or row[0] == row[1]:
        raise ValueError("the picture holds no stamp: its first two pixels are alike")
    bits = np.abs(row - row[1]) < np.abs(row - row[0])
    number = int.from_bytes(np.packbits(bits).tobytes(), "big") & ((1 << (PIXELS - 2)) - 1)
    content = number >> _CHECK_BITS << _CHECK_BITS
    if number != content | _check(content):
        raise ValueError("the picture holds no stamp: its check bits do not fit")
    content >>= _CHECK_BITS
    camera = content >> _KIND_BITS & ((1 << _CAMERA_BITS) - 1)
    return Stamp(content >> (_KIND_BITS + _CAMERA_BITS), camera, content & ((1 << _KIND_BITS) - 1))


def _check(content: int) -> int:
    return content % _CHECK_PRIME
