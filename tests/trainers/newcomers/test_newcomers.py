"""What a researcher adds is one file: a GAN, a metric. Nothing of the packages is edited."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from models.bundles.files import read_card
from sim_bridge.errors import UsageError
from tests.trainers.command_line import CommandLine
from tests.trainers.trees import draw_flowing
from trainers.recipes.read import load_recipe
from trainers.recipes.schema import Recipe

HERE = Path(__file__).parent
pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_second_gan_is_one_file_and_one_recipe(camvid: Path, tmp_path: Path, command_line: CommandLine) -> None:
    run = tmp_path / "run"
    common = ["train", "--recipe", HERE / "pix2pix.yaml", "--root", camvid, "--run", run]
    trained = command_line(*common, "--set", "l1=50", "--set", "stages.0.steps=3")
    assert trained.code == 0, trained.err
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3] and {"d", "g", "pixel", "lr_d", "val_psnr"} <= rows[-1].keys()
    assert (run / "samples" / "000003.png").is_file()
    kept = load_recipe(Recipe, str(run / "recipe.yaml"))
    assert kept.model_dump()["l1"] == 50.0 and kept.steps == 3
    exported = command_line("export", "--run", run, "--root", camvid, "--bundle", tmp_path / "bundle", "--every", "1")
    assert exported.code == 0, exported.err
    card = read_card(tmp_path / "bundle")
    assert card.arch == "toy-pix2pix" and card.metrics["seed_0"]["pictures"] == 2
    # It goes on from its bundle, and exactly from its checkpoint, dropout included.
    further = [*common[:-1], tmp_path / "further", "--from", tmp_path / "bundle"]
    assert command_line(*further).code == 0
    # A card is somebody else's file: it names code, and none is run.
    evaluated = command_line("evaluate", "--bundle", tmp_path / "bundle", "--root", camvid)
    assert "names the system 'pix2pix.py:Pix2Pix', which is no installed one" in evaluated.sentence


def test_its_resumed_run_is_the_run(camvid: Path, tmp_path: Path, command_line: CommandLine) -> None:
    common = ["train", "--recipe", HERE / "pix2pix.yaml", "--root", camvid, "--run"]
    assert command_line(*common, tmp_path / "whole").code == 0
    assert command_line(*common, tmp_path / "parts", "--set", "stages.0.steps=2", "--set", "decay_from=1").code == 0
    rest = command_line(*common, tmp_path / "parts", "--resume")
    assert "was begun with another recipe" in rest.sentence
    assert command_line(*common, tmp_path / "parts", "--resume", "--recipe-changed").code == 0
    states = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts")]
    assert states[0]["step"] == states[1]["step"] == 4
    assert torch.equal(states[0]["random"]["cpu"], states[1]["random"]["cpu"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("l1=-1", "l1: Input should be greater than or equal to 0, not -1"),
        ("l2=1", "l2: unknown key, leave it out"),
        ("stages.4.steps=2", "the recipe has no 'stages.4.steps'"),
        ("batch", "give key=value"),
        ("system=nothing", "system 'nothing' is none of enhance, enhance_paired, segmenter, sflow"),
    ],
)
def test_wrong_changes_are_sentences(command_line: CommandLine, change: str, sentence: str) -> None:
    ended = command_line("train", "--recipe", HERE / "pix2pix.yaml", "--set", change, "--dry-run")
    assert sentence in ended.sentence and not ended.out


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text((HERE / "pix2pix.yaml").read_text())
    with pytest.raises(UsageError, match=r"there is no file pix2pix\.py beside the recipe or here"):
        load_recipe(Recipe, str(tmp_path / "mine.yaml"))


def test_a_metric_is_one_function(camvid: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    common = ["evaluate", "--bundle", "camvid-lite", "--root", camvid, "--every", "1", "--metric"]
    scored = command_line(*common, "redness:redness")
    assert scored.code == 0, scored.err
    scores = json.loads(scored.out)["seed_0"]
    assert 0 < scores["redness"] < 255 and 0 < scores["photograph_redness"] < 255
    assert "there is no such function" in command_line(*common, "redness:blueness").sentence


def test_an_objective_on_pairs_of_frames_is_one_file(tmp_path: Path, command_line: CommandLine) -> None:
    root = draw_flowing(tmp_path / "data", frames=4)
    shutil.copytree(root / "train" / "first", root / "val")
    run = tmp_path / "run"
    common = ["--recipe", HERE / "steady.yaml", "--root", root, "--run", run]
    trained = command_line("train", *common, "--set", "extensions.style_input=true")
    assert trained.code == 0, trained.err
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(row["steady"] > 0 and row["d"] > 0 for row in rows)
