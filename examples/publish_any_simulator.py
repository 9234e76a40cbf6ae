"""Publishes a camera on sim-bridge's wire without sim-bridge: what any simulator has to do, in any language.

The wire is :func:`send`: three message parts and a dozen header keys. The rest of this file is a small simulator, to
have something to send: it drives down a drawn street with houses, trees, traffic and people, and gives every pixel its
class id. Needs pyzmq, msgpack and numpy.

    python publish_any_simulator.py --size 512x256 --rate 20
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgpack
import numpy as np
import numpy.typing as npt
import zmq

Floats = npt.NDArray[np.floating[Any]]
Bytes = npt.NDArray[np.uint8]
Point = tuple[float, float, float]
"""Right of the road's middle, above the ground, along the road; metres."""

TAXONOMY = "carla-0.9.14"
ROAD, SIDEWALK, BUILDING, POLE, LIGHT, SIGN, PLANT, TERRAIN, SKY, PERSON = 1, 2, 3, 6, 7, 8, 9, 10, 11, 12
CAR, BUS, ROAD_LINE = 14, 16, 24
FOV = 80.0  # degrees, horizontal
EYE_X, EYE_H = 1.7, 1.5
SPEED = 8.0  # m/s
SIGHT = 130.0  # metres; beyond is haze
KERB, WALK_END, HOUSES = 5.6, 9.0, 10.0  # metres from the middle of the road
BLOCK = 15.0  # metres of street that are made at a time
HAZE = np.array([200, 210, 220], np.float32)


def send(
    socket: zmq.Socket[bytes], camera: str, kind: str, frame: dict[str, object], encoding: str, pixels: Bytes
) -> None:
    """Sends one image: topic, msgpack header, pixels in C order.

    Args:
        socket: A bound PUB socket.
        camera: Name of the camera.
        kind: ``rgb`` or ``semantic``; the bridge joins the two by session and frame number.
        frame: What both images of a tick share: ``frame``, ``time``, ``session``, and what else is known of it.
        encoding: ``bgra8``, ``rgb8`` or ``bgr8`` for ``rgb``, ``mono8`` for ``semantic``.
        pixels: uint8 ``(H, W)`` or ``(H, W, C)``.
    """
    header = {
        "v": 1,
        "camera": camera,
        "kind": kind,
        "sent": time.time_ns(),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "encoding": encoding,
        **frame,
    }
    if kind == "semantic":
        header["labels"] = TAXONOMY
    socket.send_multipart([f"{camera}/{kind}".encode("ascii"), msgpack.packb(header), pixels.tobytes()])


def publish(address: str, camera: str, size: tuple[int, int], rate: float, frames: int | None) -> None:
    """Drives and publishes ``frames`` ticks (None: until interrupted), at ``rate`` per second or as fast as it can."""
    street, session = Street(*size), uuid.uuid4().hex[:16]  # a new run has a new session id: frame numbers begin again
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.linger = 500  # ms: a reader that hangs must not keep the simulator from ending
        socket.bind(address)
        bound = socket.get_string(zmq.LAST_ENDPOINT)
        print(
            f"publishing {camera}/rgb and {camera}/semantic at {size[0]}x{size[1]} on {bound}, Ctrl-C ends", flush=True
        )
        start = time.perf_counter()
        for number in itertools.count() if frames is None else range(frames):
            rgb, ids = street.render(number / rate)
            tick: dict[str, object] = {"frame": number, "time": number / rate, "session": session, "fov": FOV}
            tick["pose"] = street.pose(number / rate)
            send(socket, camera, "rgb", tick, "rgb8", rgb)
            send(socket, camera, "semantic", tick, "mono8", ids)
            time.sleep(max(0.0, start + (number + 1) / rate - time.perf_counter()))


class Hits(NamedTuple):
    """Where rays meet a surface, one entry a pixel: world position in metres, face (0 side, 1 top, 2 front), depth."""

    x: Floats
    h: Floats
    z: Floats
    face: npt.NDArray[np.int8]
    depth: Floats


Paint = Callable[[Hits], Floats]
"""Colours ``(n, 3)``, 0 to 255, of surface points."""


class Thing(NamedTuple):
    """A box, or the ellipsoid inside it."""

    low: Point
    high: Point
    label: int
    paint: Paint
    round: bool = False


class Street:
    """A camera that drives down an endless street, and its picture: a ray per pixel, the nearest surface wins."""

    def __init__(self, width: int, height: int) -> None:
        self._shape = (height, width)
        self._focal = width / 2 / math.tan(math.radians(FOV / 2))
        self._right = ((np.arange(width) + 0.5 - width / 2) / self._focal).astype(np.float32)[None, :]
        self._up = ((height / 2 - np.arange(height) - 0.5) / self._focal).astype(np.float32)[:, None]
        with np.errstate(divide="ignore"):
            down = np.where(self._up < 0, -EYE_H / self._up, np.inf).astype(np.float32)
        self._ground = np.broadcast_to(np.minimum(down, 4 * SIGHT), self._shape)
        self._below = np.broadcast_to(self._up < 0, self._shape)
        self._sky = self._draw_sky()

    def pose(self, seconds: float) -> list[float]:
        """Camera to world, row by row: OpenCV camera axes (right, down, forward), world axes right, forward, up."""
        return [1.0, 0.0, 0.0, EYE_X, 0.0, 0.0, 1.0, SPEED * seconds, 0.0, -1.0, 0.0, EYE_H, 0.0, 0.0, 0.0, 1.0]

    def render(self, seconds: float) -> tuple[Bytes, Bytes]:
        """Draws the street at a time: RGB uint8 ``(H, W, 3)`` and class ids uint8 ``(H, W)``."""
        self._eye = (EYE_X, EYE_H, SPEED * seconds)
        self._depth = self._ground.copy()
        self._rgb = self._sky.copy()
        self._ids = np.full(self._shape, SKY, np.uint8)
        self._draw_ground()
        things = [thing for thing in scene(seconds) if thing.high[2] > self._eye[2] + 1]
        for thing in things:
            if thing.label in (CAR, BUS, PERSON) and thing.low[1] < 0.5:
                self._draw_shadow(thing)
        for thing in sorted(
            things, key=lambda thing: thing.low[2]
        ):  # near first: far ones are mostly hidden, and cheap
            self._draw(thing)
        haze = np.exp(self._depth / -SIGHT)[..., None]
        haze[self._ids == SKY] = 1.0
        picture = HAZE + (self._rgb - HAZE) * haze
        return np.clip(picture, 0, 255).astype(np.uint8), self._ids

    def _draw_sky(self) -> Floats:
        up = np.maximum(self._up, 0.01)
        cloud = np.clip(waves(self._right / up * 0.8, 0.9 / up) - 0.1, 0, 0.9) * np.minimum(1, 5 * up)
        blue: Floats = np.array([95, 145, 205]) + (HAZE - (95, 145, 205)) * np.exp(-3.5 * up)[..., None]
        sky: Floats = blue + (235 - blue) * cloud[..., None]
        return sky.astype(np.float32)

    def _draw_ground(self) -> None:
        depth = self._ground[self._below]
        x = (EYE_X + self._ground * self._right)[self._below]
        hits = Hits(x, np.zeros_like(x), depth + np.float32(self._eye[2]), np.ones(x.size, np.int8), depth)
        self._rgb[self._below], self._ids[self._below] = paint_ground(hits)

    def _draw_shadow(self, thing: Thing) -> None:
        (x0, _, z0), (x1, _, z1) = thing.low, thing.high
        rows, cols = self._window((x0 - 0.2, 0.0, z0 - 0.3), (x1 + 0.5, 0.0, z1 + 0.3))
        depth = self._ground[rows, cols]
        x = np.abs(EYE_X + depth * self._right[:, cols] - (x0 + x1) / 2 - 0.15)
        z = np.abs(depth + self._eye[2] - (z0 + z1) / 2)
        inside = np.clip(4 * np.minimum((x1 - x0) / 2 + 0.25 - x, (z1 - z0) / 2 + 0.25 - z), 0, 1)
        self._rgb[rows, cols] *= (1 - 0.6 * inside)[..., None]

    def _draw(self, thing: Thing) -> None:
        rows, cols = self._window(thing.low, thing.high)
        if rows.start >= rows.stop or cols.start >= cols.stop:
            return
        right, up = self._right[:, cols], self._up[rows]
        near, face = (self._meet_ellipsoid if thing.round else self._meet_box)(thing, right, up)
        hit = near < self._depth[rows, cols]
        if not hit.any():
            return
        depth = near[hit]
        x = (EYE_X + near * right)[hit]
        h = (EYE_H + near * up)[hit]
        colors = thing.paint(Hits(x, h, depth + np.float32(self._eye[2]), face[hit], depth))
        self._depth[rows, cols][hit] = depth
        self._rgb[rows, cols][hit] = colors
        self._ids[rows, cols][hit] = thing.label

    def _meet_box(self, thing: Thing, right: Floats, up: Floats) -> tuple[Floats, npt.NDArray[np.int8]]:
        """Depth at which each ray enters the box (inf: never), and through which face."""
        enters, leaves = [], []
        with np.errstate(divide="ignore", invalid="ignore"):
            for axis, ray in enumerate((right, up, np.ones((1, 1), np.float32))):
                first = np.float32(thing.low[axis] - self._eye[axis]) / ray
                second = np.float32(thing.high[axis] - self._eye[axis]) / ray
                enters.append(np.minimum(first, second))
                leaves.append(np.maximum(first, second))
        near = np.maximum(np.maximum(enters[0], enters[1]), enters[2])
        far = np.minimum(np.minimum(leaves[0], leaves[1]), leaves[2])
        face = np.where(near == enters[0], 0, np.where(near == enters[1], 1, 2)).astype(np.int8)
        return np.where((near < far) & (near > 0.3), near, np.float32(np.inf)), face

    def _meet_ellipsoid(self, thing: Thing, right: Floats, up: Floats) -> tuple[Floats, npt.NDArray[np.int8]]:
        """Depth at which each ray enters the ellipsoid (inf: never); face 1 where it is seen from above, else 2."""
        radii = [(high - low) / 2 for low, high in zip(thing.low, thing.high, strict=True)]
        offset = [(eye - low) / r - 1 for eye, low, r in zip(self._eye, thing.low, radii, strict=True)]
        rays = (right / np.float32(radii[0]), up / np.float32(radii[1]), np.float32(1 / radii[2]))
        a = rays[0] ** 2 + rays[1] ** 2 + rays[2] ** 2
        b = rays[0] * np.float32(offset[0]) + rays[1] * np.float32(offset[1]) + rays[2] * np.float32(offset[2])
        root = b * b - a * np.float32(sum(value * value for value in offset) - 1)
        near = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.float32(np.inf))
        above = EYE_H + near * up > (thing.low[1] + thing.high[1]) / 2
        return np.where(near > 0.3, near, np.float32(np.inf)), np.where(above, 1, 2).astype(np.int8)

    def _window(self, low: Point, high: Point) -> tuple[slice, slice]:
        """The part of the picture in which a box lies."""
        depths = [max(z - self._eye[2], 0.3) for z in (low[2], high[2])]
        u = [(x - EYE_X) / depth for x in (low[0], high[0]) for depth in depths]
        v = [(EYE_H - h) / depth for h in (low[1], high[1]) for depth in depths]
        height, width = self._shape
        rows, cols = (
            slice(
                max(0, math.floor(min(w) * self._focal + side / 2)),
                min(side, math.ceil(max(w) * self._focal + side / 2)),
            )
            for w, side in ((v, height), (u, width))
        )
        return rows, cols


def noise(*cells: Floats, seed: int = 0) -> Floats:
    """Repeatable noise, 0 to 1, one value for each integer cell of the given coordinates."""
    mixed = np.full(1, seed * 977 + 13, np.uint32)
    for cell, prime in zip(cells, (374761393, 668265263, 2246822519), strict=False):
        mixed = (mixed ^ np.floor(cell).astype(np.int32).view(np.uint32)) * np.uint32(prime)
        mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(2654435761)
    return (mixed >> np.uint32(16)).astype(np.float32) / np.float32(65535)


def waves(x: Floats, z: Floats) -> Floats:
    """Smooth, cloud-like noise, about -1 to 1."""
    total: Floats = np.zeros(np.broadcast_shapes(x.shape, z.shape), np.float32)
    for octave in range(4):
        scale, turn = 1.7**octave, 2.4 * octave
        total += np.sin((x * math.cos(turn) + z * math.sin(turn)) * scale + 1.3 * octave) * (0.62**octave)
        total += np.sin((z * math.cos(turn) - x * math.sin(turn)) * scale * 1.1 + 2.1 * octave) * (0.62**octave)
    return total / 3


def detail(depth: Floats, size: float) -> Floats:
    """How much of a texture with features of ``size`` metres is left at a depth; without it far texture flickers."""
    left: Floats = np.clip(size * 220 / depth - 0.6, 0, 1)
    return left


def solid(color: tuple[float, float, float], *, grain: float = 0.06) -> Paint:
    """Paints one colour, faces of a box lit differently."""

    def paint(hits: Hits) -> Floats:
        shade: Floats = np.array([0.72, 1.08, 0.9], np.float32)[hits.face]
        shade = shade * (1 + grain * (noise(hits.x * 12, hits.h * 12, hits.z * 12) - 0.5) * detail(hits.depth, 0.1))
        return np.array(color, np.float32) * shade[:, None]

    return paint


def paint_ground(hits: Hits) -> tuple[Floats, Bytes]:
    """Asphalt with markings, paved sidewalks with kerbs, grass; colours and class ids."""
    side, z = np.abs(hits.x), hits.z
    fine = detail(hits.depth, 0.08)
    patch = noise(hits.x / 2.2, z / 7, seed=3)
    asphalt = (
        88 + 10 * patch + 8 * (noise(hits.x * 14, z * 14) - 0.5) * fine - 9 * np.exp(-((side % 3.4 - 1.7) ** 2) * 3)
    )
    color = asphalt[:, None] * np.array([1.0, 1.0, 1.03], np.float32)
    ids = np.full(side.shape, ROAD, np.uint8)
    crossing = (z % 60 < 3) & (hits.x % 1.0 < 0.5) & (side < KERB - 0.4)
    line = ((side < 0.08) & (z % 6 < 3)) | (np.abs(side - 3.5) < 0.06) | crossing
    line &= ~((z % 60 < 4) & ~crossing)
    worn = 205 - 50 * noise(hits.x * 9, z * 9, seed=5) * fine
    walk, grass, kerb = side > KERB, side > WALK_END, (side > KERB) & (side < KERB + 0.25)
    joint = ((hits.x % 0.75 < 0.05) | (z % 0.75 < 0.05)) * detail(hits.depth, 0.1)
    tile = 150 + 18 * noise(hits.x / 0.75, z / 0.75, seed=1) - 45 * joint
    turf = 0.75 + 0.4 * noise(hits.x * 6, z * 6, seed=2) * detail(hits.depth, 0.2)
    color[line], ids[line] = worn[line, None], ROAD_LINE
    color[walk], ids[walk] = tile[walk, None] * np.array([1.0, 0.98, 0.94], np.float32), SIDEWALK
    color[kerb] = 175 - 60 * ((z[kerb] % 1.5 < 0.06) * fine[kerb])[:, None]
    color[grass], ids[grass] = turf[grass, None] * np.array([88, 112, 58], np.float32), TERRAIN
    return color, ids


def facade(color: tuple[float, float, float], top: float, seed: int) -> Paint:
    """Paints a house: rows of framed windows, ledges between storeys, shops on the ground floor."""
    storey, pitch = 3.1 + 0.4 * (seed % 3) / 2, 2.2 + 0.5 * (seed % 4) / 3

    def paint(hits: Hits) -> Floats:
        along = np.where(hits.face == 0, hits.z, hits.x) + seed
        shop = hits.h < 3.4
        a = along / np.where(shop, 2 * pitch, pitch)
        b = np.where(shop, hits.h / 3.4, (hits.h - 3.4) / storey)
        across, upward = a - np.floor(a), b - np.floor(b)
        margin = np.where(shop, 0.1, 0.27)
        depth_in = np.minimum(
            np.minimum(across - margin, 1 - margin - across), np.minimum(upward - 0.22, 0.82 - upward)
        )
        wall_top = (hits.h > top - 0.7) | (hits.face == 1)
        glass, frame = (depth_in > 0.035) & ~wall_top, (depth_in > 0) & ~wall_top
        brick = 1 + 0.16 * (noise(along * 4, hits.h * 9, seed=seed) - 0.5) * detail(hits.depth, 0.15)
        result = np.array(color, np.float32) * (brick * np.where(hits.face == 0, 0.8, 1.0))[:, None]
        result[(upward < 0.05) | wall_top] *= 0.72
        result[frame] = 215 if seed % 2 else 60
        lit = noise(a, b, seed=seed + 7)
        pane = 42 + 60 * lit + 45 * upward * (lit > 0.4)
        result[glass] = pane[glass, None] * np.array([0.82, 0.95, 1.1], np.float32)
        result[(np.abs(across - 0.5) < 0.02) & glass] = 200 if seed % 2 else 50
        return result

    return paint


def leaves(color: tuple[float, float, float], seed: int) -> Paint:
    """Paints foliage: clumps, light above and dark below."""

    def paint(hits: Hits) -> Floats:
        clump = waves(hits.x * 3.1 + seed, hits.h * 3.1 + hits.z * 2.3)
        speck = noise(hits.x * 9, hits.h * 9, hits.z * 9, seed=seed) - 0.5
        shade = 0.72 + 0.3 * clump + 0.5 * speck * detail(hits.depth, 0.12) + 0.09 * (hits.h - 4)
        colors: Floats = np.array(color, np.float32) * np.clip(shade, 0.25, 1.5)[:, None]
        return colors

    return paint


def bodywork(color: tuple[float, float, float], low: Point, high: Point) -> Paint:
    """Paints a car's lower half: wheels, lights, number plate, bumpers."""
    plain = solid(color, grain=0.0)

    def paint(hits: Hits) -> Floats:
        result = plain(hits)
        middle, half = (low[0] + high[0]) / 2, (high[0] - low[0]) / 2
        result[hits.h > high[1] - 0.06] *= 1.2
        result[hits.h < low[1] + 0.15] = 38
        for axle in (low[2] + 0.8, high[2] - 0.8):
            radius = np.hypot(hits.z - axle, hits.h - 0.33)
            result[(hits.face == 0) & (radius < 0.36)] = 24
            result[(hits.face == 0) & (radius < 0.2)] = 150
        end = hits.face == 2
        off = np.abs(hits.x - middle)
        red = (200, 25, 20) if middle > 0 else (240, 240, 220)
        result[end & (off > half - 0.4) & (off < half - 0.06) & (np.abs(hits.h - 0.72) < 0.09)] = red
        result[end & (off < 0.27) & (np.abs(hits.h - 0.55) < 0.06)] = 225
        return result

    return paint


def cabin(color: tuple[float, float, float], low: Point, high: Point, pillars: float) -> Paint:
    """Paints a car's upper half: windows between pillars, every ``pillars`` metres along the side."""
    plain = solid(color, grain=0.0)

    def paint(hits: Hits) -> Floats:
        result = plain(hits)
        rim = np.minimum(hits.h - low[1] - 0.03, high[1] - 0.09 - hits.h)
        across = np.minimum(hits.x - low[0], high[0] - hits.x) - 0.08
        along = np.minimum((hits.z - low[2]) % pillars, pillars - (hits.z - low[2]) % pillars) - 0.05
        glass = (hits.face != 1) & (rim > 0) & (np.where(hits.face == 0, along, across) > 0)
        gleam = 45 + 55 * (hits.h - low[1]) / (high[1] - low[1]) + 20 * np.sin(3 * hits.x + 2 * hits.z)
        result[glass] = gleam[glass, None] * np.array([0.85, 0.95, 1.08], np.float32)
        return result

    return paint


PAINTS = ((170, 30, 28), (225, 225, 222), (40, 44, 50), (150, 155, 160), (28, 60, 120), (200, 170, 60), (60, 90, 70))
WALLS = (
    (176, 120, 96),
    (205, 190, 160),
    (150, 150, 155),
    (190, 165, 130),
    (140, 95, 80),
    (215, 210, 200),
    (120, 130, 140),
)
CLOTHES = ((170, 60, 50), (50, 70, 120), (60, 60, 62), (190, 180, 160), (70, 110, 80))


def car(x: float, z: float, paint: int) -> Iterator[Thing]:
    """A car whose rear bumper stands at ``z``."""
    color = PAINTS[paint % len(PAINTS)]
    low, high = (x - 0.9, 0.18, z), (x + 0.9, 0.92, z + 4.3)
    yield Thing(low, high, CAR, bodywork(color, low, high))
    low, high = (x - 0.76, 0.92, z + 0.5), (x + 0.76, 1.46, z + 3.1)
    yield Thing(low, high, CAR, cabin(color, low, high, 1.25))


def bus(x: float, z: float, paint: int) -> Iterator[Thing]:
    """A bus whose rear stands at ``z``."""
    color = (210, 160, 40) if paint % 2 else (190, 40, 40)
    low, high = (x - 1.25, 0.25, z), (x + 1.25, 1.3, z + 11)
    yield Thing(low, high, BUS, bodywork(color, low, high))
    low, high = (x - 1.25, 1.3, z), (x + 1.25, 3.0, z + 11)
    yield Thing(low, high, BUS, cabin(color, low, high, 1.6))


def person(x: float, z: float, step: float, clothes: int) -> Iterator[Thing]:
    """Somebody who walks; ``step`` is the phase of the legs."""
    cloth, skin = solid(CLOTHES[clothes % len(CLOTHES)]), solid((205, 160, 135))
    swing = 0.18 * math.sin(step)
    for side, reach in ((-0.09, swing), (0.09, -swing)):
        low = (x + side - 0.1, 0.0, z + reach - 0.12)
        yield Thing(low, (low[0] + 0.2, 0.95, low[2] + 0.24), PERSON, solid((52, 54, 66)), round=True)
    yield Thing((x - 0.25, 0.75, z - 0.17), (x + 0.25, 1.52, z + 0.17), PERSON, cloth, round=True)
    yield Thing((x - 0.11, 1.45, z - 0.12), (x + 0.11, 1.75, z + 0.12), PERSON, skin, round=True)


def tree(x: float, z: float, size: float, seed: int) -> Iterator[Thing]:
    """A trunk and three clumps of leaves."""
    yield Thing((x - 0.16, 0.0, z - 0.16), (x + 0.16, 2.6, z + 0.16), PLANT, solid((92, 74, 58), grain=0.5))
    green = ((86, 118, 52), (104, 128, 60), (74, 104, 58))[seed % 3]
    for dx, dh, dz, r in ((-0.4, 0.0, -0.3, 1.3), (0.5, 0.4, 0.2, 1.2), (0.0, 1.2, 0.3, 1.1)):
        middle, r = (x + dx * size, 3.4 + dh * size, z + dz * size), r * size
        low, high = (middle[0] - r, middle[1] - r, middle[2] - r), (middle[0] + r, middle[1] + r, middle[2] + r)
        yield Thing(low, high, PLANT, leaves(green, seed), round=True)


def lamp(x: float, z: float) -> Iterator[Thing]:
    """A street lamp whose arm reaches over the road."""
    grey, over = solid((96, 100, 104)), -math.copysign(1.9, x)
    yield Thing((x - 0.08, 0.0, z - 0.08), (x + 0.08, 6.4, z + 0.08), POLE, grey)
    yield Thing((min(x, x + over), 6.3, z - 0.06), (max(x, x + over), 6.42, z + 0.06), POLE, grey)


def signal(x: float, z: float, green: bool) -> Iterator[Thing]:
    """A traffic light at a crossing, with a sign below it."""

    def lenses(hits: Hits) -> Floats:
        result = np.full((hits.x.size, 3), 30, np.float32)
        for height, on, color in ((3.35, not green, (235, 40, 30)), (2.75, green, (50, 220, 110))):
            disc = (hits.face == 2) & (np.hypot(hits.x - x, hits.h - height) < 0.13)
            result[disc] = color if on else 55
        return result

    def arrow(hits: Hits) -> Floats:
        off = np.hypot(hits.x - x, hits.h - 2.0)
        return np.where((off < 0.2)[:, None], np.float32(235), np.array([30, 70, 170], np.float32))

    yield Thing((x - 0.07, 0.0, z), (x + 0.07, 3.7, z + 0.14), POLE, solid((80, 84, 88)))
    yield Thing((x - 0.2, 2.5, z - 0.15), (x + 0.2, 3.6, z - 0.01), LIGHT, lenses)
    yield Thing((x - 0.32, 1.68, z - 0.05), (x + 0.32, 2.32, z - 0.01), SIGN, arrow)


@functools.lru_cache(maxsize=64)
def block(index: int) -> tuple[Thing, ...]:
    """What stands still along 15 metres of street."""
    dice = np.random.default_rng((7, index + 1_000_000))
    z, things = index * BLOCK, list[Thing]()
    for side in (-1, 1):
        seed, top, width = int(dice.integers(99)), float(dice.uniform(7, 19)), float(dice.uniform(11.5, 15))
        near, far = sorted((side * HOUSES, side * (HOUSES + 12)))
        if dice.random() < 0.88:
            wall = facade(WALLS[seed % len(WALLS)], top, seed)
            things.append(Thing((near, 0.0, z), (far, top, z + width), BUILDING, wall))
        for step in (3.5, 11.0):
            if dice.random() < 0.55 and not (index % 4 == 0 and step < 5):
                things += tree(side * 7.3, z + step, float(dice.uniform(0.8, 1.25)), seed + int(step))
            if dice.random() < 0.5 and not (index % 4 == 0 and step < 5) and index % 4 != 3:
                things += car(side * 4.55, z + step - 2, int(dice.integers(99)))
        if index % 2 == side > 0:
            things += lamp(side * 6.0, z + 7.5)
        if index % 4 == 0:
            things += signal(side * 6.0, z - 0.6, green=bool(index % 8))
    return tuple(things)


def scene(seconds: float) -> Iterator[Thing]:
    """All that can be seen at a time: blocks of street, traffic both ways, people on the sidewalks."""
    here = SPEED * seconds
    for index in range(math.floor(here / BLOCK) - 1, math.ceil((here + SIGHT) / BLOCK)):
        yield from block(index)
    for rank, gap in enumerate((11.0, 27.0, 52.0)):
        yield from car(EYE_X, here + gap + 3 * math.sin(0.4 * seconds + 2 * rank), 3 * rank + 1)
    first = math.ceil((here + 9 * seconds) / 26)
    for number in range(first - 1, first + 5):
        z = 26 * number - 9 * seconds  # oncoming: their street moves the other way
        yield from bus(-1.75, z, number) if number % 5 == 3 else car(-1.75, z, number)
    for number in range(math.floor(here / 9), math.floor((here + 70) / 9)):
        side, pace = (-1 if number % 2 else 1), 1.3 * (1 if number % 3 else -1)
        drift = (pace * seconds) % 9
        x = side * (6.6 + 1.9 * ((number * 37) % 10) / 10)
        yield from person(x, 9 * number + drift, 4.4 * seconds + number, number)


def parse_size(text: str) -> tuple[int, int]:
    """Reads ``WIDTHxHEIGHT``."""
    width, height = (int(side) for side in text.lower().split("x"))
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        raise ValueError(text)
    return width, height


def main() -> None:
    """Reads the flags and publishes until interrupted."""
    parser = argparse.ArgumentParser(description="Publish a drawn street on sim-bridge's wire.")
    parser.add_argument("--address", default="tcp://127.0.0.1:5555", help="where to bind (default: %(default)s)")
    parser.add_argument("--size", type=parse_size, default=(512, 256), help="WIDTHxHEIGHT in pixels (default: 512x256)")
    parser.add_argument("--rate", type=float, default=20.0, help="frames per simulated second (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=None, help="how many (default: until Ctrl-C)")
    parser.add_argument("--camera", default="camera", help="name of the camera (default: %(default)s)")
    flags = parser.parse_args()
    if flags.rate <= 0:
        parser.error(f"--rate is {flags.rate:g}, but must be above 0")
    try:
        publish(flags.address, flags.camera, flags.size, flags.rate, flags.frames)
    except KeyboardInterrupt:
        print("ended")
    except zmq.ZMQError as error:
        sys.exit(f"{flags.address} cannot be bound ({error}): another process may hold it, choose a free port")


if __name__ == "__main__":
    main()
