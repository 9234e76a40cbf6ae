"""What the CARLA plugin makes of values: poses, tags, pixels, rigs, options. No server is needed."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.carla.rig.photoreal import PhotorealImage
from plugins.carla.rig.rig import DEFAULT_PLACE, parse_transform, read_rig, single_camera
from plugins.carla.rig.sensors import Arrival, ArrivalQueue
from plugins.carla.run.options import CarlaOptions
from plugins.carla.world.images import InstanceNumbers, bgra_from, depth_metres, semantic_ids
from plugins.carla.world.poses import Placement, placement_of, pose_of
from plugins.carla.world.server import CarlaError, ServerLostError, Where, asking, require_carla
from plugins.carla.world.tags import taxonomy_for
from sim_bridge.errors import ImageError, UsageError
from sim_bridge.frames import Encoding, Frame, Kind
from tests.sim_bridge.recording_helpers import run_cli, site

__all__ = ["site"]

METRES = st.floats(-1e4, 1e4)
PLACES = st.builds(
    Placement, METRES, METRES, METRES, st.floats(-89.9, 89.9), st.floats(-179.9, 179.9), st.floats(-179.9, 179.9)
)


def turn_error(one: Placement, other: Placement) -> float:
    """Largest difference of the two, metres or degrees, angles taken round."""
    angles = [abs((a - b + 180) % 360 - 180) for a, b in zip(one[3:], other[3:], strict=True)]
    return max(*(abs(a - b) for a, b in zip(one[:3], other[:3], strict=True)), *angles)


@given(PLACES)
def test_a_pose_is_a_rotation_and_leads_back(place: Placement) -> None:
    pose = pose_of(place)
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    assert turn_error(placement_of(pose), place) < 1e-6


@given(st.floats(-179, 179), st.sampled_from((90.0, -90.0)))
def test_straight_up_and_down_lead_back_to_the_same_pose(yaw: float, pitch: float) -> None:
    pose = pose_of(Placement(1, 2, 3, pitch, yaw, 0))
    assert np.allclose(pose_of(placement_of(pose)), pose, atol=1e-6)


@pytest.mark.parametrize(
    ("place", "forward", "right"),
    [
        (Placement(), (1, 0, 0), (0, -1, 0)),
        (Placement(yaw=90), (0, -1, 0), (-1, 0, 0)),  # CARLA turns to its right, which is the wire's -y
        (Placement(pitch=90), (0, 0, 1), (0, -1, 0)),
        (Placement(roll=90), (1, 0, 0), (0, 0, -1)),  # clockwise seen from behind: the right side goes down
    ],
)
def test_axes(place: Placement, forward: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Columns of the pose: camera x (right), y (down), z (forward) in a right-handed world."""
    pose = pose_of(place)
    assert np.allclose(pose[:3, 2], forward)
    assert np.allclose(pose[:3, 0], right)


def test_a_point_to_the_right_of_the_car_is_on_the_wires_minus_y() -> None:
    assert np.allclose(pose_of(Placement(3, 4, 5))[:3, 3], (3, -4, 5))


@pytest.mark.carla
def test_the_matrix_is_the_clients() -> None:
    pytest.importorskip("carla", reason="needs the CARLA client: pip install '.[carla]'")
    generator = np.random.default_rng(0)
    for _ in range(50):
        place = Placement(*generator.uniform(-80, 80, 6))
        transform = place.to_carla()
        assert np.allclose(place.matrix(), np.array(transform.get_matrix()), atol=1e-4)
        assert turn_error(Placement.of(transform), place) < 1e-4


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("0.9.0", "carla-0.9.0"),
        ("0.9.9.4", "carla-0.9.0"),
        ("0.9.10.1", "carla-0.9.10"),
        ("0.9.13", "carla-0.9.10"),
        ("0.9.14", "carla-0.9.14"),
        ("0.9.16", "carla-0.9.14"),
        ("v0.9.15-12-gabc1234", "carla-0.9.14"),
        ("0.9.15-dirty", "carla-0.9.14"),
    ],
)
def test_the_servers_version_tells_the_taxonomy(version: str, name: str) -> None:
    assert taxonomy_for(version) == name


@pytest.mark.parametrize("version", ["0.10.0", "1.0.0", "0.8.4", "abc1234", "", "0.9", "10.9.14"])
def test_an_unknown_version_asks_for_labels(version: str) -> None:
    with pytest.raises(UsageError, match=r"--labels, one of carla-0\.9\.0, carla-0\.9\.10, carla-0\.9\.14"):
        taxonomy_for(version)
    assert taxonomy_for(version, "toytown") == "toytown"
    with pytest.raises(UsageError, match="--labels nonsense"):
        taxonomy_for("0.9.16", "nonsense")


@pytest.mark.parametrize("missing", [-4, -1, 1, 32 * 16 * 4])
def test_a_buffer_of_another_length_is_refused(missing: int) -> None:
    buffer = bytes(32 * 16 * 4 - missing)
    with pytest.raises(ImageError, match=f"{len(buffer)} bytes that says it is 32x16, which takes 2048"):
        bgra_from(buffer, 32, 16)


def test_no_pixels_are_no_image() -> None:
    with pytest.raises(ImageError):
        bgra_from(b"", 0, 16)


def test_ids_are_the_red_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 4), np.uint8)
    read = bgra_from(pixels.tobytes(), 32, 16)
    assert not read.flags.writeable
    ids = semantic_ids(read)
    assert (ids == pixels[..., 2]).all() and ids.flags.c_contiguous and ids.base is not read


@given(st.floats(0, 999.9))
def test_depth_comes_back(metres: float) -> None:
    """Coded as CARLA documents it: red is the low byte."""
    code = round(metres / 1000 * (2**24 - 1))
    pixels = np.array([[[code >> 16 & 255, code >> 8 & 255, code & 255, 255]]], np.uint8)
    assert depth_metres(pixels)[0, 0] == pytest.approx(metres, abs=1e-4)


def test_the_far_end_is_sky() -> None:
    depth = depth_metres(np.array([[[255, 255, 255, 255], [255, 255, 254, 255]]], np.uint8))
    assert depth.dtype == np.float32 and depth[0, 0] == math.inf and depth[0, 1] == pytest.approx(1000, abs=1e-3)


def instance_pixels(*seen: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array([[[actor >> 8, actor & 255, tag, 255] for tag, actor in seen]], np.uint8)


def test_instances_are_counted_by_class_and_keep_their_numbers() -> None:
    numbers = InstanceNumbers("carla-0.9.14")
    car, person, road = 14, 12, 1
    first = numbers.number(instance_pixels((car, 300), (car, 44), (person, 300), (road, 9)))
    assert sorted(first[0, :2]) == [14001, 14002] and list(first[0, 2:]) == [12001, 1000]
    second = numbers.number(instance_pixels((car, 44), (car, 7)))
    assert second[0, 0] == first[0, 1] and second[0, 1] == 14003
    assert second.dtype == np.uint16


def test_more_instances_than_there_is_room_for_get_no_number() -> None:
    numbers = InstanceNumbers("carla-0.9.14")
    found = numbers.number(instance_pixels(*((14, actor) for actor in range(1200))))
    assert found.max() == 14999 and (found == 14000).sum() == 201


def test_a_class_without_room_is_refused() -> None:
    with pytest.raises(ImageError, match="class id 66"):
        InstanceNumbers("carla-0.9.14").number(instance_pixels((66, 1)))


RIG = """
cameras:
  front: {x: 1.5, z: 2.4, fov: 110}
  left: {x: 1.0, y: -0.5, z: 2.4, yaw: -60, size: 512x256}
  rear:
"""


def test_a_rig_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text(RIG)
    rig = read_rig(path, (640, 480), 70.0)
    assert rig.names == ("front", "left", "rear")
    assert rig.cameras["front"].fov == 110 and rig.cameras["front"].size == (640, 480)
    assert rig.cameras["left"].placement == Placement(1.0, -0.5, 2.4, 0, -60, 0)
    assert rig.cameras["left"].size == (512, 256) and rig.cameras["rear"].fov == 70
    options = CarlaOptions.checked({"rig": rig.model_dump(mode="json")})
    assert options.rig == rig
    assert CarlaOptions.checked({"rig": str(path)}).rig.names == rig.names


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("cameras: {}", "at least 1"),
        ("cameras: [front]", "no map 'cameras'"),
        ("front: {x: 1}", "no map 'cameras'"),
        ("cameras: {front: {x: far}}", "cameras.front.x' is 'far'"),
        ("cameras: {front: {roof: 1}}", "cameras.front.roof"),
        ("cameras: {front: {fov: 200}}", "less than 170"),
        ("cameras: {front: {size: big}}", "WIDTHxHEIGHT"),
        ("cameras: {front: {size: 20000x16}}", "16384"),
        ("cameras: {front: 3}", "front' is 3"),
        ("cameras: {front/left: {}}", "front/left"),
        ("cameras: {front: {x: .nan}}", "finite"),
        ("cameras: {front: {attributes: {fov: 90}}}", "the attribute 'fov' is set by fov"),
        ("cameras: {front: {attributes: [gamma]}}", "cameras.front.attributes"),
        ("cameras: {front: {}}\nwheels: 4", "wheels"),
        ("cameras: [", "is not YAML"),
        ("", "no map 'cameras'"),
    ],
)
def test_wrong_rigs_are_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="the rig") as caught:
        read_rig(path)
    assert sentence in str(caught.value)


def test_a_rig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read \(No such file"):
        read_rig(tmp_path / "none.yaml")


def test_a_transform_is_read() -> None:
    assert parse_transform("1.5,0,2.4") == DEFAULT_PLACE
    assert parse_transform("1,2,3,-5,90,1") == Placement(1, 2, 3, -5, 90, 1)
    for wrong in ("", "1,2", "1,2,3,4", "a,b,c", "1,2,inf", "1,2,3,4,5,6,7"):
        with pytest.raises(UsageError, match=r"not x,y,z,pitch,yaw,roll"):
            parse_transform(wrong)
    with pytest.raises(UsageError, match=r"camera\.fov"):
        single_camera((64, 32), 0.5, DEFAULT_PLACE)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"speed": 3}, "option 'speed'"),
        ({"port": 70000}, "option 'port'"),
        ({"timeout": 0}, "option 'timeout'"),
        ({"step": float("nan")}, "option 'step'"),
        ({"kinds": ("flow",)}, "no flow: choose from instance, depth"),
        ({"actor": 0}, "option 'actor'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        CarlaOptions.checked(options)


def test_addresses() -> None:
    assert str(Where.parse("there:2010")) == "there:2010"
    assert str(Where.parse("")) == str(Where.parse(":2000")) == "127.0.0.1:2000"
    for wrong in ("there:x", "there:0", "there:99999", "a:b:c"):
        with pytest.raises(UsageError, match="HOST:PORT"):
            Where.parse(wrong)


def test_the_clients_errors_become_sentences() -> None:
    lost = pytest.raises(ServerLostError, match=r"the server did not answer within 3 s when it was asked for tea")
    with lost, asking("tea", "the server"):
        raise RuntimeError("time-out of 3000ms while waiting for the simulator, make sure ...")
    with pytest.raises(CarlaError, match="the server refused tea: no water"), asking("tea", "the server"):
        raise RuntimeError("no water")


class _Picture:
    def __init__(self, frame: int) -> None:
        self.frame = frame


def test_the_newest_push_the_oldest_out() -> None:
    queue = ArrivalQueue(4)
    for number in range(3):
        for kind in (Kind.RGB, Kind.SEMANTIC):
            queue.put(Arrival("camera", kind, _Picture(number), 0.0))
    assert queue.dropped == 2
    waiting = [queue.get(0) for _ in range(4)]
    assert [(arrival.number, arrival.kind) for arrival in waiting if arrival is not None] == [
        (1, Kind.RGB),
        (1, Kind.SEMANTIC),
        (2, Kind.RGB),
        (2, Kind.SEMANTIC),
    ]
    assert queue.get(0) is None
    keys = [("camera", Kind.RGB), ("camera", Kind.DEPTH)]
    assert queue.wait_for(keys, 2, 0.0) == [("camera", Kind.DEPTH)]
    assert queue.wait_for(keys[:1], 2, 0.0) == []


def photoreal_frame(pose: bool = True) -> Frame:
    pixels = np.random.default_rng(1).integers(0, 256, (16, 32, 4), np.uint8)
    place = Placement(10, 20, 3, -5, 60, 0)
    return Frame(
        camera="camera",
        kind=Kind.PHOTOREAL,
        number=7,
        time=0.35,
        session="s",
        encoding=Encoding.BGRA8,
        width=32,
        height=16,
        pixels=pixels,
        sent=0,
        fov=90.0,
        pose=pose_of(place) if pose else None,
    )


def test_a_photoreal_image_reads_like_carlas(tmp_path: Path) -> None:
    frame = photoreal_frame()
    image = PhotorealImage(frame)
    assert (image.frame, image.timestamp, image.width, image.height, image.fov) == (7, 0.35, 32, 16, 90.0)
    # The lines that CARLA's examples have.
    array = np.reshape(np.frombuffer(image.raw_data, dtype=np.dtype("uint8")), (image.height, image.width, 4))
    assert (array == frame.pixels).all() and (np.array(image.raw_data) == array.reshape(-1)).all()
    assert (np.asarray(image) == array).all() and len(image) == 32 * 16
    image.convert("Raw")
    with pytest.raises(UsageError, match="CityScapesPalette"):
        image.convert("CityScapesPalette")


def test_it_is_saved_as_carla_saves(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    image = PhotorealImage(photoreal_frame())
    written = image.save_to_disk(tmp_path / "out" / "000007")
    assert written == str(tmp_path / "out" / "000007.png")
    assert (cv2.imread(written) == image.array[..., :3]).all()
    assert Path(image.save_to_disk(str(tmp_path / "7.jpg"))).stat().st_size > 100
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="cannot be made"):
        image.save_to_disk(tmp_path / "file" / "7.png")


def test_a_frame_without_a_pose_is_no_image_of_carlas() -> None:
    with pytest.raises(ImageError, match="without a pose"):
        PhotorealImage(photoreal_frame(pose=False))


@pytest.mark.carla
def test_its_transform_and_colours_are_carlas() -> None:
    pytest.importorskip("carla", reason="needs the CARLA client: pip install '.[carla]'")
    image = PhotorealImage(photoreal_frame())
    assert turn_error(Placement.of(image.transform), Placement(10, 20, 3, -5, 60, 0)) < 1e-4
    blue, green, red, _ = image.array[0, 1]
    color = image[1]
    assert (color.r, color.g, color.b) == (red, green, blue)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--mode", "lockstep"], "--mode lockstep needs a wait for each photoreal frame"),
        (["--actor", "3", "--spawn"], "--actor and --spawn each name the vehicle"),
        (["--step", "0.1"], "add --tick"),
        (["--rig", "none.yaml"], "cannot be read"),
        (["--rig", "none.yaml", "--transform", "1,2,3"], "give one of them"),
        (["--transform", "up"], "not x,y,z,pitch,yaw,roll"),
        (["--size", "wide"], "not WIDTHxHEIGHT"),
        (["--labels", "nonsense"], "--labels nonsense"),
        (["--network-size", "1x1"], "'size'"),
        (["--attribute", "gamma"], "'gamma' is not NAME=VALUE"),
        (["--attribute", "sensor_tick=1"], "the attribute 'sensor_tick' is set by every"),
        (["--wait", "--spawn"], "--wait is for a vehicle that comes later"),
        (["--port", "3000", "record", "out"], "the flag --port comes before 'record'"),
    ],
)
@pytest.mark.carla
def test_the_command_refuses_in_one_sentence(arguments: list[str], sentence: str, site: Path) -> None:
    pytest.importorskip("carla", reason="needs the CARLA client: pip install '.[carla]'")
    done = run_cli("carla", *arguments, site=site)
    assert done.returncode == 2 and sentence in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_without_the_client_the_pip_command_is_named(tmp_path: Path, site: Path) -> None:
    """The real command line in an interpreter that has no package of that name."""
    code = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'carla' else found(name, *more)\n"
        "from sim_bridge.cli import main\n"
        "sys.exit(main(['carla', '--spawn']))\n"
    )
    environment = {"PYTHONPATH": f"{site}:{Path(__file__).parents[3]}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2 and "run pip install '.[carla,engine]'" in done.stderr, done.stderr


def test_importing_the_plugin_imports_neither_client_nor_torch() -> None:
    code = "import sys, plugins.carla.run.command; print(sorted({'torch', 'cv2', 'carla'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.strip() == "[]"


def test_a_folder_of_the_clients_name_is_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carla" / "dist").mkdir(parents=True)
    monkeypatch.delitem(sys.modules, "carla", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match=rf"but the folder {tmp_path}/carla, no client: run pip install '\.\[carla\]'"):
        require_carla()
