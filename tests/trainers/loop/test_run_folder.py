"""A run's folder: what goes on must be the run, one training at a time is in it, and disks fail in sentences."""

import errno
import os
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from models.bundles.files import CARD, ZOO
from sim_bridge.errors import ImageError, UsageError
from tests.trainers import group_processes as gp
from tests.trainers.camvid_tree import draw_camvid
from tests.trainers.command_line import CommandLine
from tests.trainers.recipe_files import merged
from trainers.data.camvid import CamVid
from trainers.errors import TrainingError
from trainers.loop.loop import train
from trainers.loop.run_folder import RunFolder
from trainers.loop.sheets import SampleSheet
from trainers.recipes.read import load_recipe
from trainers.recipes.sflow import SFlowRecipe

pytestmark = pytest.mark.usefixtures("one_thread")


def with_steps(recipe: Path, *steps: int, **changes: Any) -> Path:
    """The recipe with other lengths of its stages."""
    raw = yaml.safe_load(recipe.read_text())
    for stage, count in zip(raw["stages"], steps, strict=False):
        stage["steps"] = count
    path = recipe.with_name(f"steps-{'-'.join(map(str, steps))}-{'-'.join(changes)}.yaml")
    path.write_text(yaml.safe_dump(raw))
    path.write_text(yaml.safe_dump(merged(path, changes)))
    return path


def test_of_several_changes_at_one_step_the_recipe_that_trained_is_kept(recipe: Path, tmp_path: Path) -> None:
    first = load_recipe(SFlowRecipe, str(recipe))
    folder = RunFolder(tmp_path / "run", resume=False)
    assert not folder.save_recipe(first)
    for clip in (5.0, 6.0):
        assert folder.save_recipe(first.model_copy(update={"clip": clip}), 3, may_differ=True)
    assert load_recipe(SFlowRecipe, str(tmp_path / "run" / "recipe-until-000003.yaml")) == first
    assert load_recipe(SFlowRecipe, str(tmp_path / "run" / "recipe.yaml")).clip == 6.0


def test_a_finished_run_says_so_and_one_past_the_recipes_end_too(
    recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run = tmp_path / "run"
    common = ["image", "--root", camvid, "--run", run]
    assert command_line(*common, "--recipe", recipe).code == 0
    written = {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()}
    assert command_line(*common, "--recipe", recipe, "--resume").code == 0
    assert f"run {run} is finished, at step 6 of 6" in caplog.text
    shorter = with_steps(recipe, 1, 1, 1)
    past = command_line(*common, "--recipe", shorter, "--resume", "--recipe-changed").sentence
    assert past == f"run {run} is at step 6, and recipe 'tiny' ends at step 3: give it more steps"
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.is_file()} == written
    # A key that export alone reads may be changed after the end, and the history says so.
    reach = with_steps(recipe, style_reach=[0.5] * 5)
    assert command_line(*common, "--recipe", reach, "--resume", "--recipe-changed").code == 0
    assert load_recipe(SFlowRecipe, str(run / "recipe.yaml")).extensions.style_reach == (0.5,) * 5
    assert (run / "commands.txt").read_text().count("\n") == 2


def test_a_run_is_not_begun_anew_by_way_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", resume=False).save_command("image")
    with pytest.raises(UsageError, match="is not empty"):
        RunFolder(tmp_path / "new" / ".." / "run", resume=False)


def test_a_run_goes_on_with_its_own_data_alone(
    recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    common = ["image", "--recipe", recipe, "--run", tmp_path / "run", "--root"]
    assert command_line(*common, camvid).code == 0
    longer = ["image", "--recipe", with_steps(recipe, 2, 2, 3), "--run", tmp_path / "run", "--resume", "--root"]
    (tmp_path / "run" / "recipe.yaml").write_text(with_steps(recipe, 2, 2, 3).read_text())
    other = draw_camvid(tmp_path / "other", train=3)
    assert "was begun with 4 pictures, --root has 3: give" in command_line(*longer, other).sentence
    renamed = draw_camvid(tmp_path / "renamed")
    for folder in ("train", "trainannot"):
        (renamed / folder / "0001A_0000.png").rename(renamed / folder / "0001A_9999.png")
    assert "--root has 4 of other names: give" in command_line(*longer, renamed).sentence
    camvid.rename(tmp_path / "moved")  # the same data in another place
    assert command_line(*longer, tmp_path / "moved").code == 0
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 7


def test_a_checkpoint_that_does_not_tell_its_data_goes_on(recipe: Path, camvid: Path, tmp_path: Path) -> None:
    from tests.trainers.systems.test_sflow import trainer

    resolved = load_recipe(SFlowRecipe, str(recipe))
    train(trainer(recipe, camvid, tmp_path / "run"))  # says nothing of its data, as all did before
    folder = RunFolder(tmp_path / "run", resume=True)
    assert "data" not in folder.load()
    made = trainer(recipe, camvid, tmp_path / "other")
    assert not folder.restore(made, resolved, CamVid(camvid, "train")) and made.step == 6


def hold(path: Path, said: Connection) -> None:
    with RunFolder(path, resume=False).locked():
        said.send("locked")
        said.recv()


def test_one_training_at_a_time_until_its_process_ends_however(tmp_path: Path) -> None:
    ours, theirs = Pipe()
    process = gp.SERVER.Process(target=hold, args=(tmp_path / "run", theirs))
    process.start()
    try:
        assert ours.recv() == "locked"
        folder = RunFolder(tmp_path / "run", resume=False)
        with pytest.raises(UsageError, match=rf"process {process.pid} of .+ trains in run folder"), folder.locked():
            pass
    finally:
        process.kill()
        process.join()
    with folder.locked():
        assert (tmp_path / "run" / "run.lock").read_text().startswith(f"process {os.getpid()} of ")
    RunFolder(tmp_path / "run", resume=False)  # a lock alone is no run


def try_to_hold(path: Path, said: Connection) -> None:
    try:
        hold(path, said)
    except UsageError as error:
        said.send(str(error))


def test_two_trainings_of_one_process_are_kept_apart(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", resume=False)
    with folder.locked():
        (tmp_path / "link").symlink_to(tmp_path / "run")
        for path in (tmp_path / "run", tmp_path / "link"):
            other = RunFolder(path, resume=False)
            with pytest.raises(UsageError, match=r"this process trains in run folder .* already"), other.locked():
                pass
        ours, theirs = Pipe()
        process = gp.SERVER.Process(target=try_to_hold, args=(tmp_path / "run", theirs))
        process.start()
        assert "trains in run folder" in ours.recv()  # the lock against other processes holds on
        process.join()
    with folder.locked():
        pass


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("trainers.loop.run_folder.fcntl.lockf", refuse)
    with RunFolder(tmp_path / "run", resume=False).locked():
        assert "cannot be locked (No locks available): see that no other" in caplog.text


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", resume=False)
    folder.save({"step": 1})
    (tmp_path / "run" / "checkpoint.tmp").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt of step 2 cannot be written \(No space left on device\)"):
        folder.save({"step": 2, "weights": torch.zeros(1_000_000)})
    assert folder.load() == {"step": 1}
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_run_that_cannot_be_a_folder_is_a_sentence(
    recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine, place: str
) -> None:
    (tmp_path / "file").write_text("")
    common = ["--recipe", recipe, "--root", camvid, "--run", tmp_path / place]
    assert f"run folder {tmp_path / place} cannot be used (" in command_line("image", *common).sentence


def test_a_disk_that_cannot_be_written_is_a_sentence(
    recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "run" / "run.lock").mkdir(parents=True)  # what cannot be opened for writing, even by root
    common = ["--recipe", recipe, "--root", camvid, "--run", tmp_path / "run"]
    assert "cannot be written (Is a directory)" in command_line("image", *common).sentence
    sheet = ["--bundle", "camvid-lite", "--root", camvid, "--sheet", recipe / "e.png"]
    assert command_line("edges", tmp_path, *sheet).sentence.startswith(f"{recipe} cannot be used (")


def test_a_sheet_that_fails_loses_no_steps(
    recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ImageError("no sheet today")

    monkeypatch.setattr(SampleSheet, "write", fail)
    short = with_steps(recipe, 2, 2, 2, sample_every=4)
    common = ["image", "--recipe", short, "--root", camvid, "--run", tmp_path / "run"]
    assert command_line(*common).sentence == "no sheet today"
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 4


def test_what_fails_at_once_comes_before_the_photographs(
    recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    """Every photograph here is broken, and none of these sentences is about that."""
    for file in (camvid / "train").iterdir():
        file.write_bytes(b"no picture")
    common = ["image", "--root", camvid, "--run", tmp_path / "run", "--recipe"]
    gone = command_line(*common, with_steps(recipe, perceptual_bundle="runs/mine/bundle")).sentence
    assert "perceptual_bundle of recipe 'tiny' is 'runs/mine/bundle'" in gone
    assert "train --recipe camvid_features --root DATA --run runs/mine`" in gone
    hints = with_steps(recipe, hints={"classes": ["lorry"]})
    assert "wants colour hints of lorry" in command_line(*common, hints).sentence
    no_arrow = command_line(*common, recipe, "--from", "camvid-judge").sentence
    assert "holds a 'pyramid-segmenter': give --from a bundle of arch 'sflow'" in no_arrow
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / CARD).write_bytes((ZOO / "camvid-lite" / CARD).read_bytes())
    without = command_line(*common, recipe, "--from", bare).sentence
    assert "has no training.safetensors, from which a training begins" in without
    assert "0001A_0000.png" in command_line(*common, recipe).sentence  # and then they are read
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_validation_photographs_may_differ_in_size_and_are_read_before_the_recipe_is_saved(
    recipe: Path, camvid: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    wide = draw_camvid(tmp_path / "wide", size=(128, 96))
    for folder in ("val", "valannot"):
        (wide / folder / "0001A_0001.png").rename(camvid / folder / "0001A_0009.png")
    common = ["image", "--recipe", recipe, "--root", camvid, "--run"]
    assert command_line(*common, tmp_path / "mixed").code == 0
    assert (tmp_path / "mixed" / "samples" / "000006.png").is_file()
    bundle = ["--bundle", tmp_path / "bundle"]
    assert command_line("export", "--run", tmp_path / "mixed", "--root", camvid, *bundle).code == 0
    flat = draw_camvid(tmp_path / "flat", size=(96, 24))
    for folder in ("val", "valannot"):
        (flat / folder / "0001A_0001.png").rename(camvid / folder / "0001A_0000.png")
    sentence = command_line(*common, tmp_path / "flat-run").sentence
    assert "is 96x24, and what validates must have 32 pixels a side" in sentence
    assert not (tmp_path / "flat-run" / "recipe.yaml").exists()
