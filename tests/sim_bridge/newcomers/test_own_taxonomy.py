"""A newcomer's taxonomy, one YAML outside the packages: over the wire, in recordings, as a package's."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from sim_bridge.client import Publisher
from sim_bridge.errors import LabelError, UsageError
from sim_bridge.pixels.labels import LabelMap
from sim_bridge.pixels.taxonomy import Taxonomies, find_taxonomy, read_taxonomy, taxonomy, taxonomy_names
from sim_bridge.recordings.captures import read_capture, recording_taxonomy
from sim_bridge.recordings.read import Recording
from sim_bridge.recordings.sheet import color_labels
from tests.sim_bridge.bridge_helpers import ANY_PORT, WAIT, Reader, StampTranslator, make_settings, running
from tests.sim_bridge.recording_helpers import run_cli, site, write_distribution, write_rgb  # noqa: F401 - a fixture

WAREHOUSE = Path(__file__).with_name("warehouse.yaml")
CLASSES = ("unlabeled", "conveyor belt", "road")
IDS = np.array([[0, 1, 2, 3]] * 8, np.uint8).repeat(4, 1)


class WarehouseTranslator(StampTranslator):
    """Shows the labels that it gets in the blue channel."""

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES


def test_a_stream_names_a_taxonomy_that_the_bridge_knows_by_its_file() -> None:
    rgb = np.zeros((8, 16, 3), np.uint8)
    with Publisher(ANY_PORT, session="s") as simulator:
        settings = make_settings(simulator.address, taxonomies=(WAREHOUSE,))
        with running(settings, WarehouseTranslator()) as bridge, Reader(bridge.bridge.output_address) as reader:
            for kind in ("rgb", "semantic"):
                simulator.wait_for_subscriber("camera", kind, WAIT)
            common = {"number": 1, "time": 0.05}
            simulator.publish_image("camera", "rgb", pixels=rgb, encoding="rgb8", **common)
            simulator.publish_image("camera", "semantic", pixels=IDS, encoding="mono8", labels="warehouse", **common)
            shown = reader.frame().pixels[..., 2]
    # conveyor by its alias, road by name, person (CARLA's pedestrian) by no chain: unlabeled
    assert shown[0, ::4].tolist() == [0, 2, 1, 0]


def test_a_path_on_the_wire_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"unknown: use one of .*toytown.*warehouse.*--taxonomy FILE"):
        Taxonomies.read([WAREHOUSE]).named(str(WAREHOUSE))


def test_what_a_network_lacks_goes_where_the_file_says() -> None:
    report = LabelMap.build(read_taxonomy(WAREHOUSE), ("road", "person", "unlabeled")).report
    assert [line.target for line in report] == ["unlabeled", "road", "road", "person"]


def test_an_own_class_keeps_its_own_colour_on_sheets() -> None:
    colored = color_labels(np.array([[2, 3]], np.uint8), read_taxonomy(WAREHOUSE))
    assert colored.tolist() == [[[200, 120, 0], [220, 20, 60]]]


def test_a_foreign_folder_is_translated_and_its_taxonomy_kept(tmp_path: Path, site: Path) -> None:  # noqa: F811
    source = tmp_path / "source"
    write_rgb(source / "rgb" / "1.png", np.full((8, 16, 3), 90, np.uint8))
    write_rgb(source / "sem" / "1.png", IDS)
    globs = ("--rgb", "rgb/*.png", "--semantic", "sem/*.png")
    command = ("translate", source, tmp_path / "out", *globs, "--labels", WAREHOUSE, "--bundle", "null")
    for _ in range(2):  # the second run finds all there
        done = run_cli(*command, site=site)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/recording.json").read_text())["taxonomy"] == "warehouse"
    assert (tmp_path / "out/warehouse.yaml").read_bytes() == WAREHOUSE.read_bytes()
    assert recording_taxonomy(Recording.open(tmp_path / "out"), None).ids[2] == "conveyor"


def test_a_recording_names_a_file_inside_it(tmp_path: Path) -> None:
    write_rgb(tmp_path / "rgb" / "000001.png", np.zeros((8, 16, 3), np.uint8))
    write_rgb(tmp_path / "semantic" / "000001.png", IDS)
    (tmp_path / "labels").mkdir()
    shutil.copy(WAREHOUSE, tmp_path / "labels" / "mine.yaml")
    (tmp_path / "recording.json").write_text('{"taxonomy": "labels/mine.yaml"}')
    recording = Recording.open(tmp_path)
    (frame,) = recording.frames("camera")
    assert read_capture(frame, recording_taxonomy(recording, None)).labels == "warehouse"
    for name in (str(WAREHOUSE), "../mine.yaml", "C:\\mine.yaml"):
        with pytest.raises(UsageError, match="leaves the recording"):
            find_taxonomy(name, tmp_path)


def test_a_package_brings_a_taxonomy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_warehouse").mkdir()
    (tmp_path / "my_warehouse" / "__init__.py").touch()
    (tmp_path / "my_warehouse" / "depot.yaml").write_text(
        WAREHOUSE.read_text().replace("name: warehouse", "name: depot")
    )
    write_distribution(
        tmp_path, "my-warehouse", {"sim_bridge.taxonomies": {"depot": "my_warehouse", "lost": "nowhere"}}
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert {"depot", "toytown"} < set(taxonomy_names())
    assert taxonomy("depot").trains == ("road", "conveyor", "person", "unlabeled")
    assert Taxonomies().named("depot") is taxonomy("depot")
    with pytest.raises(LabelError, match="the package nowhere brings no taxonomy 'lost'"):
        taxonomy("lost")
