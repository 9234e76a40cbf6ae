"""``data check``: everything that is wrong is named at once, and nothing where nothing is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from tests.trainers.data.test_open import SAMPLES, link, needs_cityscapes
from tests.trainers.data.test_recordings import record
from tests.trainers.recipe_files import changed_recipe
from tests.trainers.trees import draw_cityscapes, draw_random_views
from trainers.data.check import check_data
from trainers.recipes.schema import DataRecipe
from trainers.run import app, main

CITYSCAPES = DataRecipe(kind="cityscapes", crop=(64, 32))


def problems(recipe: DataRecipe, root: Path) -> dict[str, list[tuple[str, str]]]:
    """Kind and file name of every problem, by split."""
    reports = check_data(recipe, root, threads=2)
    return {r.split: [(p.kind, p.file.name) for p in r.problems] for r in reports}


def write_recipe(path: Path, **data: Any) -> Path:
    stage = {"name": "a", "steps": 1, "generator_sees": "laplacian", "lr": 1e-3, "weights": {"pixel": 1}}
    path.write_text(
        yaml.safe_dump({"system": "sflow", "name": "x", "data": {"crop": [64, 32], **data}, "stages": [stage]})
    )
    return path


def check(recipe: Path, root: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["data", "check", "--recipe", str(recipe), "--root", str(root), *options])
    return done.exit_code, done.stdout


def break_everything(root: Path) -> None:
    """One of each: eight problems in the training split, an empty validation split."""
    photographs, labels = root / "leftImg8bit" / "train" / "aachen", root / "gtFine" / "train" / "aachen"
    (labels / "aachen_000000_000019_gtFine_labelIds.png").unlink()
    (photographs / "aachen_000001_000019_leftImg8bit.png").unlink()
    strange = labels / "aachen_000002_000019_gtFine_labelIds.png"
    ids = cv2.imread(str(strange), cv2.IMREAD_UNCHANGED)
    assert ids is not None
    ids[:16] = 77
    cv2.imwrite(str(strange), ids)
    photographs, labels = root / "leftImg8bit" / "train" / "ulm", root / "gtFine" / "train" / "ulm"
    (photographs / "ulm_000000_000019_leftImg8bit.png").write_bytes(b"no picture")
    (labels / "ulm_000000_000019_gtFine_labelIds.png").write_bytes(b"")
    cv2.imwrite(str(labels / "ulm_000001_000019_gtFine_labelIds.png"), np.full((32, 64), 7, np.uint8))
    for name, shape in (("leftImg8bit", (30, 60, 3)), ("gtFine_labelIds", (30, 60))):
        folder = photographs if name == "leftImg8bit" else labels
        cv2.imwrite(str(folder / f"ulm_000002_000019_{name}.png"), np.full(shape, 7, np.uint8))
    for file in (root / "leftImg8bit" / "val" / "lindau").iterdir():
        file.unlink()


def test_every_kind_of_problem_is_found_at_once(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path)
    assert problems(CITYSCAPES, root) == {"train": [], "val": []}
    break_everything(root)
    found = problems(CITYSCAPES, root)
    assert found["train"] == [
        ("missing counterpart", "aachen_000000_000019_leftImg8bit.png"),
        ("missing counterpart", "aachen_000001_000019_gtFine_labelIds.png"),
        ("label id", "aachen_000002_000019_gtFine_labelIds.png"),
        ("unreadable file", "ulm_000000_000019_leftImg8bit.png"),
        ("unreadable file", "ulm_000000_000019_gtFine_labelIds.png"),
        ("size mismatch", "ulm_000001_000019_gtFine_labelIds.png"),
        ("size mismatch", "ulm_000002_000019_leftImg8bit.png"),
    ]
    assert [kind for kind, _ in found["val"]] == ["empty split", *["missing counterpart"] * 3]


def test_instances_are_checked_where_the_discriminator_sees_them(tmp_path: Path, recipe: Path) -> None:
    root = draw_cityscapes(tmp_path / "cityscapes")
    (root / "gtFine" / "train" / "ulm" / "ulm_000001_000019_gtFine_instanceIds.png").unlink()
    (root / "gtFine" / "train" / "ulm" / "ulm_000002_000019_gtFine_instanceIds.png").write_bytes(b"no picture")
    assert problems(CITYSCAPES, root) == {"train": [], "val": []}
    data = {"kind": "cityscapes", "crop": [64, 32]}
    seeing = changed_recipe(recipe, {"data": data, "discriminator": {"width": 8, "sees_instance_edges": True}})
    code, text = check(seeing, root, "--json")
    found = json.loads(text)["splits"]["train"]["problems"]
    assert code == 1 and [(p["kind"], Path(p["file"]).name) for p in found] == [
        ("missing counterpart", "ulm_000001_000019_gtFine_instanceIds.png"),
        ("unreadable file", "ulm_000002_000019_gtFine_instanceIds.png"),
    ]


def test_the_summary_counts_pictures_sizes_and_classes(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path)
    train, val = check_data(CITYSCAPES, root)
    assert (train.pictures, val.pictures) == (6, 3) and train.sizes == {(128, 64): 6}
    assert sum(train.classes.values()) == pytest.approx(1) and train.classes["sky"] > 0.1
    assert train.classes["truck"] == 0 and train.stray == 0
    labels = root / "gtFine" / "val" / "lindau" / "lindau_000000_000019_gtFine_labelIds.png"
    ids = cv2.imread(str(labels), cv2.IMREAD_UNCHANGED)
    assert ids is not None
    ids[0, :5] = 200  # below 0.1 %: counted, no problem
    cv2.imwrite(str(labels), ids)
    _, val = check_data(CITYSCAPES, root)
    assert val.stray == 5 and not val.problems and val.classes["unlabeled"] == pytest.approx(5 / (3 * 128 * 64))


def test_a_crop_that_fits_no_picture_is_a_problem_of_training_only(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path)
    large = DataRecipe(kind="cityscapes", crop=(160, 64))
    assert [len(found) for found in problems(large, root).values()] == [6, 0]
    scaled = DataRecipe(kind="cityscapes", crop=(128, 64), scale=(0.8, 1.2))
    (first, *_) = check_data(scaled, root)[0].problems
    assert str(first.error).endswith("at scale 0.8: lower data.crop, or set data.resize")
    resized = DataRecipe(kind="cityscapes", crop=(160, 64), resize=(192, 96))
    assert problems(resized, root) == {"train": [], "val": []}


def test_validation_pictures_that_cannot_be_scored_are_a_problem(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path, size=(96, 28))
    flat = DataRecipe(kind="cityscapes", crop=(64, 16))
    assert (
        problems(flat, root)["train"] == []
        and [kind for kind, _ in problems(flat, root)["val"]] == ["size mismatch"] * 3
    )
    (first, *_) = check_data(flat, root)[1].problems
    assert "is 96x28, and what validates must have 32 pixels a side" in str(first.error)
    assert problems(DataRecipe(kind="cityscapes", crop=(64, 16), resize=(192, 56)), root)["val"] == []


def test_names_that_are_no_text_are_printed(camvid: Path, tmp_path: Path) -> None:
    strange = os.fsdecode(os.fsencode(camvid / "train") + b"/0001A_\xe9.png")
    Path(strange).write_bytes(b"no picture")
    recipe = write_recipe(tmp_path / "x.yaml")
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "trainers/run.py", "data", "check", "--recipe", str(recipe), "--root", str(camvid)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[3], env=environment, check=False
    )
    assert done.returncode == 1 and done.stderr == "" and "0001A_\\udce9.png are missing" in done.stdout


def test_exit_codes_text_and_json(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path / "data")
    recipe = write_recipe(tmp_path / "x.yaml", kind="cityscapes")
    code, text = check(recipe, root)
    assert code == 0 and "train: 6 pictures; sizes 128x64 (6)" in text and "train: whole" in text
    break_everything(root)
    code, text = check(recipe, root)
    assert code == 1 and "train: 7 problems" in text and "label id: " in text and "class id 77" in text
    code, text = check(recipe, root, "--json")
    report = json.loads(text)["splits"]
    assert code == 1 and len(report["train"]["problems"]) == 7 and report["val"]["pictures"] == 0
    strange = next(p for p in report["train"]["problems"] if p["kind"] == "label id")
    assert strange["file"].endswith("aachen_000002_000019_gtFine_labelIds.png") and "25.00 %" in strange["message"]


@pytest.mark.parametrize(
    ("recipe", "root", "sentence"),
    [("camvid_lite", "none", "is no folder"), ("no_such", "", "neither a file nor a known recipe")],
)
def test_misuse_is_exit_code_2_and_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    root: str,
    sentence: str,
) -> None:
    command = ["run.py", "data", "check", "--recipe", recipe, "--root", str(tmp_path / root)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2 and sentence in error and error.startswith("error: ") and error.count("\n") == 1


def test_synthia_and_recordings_are_checked(tmp_path: Path) -> None:
    root = draw_random_views(tmp_path / "synthia")
    (root / "GT" / "LABELS" / "0000002.png").unlink()
    stored = np.zeros((64, 96, 3), np.uint16)
    stored[..., 2] = 300
    cv2.imwrite(str(root / "GT" / "LABELS" / "0000004.png"), stored)
    found = problems(DataRecipe(kind="synthia", crop=(64, 32)), root)
    assert found == {"train": [("missing counterpart", "0000002.png"), ("label id", "0000004.png")], "val": []}

    town = tmp_path / "town"
    record(town / "train")
    record(town / "val")
    recipe = DataRecipe(kind="recordings", crop=(64, 32))
    assert problems(recipe, town) == {"train": [], "val": []}
    (town / "train" / "photo" / "000001.png").write_bytes(b"x")
    cv2.imwrite(str(town / "train" / "semantic" / "000001.png"), np.full((64, 96), 99, np.uint8))
    (town / "val" / "semantic" / "000000.png").unlink()
    found = problems(recipe, town)
    assert found["train"] == [("label id", "000001.png"), ("unreadable file", "000001.png")]
    assert found["val"] == [("unreadable file", "000000.png")]


def test_segmenter_recipes_are_checked_too(camvid: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", "--recipe", "camvid_judge", "--root", str(camvid)])
    assert done.exit_code == 1 and "smaller than data.crop 256x128" in done.stdout


@needs_cityscapes
@pytest.mark.slow
def test_the_real_sample_lacks_its_validation_photographs(tmp_path: Path) -> None:
    for file in [*SAMPLES.glob("cityscapes/leftImg8bit/*/*/*.png"), *SAMPLES.glob("cityscapes/gtFine/*/*/*.png")]:
        link(file, tmp_path / file.relative_to(SAMPLES / "cityscapes"))
    train, val = check_data(DataRecipe(kind="cityscapes", resize=(512, 256)), tmp_path)
    assert train.problems == [] and train.sizes == {(2048, 1024): 3} and train.classes["road"] > 0.2
    assert [p.kind for p in val.problems] == ["empty split", *["missing counterpart"] * 6]


@pytest.mark.slow
@pytest.mark.skipif(not (SAMPLES / "camvid").is_dir(), reason="no CamVid")
def test_the_real_camvid_is_whole() -> None:
    assert os.environ["SIM_BRIDGE_DATA"]
    train, val = check_data(DataRecipe(kind="camvid"), SAMPLES / "camvid")
    assert (train.pictures, val.pictures) == (367, 101) and not train.problems and not val.problems
