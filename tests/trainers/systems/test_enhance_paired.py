"""The paired enhancer through the real command: it learns what the render lacks, resumes exactly, and is exported."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.bundles.files import load_bundle
from models.nets.enhance import EnhanceNetwork
from sim_bridge.recordings.read import Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter
from tests.trainers.command_line import CommandLine, Ended

pytestmark = pytest.mark.usefixtures("one_thread")

SKY, ROAD = 23, 7
"""Ids of the taxonomy toytown."""
TINY = [
    ("data.crop", "[64,32]"), ("batch", 2), ("patch_width", 8), ("precision", "fp32"), ("sample_every", 30),
    ("report_every", 1), ("warmup", 0), ("decay_from", 1),
]  # fmt: skip


def draw_pairs(root: Path, frames: int) -> Path:
    """A grey sky over a grey road; the photograph is lighter above, and has stripes below."""
    with RecordingWriter(root, RecordingInfo(taxonomy="toytown", licence="CC0-1.0")) as writer:
        for number in range(frames):
            labels = np.full((64, 96), SKY, np.uint8)
            labels[30 + number :] = ROAD
            rgb = np.full((64, 96, 3), 120, np.uint8)
            photo = np.where((labels == SKY)[..., None], 200, rgb).astype(np.uint8)
            photo[30 + number :: 4] = 60
            images = {Folder.RGB: rgb, Folder.PHOTO: photo, Folder.SEMANTIC: labels}
            files = {f: writer.write_image("camera", f, number, image) for f, image in images.items()}
            writer.add(RecordedFrame("camera", number, number / 10, None, files))
    return root


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    draw_pairs(tmp_path / "pairs" / "train", 4)
    draw_pairs(tmp_path / "pairs" / "val", 2)
    return tmp_path / "pairs"


def train(command_line: CommandLine, pairs: Path, run: Path, stages: str, *more: object) -> Ended:
    settings = [part for key, value in [*TINY, ("stages", stages)] for part in ("--set", f"{key}={value}")]
    return command_line("train", "--recipe", "toytown_enhance", "--root", pairs, "--run", run, *settings, *more)


def test_it_learns_what_the_render_lacks_and_is_exported(
    command_line: CommandLine, pairs: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pixels = "{projected: 0, patch: 0, matching: 0, perceptual: 0}"
    trained = train(command_line, pairs, run, f"[{{name: pixels, steps: 60, lr: 0.003, weights: {pixels}}}]")
    assert trained.code == 0, trained.err
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert rows[-1]["tone"] < 0.5 * rows[0]["tone"] and rows[-1]["pixel"] < 0.7 * rows[0]["pixel"]
    sheet = cv2.imread(str(run / "samples" / "000060.png"))
    assert sheet is not None and sheet.shape[1] == 4 * 96  # labels, render, picture, photograph
    exported = command_line("export", "--run", run, "--root", pairs, "--bundle", tmp_path / "bundle", "--every", "1")
    assert exported.code == 0, exported.err
    bundle = load_bundle(tmp_path / "bundle")
    assert isinstance(bundle.network, EnhanceNetwork) and bundle.network.pencil is not None
    assert bundle.card.args["draws"] is True and bundle.card.licence_weights == "CC0-1.0"


def test_all_losses_train_and_a_resumed_run_is_the_run(command_line: CommandLine, pairs: Path, tmp_path: Path) -> None:
    whole, half = "[{name: a, steps: 2}, {name: b, steps: 2}]", "[{name: a, steps: 2}]"
    assert train(command_line, pairs, tmp_path / "whole", whole).code == 0
    assert train(command_line, pairs, tmp_path / "parts", half).code == 0
    rest = train(command_line, pairs, tmp_path / "parts", whole, "--resume", "--recipe-changed")
    assert rest.code == 0, rest.err
    row = json.loads((tmp_path / "whole" / "stats.jsonl").read_text().splitlines()[-1])
    assert {"d", "d_patch", "g", "g_patch", "matching", "perceptual", "pixel", "tone"} <= row.keys()
    states = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts")]
    for name, weights in states[0]["networks"]["network"].items():
        torch.testing.assert_close(weights, states[1]["networks"]["network"][name], atol=1e-6, rtol=1e-5)


def test_photographs_without_renders_are_refused(command_line: CommandLine, pairs: Path, tmp_path: Path) -> None:
    ended = train(command_line, pairs, tmp_path / "run", "[{name: a, steps: 1}]", "--set", "data.edges_from=photograph")
    assert "needs pairs: set data.edges_from to render" in ended.sentence
