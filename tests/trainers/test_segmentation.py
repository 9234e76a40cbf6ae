"""Segmenters are trained, scored and written by one command."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from models.bundle import load_bundle

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
