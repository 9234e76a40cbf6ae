"""What the stand-in's cameras see, without a client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sim_bridge.pixels.labels import taxonomy
from tests.carla_server.blueprints import CameraKind, Lens
from tests.carla_server.pictures import Moment, Pictures, Shot, taxonomy_of
from tests.carla_server.structures import Rotation, Transform, Vector

DATA = os.environ.get("SIM_BRIDGE_DATA")
NEWEST = taxonomy("carla-0.9.14")
IDS = {name: number for number, name in NEWEST.ids.items()}
LENS = Lens(256, 128, 90.0, 0.0)
HERE = Moment(Transform(Vector(21.2, 1.75, 1.55)), 0.0)


def shoot(pictures: Pictures, kind: CameraKind, now: Moment = HERE, frame: int = 0, **changed: Any) -> npt.NDArray[Any]:
    """The pixels of one picture, ``(H, W, 4)`` bytes or ``(H, W, 2)`` floats."""
    shot = Shot(kind, 25, frame, LENS, now, now, ("car", 0))._replace(**changed)
    data = b"".join(pictures.paint(shot))
    if kind is CameraKind.OPTICAL_FLOW:
        return np.frombuffer(data, np.float32).reshape(shot.lens.height, shot.lens.width, 2)
    return np.frombuffer(data, np.uint8).reshape(shot.lens.height, shot.lens.width, 4)


def moved(metres: float, yaw: float = 0.0, seconds: float = 0.0) -> Moment:
    location = HERE.pose.location
    return Moment(Transform(location._replace(x=location.x + metres), Rotation(yaw=yaw)), seconds)


@pytest.mark.parametrize(
    ("version", "name"),
    [("0.9.16", "0.9.14"), ("0.9.14", "0.9.14"), ("0.9.13", "0.9.10"), ("0.9.9", "0.9.0"), ("next", "0.9.14")],
)
def test_generations_of_tags(version: str, name: str) -> None:
    assert taxonomy_of(version).name == f"carla-{name}"


@pytest.fixture(scope="module")
def town() -> Iterator[Any]:
    pytest.importorskip("embreex", reason="toytown needs embreex: pip install '.[toytown]'")
    from tests.carla_server.toytown_pictures import ToytownPictures

    yield ToytownPictures(NEWEST)


def test_all_kinds_of_cameras_see_the_same_street(town: Any) -> None:
    rgb, tags, depth, instance = (
        shoot(town, kind) for kind in (CameraKind.RGB, CameraKind.SEMANTIC, CameraKind.DEPTH, CameraKind.INSTANCE)
    )
    ids = tags[..., 2]
    road = np.isin(ids[-20:], [IDS["road"], IDS["road line"]])
    assert road.mean() > 0.8  # the lane is where the map has it
    grey = np.ptp(rgb[-20:][road][:, :3].astype(int), axis=1)
    assert (grey < 20).mean() > 0.95
    sky = ids == IDS["sky"]
    assert sky.sum() > 100
    assert (rgb[sky][:, 0] > rgb[sky][:, 2]).all()  # blue: the scene of the tags
    metres = depth[..., :3].astype(np.float64) @ (65536, 256, 1) / (2**24 - 1) * 1000
    assert (metres[sky] == 1000).all()
    assert metres[-1, 128] == pytest.approx(1.55 / (63.5 / 128), rel=0.01)  # the road below a camera at 1.55 m
    assert (instance[..., 2] == ids).all()
    assert instance[ids == IDS["car"]][:, :2].any(axis=1).all()  # every car has a number
    assert not instance[ids == IDS["road"]][:, :2].any()


def test_turning_right_turns_the_picture_to_the_left(town: Any) -> None:
    ahead, right = (shoot(town, CameraKind.DEPTH, moved(0, yaw)) for yaw in (0, 45))
    # With 90 degrees of view the middle column after a turn of 45 degrees is the border column before it.
    seen = (ahead[64, 255], right[64, 128])
    far = [pixel[:3].astype(np.float64) @ (65536, 256, 1) for pixel in seen]
    assert far[1] / far[0] == pytest.approx(2**0.5, rel=0.03)


def test_flow_points_away_from_where_the_camera_goes(town: Any) -> None:
    later = moved(1.0)
    motion = shoot(town, CameraKind.OPTICAL_FLOW, later, before=HERE)
    road_left, road_right = motion[120, 40], motion[120, 215]
    assert road_left[0] < 0 < road_right[0]
    assert min(road_left[1], road_right[1]) > 0
    assert np.abs(motion).max() < 2
    assert np.abs(shoot(town, CameraKind.OPTICAL_FLOW)[100:]).max() < 1e-6  # the road before a camera that stands


def test_pictures_of_a_ring_repeat(town: Any) -> None:
    from tests.carla_server.toytown_pictures import ToytownPictures

    ring = ToytownPictures(NEWEST, ring=2)
    first = [shoot(ring, CameraKind.RGB, moved(frame), frame) for frame in (0, 1)]
    again = [shoot(ring, CameraKind.RGB, moved(frame), frame) for frame in (2, 3)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(*first)
    # A camera that comes later sees the scene that the others of its mount saw.
    assert np.array_equal(shoot(ring, CameraKind.SEMANTIC, moved(9), 3), shoot(town, CameraKind.SEMANTIC, moved(1)))


@pytest.mark.skipif(DATA is None, reason="SIM_BRIDGE_DATA does not name the folder with the captures")
def test_captures_of_a_real_server() -> None:
    from sim_bridge.pixels.images import read_image
    from tests.carla_server.pictures import CapturedPictures

    folder = Path(DATA or "") / "carla/carla_0.9.12_alexacarlson_town07"
    files = [sorted(folder.glob(glob)) for glob in ("rgb/*.png", "sem/*.png")]
    captures = CapturedPictures(files[0], files[1], taxonomy("carla-0.9.10"), taxonomy("carla-0.9.10"))
    native = Lens(800, 600, 90.0, 0.0)
    rgb = shoot(captures, CameraKind.RGB, frame=8, lens=native)
    assert np.array_equal(rgb[..., :3], read_image(files[0][3])[..., :3])
    tags = shoot(captures, CameraKind.SEMANTIC, frame=8, lens=native)
    assert (tags[..., 2] == 13).mean() == pytest.approx(0.32, abs=0.01)  # sky
    assert shoot(captures, CameraKind.SEMANTIC).shape == (128, 256, 4)
