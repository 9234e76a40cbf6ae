"""Labels that do not lie on their pictures are found; those that do are left alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sim_bridge.pixels.alignment import Alignment, Finding
from sim_bridge.pixels.images import read_labels, stored_to_rgb
from sim_bridge.pixels.readings import read_stored
from sim_bridge.pixels.taxonomy import taxonomy
from sim_bridge.recordings.labels import LabelReader
from sim_bridge.recordings.read import RecordedFrame

Bytes = npt.NDArray[np.uint8]
Pair = tuple[Bytes, Bytes]


def drive(frames: int, size: tuple[int, int] = (512, 256)) -> list[Pair]:
    """Blocks of noisy colours that pass to the left, near ones faster, with markings that are no border of classes."""
    rng = np.random.default_rng(4)
    width, height = size
    blocks = [(rng.integers(0, 3 * width), rng.integers(20, height), rng.integers(20, 70, 2)) for _ in range(40)]
    colours = rng.integers(40, 220, (40, 3))
    grain = rng.normal(0, 6, (height, width, 3))
    drawn = []
    for frame in range(frames):
        ids = np.where(np.arange(height)[:, None] < height // 2, 23, 7).astype(np.uint8).repeat(width, 1)
        rgb = np.where(ids[..., None] == 23, 200, 90).astype(np.float32).repeat(3, 2)
        rgb[height // 2 + 30 : height // 2 + 34] = 230
        for number, (left, bottom, (wide, high)) in enumerate(blocks):
            x = int(left - frame * (4 + 8 * number // 40))
            part = np.s_[max(0, bottom - high) : bottom, max(0, x) : max(0, x + wide)]
            ids[part] = (11, 21, 26)[number % 3]
            rgb[part] = colours[number]
        drawn.append(((rgb + grain).clip(0, 255).astype(np.uint8), ids))
    return drawn


def finding(pairs: Sequence[Pair], *, follows: bool = True) -> Finding | None:
    alignment = Alignment()
    for rgb, ids in pairs:
        alignment.add(rgb, ids, follows=follows)
    return alignment.finding()


def late(pairs: Sequence[Pair], ticks: int) -> list[Pair]:
    """Labels of ``ticks`` before; of after, where it is negative."""
    places = range(len(pairs))
    return [(pairs[i][0], pairs[i - ticks][1]) for i in places if i - ticks in places]


def moved(pairs: Sequence[Pair], right: int, down: int) -> list[Pair]:
    return [(rgb, np.roll(ids, (down, right), (0, 1))) for rgb, ids in pairs]


@pytest.mark.parametrize("size", [(512, 256), (1280, 720), (160, 120)])
def test_labels_on_their_pictures_are_left_alone(size: tuple[int, int]) -> None:
    pairs = drive(8, size)
    assert finding(pairs) is None
    assert all(finding([pair]) is None for pair in pairs)


@pytest.mark.parametrize("ticks", [1, 2, 3, -1, -2, -3])
def test_labels_of_another_tick_are_found(ticks: int) -> None:
    assert finding(late(drive(14), ticks)) == Finding(ticks=-ticks)


@pytest.mark.parametrize("shift", [(40, 0), (-40, 0), (0, 40), (12, -8)])
def test_labels_beside_their_pictures_are_found(shift: tuple[int, int]) -> None:
    pairs = drive(6)
    assert finding(moved(pairs, *shift), follows=False) == Finding(-shift[0], -shift[1])
    assert finding(moved(pairs, *shift)) == Finding(-shift[0], -shift[1])


def test_what_shows_nothing_says_nothing() -> None:
    rng = np.random.default_rng(0)
    noise = [(rng.integers(0, 256, (64, 96, 3), np.uint8), rng.integers(0, 29, (64, 96), np.uint8)) for _ in range(9)]
    assert finding(noise) is None
    flat = [(rgb, np.full(ids.shape, 7, np.uint8)) for rgb, ids in noise]
    assert finding(flat) is None
    assert finding([(rgb[:30], ids[:30]) for rgb, ids in noise]) is None
    assert finding([]) is None


def test_sizes_may_change() -> None:
    assert finding([*drive(3), *drive(3, (320, 160))]) is None


def test_a_finding_is_a_sentence() -> None:
    assert str(Finding(ticks=-1)) == "labels fit the picture of 1 frame before better than their own"
    assert str(Finding(ticks=2)) == "labels fit the picture of 2 frames after better than their own"
    assert str(Finding(-40, 8)) == "labels would fit their pictures better about 40 pixels left and 8 pixels down"


def test_a_source_is_suspicious_once_a_camera(caplog: pytest.LogCaptureFixture) -> None:
    reader = LabelReader(taxonomy("cityscapes"), name="drive")
    for camera, pairs in (("front", late(drive(20), 1)), ("rear", drive(20))):
        for number, (rgb, ids) in enumerate(pairs):
            reader.compare(RecordedFrame(camera, number, number / 20, None, {}), rgb, ids)
    reader.finish()
    assert reader.suspicions == caplog.messages
    (sentence,) = reader.suspicions
    assert sentence.startswith("drive, camera 'front': labels fit the picture of 1 frame before better than their own")


DATA = os.environ.get("SIM_BRIDGE_DATA")


@pytest.mark.skipif(DATA is None, reason="SIM_BRIDGE_DATA does not name the folder with the captures")
@pytest.mark.parametrize(
    ("rgb", "labels", "name"),
    [
        ("carla/carla_0.9.15_carlascapes/*_img.png", "carla/carla_0.9.15_carlascapes/*_labelIds.png", "carla-0.9.14"),
        ("carla/carla_0.9.12_*/rgb/*", "carla/carla_0.9.12_*/sem/*", "carla-0.9.10"),
        ("carla/carla_0.9.6_*/rgb*", "carla/carla_0.9.6_*/sem*", "carla-0.9.0"),
        ("carla/carla_0.9.5_*/rgb/*", "carla/carla_0.9.5_*/sem/*", "carla-0.9.0"),
        ("camvid/val/*", "camvid/valannot/*", "camvid"),
        (
            "cityscapes_seq_512x256/seq0001/leftImg8bit/*",
            "cityscapes_seq_512x256/seq0001/labelIds_pred/*",
            "cityscapes",
        ),
    ],
)
def test_real_captures(rgb: str, labels: str, name: str) -> None:
    root, source = Path(DATA or ""), taxonomy(name)
    files = list(zip(sorted(root.glob(rgb)), sorted(root.glob(labels)), strict=True))[:12]
    pairs = [
        (
            stored_to_rgb(np.asarray(cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)), str(picture)),
            read_stored(read_labels(file), source)[1],
        )
        for picture, file in files
    ]
    assert finding(pairs) is None
    beside = finding(moved(pairs, 40, 0))
    assert beside is not None and -44 <= beside.right <= -36 and abs(beside.down) <= 4
    if len(pairs) > 5:
        for ticks in (1, 2, 3):
            assert finding(late(pairs, ticks)) == Finding(ticks=-ticks)
