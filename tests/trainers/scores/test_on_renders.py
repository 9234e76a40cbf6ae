"""Scores on renders: the controls stand beside the bundle, and what changes nothing scores as the render does."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from models.bundles.files import Card, save_bundle
from models.nets.enhance import EnhanceNetwork
from sim_bridge.recordings.read import Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter
from tests.trainers.camvid_tree import draw_camvid
from tests.trainers.command_line import CommandLine
from trainers.data.camvid import CAMVID_CLASSES
from trainers.recipes.enhance import EnhanceRecipe
from trainers.recipes.read import load_recipe
from trainers.scores import photo_distance

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (208, 176)
"""Crops of the photo distance are 160x160; the height is a multiple of 16, as networks want it."""


def record(root: Path, *, flow: bool = False) -> Path:
    """A scene of CamVid's, moving one pixel to the right a frame; every other frame is darker."""
    drawn = draw_camvid(root / "drawn", train=1, val=0, size=SIZE)

    rgb = cv2.imread(str(next((drawn / "train").iterdir())))[..., ::-1]
    labels = cv2.imread(str(next((drawn / "trainannot").iterdir())), cv2.IMREAD_UNCHANGED)
    motion = np.zeros((*labels.shape, 2), np.float32)
    motion[..., 0] = 1
    with RecordingWriter(root / "renders", RecordingInfo(taxonomy="camvid", licence="CC0-1.0")) as writer:
        for number in range(4):
            images: dict[Folder, Any] = {
                Folder.RGB: (np.roll(rgb, number, 1) * (1 - 0.1 * (number % 2))).astype(np.uint8),
                Folder.SEMANTIC: np.roll(labels, number, 1),
            }
            if flow and number < 3:
                images[Folder.FLOW] = motion
            files = {f: writer.write_image("camera", f, number, np.ascontiguousarray(i)) for f, i in images.items()}
            writer.add(RecordedFrame("camera", number, number / 10, None, files))
    return root / "renders"


def make_bundle(folder: Path, *, trained: bool) -> Path:
    torch.manual_seed(0)
    network = EnhanceNetwork("lite", len(CAMVID_CLASSES), ["camvid"]).eval()
    if trained:
        with torch.no_grad():
            network.gains.weight.normal_(std=3)
    recipe = load_recipe(EnhanceRecipe, "enhance_lite")
    plain = recipe.model_copy(update={"data": recipe.data.model_copy(update={"road_lines": False, "exclude": ()})})
    plain = plain.model_copy(update={"judged_as": {}})
    said = json.loads(plain.model_dump_json())
    card = Card(
        arch="enhance", args=network.args, classes=list(CAMVID_CLASSES), size=[64, 32], data="none", command="none",
        steps=1, licence_weights="CC0-1.0", licence_data="none", recipe=said,
    )  # fmt: skip
    save_bundle(folder, network, card)
    return folder


@pytest.fixture(autouse=True)
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_distance, "OF_RENDER", 4)
    monkeypatch.setattr(photo_distance, "OF_PHOTOGRAPH", 4)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_camvid(tmp_path_factory.mktemp("photographs"), train=4, val=12, size=SIZE)


def test_a_bundle_that_changes_nothing_scores_as_the_render(
    photographs: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    renders, bundle = record(tmp_path, flow=True), make_bundle(tmp_path / "bundle", trained=False)
    scored = command_line(
        "evaluate",
        "--bundle",
        bundle,
        "--root",
        photographs,
        "--renders",
        renders,
        "--every",
        1,
        "--judge",
        "camvid-judge",
    )
    assert scored.code == 0, scored.err
    rows = json.loads(scored.out)
    assert list(rows) == ["null", "grade", str(bundle)]
    assert rows[str(bundle)] == rows["null"] != rows["grade"]
    null = rows["null"]
    assert null["raw"]["left"] == null["tone_removed"]["left"] == 1 and null["raw"]["pairs"] >= 2
    assert (null["edges_invented"], null["edges_kept"]) == (0, 1)
    assert null["flicker"]["renders"]["whole"] == null["flicker"]["renders"]["gradient"] == 1
    assert 0 < null["judge_accuracy"] < 1 and null["light"].keys() == {"renders"}


def test_a_bundle_that_changes_texture_is_seen(photographs: Path, tmp_path: Path, command_line: CommandLine) -> None:
    renders, bundle = record(tmp_path), make_bundle(tmp_path / "bundle", trained=True)
    scored = command_line("evaluate", "--bundle", bundle, "--root", photographs, "--renders", renders, "--every", 1)
    assert scored.code == 0, scored.err
    rows = json.loads(scored.out)
    made = rows[str(bundle)]
    assert made["raw"]["left"] != 1 and "flicker" not in made
    assert "judge_accuracy" not in made and made["grain_gap"] != rows["null"]["grain_gap"]


def test_mistakes_are_sentences(photographs: Path, tmp_path: Path, command_line: CommandLine) -> None:
    renders, bundle = record(tmp_path), make_bundle(tmp_path / "bundle", trained=False)
    common = ("evaluate", "--bundle", bundle, "--renders", renders)
    assert (
        "has no look 'dusk': it has camvid" in command_line(*common, "--root", photographs, "--look", "dusk").sentence
    )
    few = draw_camvid(tmp_path / "few", train=2, val=2, size=SIZE)
    assert "cannot be compared" in command_line(*common, "--root", few, "--every", 1).sentence
