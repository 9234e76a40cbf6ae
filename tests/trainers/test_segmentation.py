"""Segmenters are trained, scored and written by one command."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from models.bundle import load_bundle
from sim_bridge.errors import UsageError
from trainers.camvid import CamVid
from trainers.recipe import SegmenterRecipe
from trainers.segmentation import _batch

ROOT = Path(__file__).parents[2]


def test_command_line_trains_a_segmenter(camvid: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    content = {
        "name": "tiny",
        "arch": "unet-segmenter",
        "width": 4,
        "steps": 150,
        "batch": 2,
        "data": {"crop": [64, 32]},
    }
    recipe.write_text(yaml.safe_dump(content))
    arguments = ["--recipe", str(recipe), "--root", str(camvid), "--run", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "trainers/run.py", "segmenter", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.card.arch == "unet-segmenter" and bundle.card.steps == 150
    # 150 steps on a drawn scene of five flat colours are enough to beat one class everywhere
    assert bundle.card.metrics["val_pixel_accuracy"] > 0.5


def test_crops_that_do_not_fit_are_a_sentence_and_scaled_ones_stay_aligned(camvid: Path) -> None:
    content = {"name": "x", "arch": "unet-segmenter", "width": 4, "steps": 1, "colour_gain": 0, "colour_shift": 0}
    samples = list(CamVid(camvid, "train"))
    wide = SegmenterRecipe.model_validate({**content, "data": {"crop": [128, 64]}})
    with pytest.raises(UsageError, match=r"a picture is 96x64 when its crop is cut, but data\.crop is 128x64"):
        _batch(samples, wide, np.random.default_rng(0))
    scaled = SegmenterRecipe.model_validate({**content, "data": {"crop": [96, 64], "scale": [2, 2]}})
    x, y = _batch(samples, scaled, np.random.default_rng(0))
    assert x.shape == (6, 3, 64, 96) and y.shape == (6, 64, 96)
    road, sky = (float(x.mean(1)[y == k].std()) for k in (3, 0))
    whole = [float(s.rgb[s.labels == k].std()) / 127.5 for s in samples[:1] for k in (3, 0)]
    assert road < 3 * whole[0] and sky < 3 * whole[1]  # one class, one colour: labels lie on their surfaces
