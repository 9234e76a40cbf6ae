"""Image training: the phases move what they should, a resumed run is the run, and mistakes are sentences."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from models.bundle import load_bundle
from models.edges import LaplacianEdges
from sim_bridge.errors import UsageError
from trainers.data import CamVid, load_all
from trainers.image import ImageTrainer
from trainers.recipe import ImageRecipe, load_recipe
from trainers.run_folder import RunFolder

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer(recipe: Path, camvid: Path, run: Path, *, resume: bool = False, **overrides: object) -> ImageTrainer:
    resolved = load_recipe(ImageRecipe, str(recipe), overrides)
    data = CamVid(camvid, "train")
    samples = load_all(data, LaplacianEdges(resolved.edge))
    made = ImageTrainer(resolved, samples, data.classes, RunFolder(run, resume=resume))
    if resume:
        made.restore(made.folder.load())
    made.folder.save_recipe(resolved)
    return made


def copy_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def moved(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_each_phase_trains_what_it_should(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run")
    pretrain, phase2, _ = run.recipe.stages
    discriminator = copy_of(run.discriminator)
    generator, dned = copy_of(run.network.generator), copy_of(run.network.dned)
    run.train_step(pretrain)
    assert moved(run.network.generator, generator) and moved(run.network.dned, dned)
    assert not moved(run.discriminator, discriminator)
    run.train_step(phase2)
    assert moved(run.discriminator, discriminator)


@pytest.mark.parametrize(("phase", "reaches_dned"), [(1, False), (2, True)])
def test_pictures_train_dned_in_phase_3_only(
    recipe: Path, camvid: Path, tmp_path: Path, phase: int, reaches_dned: bool
) -> None:
    run = trainer(recipe, camvid, tmp_path / "run")
    fake, *_ = run._render(run.sampler.draw(), run.recipe.stages[phase])
    fake.square().mean().backward()
    gradients = [p.grad for p in run.network.dned.stages.parameters()]
    assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients) is reaches_dned


def test_interrupted_and_uninterrupted_runs_give_the_same_weights(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    whole = trainer(recipe, camvid, tmp_path / "whole")
    assert whole.train()
    stages = yaml.safe_load(recipe.read_text())["stages"]
    first = trainer(recipe, camvid, tmp_path / "parts")
    stop_at_step(first, 3)
    assert not first.train()
    assert first.step == 3
    second = trainer(recipe, camvid, tmp_path / "parts", resume=True, stages=stages)
    assert second.train()
    for name in ("network", "average", "discriminator"):
        expected, found = getattr(whole, name).state_dict(), getattr(second, name).state_dict()
        assert all(torch.equal(expected[k], found[k]) for k in expected), name
    rows = [json.loads(line) for line in (tmp_path / "parts" / "stats.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [1, 2, 3, 4, 5, 6]


def stop_at_step(run: ImageTrainer, step: int) -> None:
    """Sends the real signal when the given step begins its update of the average."""
    update = run._update_average

    def update_then_signal() -> None:
        update()
        if run.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    run._update_average = update_then_signal  # type: ignore[method-assign]


def test_losses_that_are_no_numbers_stop_the_run(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run")
    with torch.no_grad():
        run.network.generator.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="pixel is nan at step 1"):
        run.train()


def test_perceptual_weight_without_a_network_is_refused(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no 'perceptual_bundle'"):
        trainer(recipe, camvid, tmp_path / "run", perceptual_bundle=None)


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "trainers/run.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def test_command_line_trains_exports_and_never_overwrites(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run, bundle = str(tmp_path / "run"), str(tmp_path / "bundle")
    common = ["--recipe", str(recipe), "--root", str(camvid), "--run", run]
    done = run_cli("image", *common)
    assert done.returncode == 0, done.stderr
    assert "6/6 phase3" in done.stderr
    assert (tmp_path / "run" / "samples" / "000006.png").is_file()
    again = run_cli("image", *common)
    assert again.returncode == 2 and "is not empty" in again.stderr and "Traceback" not in again.stderr
    exported = run_cli("export", "--run", run, "--root", str(camvid), "--bundle", bundle)
    assert exported.returncode == 0, exported.stderr
    card = load_bundle(bundle).card
    assert card.steps == 6 and card.metrics["seed_0"]["pictures"] == 1 and "image --recipe" in card.command


def test_dry_run_prints_the_resolved_recipe_and_writes_nothing(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = run_cli("image", "--recipe", str(recipe), "--root", str(camvid), "--run", str(run), "--dry-run")
    assert done.returncode == 0 and not run.exists()
    assert ImageRecipe.model_validate(yaml.safe_load(done.stdout)).name == "tiny"
