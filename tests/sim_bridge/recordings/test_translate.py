import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from sim_bridge.errors import SimBridgeError, TranslatorError, UsageError
from sim_bridge.recordings.origins import fingerprint
from sim_bridge.recordings.read import Folder, Recording, open_recording
from sim_bridge.recordings.translate import Job, Report, summary, translate_recording
from sim_bridge.translators import Shot, Translation
from sim_bridge.translators.null import NullTranslator
from tests.sim_bridge.recording_helpers import (
    TAXONOMY,
    class_ids,
    data,
    data_folder,
    environment,
    make_recording,
    palette_image,
    picture,
    read_rgb,
    run_cli,
    running_cli,
    site,
    write_rgb,
)

__all__ = ["site"]

NULL = Job(bundle="null")


class Negative(NullTranslator):
    """Inverts pictures, looks at labels, and remembers what it was asked."""

    def __init__(self, model: str = "a" * 12) -> None:
        self.model = model
        self.asked: list[tuple[int, int, int]] = []
        self.warmed: list[tuple[int, int]] = []

    @property
    def model_id(self) -> str:
        return self.model

    @property
    def classes(self) -> tuple[str, ...]:
        return ("road", "unlabeled")

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        (shot,) = shots
        assert shot.labels.shape == shot.rgb.shape[:2]
        assert shot.labels.max() <= 1
        self.asked.append((shot.rgb.shape[1], shot.rgb.shape[0], shot.style.seed))
        return [Translation(255 - shot.rgb)]

    def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        self.warmed.extend(sizes)


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_every_frame_with_its_identity(tmp_path: Path) -> None:
    recording = Recording.open(make_recording(tmp_path / "in", [7, 8, 1000000]))
    translator = Negative()
    report = translate_recording(recording, tmp_path / "out", translator, Job("negative", seed=5))
    assert (report.total, report.already, report.translated, report.left_out) == (3, 0, 3, [])
    out = Recording.open(tmp_path / "out")
    frames = list(out.frames("camera"))
    assert [(frame.number, frame.time) for frame in frames] == [(7, 7 * 0.05), (8, 8 * 0.05), (1000000, 50000.0)]
    for frame in frames:
        assert (read_rgb(frame.files[Folder.PHOTOREAL]) == 255 - picture(frame.number)).all()
        original = tmp_path / "in" / "semantic" / f"{frame.number:06d}.png"
        name = f"rgb/{frame.number:06d}.png"
        content = fingerprint(tmp_path / "in" / name, original)
        assert frame.extra == {"model": "a" * 12, "seed": 5, "source": name, "source_sha256": content}
        assert frame.files[Folder.SEMANTIC].read_bytes() == original.read_bytes()
    assert out.info.taxonomy == TAXONOMY
    assert (out.info.session, out.info.licence) == ("drive-1", "CC0-1.0")
    assert out.info.translation == {
        "source": "in",
        "folder": str(tmp_path / "in"),
        "bundle": "negative",
        "model": "a" * 12,
        "seed": 5,
        "size": "input",
        "format": "png",
        "names": "numbers",
    }
    assert translator.asked == [(48, 32, 5)] * 3
    assert translator.warmed == [(48, 32)]


def test_output_has_the_inputs_size(tmp_path: Path) -> None:
    recording = Recording.open(make_recording(tmp_path / "in", [1]))
    translator = Negative()
    translate_recording(recording, tmp_path / "out", translator, Job("negative", size=(32, 16)))
    assert translator.asked == [(32, 16, 0)]
    assert read_rgb(tmp_path / "out" / "photoreal" / "000001.png").shape == (32, 48, 3)


def test_cameras_keep_their_folders(tmp_path: Path) -> None:
    recording = Recording.open(make_recording(tmp_path / "in", [1, 2], cameras=("left", "right")))
    translate_recording(recording, tmp_path / "out", Negative(), NULL)
    out = Recording.open(tmp_path / "out")
    assert out.cameras() == ("left", "right")
    (_, second) = out.frames("right")
    assert second.files[Folder.PHOTOREAL] == tmp_path / "out" / "right" / "photoreal" / "000002.png"
    assert (read_rgb(second.files[Folder.PHOTOREAL]) == 255 - picture(1002)).all()


def test_all_kinds_of_labels_are_copied(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "in", [1])
    (root / "manifest.jsonl").unlink()
    (root / "depth").mkdir()
    (root / "depth" / "000001.npy").write_bytes(b"whatever it holds")
    write_rgb(root / "photo" / "000001.png", picture(3))
    translate_recording(Recording.open(root), tmp_path / "out", NullTranslator(), NULL)
    assert (tmp_path / "out" / "depth" / "000001.npy").read_bytes() == b"whatever it holds"
    assert not (tmp_path / "out" / "photo").exists()


def test_jpeg_on_request(tmp_path: Path) -> None:
    recording = Recording.open(make_recording(tmp_path / "in", [1]))
    translate_recording(recording, tmp_path / "out", NullTranslator(), Job("null", image_format="jpg"))
    image = cv2.imread(str(tmp_path / "out" / "photoreal" / "000001.jpg"))
    assert image is not None
    assert image.shape == (32, 48, 3)


def test_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    recording = Recording.open(make_recording(tmp_path / "in", [1, 2]))
    translate_recording(recording, tmp_path / "out", Negative(), NULL)
    manifest = (tmp_path / "out" / "manifest.jsonl").read_bytes()
    translator = Negative()
    report = translate_recording(recording, tmp_path / "out", translator, NULL)
    assert (report.already, report.translated) == (2, 0)
    assert translator.asked == []
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == manifest


def test_a_lost_image_is_made_again(tmp_path: Path) -> None:
    recording = Recording.open(make_recording(tmp_path / "in", [1, 2]))
    translate_recording(recording, tmp_path / "out", Negative(), NULL)
    (tmp_path / "out" / "photoreal" / "000002.png").unlink()
    report = translate_recording(recording, tmp_path / "out", Negative(), NULL)
    assert (report.already, report.translated) == (1, 1)
    assert [frame.number for frame in Recording.open(tmp_path / "out").frames("camera")] == [1, 2]


@pytest.mark.parametrize(
    ("model", "job", "part"),
    [
        ("b" * 12, NULL, "made with model 'aaaaaaaaaaaa', this run has 'bbbbbbbbbbbb'"),
        ("a" * 12, Job("null", seed=1), "made with seed 0, this run has 1"),
        ("a" * 12, Job("null", size=(64, 64)), "made with size 'input', this run has '64x64'"),
        ("a" * 12, Job("null", labels="cityscapes"), f"made with taxonomy '{TAXONOMY}', this run has 'cityscapes'"),
    ],
)
def test_one_folder_holds_one_job(tmp_path: Path, model: str, job: Job, part: str) -> None:
    recording = Recording.open(make_recording(tmp_path / "in", [1]))
    translate_recording(recording, tmp_path / "out", Negative(), NULL)
    with pytest.raises(UsageError, match=part):
        translate_recording(recording, tmp_path / "out", Negative(model), job)


def test_destination_must_be_its_own(tmp_path: Path) -> None:
    recording = Recording.open(make_recording(tmp_path / "in", [1]))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    for place in (tmp_path / "in", tmp_path / "in" / "out"):
        with pytest.raises(UsageError, match="lies in the source"):
            translate_recording(recording, place, NullTranslator(), NULL)
    for place in (other, other / "thesis.tex"):
        with pytest.raises(UsageError, match="is no translated recording"):
            translate_recording(recording, place, NullTranslator(), NULL)
    with pytest.raises(UsageError, match="made with"):
        translate_recording(recording, make_recording(tmp_path / "r2", [1]), NullTranslator(), NULL)


def test_full_disk_ends_the_run_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording.open(make_recording(tmp_path / "in", [1, 2, 3, 4, 5, 6]))

    move = Path.replace

    def full(source: Path, target: Path) -> Path:
        if target.suffix == ".png":
            raise OSError(28, "No space left on device")
        return move(source, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SimBridgeError, match=r"cannot be written \(No space left on device\)"):
        translate_recording(recording, tmp_path / "out", NullTranslator(), NULL)
    assert lines(tmp_path / "out") == []


def test_network_failure_leaves_the_frame_out(tmp_path: Path) -> None:
    class Failing(Negative):
        def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
            if len(self.asked) == 1:
                self.asked.append((0, 0, 0))
                raise TranslatorError("the network gave NaN: try fp32")
            return super().translate(shots)

    recording = Recording.open(make_recording(tmp_path / "in", [1, 2, 3]))
    seen: list[int] = []
    report = translate_recording(
        recording, tmp_path / "out", Failing(), NULL, progress=lambda r: seen.append(r.translated + len(r.left_out))
    )
    assert report.left_out == ["frame 2 of camera 'camera': the network gave NaN: try fp32"]
    assert [entry["frame"] for entry in lines(tmp_path / "out")] == [1, 3]
    assert seen == sorted(seen)
    assert seen[-1] == 3


def with_depth(root: Path, numbers: Sequence[int], listed: Sequence[int]) -> Path:
    """A recording whose manifest lists depth, of which not all files are there."""
    make_recording(root, numbers)
    entries = lines(root)
    (root / "depth").mkdir()
    for entry in entries:
        name = f"depth/{entry['frame']:06d}.npy"
        entry["files"] = {**entry["files"], "depth": name}  # type: ignore[dict-item]
        if entry["frame"] in listed:
            (root / name).write_bytes(b"depth")
    (root / "manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return root


def test_missing_label_file_leaves_its_frame_out_and_blames_the_source(tmp_path: Path, site: Path) -> None:
    root = with_depth(tmp_path / "in", [1, 2, 3], listed=[2, 3])
    done = run_cli("translate", root, tmp_path / "out", "--bundle", "null", site=site)
    assert done.returncode == 1
    left_out = f"left out: frame 1 of camera 'camera': {root / 'depth' / '000001.npy'} cannot be read (No such file"
    assert left_out in done.stderr
    assert "cannot be written" not in done.stderr
    assert "2 of 3 frames translated, 1 left out" in done.stderr
    assert [entry["frame"] for entry in lines(tmp_path / "out")] == [2, 3]
    assert not list((tmp_path / "out").rglob("*000001*"))

    (root / "depth" / "000001.npy").write_bytes(b"depth")
    again = run_cli("translate", root, tmp_path / "out", "--bundle", "null", site=site)
    assert again.returncode == 0, again.stderr
    assert "1 of 3 frames translated, 2 were there already" in again.stderr
    assert (tmp_path / "out" / "depth" / "000001.npy").read_bytes() == b"depth"


@pytest.mark.parametrize("value", ["NaN", "[1, -Infinity]"])
def test_manifest_key_that_is_no_json_leaves_its_frame_out(tmp_path: Path, site: Path, value: str) -> None:
    root = make_recording(tmp_path / "in", [1, 2])
    first, second = (root / "manifest.jsonl").read_text().splitlines()
    (root / "manifest.jsonl").write_text(f'{first[:-1]}, "speed": {value}}}\n{second}\n')
    done = run_cli("translate", root, tmp_path / "out", "--bundle", "null", site=site)
    assert done.returncode == 1
    assert "left out: frame 1 of camera 'camera': the manifest key 'speed' of frame 1 is" in done.stderr
    assert "a bug" not in done.stderr
    assert [entry["frame"] for entry in lines(tmp_path / "out")] == [2]


def test_summary() -> None:
    assert list(summary(Report(5, 2, 2, ["frame 4: broken"]))) == [
        "left out: frame 4: broken",
        "2 of 5 frames translated, 2 were there already, 1 left out",
    ]


def test_process_reports_broken_files_and_fails_at_the_end(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "in", [1, 2, 3, 4, 5])
    whole = (root / "rgb" / "000002.png").read_bytes()
    (root / "rgb" / "000002.png").write_bytes(whole[: len(whole) // 2])
    (root / "semantic" / "000004.png").write_bytes(b"")
    done = run_cli("translate", root, tmp_path / "out", "--bundle", "null", site=site)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "left out: frame 2 of camera 'camera'" in done.stderr
    assert "000002.png is a truncated PNG" in done.stderr
    assert "left out: frame 4 of camera 'camera'" in done.stderr
    assert "3 of 5 frames translated, 2 left out" in done.stderr
    assert "\r" not in done.stderr
    assert [entry["frame"] for entry in lines(tmp_path / "out")] == [1, 3, 5]

    (root / "rgb" / "000002.png").write_bytes(whole)
    write_rgb(root / "semantic" / "000004.png", class_ids(4))
    again = run_cli("translate", root, tmp_path / "out", "--bundle", "null", site=site)
    assert again.returncode == 0
    assert "2 of 5 frames translated, 3 were there already" in again.stderr
    for number in range(1, 6):
        assert (read_rgb(tmp_path / "out" / "photoreal" / f"{number:06d}.png") == picture(number)).all()


def test_killed_in_between_goes_on_where_it_was(tmp_path: Path, site: Path) -> None:
    """A named pipe in place of one picture holds the process at that frame until the test lets go."""
    root = make_recording(tmp_path / "in", range(20))
    gate = root / "rgb" / "000010.png"
    gate.unlink()
    os.mkfifo(gate)
    arguments = ("translate", root, tmp_path / "out", "--bundle", "null")
    with running_cli(*arguments, site=site) as translate:
        held = os.open(gate, os.O_WRONLY)  # returns when the process reads frame 10
        translate.process.send_signal(signal.SIGKILL)
        assert translate.finish()[0] == -signal.SIGKILL
        os.close(held)
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png") if path.name[0] != "."}
    done = [entry["frame"] for entry in lines(tmp_path / "out")]
    assert done == list(range(len(done)))
    assert 5 <= len(done) <= 10

    gate.unlink()
    write_rgb(gate, picture(10))
    again = run_cli(*arguments, site=site)
    assert again.returncode == 0
    assert f"{20 - len(done)} of 20 frames translated, {len(done)} were there already" in again.stderr
    assert [entry["frame"] for entry in lines(tmp_path / "out")] == list(range(20))
    for number in range(20):
        photoreal = tmp_path / "out" / "photoreal" / f"{number:06d}.png"
        assert (read_rgb(photoreal) == picture(number)).all()
        if number < len(done):
            assert photoreal.stat().st_mtime_ns == finished[photoreal]
    assert not list((tmp_path / "out").rglob(".*"))


def test_interrupt_says_how_to_go_on(tmp_path: Path, site: Path) -> None:
    """Enough is left behind the frame that waits: the signal comes before the end on a busy machine, too."""
    root = make_recording(tmp_path / "in", range(300))
    gate = root / "rgb" / "000002.png"
    gate.unlink()
    os.mkfifo(gate)
    with running_cli("translate", root, tmp_path / "out", "--bundle", "null", site=site) as translate:
        held = os.open(gate, os.O_WRONLY)
        translate.process.send_signal(signal.SIGINT)
        os.close(held)
        code, rest = translate.finish()
    assert code == 130
    assert "the same command goes on from here" in rest
    assert "Traceback" not in rest


def test_foreign_palette_folder(tmp_path: Path, site: Path) -> None:
    for number in (1, 2):
        write_rgb(tmp_path / "in" / "rgb" / f"{number}_img.png", picture(number))
        write_rgb(tmp_path / "in" / "seg" / f"{number}_color.png", palette_image(class_ids(number)))
    globs = ("--rgb", "rgb/*", "--semantic", "seg/*", "--labels", TAXONOMY)
    done = run_cli("translate", tmp_path / "in", tmp_path / "out", *globs, "--bundle", "null", site=site)
    assert done.returncode == 0
    assert "2 pairs of RGB and labels made by the last number in the file names" in done.stderr
    copied = tmp_path / "out" / "semantic" / "000002.png"
    assert copied.read_bytes() == (tmp_path / "in" / "seg" / "2_color.png").read_bytes()
    assert lines(tmp_path / "out")[1]["source"] == "rgb/2_img.png"
    reread = open_recording(tmp_path / "out", rgb=None, semantic=None, labels=None, camera=None)
    assert reread.info.taxonomy == TAXONOMY


def test_mistakes_end_with_two(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "in", [1])
    for arguments, part in (
        (("translate", tmp_path / "none", tmp_path / "out"), "there is no folder"),
        (("translate", root, root), "lies in the source"),
        (("translate", root, tmp_path / "out", "--size", "1x1"), "use 16 to 16384"),
        (("translate", root, tmp_path / "out", "--labels", "carla"), "the taxonomy 'carla' is unknown"),
        (("translate", root), "Missing argument"),
    ):
        done = run_cli(*arguments, "--bundle", "null", site=site)
        assert done.returncode == 2, done.stderr
        assert part in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_progress_bar_only_on_a_terminal(tmp_path: Path, site: Path) -> None:
    root = make_recording(tmp_path / "in", [1, 2, 3])
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "sim_bridge.cli", "translate", root, tmp_path / "out", "--bundle", "null"]
    done = subprocess.run(command, env=environment(site), stderr=end, timeout=60, check=False)
    os.close(end)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert done.returncode == 0
    assert "3/3" in shown
    assert "3 of 3 frames translated" in shown


@data
def test_real_camvid_labels_stay_the_same(tmp_path: Path, site: Path) -> None:
    source = data_folder() / "camvid"
    globs = ("--rgb", "val/0016E5_0796*.jpg", "--semantic", "valannot/0016E5_0796*.png", "--labels", "camvid")
    done = run_cli("translate", source, tmp_path / "out", *globs, "--bundle", "null", site=site)
    assert done.returncode == 0
    entries = lines(tmp_path / "out")
    assert [entry["frame"] for entry in entries] == [7961, 7963, 7965, 7967, 7969]
    for entry in entries:
        original = source / "valannot" / f"0016E5_0{entry['frame']}.png"
        copied = tmp_path / "out" / "semantic" / f"00{entry['frame']}.png"
        assert copied.read_bytes() == original.read_bytes()
        assert np.asarray(read_rgb(tmp_path / "out" / "photoreal" / copied.name)).shape == (360, 480, 3)
