"""Road markings found in photographs, and a judge that does not know them."""

import os
from pathlib import Path

import numpy as np
import pytest

from sim_bridge.frames import ByteArray
from trainers.data.camvid import CAMVID_CLASSES, CamVid
from trainers.data.open import open_data
from trainers.data.road_lines import mark_road_lines
from trainers.recipes.schema import DataRecipe
from trainers.systems.segmentation import Judge

ROAD, OTHER, LINE = 3, 4, 11
DATA = os.environ.get("SIM_BRIDGE_DATA")


def crossing() -> tuple[ByteArray, ByteArray]:
    """Grey road with a wide white stripe and a white dot, beside a white pavement."""
    rng = np.random.default_rng(0)
    rgb = rng.normal(90, 4, (120, 160, 3)).clip(0, 255).astype(np.uint8)
    labels = np.full((120, 160), ROAD, np.uint8)
    rgb[40:60, 30:44] = 220
    rgb[80, 100] = 220
    labels[:, 140:] = OTHER
    rgb[:, 138:] = 230  # the labels' border is two pixels off
    return rgb, labels


def test_stripes_are_filled_and_dots_and_borders_are_not() -> None:
    rgb, labels = crossing()
    before = labels.copy()
    marked = mark_road_lines(rgb, labels, ROAD, LINE)
    stripe = marked[40:60, 30:44] == LINE
    assert stripe.mean() > 0.95
    assert (marked == LINE).sum() <= 22 * 16 + 120  # the stripe, and what the wrong border leaves of the pavement
    assert not (marked[:, 44:130] == LINE).any()
    assert (marked[:, 140:] == OTHER).all()
    assert np.array_equal(labels, before)


def test_dark_road_without_markings_stays_road() -> None:
    rng = np.random.default_rng(1)
    rgb = rng.normal(60, 5, (90, 120, 3)).clip(0, 255).astype(np.uint8)
    labels = np.full((90, 120), ROAD, np.uint8)
    assert np.array_equal(mark_road_lines(rgb, labels, ROAD, LINE), labels)
    nothing = np.full((90, 120), OTHER, np.uint8)
    assert np.array_equal(mark_road_lines(rgb, nothing, ROAD, LINE), nothing)


def test_a_judge_reads_markings_as_road_and_its_own_void() -> None:
    judge = Judge.load("camvid-judge")
    classes = (*CAMVID_CLASSES[:-1], "road line", "unlabeled")
    (mapped,) = judge.labels_of([np.array([[3, 11, 12, 0]], np.uint8)], classes)
    assert [judge.classes[i] for i in mapped[0]] == ["road", "road", "unlabeled", "sky"]


@pytest.mark.skipif(not DATA, reason="SIM_BRIDGE_DATA does not name the sample data (CamVid photographs)")
def test_camvid_with_markings_differs_on_the_road_alone() -> None:
    assert DATA is not None
    root = Path(DATA) / "camvid"
    plain, marked = CamVid(root, "val"), open_data(DataRecipe(road_lines=True), root, "val")
    shares = []
    for a, b in zip(plain[::20], marked[::20], strict=True):
        line = b.labels == marked.classes.index("road line")
        road, void = plain.classes.index("road"), plain.void
        assert (a.labels[line] == road).all()
        assert np.array_equal((a.labels == void), (b.labels == marked.void))
        assert np.array_equal(a.labels[~line & (a.labels != void)], b.labels[~line & (b.labels != marked.void)])
        shares.append(line.sum() / (a.labels == road).sum())
    assert 0.005 < float(np.median(shares)) < 0.1
