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
from torch import nn
from torchvision.models import mobilenet_v3_small

from models.bundles.files import Card, load_bundle
from models.edges import LaplacianEdges
from models.nets.efficientnet_lite import EfficientNetLite
from models.nets.segmenter import LiteSegmenter, PSPNetSegmenter
from sim_bridge.errors import ImageError, SizeMismatchError, UsageError
from tests.trainers.camvid_tree import draw_camvid
from tests.trainers.command_line import CommandLine
from trainers.batches.held import open_samples
from trainers.batches.make import Batch
from trainers.batches.sample import load_all, prepare
from trainers.batches.workers import make_sampler
from trainers.data.camvid import CamVid
from trainers.errors import TrainingError
from trainers.loop.begin import begin
from trainers.loop.loop import train
from trainers.loop.run_folder import RunFolder
from trainers.loop.training import Training
from trainers.recipes.segmenter import SegmenterRecipe
from trainers.systems.segmentation import score

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("one_thread")


def test_command_line_trains_a_segmenter(camvid: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    content = {
        "system": "segmenter",
        "name": "tiny",
        "arch": "unet-segmenter",
        "width": 4,
        "stages": [{"steps": 150}],
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
        "name": "x", "arch": "pspnet-segmenter", "backbone": "mobilenet_v3_small", "width": 8, "batch": 2,
        "stages": [{"steps": 2}], "data": {"crop": [64, 32]},
    }  # fmt: skip
    return SegmenterRecipe.model_validate(plain | changes)


def dropout_recipe(folder: Path) -> SegmenterRecipe:
    """Dropout draws from torch's own generator."""
    torch.save(mobilenet_v3_small(weights=None).state_dict(), folder / "published.pth")
    return backbone_recipe(backbone_weights=str(folder / "published.pth"), stages=[{"steps": 5}], report_every=1)


def test_a_batch_of_void_alone_teaches_nothing_and_spoils_nothing(camvid: Path, tmp_path: Path) -> None:
    data = CamVid(camvid, "train")
    void = data.classes.index("unlabeled")
    samples = [p._replace(labels=np.full_like(p.labels, void) if i else p.labels) for i, p in enumerate(data)]
    recipe = tiny_recipe(steps=8)
    operator = LaplacianEdges(recipe.edge_settings)
    run = Training(
        recipe, [prepare(p, operator) for p in samples], data.classes, RunFolder(tmp_path / "run", resume=False)
    )
    assert train(run)
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert 0 in [row["loss"] for row in rows]
    assert all(torch.isfinite(v).all() for v in run.network.state_dict().values())


def test_no_weight_of_a_segmenter_takes_a_step_that_is_not_finite(camvid: Path, tmp_path: Path) -> None:
    recipe, data = tiny_recipe(), CamVid(camvid, "train")
    samples = load_all(data, LaplacianEdges(recipe.edge_settings))
    run = Training(recipe, samples, data.classes, RunFolder(tmp_path / "run", resume=False))
    before = {k: v.clone() for k, v in run.network.named_parameters()}
    run.network.classify.register_forward_hook(lambda _m, _i, logits: logits * float("nan"))
    with pytest.raises(TrainingError, match="the loss 'loss' is nan at step 1"):
        train(run)
    assert all(torch.equal(v, before[k]) for k, v in run.network.named_parameters())


def test_a_pspnet_begins_with_the_weights_that_are_named(camvid: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    published = mobilenet_v3_small(weights=None).state_dict()
    torch.save(published, tmp_path / "published.pth")
    # A rate so low that the weights of the backbone stay what they were given to be.
    recipe = backbone_recipe(
        backbone_weights=str(tmp_path / "published.pth"), stages=[{"steps": 2, "lr": 1e-12}], weight_decay=0
    )
    card, network = trained(recipe, camvid, tmp_path / "run")
    assert isinstance(network, PSPNetSegmenter)
    first = network.stages[0][0][0].weight  # type: ignore[index]
    torch.testing.assert_close(first, published["features.0.0.weight"], atol=1e-3, rtol=1e-2)
    assert card.args == {"classes": 12, "width": 8, "backbone": "mobilenet_v3_small"}
    assert card.data.endswith("; backbone trained on ImageNet, published.pth") and str(tmp_path) not in card.data


def test_a_lite_segmenter_trains_from_its_package_and_its_card_says_so(camvid: Path, tmp_path: Path) -> None:
    recipe = backbone_recipe(
        arch="lite-segmenter", backbone="lite0", stages=[{"steps": 2, "lr": 1e-12}], weight_decay=0
    )
    card, network = trained(recipe, camvid, tmp_path / "run")
    assert isinstance(network, LiteSegmenter) and card.args["backbone"] == "lite0"
    published = EfficientNetLite("lite0").backbone.state_dict()
    torch.testing.assert_close(
        network.backbone.state_dict()["stem.weight"], published["stem.weight"], atol=1e-3, rtol=1e-2
    )
    assert card.data.endswith("; backbone trained on ImageNet, efficientnet-lite0-57934424.pth")


@pytest.mark.usefixtures("hub")
def test_a_pspnet_without_published_weights_is_refused(camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"weights mobilenet_v3_small-047dcff4\.pth .*or name it with backbone_weights"
    ):
        begin(backbone_recipe(), camvid, RunFolder(tmp_path / "run", resume=False), "none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": None}, "backbone is missing: pspnet-segmenter needs one"),
        ({"arch": "unet-segmenter"}, "the other networks have none"),
        ({"arch": "unet-segmenter", "backbone": None, "backbone_weights": "x.pth"}, "there is no backbone"),
        ({"backbone": "resnet1001"}, "Input should be 'resnet18'"),
        ({"backbone": "lite0"}, "lite-segmenter lite0, lite1 or lite2"),
        ({"arch": "lite-segmenter"}, "lite-segmenter lite0, lite1 or lite2"),
        ({"arch": "lite-segmenter", "backbone": "lite2", "backbone_weights": "x.pth"}, "lite2 comes with its package"),
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


def batch_of(recipe: SegmenterRecipe, camvid: Path) -> Batch:
    data = CamVid(camvid, "train")
    samples = open_samples(data, LaplacianEdges(recipe.edge_settings), recipe.data)
    return make_sampler(samples, recipe.as_drawn(), len(data.classes)).draw()


def test_crops_that_do_not_fit_are_a_sentence_and_scaled_ones_stay_aligned(camvid: Path) -> None:
    content = {"colour_gain": 0, "colour_shift": 0, "batch": 6}
    with pytest.raises(UsageError, match=r"a picture is 96x64 when its crop is cut, but data\.crop is 128x64"):
        batch_of(tiny_recipe(**content, data={"crop": [128, 64]}), camvid)
    samples = list(CamVid(camvid, "train"))
    batch = batch_of(tiny_recipe(**content, data={"crop": [96, 64], "scale": [2, 2]}), camvid)
    x, y = batch.x, batch.s
    assert x.shape == (6, 3, 64, 96) and y.shape == (6, 64, 96)
    road, sky = (float(x.mean(1)[y == k].std()) for k in (3, 0))
    whole = [float(s.rgb[s.labels == k].std()) / 127.5 for s in samples[:1] for k in (3, 0)]
    assert road < 3 * whole[0] and sky < 3 * whole[1]  # one class, one colour: labels lie on their surfaces


def tiny_recipe(steps: int = 5, **changes: object) -> SegmenterRecipe:
    plain = {"name": "x", "arch": "unet-segmenter", "width": 4, "stages": [{"steps": steps}], "batch": 2}
    return SegmenterRecipe.model_validate({**plain, "report_every": 1, "data": {"crop": [64, 32]}, **changes})


def trained(recipe: SegmenterRecipe, camvid: Path, run: Path, command: str = "none") -> tuple[Card, nn.Module]:
    """Trains, or goes on, to the end."""
    folder = RunFolder(run, resume=(run / "checkpoint.pt").is_file())
    assert begin(recipe, camvid, folder, command)
    bundle = load_bundle(run / "bundle")
    return bundle.card, bundle.network


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Sends the real signal when that step is done."""
    update = Training.update_average

    def update_then_signal(self: Training) -> None:
        update(self)
        if self.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "update_average", update_then_signal)


@pytest.mark.parametrize("arch", ["unet-segmenter", "pyramid-segmenter", "pspnet-segmenter", "lite-segmenter"])
def test_interrupted_and_uninterrupted_segmenters_have_the_same_weights(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    recipes = {"pspnet-segmenter": lambda: dropout_recipe(tmp_path)}
    recipes["lite-segmenter"] = lambda: tiny_recipe(arch=arch, backbone="lite0")
    recipe = recipes.get(arch, lambda: tiny_recipe(arch=arch))()
    whole, expected = trained(recipe, camvid, tmp_path / "whole", "first")
    stop_after(monkeypatch, 3)
    assert not begin(recipe, camvid, RunFolder(tmp_path / "parts", resume=False), "first")
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 3
    assert not (tmp_path / "parts" / "bundle").exists()
    torch.rand(7)  # as any other process would leave torch's generator
    parts, found = trained(recipe, camvid, tmp_path / "parts", "second")
    assert parts.command == "first; second"
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in expected.state_dict().items())
    assert whole.metrics == parts.metrics and whole.sha256 == parts.sha256
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
        begin(tiny_recipe(), camvid, RunFolder(tmp_path / "run", resume=False), "none")
    assert not any((tmp_path / "run").iterdir())
    for file in (*(camvid / "val").iterdir(), *(camvid / "valannot").iterdir()):
        file.unlink()
    with pytest.raises(UsageError, match="val holds no photographs with labels"):
        begin(tiny_recipe(), camvid, RunFolder(tmp_path / "run", resume=False), "none")
    draw_camvid(tmp_path / "flat", size=(96, 24))
    with pytest.raises(SizeMismatchError, match="is 96x24, and what validates must have 32 pixels a side"):
        recipe = tiny_recipe(data={"crop": [64, 16]})
        begin(recipe, tmp_path / "flat", RunFolder(tmp_path / "run", resume=False), "none")


def test_weights_are_saved_before_they_are_scored(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ImageError("no scores today")

    monkeypatch.setattr("trainers.systems.segmenter.predict", fail)
    with pytest.raises(ImageError):
        begin(tiny_recipe(), camvid, RunFolder(tmp_path / "run", resume=False), "none")
    monkeypatch.undo()
    card, _ = trained(tiny_recipe(), camvid, tmp_path / "run")
    assert card.metrics["val_ignored"] > 0
    assert trained(tiny_recipe(), camvid, tmp_path / "run")[0] == card
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
    assert "is empty: fetch or write it" in command_line("segmenter", "--recipe", save(6), *common, "--resume").sentence
