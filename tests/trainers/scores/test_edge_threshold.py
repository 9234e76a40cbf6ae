"""A threshold is found that makes as many pixels edges as are wanted, with any operator."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.edges import EdgeSettings, LaplacianEdges
from tests.trainers.systems.test_sflow import run_cli
from trainers.data.camvid import CamVid
from trainers.recipes.read import load_recipe
from trainers.recipes.sflow import SFlowRecipe
from trainers.scores.edge_threshold import calibrate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "settings",
    [
        EdgeSettings(threshold=900.0, blur=1.5),
        EdgeSettings(threshold=0.5, blur=1.5, contrast_window=31, signed=True),
        EdgeSettings(threshold=0.01, blur=1.5, contrast_window=31, signed=True, coarse_blur=3.75),
        EdgeSettings(threshold=0.0, blur=1.0, kernel=3),
    ],
)
@pytest.mark.parametrize("wanted", [0.05, 0.3])
def test_the_threshold_gives_the_density_wanted(camvid: Path, settings: EdgeSettings, wanted: float) -> None:
    found = calibrate(CamVid(camvid, "train"), settings, wanted, 50)
    assert found.calibrated_density == pytest.approx(wanted, rel=0.03)
    assert found.threshold == settings.threshold
    assert abs(found.density - wanted) > 2 * abs(found.calibrated_density - wanted), "it was wrong before"


def test_whole_grey_levels_come_near(camvid: Path) -> None:
    data = CamVid(camvid, "train")
    found = calibrate(data, EdgeSettings(threshold=2.0), 0.2, 50)
    around = [calibrate(data, EdgeSettings(threshold=found.calibrated_threshold + i), 0.2, 50).density for i in (-1, 1)]
    assert around[1] <= found.calibrated_density <= around[0]
    assert around[1] <= 0.2 <= around[0]


def test_only_so_many_photographs_are_measured(camvid: Path) -> None:
    data, settings = CamVid(camvid, "train"), EdgeSettings(threshold=20.0)
    found = calibrate(data, settings, 0.2, 1)
    assert found.photographs == 1 < len(data)
    middle = data[len(data) // 2].rgb
    assert found.density == LaplacianEdges(settings)(torch.from_numpy(middle)[None]).float().mean().item()


def test_the_command_prints_what_to_write_into_the_recipe(recipe: Path, camvid: Path) -> None:
    done = run_cli("data", "edges", "--recipe", str(recipe), "--root", str(camvid), "--density", "0.1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["threshold"] == 20.0 and abs(found["density"] - 0.1) > 0.05
    plain = load_recipe(SFlowRecipe, str(recipe)).edge
    again = calibrate(CamVid(camvid, "train"), replace(plain, threshold=found["calibrated_threshold"]), 0.1, 50)
    assert found["calibrated_density"] == pytest.approx(again.density, abs=1e-4)
    assert again.density == pytest.approx(0.1, abs=0.02)
    wrong = run_cli("data", "edges", "--recipe", str(recipe), "--root", str(camvid), "--density", "2")
    assert wrong.returncode == 2 and "--density" in wrong.stderr
