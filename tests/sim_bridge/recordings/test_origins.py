import shutil
from pathlib import Path

import numpy as np
import pytest

from sim_bridge.errors import ImageError, UsageError
from sim_bridge.recordings.origins import find_origin, fingerprint
from sim_bridge.recordings.read import Folder, Recording
from sim_bridge.recordings.translate import Job, Report, translate_recording
from sim_bridge.translators.null import NullTranslator
from tests.sim_bridge.recording_helpers import class_ids, make_recording, picture, read_rgb, run_cli, site, write_rgb

__all__ = ["site"]


def translate(source: Path, destination: Path, camera: str | None = None) -> Report:
    recording = Recording.open(source)
    recording = recording if camera is None else recording.only(camera)
    return translate_recording(recording, destination, NullTranslator(), Job("null"))


def other_town(root: Path, numbers: list[int]) -> Path:
    """As :func:`make_recording` makes it, but other pictures."""
    make_recording(root, numbers)
    for number in numbers:
        write_rgb(root / "rgb" / f"{number:06d}.png", picture(number + 500))
    return root


def test_two_folders_of_one_name_are_two_sources(tmp_path: Path, site: Path) -> None:
    first, second = make_recording(tmp_path / "a" / "town", [1, 2, 3]), other_town(tmp_path / "b" / "town", [1, 2, 3])
    assert run_cli("translate", first, tmp_path / "out", "--bundle", "null", site=site).returncode == 0
    done = run_cli("translate", second, tmp_path / "out", "--bundle", "null", site=site)
    assert done.returncode == 2
    assert f"holds frame 1 of camera 'camera', which was not made from {second / 'rgb' / '000001.png'}" in done.stderr
    assert (read_rgb(tmp_path / "out" / "photoreal" / "000001.png") == picture(1)).all()


def test_frames_of_two_sources_are_never_mixed(tmp_path: Path) -> None:
    first, second = make_recording(tmp_path / "a" / "town", [1, 2]), other_town(tmp_path / "b" / "town", [3, 4])
    translate(first, tmp_path / "out")
    manifest = (tmp_path / "out" / "manifest.jsonl").read_bytes()
    with pytest.raises(UsageError, match=r"holds frame 1 of camera 'camera', which the source .* has not"):
        translate(second, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == manifest


def test_one_source_by_two_names_is_one(tmp_path: Path) -> None:
    source = make_recording(tmp_path / "town", [1, 2])
    translate(source, tmp_path / "out")
    shutil.move(source, tmp_path / "moved")
    report = translate(tmp_path / "moved", tmp_path / "out")
    assert (report.already, report.translated) == (2, 0)


def test_a_source_may_grow(tmp_path: Path) -> None:
    translate(make_recording(tmp_path / "in", [1, 2]), tmp_path / "out")
    shutil.rmtree(tmp_path / "in")
    report = translate(make_recording(tmp_path / "in", [0, 1, 2, 3]), tmp_path / "out")
    assert (report.already, report.translated) == (2, 2)


def test_other_labels_are_another_source(tmp_path: Path) -> None:
    source = make_recording(tmp_path / "in", [1])
    translate(source, tmp_path / "out")
    write_rgb(source / "semantic" / "000001.png", class_ids(77))
    with pytest.raises(UsageError, match="and its labels as they are now"):
        translate(source, tmp_path / "out")


def test_cameras_may_be_translated_one_by_one(tmp_path: Path) -> None:
    source = make_recording(tmp_path / "in", [1, 2], cameras=("left", "right"))
    translate(source, tmp_path / "out", "left")
    translate(source, tmp_path / "out", "right")
    assert len(Recording.open(tmp_path / "out")) == 4


def test_fingerprints_see_every_pixel(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    write_rgb(tmp_path / "a.png", large)
    large[150, 200] ^= 1
    write_rgb(tmp_path / "b.png", large)
    assert (tmp_path / "a.png").stat().st_size > 1 << 17
    prints = {fingerprint(tmp_path / x, tmp_path / y) for x in ("a.png", "b.png") for y in ("a.png", "b.png")}
    assert len(prints) == 4
    with pytest.raises(ImageError, match="none cannot be read"):
        fingerprint(tmp_path / "a.png", tmp_path / "none")


@pytest.mark.parametrize("change", ["nothing", "both moved", "gone", "changed", "names another", "leaves"])
def test_the_picture_from_before_is_found_by_content(tmp_path: Path, change: str) -> None:
    source = make_recording(tmp_path / "here" / "in", [1])
    translate(source, tmp_path / "here" / "out")
    if change == "both moved":
        shutil.move(tmp_path / "here", tmp_path / "there")
    elif change == "gone":
        shutil.rmtree(source)
    elif change == "changed":
        write_rgb(source / "rgb" / "000001.png", picture(9))
    manifest = next(tmp_path.glob("*/out/manifest.jsonl"))
    names = {"names another": "semantic/000001.png", "leaves": "../in/rgb/000001.png"}
    manifest.write_text(manifest.read_text().replace('"rgb/000001.png"', f'"{names.get(change, "rgb/000001.png")}"'))
    recording = Recording.open(manifest.parent)
    (frame,) = recording.frames("camera")
    assert set(frame.files) == {Folder.SEMANTIC, Folder.PHOTOREAL}
    found = find_origin(recording, frame)
    expected = manifest.parent.parent / "in" / "rgb" / "000001.png"
    assert found == (expected if change in ("nothing", "both moved") else None)
