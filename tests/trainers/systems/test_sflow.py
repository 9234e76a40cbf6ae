"""Image training: the phases move what they should, a resumed run is the run, and mistakes are sentences."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from models.bundles.files import load_bundle
from models.edges import LaplacianEdges
from models.hints import chroma_limits
from models.layers import label_boundary
from models.nets.sflow import SFlowNetwork
from sim_bridge.errors import UsageError
from tests.trainers.command_line import CommandLine
from tests.trainers.recipe_files import changed_recipe, merged, one_step
from tests.trainers.trees import draw_cityscapes
from trainers.batches.held import open_samples
from trainers.batches.sample import load_all
from trainers.data.camvid import CamVid
from trainers.data.open import open_data
from trainers.errors import TrainingError
from trainers.loop.board import Board
from trainers.loop.loop import train
from trainers.loop.run_folder import RunFolder, published_command
from trainers.loop.sheets import SampleSheet
from trainers.loop.training import Training
from trainers.recipes.read import load_recipe, recipe_of_card
from trainers.recipes.segmenter import SegmenterRecipe
from trainers.recipes.sflow import SFlowRecipe
from trainers.run import _command as run_command
from trainers.scores.export import export_run
from trainers.systems.base import MicroBatch, Term
from trainers.systems.sflow import Forward, SFlow

ROOT = Path(__file__).parents[3]


pytestmark = pytest.mark.usefixtures("one_thread")


def trainer(recipe: Path, camvid: Path, run: Path, *, resume: bool = False, **overrides: object) -> Training:
    resolved = load_recipe(SFlowRecipe, str(recipe), merged(recipe, overrides))
    data = CamVid(camvid, "train")
    samples = load_all(data, LaplacianEdges(resolved.edge))
    made = Training(resolved, samples, data.classes, RunFolder(run, resume=resume))
    if resume:
        made.restore(made.folder.load())
    made.folder.save_recipe(resolved)
    return made


def copy_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def weights_of(run: Training) -> dict[str, torch.Tensor]:
    modules = {**run.system.networks, "average": run.average}
    return {f"{name}.{k}": v for name, module in modules.items() for k, v in module.state_dict().items()}


def moved(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_each_phase_trains_what_it_should(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run")
    pretrain, phase2, _ = run.recipe.stages
    discriminator = copy_of(run.system.discriminator)
    generator, dned = copy_of(run.network.generator), copy_of(run.network.dned)
    one_step(run, pretrain)
    assert moved(run.network.generator, generator) and moved(run.network.dned, dned)
    assert not moved(run.system.discriminator, discriminator)
    one_step(run, phase2)
    assert moved(run.system.discriminator, discriminator)


@pytest.mark.parametrize(("phase", "reaches_dned"), [(1, False), (2, True)])
def test_pictures_train_dned_in_phase_3_only(
    recipe: Path, camvid: Path, tmp_path: Path, phase: int, reaches_dned: bool
) -> None:
    run = trainer(recipe, camvid, tmp_path / "run")
    drawn = run.system.forward(run.draw()[0], run.recipe.stages[phase])
    drawn.fake.square().mean().backward()
    gradients = [p.grad for p in run.network.dned.stages.parameters()]
    assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients) is reaches_dned


def test_the_generator_and_d_see_the_laplacians_edges_in_phase_1_and_dneds_after_it(
    recipe: Path, camvid: Path, tmp_path: Path
) -> None:
    run = trainer(recipe, camvid, tmp_path / "run")
    part = run.draw()[0]
    seen: list[torch.Tensor] = []
    run.network.generator.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    first, second, third = (run.system.forward(part, stage) for stage in run.recipe.stages)
    assert torch.equal(first.edge_map, part.batch.e)
    assert all(torch.equal(shown, drawn.edge_map) for shown, drawn in zip(seen, (first, second, third), strict=True))
    assert set(first.edge_map.unique().tolist()) <= {0.0, 1.0}  # edges there are or are not; DNED is never sure
    for drawn in (second, third):
        assert bool((drawn.edge_map > 0).all()) and bool((drawn.edge_map < 1).all())


@pytest.mark.parametrize(
    "hints", [None, {"classes": ["car", "road"], "jitter": 0.2, "dropout": 0.3, "keep_hues": True}]
)
def test_interrupted_and_uninterrupted_runs_give_the_same_weights(
    recipe: Path, camvid: Path, tmp_path: Path, hints: dict[str, Any] | None
) -> None:
    whole = trainer(recipe, camvid, tmp_path / "whole", hints=hints)
    assert train(whole)
    stages = yaml.safe_load(recipe.read_text())["stages"]
    first = trainer(recipe, camvid, tmp_path / "parts", hints=hints)
    stop_at_step(first, 3)
    assert not train(first)
    assert first.step == 3
    second = trainer(recipe, camvid, tmp_path / "parts", resume=True, stages=stages, hints=hints)
    assert train(second)
    expected, found = weights_of(whole), weights_of(second)
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    rows = [json.loads(line) for line in (tmp_path / "parts" / "stats.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("data", [{}, {"memory": "stream", "workers": 1}, {"scale": [0.9, 1.1]}])
def test_the_discriminator_sees_where_instances_end(recipe: Path, tmp_path: Path, data: dict[str, Any]) -> None:
    root = draw_cityscapes(tmp_path / "cityscapes")
    discriminator = {"width": 8, "sees_edges": True, "sees_instance_edges": True}
    content = {"data": {"kind": "cityscapes", "crop": [64, 32], **data}, "discriminator": discriminator}
    seeing = changed_recipe(recipe, {**content, "loss_window": [64, 32]})
    resolved = load_recipe(SFlowRecipe, str(seeing))
    opened = open_data(resolved.data, root, "train", instances=True)
    samples = open_samples(opened, LaplacianEdges(resolved.edge), resolved.data)
    run = Training(resolved, samples, opened.classes, RunFolder(tmp_path / "run", resume=False))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    run.system.discriminator.register_forward_pre_hook(lambda _, arguments: seen.append((arguments[0], arguments[2])))
    with closing(run.sampler):
        for _ in range(4):
            one_step(run, run.recipe.stages[-1])
    labels, planes = (torch.cat(tensors) for tensors in zip(*seen, strict=True))
    assert planes.shape[1] == 3, "two of a signed edge map, one of borders"
    borders = planes[:, 2] == 1
    assert set(planes[:, 2].unique().tolist()) == {0.0, 1.0}
    classes_end = label_boundary(labels)
    assert borders[classes_end].all()
    # Within a class: one car behind the other, and parking, which is road as well.
    within = labels[borders & ~classes_end].unique().tolist()
    assert within == sorted(opened.classes.index(name) for name in ("road", "car"))


def test_the_photographs_chroma_is_measured_once_and_kept(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    hints = {"classes": "all", "keep_hues": True}
    run = trainer(recipe, camvid, tmp_path / "run", hints=hints)
    photographs = CamVid(camvid, "train")
    pictures = ((torch.from_numpy(p.rgb), torch.from_numpy(p.labels)) for p in photographs[:])
    expected = chroma_limits(pictures, len(photographs.classes))
    assert expected.all()
    train(run)
    for network in (run.network, run.average):
        assert network.chroma_limits is not None and torch.equal(network.chroma_limits, expected)
    run.network.chroma_limits.mul_(2)
    run.system.begin(run.samples)
    assert torch.equal(run.network.chroma_limits, expected * 2)


def stop_at_step(run: Training, step: int) -> None:
    """Sends the real signal when the given step begins its update of the average."""
    update = run.update_average

    def update_then_signal() -> None:
        update()
        if run.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    run.update_average = update_then_signal  # type: ignore[method-assign]


def test_losses_that_are_no_numbers_stop_the_run(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run")
    with torch.no_grad():
        run.network.generator.head.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="'pixel' is nan at step 1"):
        train(run)
    assert not run.folder.checkpoint.exists()


def test_averaged_weights_follow_by_the_recipes_share(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    made = trainer(recipe, camvid, tmp_path / "run", ema=0.75)
    ours, theirs = (next(m.generator.head.parameters()) for m in (made.average, made.network))
    expected = ours.clone()
    for step in range(20):
        one_step(made, made.recipe.stage_at(0))
        share = min(0.75, 1 - 1 / (1 + step / 4))  # a short memory at first
        expected = share * expected + (1 - share) * theirs.detach()
        torch.testing.assert_close(ours, expected)


def test_gradients_are_clipped_to_the_recipes_norm(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    made = trainer(recipe, camvid, tmp_path / "run", clip=1e-3)
    one_step(made, made.recipe.stage_at(0))
    assert made.collector.latest(1)["gradient"] > 1e-2  # what is reported is the norm before
    norm = torch.stack([p.grad.norm() for p in made.network.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_averaged_weights_of_a_bundle_are_kept(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    first = trainer(recipe, camvid, tmp_path / "first")
    train(first)
    export_run(tmp_path / "first", camvid, tmp_path / "bundle", None)
    second = trainer(recipe, camvid, tmp_path / "second")
    second.start_from(tmp_path / "bundle")
    before = {k: v.clone() for k, v in second.average.state_dict().items()}
    one_step(second, second.recipe.stages[-1])
    ours, theirs = second.average.state_dict(), second.network.state_dict()
    went = sum(float((ours[k] - before[k]).norm()) for k in before)
    whole = sum(float((theirs[k] - before[k]).norm()) for k in before)
    assert went < 0.5 * whole  # 6 steps are averaged, not thrown away


def test_a_training_from_a_bundle_measures_its_own_photographs(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    hints = {"classes": "all", "keep_hues": True}
    train(trainer(recipe, camvid, tmp_path / "first", hints=hints))
    export_run(tmp_path / "first", camvid, tmp_path / "bundle", None)
    of_bundle = load_bundle(tmp_path / "bundle").sflow.chroma_limits
    for file in (camvid / "train").iterdir():
        picture = cv2.imread(str(file))
        assert picture is not None
        cv2.imwrite(str(file), picture // 2)
    second = trainer(recipe, camvid, tmp_path / "second", hints=hints)
    second.start_from(tmp_path / "bundle")
    train(second)
    assert of_bundle is not None and of_bundle.any()
    for network in (second.network, second.average):
        assert network.chroma_limits is not None
        assert (network.chroma_limits < 0.7 * of_bundle).all() and network.chroma_limits.any()


def test_a_bundle_of_other_classes_is_no_beginning(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    made = trainer(recipe, camvid, tmp_path / "first")
    train(made)
    export_run(tmp_path / "first", camvid, tmp_path / "bundle", None)
    other = trainer(recipe, camvid, tmp_path / "second")
    other.classes = (*other.classes[1:], other.classes[0])
    with pytest.raises(UsageError, match="begin with a bundle of the same classes"):
        other.start_from(tmp_path / "bundle")


def test_a_run_that_ended_before_its_first_checkpoint_says_so(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", resume=False).save_recipe(load_recipe(SFlowRecipe, str(recipe)))
    with pytest.raises(UsageError, match="goes on elsewhere or ended before its first; remove it if it ended"):
        RunFolder(tmp_path / "run", resume=False)
    with pytest.raises(UsageError, match="there is nothing to go on with: train it first, without --resume"):
        RunFolder(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is empty: fetch or write it again"),
        (b"no checkpoint", "cannot be read, it ends early or is damaged: restore it"),
        (b"PK\x03\x04", "cannot be read, it ends early or is damaged: restore it"),
    ],
)
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, content: bytes, fact: str) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(UsageError, match=rf"checkpoint.pt {fact}"):
        RunFolder(tmp_path, resume=True).load()


def test_statistics_that_were_cut_off_do_not_stop_a_resume(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    made = trainer(recipe, camvid, tmp_path / "run")
    train(made)
    stats = tmp_path / "run" / "stats.jsonl"
    whole = stats.read_text()
    stats.write_text(whole + '{"step": 6, "stage": "ph')
    again = trainer(recipe, camvid, tmp_path / "run", resume=True)
    train(again)
    assert stats.read_text() == whole


def test_a_recipe_of_the_other_kind_is_named(recipe: Path) -> None:
    with pytest.raises(UsageError, match=r"camvid_judge.yaml trains the system 'segmenter', not 'sflow': give"):
        load_recipe(SFlowRecipe, "camvid_judge")
    with pytest.raises(UsageError, match=r"tiny.yaml trains the system 'sflow', not 'segmenter': give"):
        load_recipe(SegmenterRecipe, str(recipe))


def test_a_wrong_value_is_named(recipe: Path) -> None:
    with pytest.raises(UsageError, match=r"tiny.yaml: batch: Input should be greater than 0, not -3: correct"):
        load_recipe(SFlowRecipe, str(recipe), {"batch": -3})


def test_published_commands_tell_no_folders_and_the_runs_own_history_does(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["run.py", "image", "--root=/home/me/camvid", "--run", "/home/me/runs/a b", "--recipe=camvid_lite"]
    monkeypatch.setattr(sys, "argv", words)
    typed = "python trainers/run.py image --root=/home/me/camvid --run '/home/me/runs/a b' --recipe=camvid_lite"
    assert run_command() == typed
    assert published_command(typed) == "python trainers/run.py image --root=camvid --run 'a b' --recipe=camvid_lite"
    inside = (
        "run.py --set 'looks=[{name: a, root: /home/me/rec/photo, share: 0.4}, {root: \"/srv/b\"}]' --set x=1/2 a/b"
    )
    wanted = "run.py --set 'looks=[{name: a, root: photo, share: 0.4}, {root: \"b\"}]' --set x=1/2 a/b"
    assert published_command(inside) == wanted


def test_options_that_would_have_no_effect_are_refused(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    common = ["--recipe", str(recipe), "--root", str(camvid), "--run", str(tmp_path / "run")]
    both = run_cli("image", *common, "--resume", "--from", "camvid-lite")
    assert (both.returncode, both.stderr.count("\n")) == (2, 1) and "leave out one of them" in both.stderr
    changed = run_cli("image", *common, "--recipe-changed")
    assert changed.returncode == 2 and "--recipe-changed is for --resume" in changed.stderr


def test_a_signal_during_a_sheet_loses_nothing(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run", sample_every=2)

    class Sheet(SampleSheet):
        def write(self, network: SFlowNetwork, step: int) -> Path:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().write(network, step)

    photographs = [p.crop_to_stride() for p in CamVid(camvid, "val")]
    assert not train(run, Sheet(SFlow, tmp_path / "run" / "samples", photographs, run.classes, run.collector))
    assert run.folder.load()["step"] == run.step == 2
    last = json.loads((tmp_path / "run" / "stats.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 2 and last["val_sharpness"] > 0


def test_statistics_of_steps_that_are_done_again_are_dropped(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run", checkpoint_every=4)
    assert train(run)
    state = torch.load(run.folder.checkpoint, weights_only=True)
    torch.save(state | {"step": 4}, run.folder.checkpoint)
    assert train(trainer(recipe, camvid, tmp_path / "run", resume=True, checkpoint_every=4))
    rows = [json.loads(line)["step"] for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert rows == [1, 2, 3, 4, 5, 6]


def test_a_run_goes_on_with_another_recipe_only_when_told_so(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run")
    other = run.recipe.model_copy(update={"clip": 5.0})
    with pytest.raises(UsageError, match="--recipe-changed"):
        run.folder.save_recipe(other)
    run.folder.save_recipe(other, 3, may_differ=True)
    assert run.folder.recipe_changes() == [3]
    assert load_recipe(SFlowRecipe, str(tmp_path / "run" / "recipe.yaml")) == other
    assert load_recipe(SFlowRecipe, str(tmp_path / "run" / "recipe-until-000003.yaml")) == run.recipe


def test_the_recipe_is_saved_before_the_first_step(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # Wider than the pictures, which are not looked at before step 1.
    wide = yaml.safe_load(recipe.read_text()) | {"data": {"crop": [640, 32], "memory": "stream"}}
    recipe.write_text(yaml.safe_dump(wide))
    failed = run_cli("image", "--recipe", str(recipe), "--root", str(camvid), "--run", str(run))
    assert failed.returncode != 0 and not (run / "stats.jsonl").exists() and not (run / "checkpoint.pt").exists()
    assert load_recipe(SFlowRecipe, str(run / "recipe.yaml")).data.crop == (640, 32)


def test_a_picture_in_memory_that_is_too_small_is_named_and_the_run_can_be_begun_again(
    recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    run, good = tmp_path / "run", recipe.read_text()
    recipe.write_text(yaml.safe_dump(yaml.safe_load(good) | {"data": {"crop": [640, 32]}}))
    common = ["image", "--recipe", recipe, "--root", camvid, "--run", run]
    assert "0001A_0000.png is 96x64, smaller than data.crop 640x32: lower" in command_line(*common).sentence
    recipe.write_text(good)
    assert command_line(*common).code == 0


def test_reports_tell_rates_and_memory(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run", accumulate=3, report_every=2)
    assert train(run)
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["images_per_s"] == pytest.approx(6 * row["steps_per_s"], abs=0.01)
        assert 0.1 < row["memory_gb"] < 64 and row["gradient"] > 0
    # 20 steps of warm-up, and from half of the way a linear fall: see the recipe's defaults
    assert [row["lr_g"] for row in rows] == pytest.approx([1e-3 * 2 / 20, 3e-4 * 4 / 20, 3e-4 * 6 / 20 / 3], rel=1e-5)
    assert [row["lr_d"] for row in rows] == pytest.approx([5e-4 * 2 / 20, 5e-4 * 4 / 20, 5e-4 * 6 / 20 / 3], rel=1e-5)


def test_tensorboard_shows_what_the_statistics_hold(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trainer(recipe, camvid, tmp_path / "run", sample_every=3)
    photographs = [p.crop_to_stride() for p in CamVid(camvid, "val")]
    board = Board(run.folder.path)
    assert train(run, SampleSheet(SFlow, run.folder.samples, photographs, run.classes, run.scores), board)
    board.close()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    told = {name for row in rows for name in row} - {"step", "stage"}
    assert set(events.Tags()["scalars"]) == told and {"pixel", "lr_g", "images_per_s", "val_sharpness"} <= told
    assert [(e.step, e.value) for e in events.Scalars("pixel")] == [
        (row["step"], pytest.approx(row["pixel"])) for row in rows
    ]
    assert [e.step for e in events.Images("samples")] == [3, 6]
    sheet = cv2.imdecode(np.frombuffer(events.Images("samples")[1].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(sheet, cv2.imread(str(run.folder.samples / "000006.png")))


def test_tensorboard_is_asked_for_only_by_its_option(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    """Where it is missing, only the option fails, and leaves no folder behind that would stand in the way."""
    without = "import sys; sys.modules['tensorboard'] = None; from trainers.run import main; main()"
    arguments = ["image", "--recipe", str(recipe), "--root", str(camvid), "--run", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for extra, code in ((["--tensorboard"], 2), ([], 0)):
        done = subprocess.run(
            [sys.executable, "-c", without, *arguments, *extra],
            capture_output=True, text=True, cwd=ROOT, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        if extra:
            assert "run pip install '.[train]'" in done.stderr and not (tmp_path / "run").exists()


def test_bf16_training_runs(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run", precision="bf16")
    assert train(run)
    assert all(torch.isfinite(p).all() for p in run.network.parameters())


@pytest.mark.gpu
def test_training_with_sheets_and_resume_on_cuda(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run", sample_every=2, precision="bf16")
    assert run.device.type == "cuda"
    photographs = [p.crop_to_stride() for p in CamVid(camvid, "val")]
    stop_at_step(run, 3)
    assert not train(run, SampleSheet(SFlow, tmp_path / "run" / "samples", photographs, run.classes, run.collector))
    assert train(trainer(recipe, camvid, tmp_path / "run", resume=True, sample_every=2, precision="bf16"))


def test_hints_reach_the_exported_network_and_unknown_classes_are_named(
    recipe: Path, camvid: Path, tmp_path: Path
) -> None:
    run = trainer(recipe, camvid, tmp_path / "run", hints={"classes": "all"})
    projection = copy_of(run.network.generator)["hint_projection.weight"]
    assert train(run)
    assert not torch.equal(run.network.generator.state_dict()["hint_projection.weight"], projection)
    export_run(tmp_path / "run", camvid, tmp_path / "bundle", None)
    assert len(load_bundle(tmp_path / "bundle").sflow.args["hint_classes"]) == len(run.classes) - 1
    with pytest.raises(UsageError, match="wants colour hints of lorry: the data set has"):
        trainer(recipe, camvid, tmp_path / "other", hints={"classes": ["lorry"]})


def test_perceptual_weight_without_a_network_is_refused(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no 'perceptual_bundle'"):
        trainer(recipe, camvid, tmp_path / "run", perceptual_bundle=None)


@pytest.mark.parametrize("arch", ["space-to-depth", "patch70"])
def test_adversarial_losses_train_d_and_g_each_by_its_own(
    recipe: Path, camvid: Path, tmp_path: Path, arch: str
) -> None:
    scales = 3 if arch == "patch70" else 1
    run = trainer_with_discriminator(recipe, camvid, tmp_path, arch=arch, scales=scales)
    stage, checked = run.recipe.stages[-1], []
    losses = run.system.losses

    def check(player: str, made: Forward, micro: MicroBatch, stage: Any) -> list[Term]:
        of_d = [p.grad.clone() for p in run.system.discriminator.parameters() if p.grad is not None]
        terms: list[Term] = losses(player, made, micro, stage)
        checked.append(player)
        if player == "d":
            assert not of_d and all(p.grad is None for p in run.network.parameters())
            return terms
        # D's turn left its gradients, and G's adds none to them.
        assert len(of_d) == len(list(run.system.discriminator.parameters()))
        assert all(g.abs().sum() > 0 for g in of_d)
        loss = torch.stack([t.weight * t.value for t in terms if t.name in ("g", "fm")]).sum()
        loss.backward(retain_graph=True)
        assert all(torch.equal(g, p.grad) for g, p in zip(of_d, run.system.discriminator.parameters(), strict=True))
        assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in run.network.generator.parameters())
        # Eq. 7: every one of the k discriminators adds its L_GAN and its L_FM.
        s, x, fake = run.system._windowed(made, micro)
        with torch.no_grad():
            judged, real = (run.system.discriminator(s, picture, None) for picture in (fake, x))
            L_GAN = sum(run.system.L_GAN.generator(j.patches).mean() for j in judged)
            L_FM = sum(run.system.L_FM(r.features, j.features).mean() for r, j in zip(real, judged, strict=True))
        assert len(judged) == scales
        assert loss.item() == pytest.approx(float(L_GAN + 2.5 * L_FM), rel=1e-4)
        return terms

    run.system.losses = check  # type: ignore[method-assign]
    one_step(run, stage)
    assert checked == ["d", "g"]


def trainer_with_discriminator(recipe: Path, camvid: Path, folder: Path, **settings: object) -> Training:
    path = changed_recipe(recipe, {"discriminator": {"width": 4} | settings})
    return trainer(path, camvid, folder / "run")


def test_spectral_norm_survives_a_checkpoint(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer_with_discriminator(recipe, camvid, tmp_path, spectral_norm=True)
    stop_at_step(run, 4)
    assert not train(run)
    again = trainer(tmp_path / "changed.yaml", camvid, tmp_path / "run", resume=True)
    expected, found = run.system.discriminator.state_dict(), again.system.discriminator.state_dict()
    assert expected.keys() == found.keys() and any(k.endswith("_u") for k in found)
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    assert train(again)


def test_recipes_on_shipped_cards_are_of_this_version() -> None:
    for name in ("camvid-lite", "toytown-lite"):
        stored = recipe_of_card(load_bundle(name).card.recipe, name)
        assert isinstance(stored, SFlowRecipe)
        assert (stored.discriminator.width, stored.discriminator.sees_edges) == (48, True)
        assert stored.extensions.loss_window == (240, 112) and stored.extensions.perceptual_blur


def test_a_run_begun_before_a_key_existed_goes_on(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = trainer(recipe, camvid, tmp_path / "run")
    old = recipe.read_text()
    (tmp_path / "run" / "recipe.yaml").write_text(old)
    run.folder.save_recipe(run.recipe)
    assert run.folder.recipe_changes() == []
    (tmp_path / "run" / "recipe.yaml").write_text(old + "no_such_key: 1\n")
    with pytest.raises(UsageError, match="--recipe-changed"):
        run.folder.save_recipe(run.recipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"discriminator": {"sees_instance_edges": True}},
            "of cityscapes alone, and data.kind is 'camvid'",
        ),
        ({"discriminator": {"scales": 3}}, "has one scale"),
        ({"discriminator": {"heads": 3}}, "discriminator.heads"),
        ({"perceptual": "vgg19"}, "perceptual is vgg19 and perceptual_bundle is"),
        ({"perceptual": "vgg16"}, "perceptual: Input should be 'bundle' or 'vgg19'"),
        ({"perceptual_weights": "vgg.pth"}, "which only perceptual vgg19 reads"),
        ({"dned_side_weights": [0] * 6}, "are all 0"),
        ({"dned_side_weights": [1] * 5}, "dned_side_weights"),
    ],
)
def test_networks_that_cannot_be_had_are_refused_by_the_recipe(
    recipe: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe(SFlowRecipe, str(changed_recipe(recipe, changes)))


def test_factors_of_slices_need_a_network_of_as_many_slices(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    five = trainer(recipe, camvid, tmp_path / "five", perceptual_slices="pix2pixhd")
    one_step(five, five.recipe.stages[-1])
    with pytest.raises(UsageError, match="is for 5 slices, and the network has 3: take 'equal'"):
        trainer(
            recipe, camvid, tmp_path / "three", perceptual_slices="pix2pixhd", perceptual_bundle="camvid-judge"
        )  # fmt: skip


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "trainers/run.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def test_command_line_trains_exports_and_never_overwrites(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run, bundle = str(tmp_path / "run"), str(tmp_path / "bundle")
    common = ["--recipe", str(recipe), "--root", str(camvid), "--run", run]
    done = run_cli("image", *common)
    assert done.returncode == 0, done.stderr
    assert "step 6 of 6 (phase3)" in done.stderr
    assert (tmp_path / "run" / "samples" / "000006.png").is_file()
    again = run_cli("image", *common)
    assert again.returncode == 2 and "is not empty" in again.stderr and "Traceback" not in again.stderr
    exported = run_cli("export", "--run", run, "--root", str(camvid), "--bundle", bundle)
    assert exported.returncode == 0, exported.stderr
    card = load_bundle(bundle).card
    assert card.steps == 6 and card.metrics["seed_0"]["pictures"] == 1 and "image --recipe" in card.command
    assert str(tmp_path) not in card.command  # a card is published, where its author keeps his data is not
    assert card.recipe["name"] == "tiny" and card.recipe_changes == []
    scored = run_cli("evaluate", "--bundle", bundle, "--root", str(camvid), "--seeds", "0,2", "--every", "1")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["seed_2"]["pictures"] == 2
    further = [*common[:-1], str(tmp_path / "further"), "--from", bundle]
    went_on = run_cli("image", *further)
    assert went_on.returncode == 0, went_on.stderr
    wrong = run_cli("evaluate", "--bundle", bundle, "--root", str(camvid), "--seeds", "a")
    assert wrong.returncode == 2 and "whole numbers" in wrong.stderr and "Traceback" not in wrong.stderr


def test_training_goes_on_from_a_bundle(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    first = trainer(recipe, camvid, tmp_path / "run")
    assert train(first)
    card = export_run(tmp_path / "run", camvid, tmp_path / "bundle", None)
    assert card.steps == 6
    assert card.recipe["perceptual_bundle"] == "features"  # the recipe names it by an absolute path, the card does not
    second = trainer(recipe, camvid, tmp_path / "second")
    second.start_from(tmp_path / "bundle")
    expected, found = weights_of(first), weights_of(second)
    assert all(torch.allclose(expected[k], found[k], atol=1e-3) for k in expected)
    wider = trainer(recipe, camvid, tmp_path / "third", discriminator={"width": 16, "sees_edges": True})
    with pytest.raises(UsageError, match=r"training\.safetensors is not of recipe"):
        wider.start_from(tmp_path / "bundle")


def test_dry_run_prints_the_resolved_recipe_and_writes_nothing(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = run_cli("image", "--recipe", str(recipe), "--root", str(camvid), "--run", str(run), "--dry-run")
    assert done.returncode == 0 and not run.exists()
    assert SFlowRecipe.model_validate(yaml.safe_load(done.stdout)).name == "tiny"
