"""A newcomer's own classes, from one YAML in the recordings, trained and translated with; no package is edited."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from models.bundles.files import read_card
from sim_bridge.errors import UsageError
from sim_bridge.recordings.read import Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter
from tests.sim_bridge.recording_helpers import run_cli, site  # noqa: F401 - a fixture
from tests.trainers.command_line import CommandLine
from trainers.data.recordings import STREET_CLASSES, Recordings

WAREHOUSE = Path(__file__).parents[2] / "sim_bridge" / "newcomers" / "warehouse.yaml"
CLASSES = ["road", "conveyor", "person", "unlabeled"]


def record(root: Path, taxonomy: Path | None = WAREHOUSE) -> Path:
    name = "toytown" if taxonomy is None else taxonomy.stem
    with RecordingWriter(root, RecordingInfo(taxonomy=name, licence="CC0-1.0")) as writer:
        for number in range(2):
            labels = np.full((64, 96), 1, np.uint8)
            labels[20:40, 10:40] = 2
            rgb = np.random.default_rng(number).integers(0, 256, (64, 96, 3), np.uint8)
            images = {Folder.RGB: rgb, Folder.SEMANTIC: labels}
            files = {folder: writer.write_image("camera", folder, number, pixels) for folder, pixels in images.items()}
            writer.add(RecordedFrame("camera", number, None, None, files))
    if taxonomy is not None:
        shutil.copy(taxonomy, root)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    record(tmp_path / "data" / "train" / "north")
    record(tmp_path / "data" / "val")
    return tmp_path / "data"


@pytest.mark.usefixtures("one_thread")
def test_own_classes_are_trained_and_translated_with(
    root: Path,
    recipe: Path,
    tmp_path: Path,
    command_line: CommandLine,
    site: Path,  # noqa: F811
) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["data"] = {"kind": "recordings", "crop": [64, 32]}
    recipe.write_text(yaml.safe_dump(content))
    done = command_line("image", "--recipe", recipe, "--root", root, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    exported = command_line("export", "--run", tmp_path / "run", "--root", root, "--bundle", tmp_path / "bundle")
    assert exported.code == 0, exported.err
    assert read_card(tmp_path / "bundle").classes == CLASSES
    translated = run_cli("translate", root / "val", tmp_path / "out", "--bundle", tmp_path / "bundle", site=site)
    assert translated.returncode == 0, translated.stderr
    assert len(list((tmp_path / "out" / "photoreal").iterdir())) == 2


def test_recordings_of_one_data_set_agree_on_their_classes(root: Path) -> None:
    assert list(Recordings(root, "train").classes) == CLASSES
    record(root / "train" / "south", None)
    with pytest.raises(UsageError, match=r"south trains the classes .*give their taxonomies one list"):
        Recordings(root, "train")
    shutil.rmtree(root / "train" / "north")
    assert Recordings(root, "train").classes == STREET_CLASSES
