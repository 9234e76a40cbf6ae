import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sim_bridge.errors import UsageError
from tests.trainers.recipe_files import changed_recipe
from tests.trainers.systems.test_sflow import ROOT, run_cli
from trainers.recipes.read import load_recipe
from trainers.recipes.sflow import SFlowRecipe
from trainers.scores.ablation import FULL, PHOTOGRAPHS, choose, table, variants
from trainers.scores.export import TrainedRun


def test_each_variant_lacks_its_part_and_nothing_else(recipe: Path) -> None:
    known = variants(load_recipe(SFlowRecipe, str(recipe)), 6)
    assert list(known) == [
        *(FULL, "no_dned", "no_feature_matching", "no_perceptual", "no_phase_2"),
        *("no_edge_augmentation", "d_sees_no_edges", "one_edge_sign", "other_seed"),
    ]
    full = known[FULL]
    assert all(v.steps == full.steps == 6 for v in known.values())
    assert {s.generator_sees for s in known["no_dned"].stages} == {"laplacian"}
    assert not any(s.weights.dned or s.weights.dned_fused for s in known["no_dned"].stages)
    assert not any(s.weights.feature_matching for s in known["no_feature_matching"].stages)
    assert not any(s.weights.perceptual for s in known["no_perceptual"].stages)
    assert [(s.name, s.steps) for s in known["no_phase_2"].stages] == [("pretrain", 2), ("phase3", 4)]
    assert known["other_seed"].seed == full.seed + 1
    for name, weight in (("no_feature_matching", "feature_matching"), ("no_perceptual", "perceptual")):
        for ours, theirs in zip(known[name].stages, full.stages, strict=True):
            assert ours.weights.model_copy(update={weight: getattr(theirs.weights, weight)}) == theirs.weights


def test_shipped_recipe_keeps_the_shares_of_its_stages() -> None:
    full = variants(load_recipe(SFlowRecipe, "camvid_lite"), 3000)[FULL]
    assert [s.steps for s in full.stages] == [150, 510, 480, 1860]


def test_edges_of_one_sign_and_of_two_scales_are_variants_of_the_shipped_recipe() -> None:
    known = variants(load_recipe(SFlowRecipe, "camvid_lite"), 3000)
    full, one, two = known[FULL], known["one_edge_sign"], known["two_edge_scales"]
    assert (full.edge.planes, one.edge.planes, two.edge.planes) == (2, 1, 4)
    assert (two.edge.blur, two.edge.coarse_blur) == (1.5, 3.75)
    for other in (one, two):
        assert other.model_copy(update={"edge": full.edge}) == full


def test_what_goes_beyond_the_paper_is_left_out_one_by_one() -> None:
    whole = load_recipe(SFlowRecipe, "camvid_lite")
    assert whole.extensions.hints is not None and whole.extensions.hints.keep_hues and whole.extensions.half_chroma
    known = variants(whole, 3000)
    full = known[FULL]
    assert known["no_edge_augmentation"].edge_augmentation is None and known["no_hints"].extensions.hints is None
    assert not known["no_road_lines"].data.road_lines and not known["whole_chroma"].extensions.half_chroma
    assert not known["d_sees_no_edges"].discriminator.sees_edges
    kept = known["no_kept_hues"].extensions.hints
    assert kept is not None and kept.model_copy(update={"keep_hues": True}) == full.extensions.hints
    told = full.extensions.hints.model_copy(update={"classes": ("road line", "car")})
    extensions = full.extensions.model_copy(update={"hints": told})
    blind = variants(full.model_copy(update={"extensions": extensions}), 3000)["no_road_lines"].extensions.hints
    assert blind is not None and blind.classes == ("car",)
    for name, part in (("no_road_lines", "data"), ("d_sees_no_edges", "discriminator")):
        assert known[name].model_copy(update={part: getattr(full, part)}) == full, name
    for name, part in (
        *(("no_edge_augmentation", "edge_augmentation"), ("no_hints", "hints")),
        *(("no_kept_hues", "hints"), ("whole_chroma", "half_chroma")),
    ):
        without = known[name].extensions.model_copy(update={part: getattr(full.extensions, part)})
        assert known[name].model_copy(update={"extensions": without}) == full, name
    for name in known:
        assert SFlowRecipe.model_validate(known[name].model_dump(mode="json")) == known[name], name


@pytest.mark.parametrize("steps", [3, 4, 5, 7, 1000])
def test_shortened_stages_have_a_step_each_and_the_steps_asked_for(recipe: Path, steps: int) -> None:
    full = variants(load_recipe(SFlowRecipe, str(recipe)), steps)[FULL]
    assert full.steps == steps
    assert min(s.steps for s in full.stages) >= 1


def test_parts_that_a_recipe_has_not_are_left_out(recipe: Path) -> None:
    whole = load_recipe(SFlowRecipe, str(recipe))
    plain = whole.model_copy(update={"stages": whole.stages[:1]})
    assert list(variants(plain, 2)) == [
        *(FULL, "no_dned", "no_edge_augmentation", "d_sees_no_edges", "one_edge_sign", "other_seed"),
    ]


def test_wrong_wishes_are_named(recipe: Path) -> None:
    whole = load_recipe(SFlowRecipe, str(recipe))
    with pytest.raises(UsageError, match=r"--steps is 2, and recipe 'tiny' has 3 stages"):
        variants(whole, 2)
    with pytest.raises(UsageError, match=r"--only names no_style: the variants of this recipe are full, no_dned"):
        choose(variants(whole, 6), "full,no_style")


def test_variants_are_trained_scored_and_tabled(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    recipe = changed_recipe(recipe, {"data": {"crop": [64, 32], "road_lines": True}})
    options = ["--recipe", str(recipe), "--root", str(camvid), "--run", str(tmp_path / "runs"), "--steps", "3"]
    options += ["--only", "full,no_dned,no_road_lines", "--together", "2", "--threads", "1"]
    done = run_cli("ablation", *options)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "runs" / "ablation.json").read_text())
    assert list(scores) == [FULL, "no_dned", "no_road_lines", PHOTOGRAPHS]  # the last knows a class less
    assert done.stdout.strip() == table(scores)
    assert "judge" not in table(scores)  # there was none
    assert scores[FULL]["degraded"]["psnr"] != scores[FULL]["psnr"]
    assert (tmp_path / "runs" / "ablation.png").is_file()
    networks = [TrainedRun.load(tmp_path / "runs" / name) for name in (FULL, "no_dned")]
    assert [n.recipe.uses_dned for n in networks] == [True, False]
    # DNED learns in one and is as it began in the other.
    dned = [{k: v for k, v in n.state["networks"]["network"].items() if k.startswith("dned.")} for n in networks]
    assert any(not torch.equal(dned[0][k], dned[1][k]) for k in dned[0])

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/checkpoint.pt")}
    again = run_cli("ablation", *options)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # what is done is not done again

    third = run_cli("ablation", *[o.replace("full,no_dned", "no_perceptual") for o in options])
    assert third.returncode == 0, third.stderr
    merged = json.loads((tmp_path / "runs" / "ablation.json").read_text())
    assert list(merged) == [FULL, "no_dned", "no_road_lines", "no_perceptual", PHOTOGRAPHS]
    assert merged[FULL] == scores[FULL]

    other = run_cli("ablation", *options[:-8], "--steps", "4", "--only", "full")
    assert other.returncode == 2
    assert "holds another recipe than this ablation's 'full'" in other.stderr


def test_a_training_that_fails_is_named_with_its_log(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    for picture in (camvid / "train").glob("*.png"):
        picture.write_bytes(b"no picture")
    options = ["--recipe", str(recipe), "--root", str(camvid), "--run", str(tmp_path / "runs"), "--steps", "3"]
    done = run_cli("ablation", *options, "--only", "full")
    assert done.returncode != 0
    assert "the training of 'full' ended early, with exit code 1: see the end of" in done.stderr
    assert "Traceback" not in done.stderr
    assert "0001A_0000.png" in (tmp_path / "runs" / "full.log").read_text()


def test_a_signal_stops_all_and_the_same_command_goes_on(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    options = ["--recipe", str(recipe), "--root", str(camvid), "--run", str(tmp_path / "runs"), "--only", "full"]
    command = [sys.executable, "trainers/run.py", "ablation", *options, "--steps", "100000", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    stats = tmp_path / "runs" / "full" / "stats.jsonl"
    while not (stats.is_file() and stats.stat().st_size):
        with pytest.raises(subprocess.TimeoutExpired):  # it must not end by itself
            process.wait(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "was stopped, its trainings are saved: give the command again" in said
    assert 0 < TrainedRun.load(tmp_path / "runs" / "full").state["step"] < 100000
