"""What cameras see: stamped pictures of a flat scene, which cost nothing, or captures of a real server."""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sim_bridge.pixels.labels import LabelMap, Taxonomy, ids_from_image, taxonomy
from tests.carla_server.blueprints import CameraKind, Lens
from tests.carla_server.payloads import SENSOR_TYPES
from tests.carla_server.stamp import PIXELS, Stamp
from tests.carla_server.streams import Buffer
from tests.carla_server.structures import Transform

STEPS: Final = 8
"""Pictures of the flat scene; then they repeat."""
CACHED: Final = 128
FAR_METRES: Final = 1000.0
"""CARLA's depth cameras see no farther."""

ByteArray = npt.NDArray[np.uint8]
Pixels = Sequence[Buffer]
"""A picture in parts of flat bytes: 4 a pixel (B, G, R, A), of optical flow 8 (two float32)."""


class Moment(NamedTuple):
    """A pose at a time in seconds."""

    pose: Transform
    time: float


class Shot(NamedTuple):
    """One picture to be made.

    Attributes:
        kind: Which camera.
        camera: Its actor id.
        frame: The tick.
        lens: Size and field of view.
        now: Where the camera is.
        before: Where it was at the tick before.
        mount: The same for cameras that are fixed in the same place on the same actor.
    """

    kind: CameraKind
    camera: int
    frame: int
    lens: Lens
    now: Moment
    before: Moment
    mount: Hashable


class Pictures(Protocol):
    """What cameras see."""

    kinds: frozenset[CameraKind]
    """The cameras there are pictures for."""

    def paint(self, shot: Shot) -> Pixels:
        """The pixels of one picture."""
        ...


def taxonomy_of(version: str) -> Taxonomy:
    """The taxonomy of a server's semantic tags; unknown versions have the newest."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    number = tuple(map(int, match.groups())) if match else (0, 9, 14)
    generation = "0.9.14" if number >= (0, 9, 14) else "0.9.10" if number >= (0, 9, 10) else "0.9.0"
    return taxonomy(f"carla-{generation}")


def tag_map(source: Taxonomy, tags: Taxonomy) -> LabelMap:
    """The table from any taxonomy to the server's tags."""
    names = [tags.ids[number] for number in range(len(tags.ids))]
    return LabelMap.build(source, names, unlabeled=names[0])


def bgra(tags: Taxonomy, ids: ByteArray) -> ByteArray:
    """Tags ``(H, W)`` in the palette's colours, uint8 ``(H, W, 4)``."""
    colors = np.zeros((256, 4), np.uint8)
    for number, color in tags.palette.items():
        colors[number] = (*color[::-1], 255)
    return np.asarray(colors.take(ids, 0))


def in_red(ids: ByteArray, green: ByteArray | int = 0, blue: ByteArray | int = 0) -> ByteArray:
    """Tags ``(H, W)`` as semantic and, with numbers in the other bytes, instance cameras have them: uint8 BGRA."""
    pixels = np.empty((*ids.shape, 4), np.uint8)
    for channel, values in enumerate((blue, green, ids, 255)):
        pixels[..., channel] = values
    return pixels


def flat(pixels: npt.NDArray[Any]) -> memoryview:
    """The bytes of an image, in C order; its slices are no copies."""
    return memoryview(pixels.tobytes())


def encode_depth(metres: npt.NDArray[np.float32]) -> ByteArray:
    """Planar depth ``(H, W)``, inf = sky, in the 24 bits of CARLA's depth cameras: uint8 BGRA, low byte in red."""
    steps = np.round(np.clip(metres / FAR_METRES, 0, 1).astype(np.float64) * (2**24 - 1)).astype(np.uint32)
    red, green, blue = (np.asarray(steps >> shift & 255, np.uint8) for shift in (0, 8, 16))
    return in_red(red, green, blue)


class StampedPictures:
    """A flat scene that moves a little from tick to tick, stamped with the picture's identity; for speed.

    All kinds of cameras show the same scene: RGB has the palette's colours of the semantic tags. Tests read the stamp
    by :func:`tests.carla_server.stamp.read_stamp`.

    Args:
        tags: The server's taxonomy.
    """

    kinds = frozenset(CameraKind)

    def __init__(self, tags: Taxonomy) -> None:
        self._tags = tags
        self._ids = {name: number for number, name in tags.ids.items()}
        self._base = functools.lru_cache(CACHED)(self._draw)
        self._marks = {kind: self._mark_pixels(kind) for kind in CameraKind}

    def paint(self, shot: Shot) -> Pixels:
        """The pixels of one picture."""
        base = self._base(shot.kind, shot.lens.width, shot.lens.height, shot.frame % STEPS)
        marks = self._marks[shot.kind]
        stamp = Stamp(shot.frame, shot.camera, SENSOR_TYPES[shot.kind])
        return marks.take(stamp.bits().view(np.uint8), 0).tobytes(), base[PIXELS * marks.shape[1] * marks.itemsize :]

    def _mark_pixels(self, kind: CameraKind) -> npt.NDArray[np.uint8 | np.float32]:
        """The pixel of a 0 and of a 1, ``(2, values a pixel)``."""
        if kind is CameraKind.OPTICAL_FLOW:
            return np.array([[0, 0], [1, 1]], np.float32)
        if kind in (CameraKind.SEMANTIC, CameraKind.INSTANCE):
            return in_red(np.array([self._ids["road"], self._ids["building"]], np.uint8))
        return np.array([[0, 0, 0, 255], [255] * 4], np.uint8)

    def _draw(self, kind: CameraKind, width: int, height: int, step: int) -> memoryview:
        ids = self._scene(width, height, step)
        match kind:
            case CameraKind.RGB:
                pixels: npt.NDArray[Any] = bgra(self._tags, ids)
            case CameraKind.SEMANTIC:
                pixels = in_red(ids)
            case CameraKind.INSTANCE:
                pixels = in_red(ids, np.asarray(ids == self._ids["car"], np.uint8))
            case CameraKind.DEPTH:
                rows = np.arange(height, dtype=np.float32) - np.float32(height / 2)
                metres = np.where(rows > 0, height / np.maximum(rows, 1), np.inf).astype(np.float32)
                pixels = encode_depth(np.repeat(metres[:, None], width, 1))
            case CameraKind.OPTICAL_FLOW:
                moving = (ids == self._ids["car"]).astype(np.float32) / STEPS
                pixels = np.stack([moving, np.zeros_like(moving)], -1)
        return flat(pixels)

    def _scene(self, width: int, height: int, step: int) -> ByteArray:
        ids = np.full((height, width), self._ids.get("sky", 0), np.uint8)
        ids[height // 4 : height // 2, : width // 3] = self._ids["building"]
        ids[height // 2 :] = self._ids["road"]
        left = step * width // STEPS
        ids[height // 2 : height * 2 // 3, left : left + width // STEPS] = self._ids["car"]
        return ids


class CapturedPictures:
    """Captures of a real server, one a tick, round and round, at whatever size the camera has.

    Args:
        rgb: Files of RGB images, in order.
        semantic: Files of label images of the same frames; colours, ids, or ids in red.
        source: Their taxonomy.
        tags: The server's taxonomy.
    """

    kinds = frozenset({CameraKind.RGB, CameraKind.SEMANTIC})

    def __init__(self, rgb: Sequence[Path], semantic: Sequence[Path], source: Taxonomy, tags: Taxonomy) -> None:
        if not rgb or len(rgb) != len(semantic):
            raise ValueError(f"there are {len(rgb)} RGB and {len(semantic)} label images: as many of both are needed")
        from sim_bridge.pixels.images import read_image  # it needs OpenCV

        table = tag_map(source, tags)
        self._rgb = [np.ascontiguousarray(read_image(path)[..., :3], np.uint8) for path in rgb]
        self._ids = [table.apply(ids_from_image(read_image(path), source)).labels for path in semantic]
        self._sized = functools.lru_cache(CACHED)(self._size)

    def paint(self, shot: Shot) -> Pixels:
        """The pixels of one picture."""
        return (self._sized(shot.kind, shot.lens.width, shot.lens.height, shot.frame % len(self._rgb)),)

    def _size(self, kind: CameraKind, width: int, height: int, index: int) -> memoryview:
        import cv2

        if kind is CameraKind.RGB:
            colors = cv2.resize(self._rgb[index], (width, height), interpolation=cv2.INTER_AREA)
            return flat(cv2.cvtColor(colors, cv2.COLOR_BGR2BGRA))
        ids = cv2.resize(self._ids[index], (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return flat(in_red(np.asarray(ids, np.uint8)))
