"""Statistics of edge maps by hand, and the study of a recording through a shipped network."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.bundles.files import load_bundle
from sim_bridge.frames import ByteArray
from tests.trainers.data.test_recordings import record
from tests.trainers.systems.test_sflow import run_cli
from trainers.data.camvid import CAMVID_CLASSES
from trainers.scores.edge_gap import EdgeGap, EdgeStatistics, EdgeStudy, Maps, Scene, statistics
from trainers.systems.sflow import SFlow

CLASSES = ("road", "car", "sky")


def drawing() -> tuple[ByteArray, ByteArray]:
    """A line of 2 x 20 pixels and a speck of 3, on road; a lone pixel on a car; sky is 1 pixel of 3,200."""
    edges, labels = np.zeros((40, 80), np.uint8), np.zeros((40, 80), np.uint8)
    edges[10:12, 5:25] = 255
    edges[30, 30:33] = 200
    labels[:, 60:] = 1
    labels[0, 0] = 2
    edges[20, 70] = 255
    edges[5, 5] = 100  # no edge: less than one half
    return edges, labels


def test_statistics_by_hand() -> None:
    edges, labels = drawing()
    result = statistics([edges], [labels], CLASSES)
    assert result.density == pytest.approx(44 / 3200)
    assert result.thickness == pytest.approx((40 * 2 + 3 * 1 + 1) / 44)
    assert result.specks == pytest.approx(4 / 44)
    assert result.by_class == {"road": pytest.approx(43 / 2399), "car": pytest.approx(1 / 800)}


def test_statistics_of_several_pictures_are_taken_together() -> None:
    edges, labels = drawing()
    blank: ByteArray = np.zeros((40, 80), np.uint8)
    assert statistics([edges, blank], [labels, labels], CLASSES).density == pytest.approx(22 / 3200)
    nothing = statistics([blank], [labels], CLASSES)
    assert (nothing.density, nothing.thickness, nothing.specks) == (0, 0, 0)


def density(**by_class: float) -> EdgeStatistics:
    return EdgeStatistics(0.1, 3.0, 0.0, by_class)


def test_gap_is_the_mean_factor_of_the_shared_classes() -> None:
    assert density(road=0.1, car=0.2).gap(density(road=0.2, car=0.2, sky=0.1)) == pytest.approx(0.5)
    assert density(road=0.1).gap(density(road=0.1)) == 0
    assert math.isnan(density(road=0.1).gap(density(car=0.1)))
    assert math.isnan(density(road=0.0).gap(density(road=0.1))), "no edge at all has no ratio"


def test_each_gap_is_taken_between_maps_of_one_kind() -> None:
    gap = EdgeGap(density(road=0.4), density(road=0.1), density(road=0.2), density(road=0.1)).rounded()
    assert (gap["gap_operator"], gap["gap_dned"]) == (1.0, 0.0)  # DNED that thins all maps alike closes no gap


def test_study_measures_photographs_both_ways() -> None:
    network = load_bundle("camvid-lite").sflow
    rng = np.random.default_rng(0)
    scene = Scene(rng.integers(0, 256, (64, 96, 3), np.uint8), np.full((64, 96), 3, np.uint8))
    study = EdgeStudy(lambda s: Maps(**SFlow.maps(network, s.rgb, s.labels)), CAMVID_CLASSES, [scene])
    gap = study.compare([scene])
    assert gap.rounded()["gap_operator"] == gap.rounded()["gap_dned"] == 0
    assert gap.before.density != gap.after.density


def test_command_compares_renders_with_photographs(tmp_path: Path) -> None:
    record(tmp_path / "data" / "val")
    record(tmp_path / "cg", photo=False)
    sheet = tmp_path / "edges.png"
    done = run_cli(
        "edges", str(tmp_path / "cg"), "--bundle", "toytown-lite", "--root", str(tmp_path / "data"), "--every", "1",
        "--size", "128x64", "--sheet", str(sheet),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["photographs"]["operator"]["density"] > found["cg"]["operator"]["density"] > 0
    assert found["cg"]["gap_operator"] > 0 and "road" in found["cg"]["dned"]["by_class"]
    picture = cv2.imread(str(sheet))
    assert picture is not None and picture.shape[1] == 3 * 480
    wrong = run_cli("edges", str(tmp_path / "none"), "--bundle", "toytown-lite", "--root", str(tmp_path / "data"))
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
