"""Training on two processes is training on one: the same weights, one set of files, and an end for all together."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sim_bridge.errors import UsageError
from tests.trainers import group_processes as gp
from trainers.loop.loop import train
from trainers.loop.processes import Group

ROOT = Path(__file__).parents[3]
MEANS: dict[str, Any] = {
    "perceptual_normalise": False,
    "hints": {"classes": "all", "jitter": 0.2, "dropout": 0.3, "keep_hues": True},
}
"""Leaves only losses that are means over samples; the division by a batch's own feature size is not. With hints, whose
variations are drawn, too."""


pytestmark = pytest.mark.usefixtures("one_thread")


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    return flat(state)


def flat(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    modules = {**state["networks"], "average": state["average"]}
    return {f"{m}.{k}": v for m, weights in modules.items() for k, v in weights.items()}


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def assert_same_training(one: Path, other: Path, start: dict[str, torch.Tensor]) -> None:
    """Weights and losses differ by rounding alone: a hundred times less than training moved the weights."""
    a, b = weights(one), weights(other)
    way = sum(float((a[k] - start[k]).abs().sum()) for k in a)
    apart = sum(float((a[k] - b[k]).abs().sum()) for k in a)
    assert way > 0 and apart < 0.01 * way
    losses = ("dned", "fused", "pixel", "chroma", "tone", "perceptual", "d", "g", "fm")
    for x, y in zip(rows(one), rows(other), strict=True):
        assert x.keys() == y.keys()
        assert {k: x[k] for k in losses if k in x} == pytest.approx({k: y[k] for k in losses if k in y}, rel=1e-3)


def start_of(run: gp.Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in flat(run.state()).items()}


def test_accumulated_batches_train_as_one_large_batch(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    whole = gp.make_trainer(recipe, camvid, tmp_path / "whole", batch=4, **MEANS)
    start = start_of(whole)
    assert train(whole)
    parts = gp.make_trainer(recipe, camvid, tmp_path / "parts", batch=1, accumulate=4, **MEANS)
    assert train(parts)
    assert_same_training(tmp_path / "whole", tmp_path / "parts", start)


def test_two_processes_train_as_one(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    one = gp.make_trainer(recipe, camvid, tmp_path / "one", batch=2, accumulate=2, **MEANS)
    start = start_of(one)
    assert train(one)
    outcomes = gp.train_on_two(
        tmp_path / "two", recipe=recipe, camvid=camvid, batch=2, accumulate=2, **MEANS
    )  # fmt: skip
    assert outcomes == [{"reached_end": True, "step": 6}] * 2
    assert_same_training(tmp_path / "one", tmp_path / "two", start)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["checkpoint.pt", "recipe.yaml", "stats.jsonl"]


def test_a_signal_to_one_process_saves_and_stops_all_and_resuming_is_exact(
    recipe: Path, camvid: Path, tmp_path: Path
) -> None:
    common = {"recipe": recipe, "camvid": camvid, "accumulate": 2}
    gp.train_on_two(tmp_path / "whole", **common)
    stopped = gp.train_on_two(tmp_path / "parts", gp.terminate, **common)
    assert stopped == [{"reached_end": False, "step": 3}] * 2
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 3
    resumed = gp.train_on_two(tmp_path / "parts", resume=True, **common)
    assert resumed == [{"reached_end": True, "step": 6}] * 2
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(expected[k], found[k]) for k in expected)


def test_an_error_on_one_process_ends_all_with_its_sentence(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    other, failed = gp.train_on_two(tmp_path / "run", gp.refuse, recipe=recipe, camvid=camvid)
    assert failed == {"error": "UsageError", "sentence": "street_7.png cannot be read"}
    assert other == {
        "error": "LostProcessError", "sentence": "process 1 of 2 failed: street_7.png cannot be read"
    }  # fmt: skip


def test_a_fault_of_one_process_is_named_by_all(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    other, failed = gp.train_on_two(tmp_path / "run", gp.trip, recipe=recipe, camvid=camvid)
    assert failed["error"] == "ZeroDivisionError"
    assert other["sentence"] == "process 1 of 2 failed: ZeroDivisionError: by nothing"


@pytest.mark.parametrize("accident", [gp.vanish, pytest.param(gp.freeze, marks=pytest.mark.slow)])
def test_a_process_that_answers_no_more_is_missed(recipe: Path, camvid: Path, tmp_path: Path, accident: Any) -> None:
    other, gone = gp.train_on_two(tmp_path / "run", accident, recipe=recipe, camvid=camvid)
    assert gone == {}
    assert other["error"] == "LostProcessError"
    assert "process 0 of 2 lost the others" in other["sentence"] and "--resume" in other["sentence"]


def test_a_batch_that_processes_cannot_share_is_refused(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch of recipe 'tiny' is 2, which 3 processes cannot share evenly"):
        gp.make_trainer(recipe, camvid, tmp_path / "run", group=Group(0, 3))


def test_torchrun_trains_on_two_processes(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    train = ["trainers/run.py", "image", "--recipe", str(recipe), "--root", str(camvid), "--run", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    common: dict[str, Any] = {"capture_output": True, "text": True, "cwd": ROOT, "env": environment, "check": False}
    done = subprocess.run([*torchrun, *train], **common)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("name: tiny") == 1 and done.stderr.count("step 6 of 6 (phase3)") == 1
    assert [r["step"] for r in rows(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    assert (tmp_path / "run" / "samples" / "000006.png").is_file()
    again = subprocess.run([*torchrun, *train], **common)
    assert again.returncode != 0 and "is not empty" in again.stderr
