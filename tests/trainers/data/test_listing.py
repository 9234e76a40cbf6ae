"""Data sets list files as the commands do: natural order, hidden ones never, links followed, what is left out named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sim_bridge.errors import UsageError
from tests.trainers.camvid_tree import draw_camvid
from tests.trainers.trees import draw_cityscapes, draw_flowing, draw_random_views, draw_sequences
from trainers.data.camvid import CamVid
from trainers.data.check import check_data, describe
from trainers.data.cityscapes import Cityscapes
from trainers.data.dataset import DataSet
from trainers.data.recordings import Recordings
from trainers.data.synthia import Synthia
from trainers.recipes.schema import DataRecipe

Make = Callable[[Path], DataSet]


def camvid(root: Path) -> DataSet:
    return CamVid(root, "train")


def cityscapes(root: Path) -> DataSet:
    return Cityscapes(root, "train")


def synthia(root: Path) -> DataSet:
    return Synthia(root, "train")


def recordings(root: Path) -> DataSet:
    return Recordings(root, "train")


@pytest.mark.parametrize(
    ("draw", "make"),
    [
        (draw_camvid, camvid),
        (draw_cityscapes, cityscapes),
        (draw_random_views, synthia),
        (draw_sequences, synthia),
        (draw_flowing, recordings),
    ],
)
def test_hidden_files_and_folders_change_nothing(tmp_path: Path, draw: Callable[[Path], Path], make: Make) -> None:
    root = draw(tmp_path / "data")
    before = make(root).fingerprint()
    for file in [*root.rglob("*.png")]:
        file.with_name(f"._{file.name}").write_bytes(b"resource fork")
        (file.parent / ".ipynb_checkpoints").mkdir(exist_ok=True)
        (file.parent / ".ipynb_checkpoints" / file.name).write_bytes(file.read_bytes())
    for folder in [folder for folder in root.rglob("*") if folder.is_dir()]:
        (folder / ".trash").mkdir()
    data = make(root)
    assert data.fingerprint() == before
    assert data.problems == ()


def test_links_are_followed(tmp_path: Path) -> None:
    disk = draw_cityscapes(tmp_path / "disk")
    for name in ("leftImg8bit", "gtFine"):
        (tmp_path / "data" / name / "train").mkdir(parents=True)
        (tmp_path / "data" / name / "train" / "ulm").symlink_to(disk / name / "train" / "ulm")
    assert len(cityscapes(tmp_path / "data")) == 3


def test_numbers_without_padding_are_in_order(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path, train=12)
    for folder in ("train", "trainannot"):
        for number in range(12):
            (root / folder / f"0001A_{number:04d}.png").rename(root / folder / f"0001A_{number}.png")
    names = [frame.name for frame in (camvid(root).frame(index) for index in range(12))]
    assert names == [f"0001A_{number}" for number in range(12)]
    assert len(CamVid(root, "train", share="odd")) == 6


def test_what_is_left_out_is_in_the_report(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path)
    (root / "train" / "Thumbs.db").touch()
    (root / "trainannot" / "._0001A_0000.png").touch()
    reports = check_data(DataRecipe(kind="camvid", crop=(64, 32)), root, threads=1)
    expected = [
        f"1 file that ends in none of .jpeg/.jpg/.png is left out: {root / 'train' / 'Thumbs.db'}",
        f"1 hidden file or folder is left out: {root / 'trainannot' / '._0001A_0000.png'}",
    ]
    assert [*reports[0].notes] == expected
    assert reports[0].as_dict()["notes"] == expected
    assert reports[0].problems == []
    assert f"note: {expected[0]}" in describe(reports)


def test_labels_of_two_endings_are_refused(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path)
    labels = root / "trainannot" / "0001A_0001.png"
    labels.with_suffix(".PNG").write_bytes(labels.read_bytes())
    with pytest.raises(UsageError, match="are labels of one picture: take one away"):
        camvid(root)


def test_a_camera_of_another_name_is_a_problem(tmp_path: Path) -> None:
    root = draw_flowing(tmp_path)
    bad = root / "train" / "third" / "front camera" / "rgb"
    bad.mkdir(parents=True)
    data = Recordings(root, "train", strict=False)
    assert ["its name is no camera's" in str(problem.error) for problem in data.problems] == [True]
    with pytest.raises(UsageError, match="its name is no camera's"):
        recordings(root)
