import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundles.files import Card, save_bundle
from models.edges import EdgeSettings
from models.nets.sflow import SFlowNetwork
from sim_bridge.client import Subscriber
from sim_bridge.errors import ImageError, UsageError
from sim_bridge.pixels.labels import taxonomy, taxonomy_names
from sim_bridge.recordings.read import RecordedFrame, Recording
from sim_bridge.recordings.sheet import (
    CG,
    EDGES,
    LABELS,
    PHOTOREAL,
    SheetRow,
    class_color,
    color_labels,
    contact_sheet,
    write_sheet,
)
from sim_bridge.recordings.sheet_rows import live_rows, open_sources, recorded_rows, spread_evenly
from sim_bridge.recordings.translate import Job, translate_recording
from sim_bridge.settings import BridgeSettings
from sim_bridge.translators.null import NullTranslator
from tests.sim_bridge.recording_helpers import (
    TAXONOMY,
    class_ids,
    data,
    data_folder,
    make_recording,
    picture,
    read_rgb,
    run_cli,
    site,
    write_rgb,
)

__all__ = ["site"]

CLASSES = (
    *("sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign"),
    *("fence", "car", "person", "bicyclist", "unlabeled"),
)
MARGIN, GAP = 24, 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network as a bundle."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = SFlowNetwork("lite", len(CLASSES), EdgeSettings())
    card = Card(
        arch="sflow",
        args=network.args,
        classes=list(CLASSES),
        size=[64, 64],
        data="none",
        command="none",
        steps=0,
        licence_weights="CC0-1.0",
        licence_data="none",
    )
    folder = tmp_path_factory.mktemp("bundles") / "untrained"
    save_bundle(folder, network, card)
    return folder


def flat(color: tuple[int, int, int], size: tuple[int, int] = (64, 32)) -> np.ndarray:
    return np.full((size[1], size[0], 3), color, np.uint8)


def columns_of(sheet: np.ndarray, width: int) -> list[np.ndarray]:
    count = (sheet.shape[1] - 2 * MARGIN + GAP) // (width + GAP)
    return [sheet[:, MARGIN + i * (width + GAP) :][:, :width] for i in range(count)]


def has_color(part: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((part == color).all(axis=2).any())


def test_images_stand_in_their_columns() -> None:
    images = {
        CG: flat((200, 0, 0)),
        LABELS: flat((0, 200, 0)),
        EDGES: flat((9, 9, 9))[..., 0],
        PHOTOREAL: flat((0, 0, 200)),
    }
    sheet = contact_sheet([SheetRow("row", images)], width=128, title="title")
    parts = columns_of(sheet, 128)
    colors = [(200, 0, 0), (0, 200, 0), (9, 9, 9), (0, 0, 200)]
    for index, part in enumerate(parts):
        assert [has_color(part, color) for color in colors] == [index == i for i in range(4)]
        assert (part == colors[index]).all(axis=2).sum() >= 128 * 64


def test_column_that_no_row_has_is_left_out() -> None:
    images = {CG: flat((200, 0, 0)), PHOTOREAL: flat((0, 0, 200))}
    sheet = contact_sheet([SheetRow("a", images), SheetRow("b", images)], width=128)
    assert len(columns_of(sheet, 128)) == 2


def test_image_that_one_row_lacks_stays_paper() -> None:
    rows = [SheetRow("a", {CG: flat((1, 1, 200)), EDGES: flat((7, 7, 7))}), SheetRow("b", {CG: flat((200, 1, 1))})]
    left, right = columns_of(contact_sheet(rows, width=128), 128)
    assert has_color(left, (200, 1, 1))
    assert (right == 7).all(axis=2).sum() == 128 * 64


def test_all_images_of_a_row_have_the_cg_shape() -> None:
    images = {CG: flat((200, 0, 0), (64, 48)), PHOTOREAL: flat((0, 0, 200), (64, 16))}
    _, right = columns_of(contact_sheet([SheetRow("a", images)], width=64), 64)
    assert (right == (0, 0, 200)).all(axis=2).sum() == 64 * 48


def test_overlong_and_empty_text_stays_on_the_sheet() -> None:
    rows = [SheetRow("word " * 200, {CG: flat((200, 0, 0))}), SheetRow("", {CG: flat((200, 0, 0))})]
    sheet = contact_sheet(rows, width=64, title="word " * 100)
    assert sheet.shape[1] == 64 + 2 * MARGIN


def test_legend_shows_the_colors_of_visible_classes() -> None:
    row = SheetRow("a", {CG: flat((1, 2, 3))}, {"car": 0.3, "bus": 0.0001})
    sheet = contact_sheet([row], width=200)
    assert has_color(sheet, class_color("car"))
    assert not has_color(sheet, class_color("bus"))


def test_legend_breaks_into_lines() -> None:
    names = list(taxonomy("cityscapes").ids.values())
    row = SheetRow("a", {CG: flat((1, 2, 3))}, dict.fromkeys(names, 1 / len(names)))
    narrow, wide = contact_sheet([row], width=150), contact_sheet([row], width=2000)
    assert narrow.shape[0] - 75 > wide.shape[0] - 1000
    assert all(has_color(narrow, class_color(name)) for name in names)


def test_every_class_of_every_taxonomy_has_a_color() -> None:
    gray = class_color("no class of any taxonomy")
    lacking = {
        class_name
        for name in taxonomy_names()
        for class_name in taxonomy(name).ids.values()
        if class_color(class_name) == gray
    }
    assert lacking <= {"unlabeled"}


def test_labels_are_colored_by_class_not_by_id() -> None:
    carla, city = taxonomy("carla-0.9.14"), taxonomy("cityscapes")
    ids = {name: number for number, name in carla.ids.items()}, {name: number for number, name in city.ids.items()}
    for name in ("road", "sky", "car", "person"):
        first = color_labels(np.full((1, 1), ids[0][name], np.uint8), carla)
        second = color_labels(np.full((1, 1), ids[1][name], np.uint8), city)
        assert (first == second).all()


@pytest.mark.parametrize(
    ("total", "count", "expected"), [(10, 3, [0, 4, 9]), (2, 3, [0, 1]), (9, 1, [4]), (5, 5, [0, 1, 2, 3, 4])]
)
def test_spread(total: int, count: int, expected: list[int]) -> None:
    frames = [RecordedFrame("camera", number, None, None, {}) for number in range(total)]
    assert [frame.number for frame in spread_evenly(frames, count)] == expected


def test_counts_of_globs_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--rgb is given 2 times for 3 folders"):
        open_sources([tmp_path] * 3, ["a", "b"], [], [])


def test_folders_of_several_layouts(tmp_path: Path) -> None:
    own = make_recording(tmp_path / "own", [1])
    write_rgb(tmp_path / "other" / "a" / "5.png", picture(5))
    write_rgb(tmp_path / "other" / "b" / "5.png", class_ids(5))
    opened = open_sources([own, tmp_path / "other"], ["", "a/*"], ["", "b/*"], ["", "carla-0.9.14"])
    assert [[frame.number for frame in recording.frames("camera")] for recording, _ in opened] == [[1], [5]]
    assert [source.name for _, source in opened] == [TAXONOMY, "carla-0.9.14"]


def test_rows_hold_what_the_network_made(tmp_path: Path, bundle: Path) -> None:
    sources = open_sources([make_recording(tmp_path / "in", [1, 2, 3], size=(96, 64))], [], [], [])
    settings = BridgeSettings(bundle=str(bundle), device="cpu", precision="fp32")
    made = recorded_rows(sources, settings, count=2)
    assert [row.caption.split("   ")[1] for row in made.rows] == ["frame 1", "frame 3"]
    row = made.rows[0]
    assert (row.images[CG] == picture(1, (96, 64))).all()
    assert (row.images[LABELS] == color_labels(class_ids(1, (96, 64)), taxonomy(TAXONOMY))).all()
    assert row.images[EDGES].shape == (64, 96)
    assert row.images[PHOTOREAL].shape == (64, 96, 3)
    assert sum(row.classes.values()) == pytest.approx(1.0)
    assert "untrained" in made.title


def test_a_broken_frame_is_left_out_and_told(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "in", [1, 2])
    (root / "rgb" / "000001.png").write_bytes(b"no image")
    made = recorded_rows(open_sources([root], [], [], []), BridgeSettings(bundle="null"), count=2)
    assert len(made.rows) == 1
    assert "frame 1" in made.problems[0]
    (root / "rgb" / "000002.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="no frame could be put on the sheet"):
        recorded_rows(open_sources([root], [], [], []), BridgeSettings(bundle="null"), count=2)


def test_sheet_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    sheet = contact_sheet([SheetRow("a", {CG: flat((200, 10, 10))})], width=64)
    write_sheet(tmp_path / "new" / "sheet.png", sheet)
    assert (read_rgb(tmp_path / "new" / "sheet.png") == sheet).all()
    write_sheet(tmp_path / "sheet.JPG", sheet)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ImageError, match="cannot be made"):
        write_sheet(tmp_path / "file" / "sheet.png", sheet)


def test_a_translation_is_shown_before_and_after(tmp_path: Path) -> None:
    source = Recording.open(make_recording(tmp_path / "in", [1, 2, 3]))
    translate_recording(source, tmp_path / "out", NullTranslator(), Job("null", seed=4))
    write_rgb(tmp_path / "out" / "photoreal" / "000003.png", 255 - picture(3))
    settings = BridgeSettings(bundle="no-such-bundle")  # nothing is translated, so nothing is loaded
    made = recorded_rows(open_sources([tmp_path / "out"], [], [], []), settings, count=2)
    assert made.problems == []
    assert [row.caption.split("   ")[1:4] for row in made.rows] == [
        ["frame 1", "48x32", "style seed 4"],
        ["frame 3", "48x32", "style seed 4"],
    ]
    row = made.rows[1]
    assert (row.images[CG] == picture(3)).all()
    assert (row.images[PHOTOREAL] == 255 - picture(3)).all()
    assert (row.images[LABELS] == color_labels(class_ids(3), taxonomy(TAXONOMY))).all()
    assert made.title == "sim-bridge   null 000000000000"


def test_a_translation_without_its_source_shows_what_is_there(tmp_path: Path, site: Path) -> None:
    source = Recording.open(make_recording(tmp_path / "in", [1]))
    translate_recording(source, tmp_path / "out", NullTranslator(), Job("null"))
    shutil.rmtree(tmp_path / "in")
    done = run_cli("sheet", tmp_path / "out", tmp_path / "sheet.png", "--bundle", "null", site=site)
    assert done.returncode == 1
    assert "frame 1 of" in done.stderr
    assert "is shown without 'rgb/000001.png', which it was made from" in done.stderr
    assert len(columns_of(read_rgb(tmp_path / "sheet.png"), 480)) == 2


def test_notes_of_a_folder_are_said(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "in", [1])
    (root / "manifest.jsonl").unlink()
    (root / "rgb" / "thumb.png").touch()
    done = run_cli("sheet", root, tmp_path / "sheet.png", "--bundle", "null", site=site)
    assert done.returncode == 0, done.stderr
    assert "sheet: 1 file whose name is no frame number is left out" in done.stderr


def test_process_writes_a_sheet(tmp_path: Path, site: Path, bundle: Path) -> None:
    root = make_recording(tmp_path / "in", [1, 2, 3, 4])
    out = tmp_path / "sheet.png"
    arguments = ("sheet", root, out, "--rows", "2", "--width", "96", "--bundle", bundle, "--device", "cpu")
    done = run_cli(*arguments, site=site)
    assert done.returncode == 0, done.stderr
    assert f"2 rows written to {out}" in done.stderr
    image = read_rgb(out)
    assert image.shape[1] == 4 * 96 + 3 * GAP + 2 * MARGIN
    assert image.shape[0] > 2 * 64


def test_live_sheet_connects_as_the_bridge_was_told_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both ends of the bridge may be off this machine: keys and consent count for both."""
    connected: list[tuple[str, object, object]] = []

    class ConnectedError(Exception):
        pass

    class Recorder(Subscriber):
        def __init__(self, address: str, *, curve_keys: Path | None = None, insecure: bool = False, **_: object):
            connected.append((address, curve_keys, insecure))
            if len(connected) == 2:
                raise ConnectedError
            super().__init__(address, insecure=insecure)

    monkeypatch.setattr("sim_bridge.recordings.sheet_rows.Subscriber", Recorder)
    there = ("tcp://192.0.2.1:5555", "tcp://192.0.2.1:5556")
    settings = BridgeSettings(
        input=there[0], output=there[1], bundle="null", insecure=True, curve_keys=tmp_path / "keys"
    )
    with pytest.raises(ConnectedError):
        live_rows(settings, count=1, timeout=0.1)
    assert connected == [(address, tmp_path / "keys", True) for address in there]


@data
def test_real_captures_of_all_generations(tmp_path: Path, site: Path) -> None:
    carla = data_folder() / "carla"
    folders = [
        carla / name
        for name in ("carla_0.9.12_alexacarlson_town07", "carla_0.9.15_carlascapes", "carla_0.9.6_alannaoto")
    ]
    flags: list[str] = []
    for rgb, semantic, labels in (
        ("rgb/*", "sem/*", "carla-0.9.10"),
        ("*_img.png", "*_labelIds.png", "carla-0.9.14"),
        ("rgb*", "sem*", "carla-0.9.0"),
    ):
        flags += ["--rgb", rgb, "--semantic", semantic, "--labels", labels]
    done = run_cli("sheet", *folders, tmp_path / "sheet.png", *flags, "--bundle", "null", "--rows", "1", site=site)
    assert done.returncode == 0, done.stderr
    assert has_color(read_rgb(tmp_path / "sheet.png"), class_color("sky"))
