"""What a user can get wrong on the command line or in a recipe is one sentence that says so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from models.bundles.files import CARD, load_bundle, save_bundle
from models.nets.segmenter import UNetSegmenter
from sim_bridge.errors import UsageError
from tests.trainers.command_line import CommandLine
from tests.trainers.recipe_files import changed_recipe
from tests.trainers.systems.test_sflow import trainer
from trainers.data.camvid import CamVid
from trainers.loop.loop import train
from trainers.loop.processes import _why_lost
from trainers.loop.run_folder import RunFolder
from trainers.recipes.read import keys_of, load_recipe
from trainers.recipes.segmenter import SegmenterRecipe
from trainers.recipes.sflow import SFlowRecipe
from trainers.scores.evaluate import Scorer
from trainers.systems.segmentation import Judge

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"betas": [2, 3]}, "betas.0: Input should be less than 1, not 2; betas.1: Input should be less than 1, not 3"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, not -1"),
        ({"loss_window": [0, 0]}, "extensions.loss_window.0: Input should be greater than 0, not 0"),
        ({"loss_window": [-48, 16]}, "extensions.loss_window.0: Input should be greater than 0, not -48"),
        ({"clip": float("inf")}, "clip: Input should be a finite number, not inf"),
        ({"hints": {"classes": []}}, "extensions.hints.classes: names no class: name one, or leave hints out"),
        (
            {"edge_augmentation": {"image_threshold": -0.1}},
            "image_threshold: Input should be greater than or equal to 0",
        ),
        ({"edge_augmentation": {"speck_sizes": []}}, "speck_sizes: Tuple should have at least 1 item"),
        ({"edge_augmentation": {"speck_sizes": [0]}}, "speck_sizes.0: Input should be greater than 0, not 0"),
        ({"edge_augmentation": {"holes": 1.5}}, "holes: Input should be less than or equal to 1, not 1.5"),
        ({"bacth": 2}, "bacth: unknown key, did you mean batch: correct it"),
        ({"data": {"crop": [64, 32], "worker": 2}}, "data.worker: unknown key, did you mean workers"),
        ({"discriminator": {"widht": 2}}, "discriminator.widht: unknown key, did you mean width"),
        ({"xyzzy": 2}, "xyzzy: unknown key, leave it out"),
    ],
)
def test_recipe_values_that_cannot_be_are_named(recipe: Path, changes: dict[str, Any], sentence: str) -> None:
    path = changed_recipe(recipe, changes)
    with pytest.raises(UsageError) as refused:
        load_recipe(SFlowRecipe, str(path))
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"name: caf\xe9\n", "is not UTF-8 (byte 9 is 0xe9): save it so"),
        (b"a: [1, 2\nb: {\n", "is not YAML (line 2: expected ',' or ']'"),
    ],
)
def test_a_recipe_that_is_no_text_or_no_yaml_is_one_line(
    tmp_path: Path, command_line: CommandLine, content: bytes, sentence: str
) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    for command in (["image"], ["segmenter"], ["data", "check"]):
        arguments = ["--recipe", tmp_path / "x.yaml", "--root", tmp_path]
        assert sentence in command_line(*command, *arguments).sentence


def test_a_dry_run_needs_no_folders_and_a_training_does(
    recipe: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    for command, name in (("image", str(recipe)), ("segmenter", "camvid_judge"), ("ablation", "camvid_lite")):
        dry = command_line(command, "--recipe", name, "--dry-run")
        assert dry.code == 0 and "data:" in dry.out
        assert command_line(command, "--recipe", name).sentence.startswith("--root is missing: give it")
        assert command_line(command, "--recipe", name, "--root", tmp_path).sentence.startswith("--run is missing")


def test_numbers_that_cannot_be_are_refused(recipe: Path, tmp_path: Path, command_line: CommandLine) -> None:
    threads = command_line(
        "image", "--recipe", recipe, "--root", tmp_path, "--run", tmp_path / "run", "--threads", "-1"
    )
    assert threads.code == 2 and "greater than or equal to 0" in threads.err
    seeds = command_line("evaluate", "--bundle", "camvid-lite", "--root", tmp_path, "--seeds", "0,1,0")
    assert seeds.sentence == "--seeds is '0,1,0', which names a seed twice: give each once"


def test_a_card_with_keys_of_another_version_is_a_sentence(
    camvid: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    card = load_bundle("camvid-lite").card
    card.recipe["data"]["nonsense"] = 1
    save_bundle(tmp_path / "bundle", load_bundle("camvid-lite").network, card)
    common = ["--bundle", tmp_path / "bundle", "--root", camvid]
    expected = f"card of {tmp_path / 'bundle'}: recipe.data: nonsense: unknown key, leave it out: update"
    assert command_line("evaluate", *common).sentence.startswith(expected)
    renders = ["--rgb", "train/*.png", "--semantic", "trainannot/*.png", "--labels", "camvid"]
    assert command_line("edges", camvid, *renders, *common).sentence.startswith(expected)


def test_an_export_overwrites_nothing_unasked_and_looks_before_it_scores(
    recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(trainer(recipe, camvid, tmp_path / "run"))
    common = ["export", "--run", tmp_path / "run", "--root", camvid, "--bundle"]
    target = tmp_path / "bundle"
    assert command_line(*common, target).code == 0
    before = (target / CARD).read_bytes()
    card = json.loads(before)
    (target / CARD).write_text(json.dumps(card | {"data": "an older one"}))
    monkeypatch.setattr("trainers.scores.export.score_network", lambda *_, **__: pytest.fail("scored before it looked"))
    assert command_line(*common, target).sentence == (
        f"{target} holds a bundle: give another --bundle, or --replace to replace it"
    )
    assert "is not empty and holds no bundle" in command_line(*common, camvid, "--replace").sentence
    assert f"{recipe} cannot be written (" in command_line(*common, recipe).sentence
    assert "cannot be written (Not a directory)" in command_line(*common, recipe / "bundle").sentence
    monkeypatch.undo()


def test_features_that_trained_do_not_judge(
    recipe: Path, camvid: Path, features: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    train(trainer(recipe, camvid, tmp_path / "run"))
    target = tmp_path / "bundle"
    common = ["export", "--run", tmp_path / "run", "--root", camvid, "--bundle", target]
    assert "is the network whose features trained" in command_line(*common, "--judge", features).sentence
    assert not target.exists()
    assert command_line(*common, "--judge", "camvid-judge").code == 0
    evaluate = ["evaluate", "--bundle", target, "--root", camvid, "--judge"]
    card = json.loads((target / CARD).read_text())
    card["recipe"]["perceptual_bundle"] = str(features)  # of absolute paths a card keeps the name alone
    (target / CARD).write_text(json.dumps(card))
    assert "is the network whose features trained" in command_line(*evaluate, features).sentence
    ablation = ["ablation", "--recipe", recipe, "--root", camvid, "--run", tmp_path / "a", "--judge", features]
    assert "is the network whose features trained" in command_line(*ablation).sentence


def test_features_that_were_not_trained_train_nothing(
    recipe: Path, camvid: Path, features: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    card = json.loads((features / CARD).read_text())
    (features / CARD).write_text(json.dumps(card | {"steps": 0}))
    common = ["image", "--recipe", recipe, "--root", camvid, "--run", tmp_path / "run"]
    assert "whose card says that it was trained for 0 steps" in command_line(*common).sentence


@pytest.mark.parametrize("kind", [SFlowRecipe, SegmenterRecipe])
def test_the_reference_of_recipes_has_every_key(kind: type[BaseModel]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    named = {name.rpartition(".")[2] for name in re.findall(r"`([a-z0-9_.]+)`", text)}
    assert keys_of(kind) <= named


def test_all_mistakes_of_a_recipe_are_told_unknown_keys_first(recipe: Path) -> None:
    wrong = {"batch": 0, "stages": [], "seed": -1, "bacth": 2, "clip": -1, "ema": 2, "betas": [2, 3]}
    with pytest.raises(UsageError, match=r"bacth: unknown key.*; betas\.0: .*; and \d more: correct it"):
        load_recipe(SFlowRecipe, str(changed_recipe(recipe, wrong)))


def test_an_export_replaces_when_told_so(recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine) -> None:
    train(trainer(recipe, camvid, tmp_path / "run"))
    save_bundle(tmp_path / "bundle", UNetSegmenter(12, 4), load_bundle("camvid-features").card)
    common = ["export", "--run", tmp_path / "run", "--root", camvid, "--bundle", tmp_path / "bundle"]
    assert command_line(*common, "--replace").code == 0
    assert load_bundle(tmp_path / "bundle").card.steps == 6


def test_a_judge_that_is_right_nowhere_has_no_ratio(camvid: Path) -> None:
    class Blind(UNetSegmenter):
        def predict(self, rgb: torch.Tensor) -> torch.Tensor:
            return torch.full(rgb.shape[:3], 10, dtype=torch.uint8)  # bicyclist, which is in no picture

    data = CamVid(camvid, "val")
    photographs = [p.crop_to_stride() for p in data]
    judge = Judge(Blind(len(data.classes), 4).eval(), data.classes)
    found = Scorer(photographs, data.classes, judge).score([p.rgb.copy() for p in photographs])
    assert found["judge_ratio"] is None and found["photograph_judge_accuracy"] == 0


def test_networks_that_do_not_fit_are_one_line(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    made = trainer(recipe, camvid, tmp_path / "run")
    train(made)
    other = trainer(recipe, camvid, tmp_path / "other", tier="base", perceptual_bundle="camvid-features")
    with pytest.raises(
        UsageError, match=r"is not of recipe 'tiny' \((Missing|Unexpected|size mismatch)[^\n]*: give its own$"
    ):
        RunFolder(tmp_path / "run", resume=True).restore(other, other.recipe, may_differ=True)


def test_a_lost_process_is_told_without_gloos_decoration() -> None:
    said = (
        "[/__w/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:40110."
        " This is typically caused by a remote worker crashing. Check the logs of the remote worker before reporting."
    )
    sentence = _why_lost(0, 2, RuntimeError(said))
    assert "process 0 of 2 lost the others (Connection closed by peer [127.0.0.1]:40110): see" in sentence


def test_a_full_gpu_is_a_sentence(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nwith a page of statistics")

    monkeypatch.setattr("trainers.scores.export.score_bundle", full)
    ended = command_line("evaluate", "--bundle", "camvid-lite", "--root", tmp_path)
    assert ended.code == 1
    assert ended.sentence.startswith(
        "the GPU's memory is full (CUDA out of memory. Tried to allocate 2.00 GiB.): lower"
    )
