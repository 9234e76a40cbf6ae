"""The enhancer's training through the real command: unpaired, resumed exactly, exported, and refused in sentences."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.bundles.files import load_bundle
from models.nets.enhance import EnhanceNetwork
from sim_bridge.recordings.read import Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter
from tests.trainers.camvid_tree import draw_camvid
from tests.trainers.command_line import CommandLine, Ended
from trainers.batches.unpaired import RenderSet, Unpaired, merging, translation
from trainers.data.camvid import CAMVID_CLASSES, WITH_ROAD_LINES
from trainers.systems.enhance import changed

pytestmark = pytest.mark.usefixtures("one_thread")

SKY, BUILDING, ROAD, CAR, LINE = 23, 11, 7, 26, 34
"""Ids of the taxonomy toytown."""
TINY = [
    ("data.crop", "[64,32]"), ("batch", 2), ("patch_width", 8), ("precision", "fp32"), ("render_scale", "[0.9,1.1]"),
    ("data.exclude", "[]"), ("sample_every", 2), ("report_every", 1), ("warmup", 0), ("decay_from", 1),
    ("stages", "[{name: near, steps: 2}, {name: free, steps: 2, weights: {content: 0.5}}]"),
]  # fmt: skip


def draw_renders(root: Path, frames: int = 3, size: tuple[int, int] = (112, 72)) -> Path:
    """Flat colours: sky, a wall, a road with a line, a car."""
    width, height = size
    colours = np.zeros((256, 3), np.uint8)
    for number, colour in {SKY: 200, BUILDING: 130, ROAD: 80, LINE: 250}.items():
        colours[number] = colour
    colours[CAR] = (10, 20, 200)
    with RecordingWriter(root, RecordingInfo(taxonomy="toytown", licence="CC0-1.0")) as writer:
        for number in range(frames):
            labels = np.full((height, width), SKY, np.uint8)
            labels[height // 2 :] = ROAD
            labels[height // 8 : height // 2 + 4, 5 + number : 40 + number] = BUILDING
            labels[height // 2 + 6 : height // 2 + 16, 50 + number : 70 + number] = CAR
            labels[-12:-9] = LINE
            images = {Folder.RGB: colours[labels], Folder.SEMANTIC: labels}
            files = {f: writer.write_image("camera", f, number, image) for f, image in images.items()}
            writer.add(RecordedFrame("camera", number, number / 10, None, files))
    return root


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    return draw_renders(tmp_path / "renders")


class Trains:
    """Calls ``train`` with the tiny recipe."""

    def __init__(self, command_line: CommandLine, photographs: Path, renders: Path) -> None:
        self._call, self._photographs, self._renders = command_line, photographs, renders

    def __call__(self, run: Path, *more: object) -> Ended:
        keys = [part for key, value in TINY for part in ("--set", f"{key}={value}")]
        common = ("train", "--recipe", "enhance_lite", "--root", self._photographs, "--renders", self._renders)
        return self._call(*common, "--run", run, *keys, *more)


@pytest.fixture
def trains(command_line: CommandLine, camvid: Path, renders: Path) -> Trains:
    return Trains(command_line, camvid, renders)


def test_it_trains_and_its_bundle_says_of_what(
    trains: Trains, tmp_path: Path, camvid: Path, command_line: CommandLine
) -> None:
    run = tmp_path / "run"
    trained = trains(run)
    assert trained.code == 0, trained.err
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    losses = {"d", "d_patch", "g", "g_patch", "content", "identity", "light", "gains", "steady", "range"}
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and losses <= rows[0].keys()
    # It begins as the identity: nothing differs from the render yet.
    assert rows[0]["content"] == rows[0]["identity"] == rows[0]["light"] == 0 < rows[-1]["content"]
    sheet = cv2.imread(str(run / "samples" / "000004.png"))
    assert sheet is not None and sheet.shape[1] == 4 * 96  # labels, render, picture, photograph
    row = sheet[sheet.shape[0] // 2 - 64 : sheet.shape[0] // 2]  # two rows, each below its headings
    assert np.abs(row[:, 96:192].astype(int) - row[:, 288:]).mean() > 10
    exported = command_line("export", "--run", run, "--root", camvid, "--bundle", tmp_path / "bundle", "--every", "1")
    assert exported.code == 0, exported.err
    bundle = load_bundle(tmp_path / "bundle")
    assert isinstance(bundle.network, EnhanceNetwork) and bundle.network.look_names == ("camvid",)
    assert bundle.card.classes == list(WITH_ROAD_LINES) and bundle.card.data.endswith("renders renders")
    assert bundle.card.licence_weights == "CC-BY-NC-4.0" and str(tmp_path) not in json.dumps(bundle.card.recipe)
    further = trains(tmp_path / "further", "--from", tmp_path / "bundle")
    assert further.code == 0, further.err


def test_a_resumed_run_is_the_run(trains: Trains, tmp_path: Path) -> None:
    assert trains(tmp_path / "whole").code == 0
    assert trains(tmp_path / "parts", "--set", "stages=[{name: near, steps: 2}]").code == 0
    rest = trains(tmp_path / "parts", "--resume", "--recipe-changed")
    assert rest.code == 0, rest.err
    states = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts")]
    assert states[0]["step"] == states[1]["step"] == 4
    assert states[0]["system"]["unpaired"] == states[1]["system"]["unpaired"]
    assert torch.equal(states[0]["system"]["changes"], states[1]["system"]["changes"])
    for name, weights in states[0]["networks"]["network"].items():
        torch.testing.assert_close(weights, states[1]["networks"]["network"][name], atol=1e-6, rtol=1e-5)


def test_one_network_learns_several_looks(trains: Trains, tmp_path: Path) -> None:
    other = draw_camvid(tmp_path / "other")
    looks = f"[{{name: drawn, root: {other}, share: 0.5, data: {{kind: camvid}}}}]"
    trained = trains(tmp_path / "run", "--set", f"looks={looks}")
    assert trained.code == 0, trained.err
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["networks"]["network"]["style8.weight"].shape[1] == 2
    grades = state["networks"]["network"]["grades"]
    untouched = torch.tensor([1.0, 1] + [0.0] * 7)
    assert grades.shape == (2, len(WITH_ROAD_LINES), 9) and not torch.equal(grades[0], untouched.expand_as(grades[0]))
    refused = trains(tmp_path / "no", "--set", f"looks={looks.replace('0.5', '1')}")
    assert "leave camvid a share, below 1" in refused.sentence


def test_mistakes_are_sentences(
    trains: Trains, camvid: Path, tmp_path: Path, command_line: CommandLine, renders: Path
) -> None:
    alone = command_line("train", "--recipe", "enhance_lite", "--root", camvid, "--run", tmp_path / "a")
    assert "needs renders: give --renders RECORDING" in alone.sentence
    assert "smaller" in trains(tmp_path / "b", "--set", "data.crop=[640,32]").sentence
    small = draw_renders(tmp_path / "small", size=(70, 34))
    assert "70x34, and crops need" in trains(tmp_path / "c", "--renders", small).sentence
    assert (
        "judged_as names the class 'motorway'"
        in trains(tmp_path / "d", "--set", "judged_as={road line: motorway}").sentence
    )
    wrong = command_line(
        "train", "--recipe", "camvid_lite", "--root", camvid, "--run", tmp_path / "e", "--renders", renders
    )
    assert "renders: unknown key" in wrong.sentence


def test_a_counterpart_shows_what_the_photograph_shows(renders: Path) -> None:
    held = RenderSet(renders, WITH_ROAD_LINES)
    held.read((64, 32))
    assert held.simulator == "toytown" and len(held.renders) == 3
    drawing = Unpaired([held], [], (64, 32), (1.0, 1.0), seed=0)
    same = merging(WITH_ROAD_LINES, {"road line": "road"})
    sky, road = (np.full((1, 32, 64), WITH_ROAD_LINES.index(name), np.uint8) for name in ("sky", "road"))
    horizon = np.concatenate([sky[:, :16], road[:, 16:]], 1)
    found = [drawing.match(wanted, drawing.draw(1).place.numpy(), same) for wanted in (sky, road, horizon)]
    above, below, both = (float((same[m.labels] == road[0, 0, 0]).mean()) for m in found)
    assert above < both < below and min(m.agree[0] for m in found) > 0.5
    assert all((m.rgb[m.labels == road[0, 0, 0]] == 80).all() for m in found)  # picture and labels stay together


def test_classes_are_found_by_name_and_by_fallback() -> None:
    table = translation(["sky", "road line", "rider", "nonsense"], CAMVID_CLASSES)
    named = [CAMVID_CLASSES[i] for i in table[:4]]
    assert named[:2] == ["sky", "road"] and named[3] == "unlabeled" and named[2] in ("bicyclist", "person")


def test_a_change_of_light_is_what_it_says() -> None:
    picture = torch.rand(2, 3, 8, 8) - 0.5
    assert torch.allclose(changed(picture, torch.zeros(2, 2)), picture, atol=1e-6)
    lighter = changed(picture, torch.tensor([[0.0, 0.2]]).expand(2, 2))
    assert torch.allclose(lighter, picture + 0.2, atol=1e-6)
    flat = changed(picture, torch.tensor([[-1.0, 0.0]]).expand(2, 2))
    assert torch.allclose(flat, picture.mean((1, 2, 3), keepdim=True).expand_as(flat), atol=1e-6)


def test_a_grade_is_fitted_and_the_look_sheet_shows_render_and_picture(
    trains: Trains, camvid: Path, renders: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    out = tmp_path / "grade.json"
    fitted = command_line("grade", "--recipe", "enhance_lite", "--root", camvid, "--renders", renders, "--out", out)
    assert fitted.code == 0, fitted.err
    said = json.loads(out.read_text())
    assert said["classes"] == list(WITH_ROAD_LINES) and np.array(said["gain"])[:, 0].max() <= 1.15
    assert trains(tmp_path / "run").code == 0
    sheet = tmp_path / "look.png"
    assert "give --root" in command_line("look", tmp_path / "run", sheet, "--data", renders).sentence
    looked = command_line("look", tmp_path / "run", sheet, "--data", renders, "--root", camvid)
    assert looked.code == 0, looked.err
    image = cv2.imread(str(sheet))
    assert image is not None and image.shape == (2 * (64 + 4), 2 * (2 * 96 + 4), 3)  # three frames, two pairs a row


@pytest.mark.slow
def test_a_smoke_training_on_recorded_toytown(trains: Trains, tmp_path: Path) -> None:
    folder = tmp_path / "town"
    command = [sys.executable, "-m", "sim_bridge.cli", "toytown", "record", str(folder), "--frames", "2"]
    done = subprocess.run([*command, "--size", "128x64", "--looks", "cg"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    trained = trains(tmp_path / "run", "--renders", folder)
    assert trained.code == 0, trained.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and all(np.isfinite(row["g"]) for row in rows)
