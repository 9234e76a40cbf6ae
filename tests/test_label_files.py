"""Nine kinds of label files, six ways in: all that read files agree, and the wire takes ids alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from plugins.replay.source import ReplaySource
from sim_bridge.errors import ImageError, SimBridgeError
from sim_bridge.frames import Encoding, Frame, Kind
from sim_bridge.pixels.labels import LabelMap
from sim_bridge.pixels.preprocess import Preprocessor
from sim_bridge.pixels.taxonomy import class_list, taxonomy
from sim_bridge.recordings.captures import label_reader
from sim_bridge.recordings.read import Folder, Recording
from sim_bridge.recordings.sheet import LABELS, color_labels
from sim_bridge.recordings.sheet_rows import open_sources, recorded_rows
from sim_bridge.recordings.translate import Job, translate_recording
from sim_bridge.settings import BridgeSettings
from sim_bridge.translators import Shot, Translation, Translator
from tests.sim_bridge.label_files import (
    VOC,
    Bytes,
    coloured,
    colours,
    grey,
    jpeg,
    optimised,
    png,
    raw,
    with_alpha,
    with_palette,
)
from tests.sim_bridge.recording_helpers import run_cli, site
from trainers.data.check import check_data
from trainers.data.recordings import Recordings
from trainers.recipes.schema import DataRecipe

__all__ = ["site"]

SOURCE = taxonomy("cityscapes")
CLASSES = tuple(SOURCE.ids[number] for number in range(34))
TRAINED = class_list("street")
STREET = LabelMap.build(SOURCE, TRAINED)
SIZE = (96, 64)


def ids_of(number: int) -> Bytes:
    """Sky, buildings, road, pavement and a car; no class is alone, and every frame has other borders."""
    ids = np.full(SIZE[::-1], 23, np.uint8)
    ids[10 : 40 + number, : 50 + number] = 11
    ids[40 + number :] = 7
    ids[50:, 80 - number :] = 8
    ids[42:50, 20 + number : 40 + number] = 26
    return ids


IDS = [ids_of(number) for number in range(2)]
GREYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
JPEG = "labels must not be JPEG: it changes ids at every border"


def as_rgb(ids: Bytes) -> Bytes:
    return np.dstack([ids] * 3)


KINDS: dict[str, tuple[Callable[[Bytes], bytes], str | None]] = {
    "grey ids": (grey, None),
    "palette colours": (lambda ids: colours(ids, "cityscapes"), None),
    "palette colours, optimised": (lambda ids: optimised(coloured(ids, "cityscapes"), 4), None),
    "indices, grey palette": (lambda ids: with_palette(ids, GREYS), None),
    "indices, grey palette, optimised": (lambda ids: optimised(as_rgb(ids), 4), None),
    "indices, own palette": (lambda ids: with_palette(ids, VOC), None),
    "indices, one colour": (lambda ids: with_palette(ids, np.zeros((256, 3))), None),
    "indices, one entry": (lambda ids: with_palette(ids, np.zeros((1, 3))), None),
    "R = G = B": (lambda ids: png(as_rgb(ids), 2), None),
    "R = G = B with alpha": (lambda ids: with_alpha(as_rgb(ids)), None),
    "grey with alpha": (with_alpha, None),
    "CARLA raw": (raw, None),
    "JPEG of ids": (jpeg, JPEG),
    "JPEG of colours": (lambda ids: jpeg(coloured(ids, "cityscapes")), JPEG),
}


class Seen(NamedTuple):
    """What an entry made of the two frames: labels in the classes that were asked for, or sentences."""

    labels: Sequence[Bytes]
    problems: Sequence[str]


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(kind: str) -> Path:
        for split in ("train", "val"):
            for folder in ("rgb", "semantic"):
                (tmp_path / split / folder).mkdir(parents=True)
            (tmp_path / split / "recording.json").write_text('{"taxonomy": "cityscapes"}')
            for number, ids in enumerate(IDS):
                picture = np.random.default_rng(number).integers(0, 256, (*ids.shape, 3), dtype=np.uint8)
                cv2.imwrite(str(tmp_path / split / "rgb" / f"{number}.png"), picture)
                (tmp_path / split / "semantic" / f"{number}.png").write_bytes(KINDS[kind][0](ids))
        return tmp_path

    return write


class Recorder(Translator):
    """Keeps the labels that it is given."""

    def __init__(self) -> None:
        self.labels: list[Bytes] = []

    @property
    def name(self) -> str:
        return "recorder"

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        self.labels += [shot.labels.copy() for shot in shots]
        return [Translation(shot.rgb) for shot in shots]


def by_translate(root: Path) -> Seen:
    recorder, made = Recorder(), root / "made"
    report = translate_recording(Recording.open(root / "train"), made, recorder, Job("recorder"))
    if not report.left_out:
        copies = [frame.files[Folder.SEMANTIC].read_bytes() for frame in Recording.open(made).frames("camera")]
        assert copies == [(root / "train" / "semantic" / f"{number}.png").read_bytes() for number in range(2)]
    return Seen(recorder.labels, report.left_out)


def by_replay(root: Path) -> Seen:
    source = ReplaySource()
    source.open({"folder": root / "train", "rate": 0})
    frames = [frame for frame in source if frame.kind is Kind.SEMANTIC]
    return Seen([np.asarray(frame.pixels, np.uint8) for frame in frames], list(source.problems.values()))


def by_sheet(root: Path) -> Seen:
    settings = BridgeSettings(bundle="null")
    try:
        made = recorded_rows(open_sources([root / "train"], [], [], []), settings, count=2)
    except ImageError as error:
        return Seen([], [str(error)] * 2)
    drawn = [color_labels(ids, SOURCE) for ids in IDS]
    for row, expected in zip(made.rows, drawn, strict=True):
        assert np.array_equal(row.images[LABELS], expected)
    return Seen(IDS, made.problems)


def by_training(root: Path) -> Seen:
    data = Recordings(root, "train")
    inspected = [data.inspect(index) for index in range(len(data))]
    return Seen(
        [found.photograph.labels for found in inspected if found.photograph is not None],
        [str(problem.error) for found in inspected for problem in found.problems],
    )


def by_check(root: Path) -> Seen:
    report = check_data(DataRecipe(kind="recordings", crop=(64, 32)), root, threads=1)[0]
    problems = [str(problem.error) for problem in report.problems]
    if not problems:
        counts = sum(np.bincount(STREET.apply(ids).labels.ravel(), minlength=len(TRAINED)) for ids in IDS)
        shares = dict(zip(TRAINED, (counts / counts.sum()).tolist(), strict=True))
        assert report.classes == pytest.approx(shares) and not report.suspicions
    return Seen([STREET.apply(ids).labels for ids in IDS], problems)


@pytest.mark.parametrize("entry", [by_translate, by_replay, by_sheet, by_training, by_check])
@pytest.mark.parametrize("kind", KINDS)
def test_label_files_mean_the_same_to_all_that_read_them(
    kind: str, entry: Callable[[Path], Seen], written: Callable[[str], Path]
) -> None:
    seen = entry(written(kind))
    refused = KINDS[kind][1]
    if refused is not None:
        assert len(seen.problems) == 2 and all(refused in problem for problem in seen.problems)
        return
    assert list(seen.problems) == []
    expected = [STREET.apply(ids).labels for ids in IDS] if entry in (by_training, by_check) else IDS
    assert all(np.array_equal(a, b) for a, b in zip(seen.labels, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_wire_takes_ids_alone(kind: str) -> None:
    rgb = Frame(
        camera="front",
        kind=Kind.RGB,
        number=7,
        time=0.0,
        session="s",
        encoding=Encoding.RGB8,
        width=SIZE[0],
        height=SIZE[1],
        pixels=np.zeros((*SIZE[::-1], 3), np.uint8),
        sent=0,
    )
    payload = np.frombuffer(KINDS[kind][0](IDS[0]), np.uint8)
    sent = replace(rgb, kind=Kind.SEMANTIC, encoding=Encoding.PNG, pixels=payload, labels="cityscapes")
    preprocessor = Preprocessor(CLASSES, None)
    if kind == "grey ids":
        assert np.array_equal(preprocessor.prepare(rgb, sent).labels, IDS[0])
        return
    with pytest.raises(
        SimBridgeError, match=r"^frame 7 of front/semantic is a \w+.*, but class ids are one channel of"
    ):
        preprocessor.prepare(rgb, sent)


def write_recording(root: Path, semantic: Sequence[bytes]) -> Path:
    for number, data in enumerate(semantic):
        for folder in ("rgb", "semantic"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "rgb" / f"{number}.png"), np.full((*SIZE[::-1], 3), 90, np.uint8))
        (root / "semantic" / f"{number}.png").write_bytes(data)
    (root / "recording.json").write_text('{"taxonomy": "cityscapes"}')
    return root


def test_a_suspicion_is_one_warning_and_an_exit_code_where_it_is_asked_for(tmp_path: Path, site: Path) -> None:
    root = write_recording(tmp_path / "in", [grey(np.full(SIZE[::-1], 7, np.uint8))] * 3)
    commands = {
        "translate": (root, tmp_path / "out", "--bundle", "null"),
        "sheet": (root, tmp_path / "sheet.png", "--bundle", "null"),
        "replay": (root, "--rate", "0", "--wait", "0", "--address", "tcp://127.0.0.1:*"),
    }
    for command, arguments in commands.items():
        done = run_cli(command, *arguments, site=site)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("3 label images of") == done.stderr.count("hold id 7 (road) alone") == 1
        assert done.stderr.count("are read as ids of cityscapes") == 1
        if command != "translate":  # which has nothing left to do
            assert run_cli(command, *arguments, "--strict", site=site).returncode == 1
    assert run_cli("translate", root, tmp_path / "strict", "--bundle", "null", "--strict", site=site).returncode == 1


def test_the_reading_asked_for_goes_along_with_the_labels(tmp_path: Path, site: Path) -> None:
    root = write_recording(tmp_path / "in", [optimised(coloured(ids, "cityscapes")) for ids in IDS])
    made = tmp_path / "out"
    done = run_cli("translate", root, made, "--bundle", "null", "--labels-as", "palette-indices", site=site)
    assert done.returncode == 0 and "are read as palette indices of cityscapes" in done.stderr
    assert Recording.open(made).info.labels_as == "palette-indices"
    assert [np.unique(ids).tolist() for ids in ids_in(made)] == [[0, 1, 2, 3, 4]] * 2
    done = run_cli("translate", root, made, "--bundle", "null", site=site)
    assert done.returncode == 2 and "was made with labels_as 'palette-indices', this run has None" in done.stderr
    done = run_cli("sheet", root, tmp_path / "sheet.png", "--bundle", "null", "--labels-as", "colors", site=site)
    assert done.returncode == 2 and "use one of ids, palette-colours" in done.stderr


def ids_in(made: Path) -> list[Bytes]:
    reader = label_reader(Recording.open(made), SOURCE)
    return [reader.read(frame.files[Folder.SEMANTIC]) for frame in Recording.open(made).frames("camera")]


def test_a_split_of_one_class_is_suspicious(tmp_path: Path) -> None:
    lone = np.full(SIZE[::-1], 7, np.uint8)
    lone[0, :4] = 8
    for split in ("train", "val"):
        write_recording(tmp_path / split, [grey(lone)] * 2 if split == "train" else [grey(ids) for ids in IDS])
    train, val = check_data(DataRecipe(kind="recordings", crop=(64, 32)), tmp_path, threads=1)
    assert train.suspicions == ["99.93% of the labelled pixels are 'road': check that the labels are labels"]
    assert not val.suspicions and not train.problems
