"""Segmenters are trained, scored and written by one command; a resumed training is the training."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torchvision.models import mobilenet_v3_small

from models.bundles.files import load_bundle
from models.nets.segmenter import PSPNetSegmenter
from sim_bridge.errors import ImageError, SizeMismatchError, UsageError
from tests.trainers.camvid_tree import draw_camvid
from tests.trainers.command_line import CommandLine
from trainers.data.camvid import CamVid
from trainers.loop.run_folder import RunFolder
from trainers.recipes.schema import SegmenterRecipe
from trainers.scores.segmentation import score
from trainers.systems.segmenter import SegmenterTrainer, _batch, train_segmenter

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("one_thread")


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
    assert set(bundle.card.metrics["val_iou"]) == {"sky", "building", "road", "car"}
    assert "pixels labelled 'unlabeled' count nowhere" in bundle.card.metrics["ignore_rule"]
    assert 0 < bundle.card.metrics["val_ignored"] < 0.1


def backbone_recipe(**changes: object) -> SegmenterRecipe:
    plain = {
        "name": "x", "arch": "pspnet-segmenter", "backbone": "mobilenet_v3_small", "width": 8, "steps": 2, "batch": 2,
        "data": {"crop": [64, 32]},
    }  # fmt: skip
    return SegmenterRecipe.model_validate(plain | changes)


def test_a_pspnet_begins_with_the_weights_that_are_named(camvid: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    published = mobilenet_v3_small(weights=None).state_dict()
    torch.save(published, tmp_path / "published.pth")
    # A rate so low that the weights of the backbone stay what they were given to be.
    recipe = backbone_recipe(backbone_weights=str(tmp_path / "published.pth"), lr=1e-12, weight_decay=0)
    bundle = train_segmenter(recipe, camvid, RunFolder(tmp_path / "run", resume=False), "none")
    assert bundle is not None
    card = bundle.card
    network = load_bundle(tmp_path / "run" / "bundle").network
    assert isinstance(network, PSPNetSegmenter)
    first = network.stages[0][0][0].weight  # type: ignore[index]
    torch.testing.assert_close(first, published["features.0.0.weight"], atol=1e-3, rtol=1e-2)
    assert card.args == {"classes": 12, "width": 8, "backbone": "mobilenet_v3_small"}
    assert card.data.endswith("; backbone trained on ImageNet, published.pth") and str(tmp_path) not in card.data


@pytest.mark.usefixtures("hub")
def test_a_pspnet_without_published_weights_is_refused(camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"weights mobilenet_v3_small-047dcff4\.pth .*or name it with backbone_weights"
    ):
        train_segmenter(backbone_recipe(), camvid, RunFolder(tmp_path / "run", resume=False), "none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": None}, "backbone is missing: pspnet-segmenter needs one"),
        ({"arch": "unet-segmenter"}, "the other networks have none"),
        ({"arch": "unet-segmenter", "backbone": None, "backbone_weights": "x.pth"}, "there is no backbone"),
        ({"backbone": "resnet1001"}, "Input should be 'resnet18'"),
    ],
)
def test_backbones_and_networks_that_do_not_go_together(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbone_recipe(**changes)


def test_the_ignore_rule_by_hand() -> None:
    """Void labels count nowhere, a void prediction is wrong, classes without labels are not in the mean."""
    labels = [np.array([[0, 0, 1, 3]], np.uint8), np.array([[1, 3, 3, 3]], np.uint8)]
    predicted = [np.array([[0, 3, 1, 0]], np.uint8), np.array([[2, 2, 0, 3]], np.uint8)]
    result = score(predicted, labels, classes=4, void=3)
    # class 0: 1 of union 2 (one of its pixels was called void); class 1: 1 of union 2; class 2 is in no label
    assert result.iou[:2] == pytest.approx((0.5, 0.5)) and math.isnan(result.iou[2]) and math.isnan(result.iou[3])
    assert result.mean_iou == pytest.approx(0.5)
    assert result.pixel_accuracy == pytest.approx(2 / 4)
    assert result.ignored == pytest.approx(4 / 8)


def test_nothing_but_void_has_no_score() -> None:
    void = np.full((2, 2), 3, np.uint8)
    result = score([np.zeros((2, 2), np.uint8)], [void], classes=4, void=3)
    assert math.isnan(result.mean_iou) and result.ignored == 1 and result.pixel_accuracy == 0


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


def tiny_recipe(**changes: object) -> SegmenterRecipe:
    plain = {"name": "x", "arch": "unet-segmenter", "width": 4, "steps": 5, "batch": 2, "report_every": 1}
    return SegmenterRecipe.model_validate({**plain, "data": {"crop": [64, 32]}, **changes})


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Sends the real signal when that step's loss is made."""
    train_step = SegmenterTrainer.train_step

    def train_then_signal(self: SegmenterTrainer, *arguments: object) -> None:
        train_step(self, *arguments)  # type: ignore[arg-type]
        if self.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SegmenterTrainer, "train_step", train_then_signal)


@pytest.mark.parametrize("arch", ["unet-segmenter", "pyramid-segmenter"])
def test_interrupted_and_uninterrupted_segmenters_have_the_same_weights(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    recipe = tiny_recipe(arch=arch)
    whole = train_segmenter(recipe, camvid, RunFolder(tmp_path / "whole", resume=False), "first")
    stop_after(monkeypatch, 3)
    assert train_segmenter(recipe, camvid, RunFolder(tmp_path / "parts", resume=False), "first") is None
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 3
    assert not (tmp_path / "parts" / "bundle").exists()
    parts = train_segmenter(recipe, camvid, RunFolder(tmp_path / "parts", resume=True), "second")
    assert whole is not None and parts is not None and parts.card.command == "first; second"
    expected, found = whole.network.state_dict(), parts.network.state_dict()
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    assert whole.card.metrics == parts.card.metrics and whole.card.sha256 == parts.card.sha256
    losses = [
        [
            (row["step"], row["loss"])
            for row in map(json.loads, (tmp_path / run / "stats.jsonl").read_text().splitlines())
        ]
        for run in ("whole", "parts")
    ]
    assert losses[0] == losses[1] and [step for step, _ in losses[0]] == [1, 2, 3, 4, 5]


def test_validation_photographs_are_read_before_the_first_step(camvid: Path, tmp_path: Path) -> None:
    (camvid / "valannot" / "0001A_0001.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"valannot/0001A_0001\.png"):
        train_segmenter(tiny_recipe(), camvid, RunFolder(tmp_path / "run", resume=False), "none")
    assert not any((tmp_path / "run").iterdir())
    for file in (*(camvid / "val").iterdir(), *(camvid / "valannot").iterdir()):
        file.unlink()
    with pytest.raises(UsageError, match="val holds no photographs with labels"):
        train_segmenter(tiny_recipe(), camvid, RunFolder(tmp_path / "run", resume=False), "none")
    draw_camvid(tmp_path / "flat", size=(96, 24))
    with pytest.raises(SizeMismatchError, match="is 96x24, and what validates must have 32 pixels a side"):
        recipe = tiny_recipe(data={"crop": [64, 16]})
        train_segmenter(recipe, tmp_path / "flat", RunFolder(tmp_path / "run", resume=False), "none")


def test_weights_are_saved_before_they_are_scored(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ImageError("no scores today")

    monkeypatch.setattr("trainers.systems.segmenter.predict", fail)
    with pytest.raises(ImageError):
        train_segmenter(tiny_recipe(), camvid, RunFolder(tmp_path / "run", resume=False), "none")
    monkeypatch.undo()
    bundle = train_segmenter(tiny_recipe(), camvid, RunFolder(tmp_path / "run", resume=True), "none")
    assert bundle is not None and bundle.card.metrics["val_ignored"] > 0
    again = train_segmenter(tiny_recipe(), camvid, RunFolder(tmp_path / "run", resume=True), "none")
    assert again is not None and again.card == bundle.card
    assert (tmp_path / "run" / "commands.txt").read_text() == "none\nnone\n"  # a finished run got no third


def test_the_command_resumes_a_segmenter_with_its_own_recipe_alone(
    camvid: Path, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(steps: int) -> Path:
        path = tmp_path / f"{steps}.yaml"
        path.write_text(yaml.safe_dump(tiny_recipe(steps=steps).model_dump(mode="json")))
        return path

    common = ["--root", camvid, "--run", tmp_path / "run"]
    assert (
        "there is nothing to go on with" in command_line("segmenter", "--recipe", save(4), *common, "--resume").sentence
    )
    stop_after(monkeypatch, 2)
    assert command_line("segmenter", "--recipe", save(4), *common).code == 0
    assert "or --resume to go on with it" in command_line("segmenter", "--recipe", save(4), *common).sentence
    other = command_line("segmenter", "--recipe", save(6), *common, "--resume")
    assert "was begun with another recipe" in other.sentence
    assert "is for --resume" in command_line("segmenter", "--recipe", save(6), *common, "--recipe-changed").sentence
    done = command_line("segmenter", "--recipe", save(6), *common, "--resume", "--recipe-changed")
    assert done.code == 0 and load_bundle(tmp_path / "run" / "bundle").card.steps == 6
    assert (tmp_path / "run" / "recipe-until-000002.yaml").is_file()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"")
    assert "cannot be read" in command_line("segmenter", "--recipe", save(6), *common, "--resume").sentence
