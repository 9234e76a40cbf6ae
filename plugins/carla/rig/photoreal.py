"""A photoreal image that reads like a ``carla.Image``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from plugins.carla.world.images import CHANNELS
from plugins.carla.world.poses import placement_of
from sim_bridge.errors import ImageError, UsageError
from sim_bridge.frames import ByteArray, Encoding, Frame, Provenance

if TYPE_CHECKING:
    import carla

_SUFFIXES: Final = (".png", ".jpg", ".jpeg")


class PhotorealImage:
    """What a bridge made of one tick of a camera; code that reads a ``carla.Image`` reads it unchanged.

    Made of a photoreal frame in BGRA with a pose; ImageError for any other.

    Attributes:
        frame: The world's frame number.
        timestamp: Simulator time, seconds.
        fov: Horizontal field of view, degrees.
        provenance: Which network made it, when, and whether it is the CG image passed on.
    """

    def __init__(self, frame: Frame) -> None:
        if frame.encoding is not Encoding.BGRA8 or frame.pose is None:
            found = f"{frame.encoding} {'without' if frame.pose is None else 'with'} a pose"
            raise ImageError(
                f"the photoreal frame {frame.number} is {found}, but CARLA's code reads bgra8 with a pose: see which "
                "simulator the bridge listens to"
            )
        self._pixels = np.ascontiguousarray(frame.pixels, dtype=np.uint8)
        self._pose = frame.pose
        self.frame = frame.number
        self.timestamp = frame.time
        self.width, self.height = frame.width, frame.height
        self.fov = 0.0 if frame.fov is None else frame.fov
        self.provenance: Provenance | None = frame.provenance
        self.session = frame.session

    @property
    def frame_number(self) -> int:
        """The older name of ``frame``."""
        return self.frame

    @property
    def transform(self) -> carla.Transform:
        """Where the camera was in CARLA's world."""
        return placement_of(self._pose).to_carla()

    @property
    def raw_data(self) -> memoryview:
        """The pixels as bytes: blue, green, red, alpha, rows from the top."""
        return self._pixels.reshape(-1).data

    @property
    def array(self) -> ByteArray:
        """The pixels, uint8 ``(H, W, 4)`` BGRA, read-only."""
        return self._pixels

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._pixels, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return self.width * self.height

    def __getitem__(self, place: int) -> carla.Color:
        import carla

        blue, green, red, alpha = (int(value) for value in self._pixels.reshape(-1, CHANNELS)[place])
        return carla.Color(red, green, blue, alpha)

    def __repr__(self) -> str:
        return f"PhotorealImage(frame={self.frame}, timestamp={self.timestamp:g}, size={self.width}x{self.height})"

    def convert(self, color_converter: object) -> None:
        """Does nothing for ``carla.ColorConverter.Raw``. Raises UsageError: any other: these pixels are colours."""
        if str(color_converter) != "Raw":
            raise UsageError(f"a photoreal image has colours, which {color_converter} cannot convert: leave it out")

    def save_to_disk(self, path: str | Path, color_converter: object = "Raw") -> str:
        """Writes the image, as PNG unless the name ends in .jpg, makes folders, and returns the path.

        Raises:
            ImageError: It cannot be written.
            UsageError: The converter is not ``carla.ColorConverter.Raw``.
        """
        self.convert(color_converter)
        from sim_bridge.pixels.images import write_jpeg, write_png

        target = Path(path)
        if target.suffix.lower() not in _SUFFIXES:
            target = target.with_name(f"{target.name}.png")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"the folder {target.parent} cannot be made ({error.strerror}): choose another") from error
        write = write_png if target.suffix.lower() == ".png" else write_jpeg
        write(target, self._pixels[..., :3])
        return str(target)
