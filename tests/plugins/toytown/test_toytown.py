"""Toytown's ground truth is right, its two looks show the same things, and nothing depends on chance or order."""

import hashlib
import json
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from plugins.toytown.looks.photo.look import SAMPLES
from plugins.toytown.run.setup import Setup
from plugins.toytown.run.simulator import Shot, Simulator
from plugins.toytown.town.plan import road_marks
from plugins.toytown.town.route import Stand
from plugins.toytown.town.surfaces import CLASS_ID
from plugins.toytown.town.town import Town
from plugins.toytown.town.traffic import Traffic
from plugins.toytown.view.cameras import MOUNTS, look, parse_mount
from plugins.toytown.view.presets import DUSK, OVERCAST, Preset
from plugins.toytown.view.raycast import MISS, Backend, caster_factory
from plugins.toytown.view.scene import Scene
from plugins.toytown.view.view import View
from sim_bridge.errors import MissingExtraError, UsageError
from sim_bridge.pixels.labels import taxonomy
from tests.sim_bridge.recording_helpers import ROOT, environment

TICKS = (20, 140, 333, 512, 780, 1055)
"""Places along the drive: crossings, straights, turns."""
MEMORY_MIB = 700


class Landing(NamedTuple):
    """Where flow leads: of the visible pixels, whether the ray there meets the same triangle, and what is there."""

    same: npt.NDArray[np.bool_]
    moving: npt.NDArray[np.bool_]
    instance_before: npt.NDArray[np.uint16]
    instance_after: npt.NDArray[np.uint16]


def follow(shot: Shot, later: Shot) -> Landing:
    """Casts rays through the places that the flow names in the later image."""
    flow = shot.flow(later.time - shot.time).reshape(-1, 2)
    visible = np.flatnonzero(np.isfinite(flow[:, 0]))
    view, then = shot.view, later.view
    rows, columns = np.divmod(visible, view.lens.width)
    there = np.stack([columns + 0.5, rows + 0.5], 1) + flow[visible]
    rays = np.c_[there, np.ones(len(there))] @ np.linalg.inv(then.lens.K).T @ then.pose[:3, :3].T
    names_before = triangle_names(view)[visible]
    names_after, after = cast_names(then, rays.astype(np.float32))
    moving = np.isin(visible, view.moving_pixels)
    return Landing(names_before == names_after, moving, shot.instance().ravel()[visible], after)


def triangle_names(view: View) -> npt.NDArray[np.int64]:
    """A number for each pixel's triangle that is the same in every view."""
    names = view.rows.astype(np.int64)
    names[view.moving_pixels] = actor_names(view, view.moving_rows)
    return names


def actor_names(view: View, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    moving = view.moving
    actors = np.array(moving.actors, np.int64)[moving.owner[rows]]
    return -1 - (actors * 100_000 + moving.local[rows])


def cast_names(view: View, rays: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
    """The triangles' names on these rays from the view's camera, and their instance ids."""
    hits = view.scene.caster.cast(view.origin, rays)
    names = np.where(hits.triangle == MISS, view.scene.sky_row, hits.triangle).astype(np.int64)
    tables = view.scene.tables
    ids = tables.class_id[names].astype(np.uint16) * np.uint16(1000) + tables.instance[names]
    if view.moving.caster is not None:
        actors = view.moving.caster.cast(view.origin, rays)
        nearer = actors.distance < hits.distance
        names[nearer] = actor_names(view, actors.triangle[nearer])
        tables, found = view.moving.tables, actors.triangle[nearer]
        ids[nearer] = tables.class_id[found].astype(np.uint16) * np.uint16(1000) + tables.instance[found]
    return names, ids


def test_flow_leads_to_the_same_triangle(simulator: Simulator) -> None:
    landings = [follow(simulator.tick(n)[k], simulator.tick(n + 1)[k]) for n in TICKS for k in (0, 1)]
    same = np.concatenate([landing.same for landing in landings])
    moving = np.concatenate([landing.moving for landing in landings])
    assert moving.sum() > 5000
    assert same[~moving].mean() >= 0.998
    assert same[moving].mean() >= 0.998


def test_flow_is_known_nearly_everywhere(simulator: Simulator) -> None:
    """A mask that calls everything hidden would pass the test above."""
    shares = [np.isfinite(simulator.tick(number)[0].flow()).all(-1).mean() for number in TICKS]
    assert min(shares) > 0.7
    assert np.mean(shares) > 0.85


def test_instances_keep_their_numbers(simulator: Simulator) -> None:
    for number in TICKS:
        landing = follow(simulator.tick(number)[0], simulator.tick(number + 1)[0])
        things = landing.same & (landing.instance_before % 1000 > 0)
        assert things.any()
        assert (landing.instance_before[things] == landing.instance_after[things]).all()


def test_no_two_things_share_a_number(simulator: Simulator) -> None:
    actors = [actor.instance for actor in simulator.scene.town.actors]
    assert len(set(actors)) == len(actors)
    standing = np.unique(simulator.scene.tables.instance)
    assert not set(standing[standing > 0].tolist()) & set(actors)


def test_instance_ids_hold_the_class(simulator: Simulator) -> None:
    shot = simulator.tick(140)[0]
    instance, semantic = shot.instance(), shot.semantic()
    road = semantic == CLASS_ID["road line"]
    assert (instance[~road] // 1000 == semantic[~road]).all()
    assert (instance[road] == CLASS_ID["road"] * 1000).all()
    things = semantic[(instance % 1000) > 0]
    assert set(things.tolist()) <= set(range(CLASS_ID["person"], CLASS_ID["bicycle"] + 1))
    assert (instance[semantic == CLASS_ID["car"]] % 1000 > 0).all()


def test_depth_and_poses_agree(simulator: Simulator) -> None:
    """Points made of depth, K and pose of one tick lie where the next tick's K, pose, depth and the flow say."""
    for number in TICKS:
        shot, later = simulator.tick(number)[0], simulator.tick(number + 1)[0]
        flow, depth = shot.flow(), shot.depth()
        rows, columns = np.nonzero(np.isfinite(flow[..., 0]) & np.isfinite(depth) & static_pixels(shot))
        middles = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
        points = np.linalg.inv(shot.lens.K) @ middles * depth[rows, columns]
        world = shot.pose @ np.vstack([points, np.ones(len(rows))])
        seen = later.lens.K @ (np.linalg.inv(later.pose) @ world)[:3]
        there = (seen[:2] / seen[2]).T
        assert np.abs(there - middles[:2].T - flow[rows, columns]).max() < 0.02
        nearest = np.floor(there).astype(int)
        stored = later.depth()[nearest[:, 1], nearest[:, 0]]
        error = np.abs(stored - seen[2]) / seen[2]
        assert np.median(error) < 0.005
        assert (error < 0.05).mean() > 0.93  # the rest lies beside an edge: the nearest pixel shows something else


def static_pixels(shot: Shot) -> npt.NDArray[np.bool_]:
    mask = np.ones(shot.view.depth.shape, np.bool_)
    mask[shot.view.moving_pixels] = False
    return mask.reshape(shot.view.shape)


def test_looks_share_their_edges(simulator: Simulator) -> None:
    """The roof line in the photo twin lies within half a pixel of the one in the labels."""
    distances = np.concatenate([roof_line_distances(simulator.tick(number)[0]) for number in (*TICKS, 60, 240, 900)])
    assert len(distances) > 100
    assert abs(np.median(distances)) < 0.25
    assert np.median(np.abs(distances)) <= 0.5


def roof_line_distances(shot: Shot) -> npt.NDArray[np.float64]:
    """Signed distance in pixels from the border of sky and building in the labels to that in the photograph.

    Only columns count where both sides are plain for some pixels: there the photograph's edge is where its brightness
    passes the middle between them.
    """
    labels, photo = shot.semantic(), shot.photo().astype(np.float64).mean(-1)
    found = []
    for column in range(labels.shape[1]):
        below = np.flatnonzero((labels[:-1, column] == CLASS_ID["sky"]) & (labels[1:, column] == CLASS_ID["building"]))
        for row in below:
            sky, wall = slice(row - 4, row - 1), slice(row + 3, row + 5)
            if (
                row < 5
                or row + 6 > len(labels)
                or not (labels[row + 1 : row + 6, column] == CLASS_ID["building"]).all()
            ):
                continue
            upper, lower = photo[sky, column], photo[wall, column]
            if np.ptp(upper) > 12 or np.ptp(lower) > 25 or upper.mean() - lower.mean() < 50:
                continue
            middle = (upper.mean() + lower.mean()) / 2
            profile = photo[row - 2 : row + 4, column]
            first = int(np.argmax(profile < middle))
            if first == 0:
                continue
            part = (profile[first - 1] - middle) / (profile[first - 1] - profile[first])
            found.append(row - 2 + first - 1 + part - (row + 0.5))
    return np.array(found)


def test_photo_samples_lie_around_the_labels() -> None:
    assert len(SAMPLES) >= 4
    assert np.mean(SAMPLES, 0) == pytest.approx((0, 0))
    assert np.abs(SAMPLES).max() < 0.5


def test_photo_is_richer_than_cg(simulator: Simulator) -> None:
    """Within one class the CG look has few colours; its twin has texture."""
    shot = simulator.tick(140)[0]
    road = shot.semantic() == CLASS_ID["road"]
    colors = [len(np.unique(picture[road], axis=0)) for picture in (shot.cg(), shot.photo())]
    assert colors[1] > 5 * colors[0]


def test_exposure_does_not_flicker(simulator: Simulator) -> None:
    """What stands still keeps its brightness from tick to tick, also where the picture's content changes."""
    for number in (333, 512):
        shot, later = simulator.tick(number)[0], simulator.tick(number + 1)[0]
        flow = shot.flow()
        rows, columns = np.nonzero(np.isfinite(flow[..., 0]) & static_pixels(shot))
        u = np.floor(columns + 0.5 + flow[rows, columns, 0]).astype(int)
        v = np.floor(rows + 0.5 + flow[rows, columns, 1]).astype(int)
        before, after = shot.photo()[rows, columns].mean(), later.photo()[v, u].mean()
        assert after == pytest.approx(before, rel=0.015)


def test_all_train_classes_occur() -> None:
    simulator = Simulator(Setup(size=(128, 64), traffic=Traffic.DENSE, preset=OVERCAST))
    train = set(taxonomy("cityscapes-train").ids.values()) - {"unlabeled"}
    assert len(train) == 19
    missing = train | {"road line", "rail track", "static"}
    for number in range(0, 1400, 9):
        missing -= {taxonomy("toytown").ids[i] for i in np.unique(simulator.tick(number)[0].semantic()).tolist()}
        if not missing:
            break
    assert missing == set()


def digests(simulator: Simulator, number: int = 333) -> dict[str, str]:
    """What one tick looks like, in short."""
    shot = simulator.tick(number)[0]
    images = {
        "cg": shot.cg(),
        "photo": shot.photo(),
        "semantic": shot.semantic(),
        "instance": shot.instance(),
        "depth": shot.depth(),
        "flow": shot.flow(),
        "pose": shot.pose,
    }
    return {name: hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for name, image in images.items()}


_OTHER_PROCESS = """
import json, re
from pathlib import Path
from plugins.toytown.view.cameras import MOUNTS
from plugins.toytown.run.setup import Setup
from plugins.toytown.run.simulator import Simulator
from tests.plugins.toytown.test_toytown import digests
simulator = Simulator(Setup(size=(256, 128), mounts=(MOUNTS["front"],)))
simulator.tick(7)[0].photo()
found = digests(simulator)
# Not ru_maxrss: a child begins with the peak of the process that it was forked from.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps([found, int(peak[1]) / 1024]))
"""


def test_another_process_sees_the_same_and_stays_small(simulator: Simulator) -> None:
    """Also with another history: it has drawn another tick before."""
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS],
        env=environment(PYTHONHASHSEED="12345"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    theirs, mebibytes = json.loads(done.stdout)
    assert digests(simulator) == theirs
    assert mebibytes < MEMORY_MIB


def test_another_seed_is_another_town(simulator: Simulator) -> None:
    other = Town.build(1, Traffic.SPARSE)
    assert len(other.static.vertices) != len(simulator.scene.town.static.vertices)


def test_a_shot_does_not_change_when_the_next_is_taken(simulator: Simulator) -> None:
    """A simulator whose tables are overwritten by the next frame would fail."""
    shot = simulator.tick(140)[0]
    before = [shot.cg().copy(), shot.instance().copy(), shot.flow().copy()]
    simulator.tick(780)[0].cg()
    after = [simulator.tick(140)[0].cg(), shot.instance(), shot.flow()]
    again = shot.cg()
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one, other, equal_nan=one.dtype == np.float32)
    assert (again == before[0]).all()


def test_traffic_changes_who_moves_and_not_the_streets() -> None:
    towns = [Town.build(3, traffic) for traffic in (Traffic.SPARSE, Traffic.NORMAL, Traffic.DENSE)]
    counts = [len(town.actors) for town in towns]
    assert counts[0] * 2 < counts[1] < counts[2]
    for town in towns[1:]:
        assert (town.static.vertices == towns[0].static.vertices).all()
        assert (town.static.faces == towns[0].static.faces).all()


def test_cameras_of_a_tick_share_its_number_and_time(simulator: Simulator) -> None:
    shots = simulator.tick(512)
    assert [shot.camera for shot in shots] == ["front", "left", "right"]
    assert {(shot.number, shot.time) for shot in shots} == {(512, 512 * simulator.setup.step)}
    front, left, right = (shot.pose[:3, 2] for shot in shots)
    assert np.cross(front, left)[2] > 0.8  # forward axes: left of the front one, and right of it
    assert np.cross(front, right)[2] < -0.8


def test_cameras_agree_on_instances(simulator: Simulator) -> None:
    """A point that two cameras see has one instance id in both."""
    front, left, _ = simulator.tick(333)
    points = front.view.points(np.arange(len(front.view.depth)))[~front.view.sky]
    ids = front.instance().ravel()[~front.view.sky]
    seen = (points - left.pose[:3, 3]) @ left.pose[:3, :3]
    shown = seen[:, 2] > 1
    place = seen[shown, :2] / seen[shown, 2:] * left.lens.focal + np.array([left.lens.width, left.lens.height]) / 2
    inside = ((place >= 0) & (place < (left.lens.width, left.lens.height))).all(1)
    columns, rows = np.floor(place[inside]).astype(int).T
    near = np.abs(left.depth()[rows, columns] - seen[shown, 2][inside]) < 0.02 * seen[shown, 2][inside]
    same = left.instance()[rows, columns][near] == ids[shown][inside][near]
    assert near.sum() > 500
    assert same.mean() > 0.97


def test_a_camera_can_be_anywhere(simulator: Simulator) -> None:
    above = simulator.shoot(look((135.0, 135.0, 60.0), 0.3, -1.2), time=3.0)
    assert np.isfinite(above.depth()).all()
    assert above.cg().shape == (*above.view.shape, 3)
    assert np.nanmax(np.abs(above.flow()[static_pixels(above)])) < 0.01  # it stands still


def test_mounts_are_read() -> None:
    assert parse_mount("left") is MOUNTS["left"]
    roof = parse_mount("roof=0,0.5,3,90,-10,60")
    assert (roof.y, roof.yaw, roof.fov, roof.in_world) == (0.5, 90.0, 60.0, False)
    pose = roof.pose(Stand(10.0, 20.0, np.pi / 2))
    assert pose[:3, 3] == pytest.approx((9.5, 20.0, 3.0))
    assert pose[:2, 2] == pytest.approx((-np.cos(np.radians(10)), 0.0))
    fixed = parse_mount("corner@5,6,7,0,0")
    assert fixed.pose(Stand(10.0, 20.0, 1.0))[:3, 3] == pytest.approx((5, 6, 7))


@pytest.mark.parametrize(
    "text", ["", "roof", "roof=1,2", "roof=a,b,c,d,e", "../x=0,0,1,0,0", "roof=0,0,1,0,0,200", "r=nan,0,1,0,0"]
)
def test_wrong_mounts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="place one of your own"):
        parse_mount(text)


def test_poses_are_rotations_with_opencv_axes(simulator: Simulator) -> None:
    pose = simulator.tick(20)[0].pose
    assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3))
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert pose[2, 1] < -0.99  # y points down
    assert pose[2, 3] == pytest.approx(1.55)


@pytest.mark.parametrize("preset", [OVERCAST, DUSK], ids=lambda preset: preset.name)
def test_presets_change_both_looks(simulator: Simulator, preset: Preset) -> None:
    """The same things under another light: darker at dusk, and without cast shadows."""
    other = Simulator(Setup(size=simulator.setup.size, mounts=simulator.setup.mounts[:1], preset=preset))
    noon, here = simulator.tick(333)[0], other.tick(333)[0]
    assert (noon.semantic() == here.semantic()).all()
    assert other.scene.shadows is None
    brightness = [(shot.cg().mean(), shot.photo().mean()) for shot in (noon, here)]
    if preset is DUSK:
        assert all(dark < 0.75 * bright for bright, dark in zip(*brightness, strict=True))
    assert np.abs(noon.cg().astype(int) - here.cg()).mean() > 5
    assert np.abs(noon.photo().astype(int) - here.photo()).mean() > 5


def test_scattered_ticks_differ_and_repeat(simulator: Simulator) -> None:
    scattered = Simulator.time_of
    one = Simulator.__new__(Simulator)
    one.setup = Setup(scatter=True)
    times = [scattered(one, number) for number in range(50)]
    assert len(set(times)) == 50
    assert times == [scattered(one, number) for number in range(50)]
    assert max(times) - min(times) > 600


def test_road_marks_are_symmetric_under_a_half_turn() -> None:
    """Right-hand traffic looks the same from the other end of the street, but for the manholes."""
    marks = road_marks()
    turned = np.roll(marks[::-1, ::-1], (0, 0), (0, 1))
    assert (marks == turned).mean() > 0.99


def test_missing_ray_caster_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex", None)
    monkeypatch.delitem(sys.modules, "embreex.rtcore_scene", raising=False)
    with pytest.raises(MissingExtraError, match=r"'embreex'.*pip install '\.\[toytown\]'"):
        caster_factory()
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(MissingExtraError, match=r"'open3d'.*pip install '\.\[open3d\]'"):
        caster_factory(Backend.OPEN3D)


def test_backends_agree(simulator: Simulator) -> None:
    """Needs open3d and the system libraries it wants."""
    pytest.importorskip("open3d", reason="compares embreex with open3d: pip install '.[open3d]'", exc_type=ImportError)
    other = Scene(simulator.scene.town, simulator.setup.preset, Backend.OPEN3D)
    shot = simulator.tick(140)[0]
    view = View.trace(other, shot.view.moving, shot.lens, shot.pose)
    assert (view.rows == shot.view.rows).mean() > 0.995


@pytest.mark.parametrize("backend", list(Backend))
@pytest.mark.parametrize("reach", [0.5, 2.0, np.inf])
def test_rays_are_blocked_within_their_reach_only(reach: float, backend: Backend) -> None:
    extra = "open3d" if backend is Backend.OPEN3D else "toytown"
    pytest.importorskip(backend, reason=f"casts rays: pip install '.[{extra}]'", exc_type=ImportError)
    corners = np.array([(-1, -1, 5), (1, -1, 5), (0, 1, 5)], np.float32)
    caster = caster_factory(backend)(corners, np.array([[0, 1, 2]], np.int32))
    directions = np.array([(0, 0, 4), (0, 0, -4), (0, 0, 20)], np.float32)
    expected = [4 * reach >= 5, False, 20 * reach >= 5]
    assert caster.blocked(np.zeros((1, 3), np.float32), directions, reach).tolist() == expected
    hits = caster.cast(np.zeros((1, 3), np.float32), directions)
    assert hits.distance.tolist() == pytest.approx([1.25, np.inf, 0.25])
    assert hits.triangle.tolist() == [0, MISS, 0]
