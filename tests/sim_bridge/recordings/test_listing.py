import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_bridge.errors import UsageError
from sim_bridge.recordings.listing import list_files, list_folders, natural
from sim_bridge.recordings.read import Folder, Recording
from tests.sim_bridge.recording_helpers import make_recording, picture, write_rgb


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names_of(root: Path, paths: Sequence[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def in_order(names: Sequence[str]) -> list[str]:
    return sorted(names, key=natural)


def test_natural_order() -> None:
    names = ["a1.png", "a2.png", "a9.png", "a10.png", "a10b.png", "b.png"]
    assert in_order(names[::-1]) == names
    stamps = ["0.5", "1.10", "1.25", "1.5", "10.0"]
    assert in_order(stamps[::-1]) == stamps
    versions = ["1.2.3", "1.2.10", "1.10.1"]
    assert in_order(versions[::-1]) == versions


@given(st.lists(st.text(alphabet="ab_.-0123456789٣²é\udcdf", max_size=12)))
def test_natural_order_is_an_order(names: list[str]) -> None:
    once = in_order(names)
    assert in_order(names[::-1]) == once
    assert sorted(once) == sorted(names)


@given(st.lists(st.integers(0, 10**6), unique=True), st.integers(1, 7))
def test_numbers_sort_by_value_whatever_their_padding(numbers: list[int], width: int) -> None:
    names = [f"frame_{number:0{width}d}.png" for number in sorted(numbers)]
    assert in_order(names[::-1]) == names


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", [("a.png", (), ("a",)), ("b.PNG.png", (), ("b.PNG",))]),
        ("x/*", [("x/1.png", (), ("1.png",))]),
        ("*/[0-9].png", [("x/1.png", ("x",), ("1",)), ("y/2.png", ("y",), ("2",))]),
        ("[!x]/?.png", [("y/2.png", ("y",), ("2",))]),
        ("**/?.png", [("a.png", ("",), ("a",)), ("x/1.png", ("x",), ("1",)), ("y/2.png", ("y",), ("2",))]),
        ("y/**", [("y/2.png", ("",), ("2.png",)), ("y/z/3.jpg", ("z",), ("3.jpg",))]),
        ("**/**/3.*", [("y/z/3.jpg", ("y/z",), ("jpg",))]),
        ("./x/../y/z/*", [("x/../y/z/3.jpg", (), ("3.jpg",))]),
        ("x/1.png", [("x/1.png", (), ())]),
        ("none/*", []),
    ],
)
def test_globs_and_what_their_wildcards_matched(
    tmp_path: Path, pattern: str, expected: list[tuple[str, tuple[str, ...], tuple[str, ...]]]
) -> None:
    touch(tmp_path, "a.png", "b.PNG.png", "x/1.png", "y/2.png", "y/z/3.jpg")
    found = list_files(tmp_path, pattern).found
    assert [(str(one.path.relative_to(tmp_path)), one.folders, one.name) for one in found] == expected


def test_hidden_ones_are_never_matched_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "rgb/1.png", "rgb/._1.png", "rgb/.cache/2.png", ".trash/3.png")
    for pattern in ("**/*.png", "rgb/*", "*/*.png", ".trash/*.png", "rgb/.*"):
        listing = list_files(tmp_path, pattern)
        assert names_of(tmp_path, listing.paths) in (["rgb/1.png"], [])
        assert any("hidden file" in note for note in listing.notes), pattern
    assert "3 hidden files and folders are left out" in list_files(tmp_path, "**/*.png").notes[0]
    assert list_folders(tmp_path) == [tmp_path / "rgb"]


def test_links_are_followed_and_circles_named(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "1.png", "deep/2.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "in" / "file.png").symlink_to(tmp_path / "disk" / "1.png")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere")
    listing = list_files(tmp_path / "in", "**/*.png")
    assert names_of(tmp_path / "in", listing.paths) == ["file.png", "linked/1.png", "linked/deep/2.png"]
    assert listing.notes == (
        f"2 links that lead nowhere or in a circle are left out, the first is {tmp_path / 'in' / 'gone.png'}",
    )


def test_other_endings_and_folders_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.JPG", "3.txt", "4/x.png")
    listing = list_files(tmp_path, "*", {".png", ".jpg"})
    assert names_of(tmp_path, listing.paths) == ["1.png", "2.JPG"]
    assert listing.notes == (
        f"1 file that ends in none of .jpg/.png is left out: {tmp_path / '3.txt'}",
        f"1 folder that matches the glob is left out: {tmp_path / '4'}",
    )


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UsageError, match=r"cannot be read \(Permission denied\)"):
        list_files(tmp_path, "*")


def without_manifest(root: Path, numbers: Sequence[int] = (1, 2)) -> Path:
    make_recording(root, numbers)
    (root / "manifest.jsonl").unlink()
    return root


def test_what_a_recording_leaves_out_is_counted(tmp_path: Path) -> None:
    root = without_manifest(tmp_path)
    touch(root, "rgb/thumb.png", "rgb/Thumbs.db", "rgb/.hidden.png", "semantic/000001.jpg", "left/rgb/000003.png")
    recording = Recording.open(root)
    assert [frame.number for frame in recording.frames("camera")] == [1, 2]
    assert recording.notes == (
        f"1 folder beside the images of {root} is left out: {root / 'left'}",
        f"1 file that ends in none of .jpeg/.jpg/.png is left out: {root / 'rgb' / 'Thumbs.db'}",
        f"1 hidden file or folder is left out: {root / 'rgb' / '.hidden.png'}",
        f"1 file that ends in none of .png is left out: {root / 'semantic' / '000001.jpg'}",
        f"1 file whose name is no frame number is left out: {root / 'rgb' / 'thumb.png'}",
    )


@pytest.mark.parametrize("name", ["front camera", "caméra", "x" * 65, "-front"])
def test_a_cameras_folder_of_another_name_is_refused(tmp_path: Path, name: str) -> None:
    without_manifest(tmp_path / "front")
    write_rgb(tmp_path / name / "rgb" / "000001.png", picture(1))
    with pytest.raises(UsageError, match="holds images, but its name is no camera's"):
        Recording.open(tmp_path)


@pytest.mark.parametrize("place", ["RGB", "front/RGB", "Semantic"])
def test_case_of_folders_counts(tmp_path: Path, place: str) -> None:
    write_rgb(tmp_path / place / "000001.png", picture(1))
    with pytest.raises(
        UsageError, match=rf"{place} is not read, since case counts: rename it {Path(place).name.lower()}"
    ):
        Recording.open(tmp_path)


@pytest.mark.parametrize("name", ["1.png", "000001.jpg", "000001.PNG"])
def test_two_files_of_one_frame_are_refused(tmp_path: Path, name: str) -> None:
    root = without_manifest(tmp_path)
    touch(root, f"rgb/{name}")
    with pytest.raises(UsageError, match="are two files of frame 1: take one away") as caught:
        Recording.open(root)
    assert name in str(caught.value)
    assert "000001.png" in str(caught.value)


def test_a_number_beyond_the_wire_is_refused(tmp_path: Path) -> None:
    root = without_manifest(tmp_path)
    touch(root, f"rgb/{2**64}.png")
    with pytest.raises(UsageError, match="is above 18446744073709551615: rename it"):
        Recording.open(root)


def test_a_name_that_is_no_utf8_is_found(tmp_path: Path) -> None:
    touch(tmp_path, os.fsdecode(b"rgb/stra\xdfe_1.png"))
    assert [path.name for path in list_files(tmp_path, "rgb/*.png").paths] == ["stra\udcdfe_1.png"]


def test_linked_camera_folders_are_read(tmp_path: Path) -> None:
    without_manifest(tmp_path / "disk")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "front").symlink_to(tmp_path / "disk")
    recording = Recording.open(tmp_path / "in")
    assert [frame.files[Folder.RGB].name for frame in recording.frames("front")] == ["000001.png", "000002.png"]
