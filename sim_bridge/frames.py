"""The frame contract: a frame never moves without its identity.

A :class:`Frame` is a view: ``pixels`` points into the buffer it arrived in, and nothing here copies it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

PixelArray = npt.NDArray[np.generic]
ByteArray = npt.NDArray[np.uint8]

MAX_SIDE: Final = 16384
"""Largest width or height of a frame, in pixels."""
MAX_PIXELS: Final = 8192 * 8192
"""Largest width times height of a frame."""
CAMERA_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
"""What a camera may be called: nothing with a leading dot or dash, because names become folders and flags."""


class Kind(StrEnum):
    """What a stream carries; the second half of a topic ``<camera>/<kind>``."""

    RGB = "rgb"
    SEMANTIC = "semantic"
    INSTANCE = "instance"
    DEPTH = "depth"
    FLOW = "flow"
    EDGES = "edges"
    PHOTOREAL = "photoreal"
    STATUS = "status"


class Encoding(StrEnum):
    """How to read a payload's bytes; names as in ROS where it has one."""

    BGRA8 = "bgra8"
    RGB8 = "rgb8"
    BGR8 = "bgr8"
    MONO8 = "mono8"
    MONO16 = "mono16"
    FLOAT1 = "32FC1"
    """Planar depth in metres; ``inf`` is sky."""
    FLOAT2 = "32FC2"
    """Flow in pixels; ``NaN`` is not visible."""
    JPEG = "jpeg"
    PNG = "png"


class PixelLayout(NamedTuple):
    """Channels and element type of a raw encoding."""

    channels: int
    dtype: np.dtype[np.generic]

    def nbytes(self, width: int, height: int) -> int:
        """Bytes of a ``width`` x ``height`` image, rows without padding."""
        return width * height * self.channels * self.dtype.itemsize

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Array shape: ``(height, width)``, or ``(height, width, channels)`` for more than one channel."""
        return (height, width) if self.channels == 1 else (height, width, self.channels)


RAW_LAYOUTS: Final[dict[Encoding, PixelLayout]] = {
    Encoding.BGRA8: PixelLayout(4, np.dtype(np.uint8)),
    Encoding.RGB8: PixelLayout(3, np.dtype(np.uint8)),
    Encoding.BGR8: PixelLayout(3, np.dtype(np.uint8)),
    Encoding.MONO8: PixelLayout(1, np.dtype(np.uint8)),
    Encoding.MONO16: PixelLayout(1, np.dtype("<u2")),
    Encoding.FLOAT1: PixelLayout(1, np.dtype("<f4")),
    Encoding.FLOAT2: PixelLayout(2, np.dtype("<f4")),
}
"""Layouts of the encodings that are plain pixels; ``jpeg`` and ``png`` are compressed and have none."""


class FrameId(NamedTuple):
    """What makes two messages belong to one simulator tick: session and frame number, never the time of arrival."""

    session: str
    number: int


class FrameStatus(StrEnum):
    """Whether a photoreal frame was translated."""

    FRESH = "fresh"
    FALLBACK = "fallback"
    """The CG frame was passed on unchanged."""


StyleValue = int | float | str | tuple[float, ...]
"""One value of a style: a seed, a number, a choice, or weights."""


class Style(Mapping[str, StyleValue]):
    """Which photoreal version of a scene is wanted: values by name, immutable and hashable.

    What the names mean is the translator's own business; :attr:`sim_bridge.translators.Translator.styles` says it.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, StyleValue] | None = None, /, **more: StyleValue) -> None:
        self._values: dict[str, StyleValue] = {**(values or {}), **more}

    def __getitem__(self, name: str) -> StyleValue:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Style) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"Style({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    @property
    def seed(self) -> int:
        """The value ``seed``; 0 without one."""
        seed = self._values.get("seed", 0)
        return seed if isinstance(seed, int) else 0

    def without(self, name: str) -> Style:
        """The other values."""
        return Style({key: value for key, value in self._values.items() if key != name})


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a photoreal frame came about. Times are nanoseconds since the epoch on the bridge's clock."""

    received: int
    inferred: int
    published: int
    model: str
    """First 12 hexadecimal digits of the bundle's SHA-256."""
    seed: int
    status: FrameStatus
    style: Style = field(default_factory=Style)
    """What was asked for beside the seed."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of one camera at one simulator tick.

    Attributes:
        camera: Name of the camera; letters, digits, ``_``, ``-`` and ``.``.
        kind: What the image shows.
        number: The simulator's own frame number.
        time: Simulator time in seconds.
        session: Id of the simulator run; frame numbers are only unique within it.
        encoding: How ``pixels`` is to be read.
        width: Width in pixels.
        height: Height in pixels.
        pixels: ``(H, W)`` or ``(H, W, C)`` for raw encodings, the compressed bytes ``(n,)`` uint8 for ``jpeg`` and
            ``png``.
        sent: When the sender sent it, nanoseconds since the epoch on the sender's clock.
        labels: Name of the taxonomy of a semantic frame's class ids.
        fov: Horizontal field of view in degrees.
        pose: ``(4, 4)`` float64 camera-to-world matrix in metres (OpenCV camera axes, right-handed z-up world).
        provenance: Set on photoreal frames only.
        received: When this process took it from the socket, nanoseconds since the epoch; 0 when it was made here.
    """

    camera: str
    kind: Kind
    number: int
    time: float
    session: str
    encoding: Encoding
    width: int
    height: int
    pixels: PixelArray
    sent: int
    labels: str | None = None
    fov: float | None = None
    pose: npt.NDArray[np.float64] | None = None
    provenance: Provenance | None = None
    received: int = 0

    @property
    def id(self) -> FrameId:
        """The identity by which frames are joined."""
        return FrameId(self.session, self.number)

    @property
    def topic(self) -> str:
        """The ZeroMQ topic, ``<camera>/<kind>``."""
        return f"{self.camera}/{self.kind}"
