import json
from pathlib import Path

import numpy as np
import pytest

from sim_bridge.errors import ImageError, LabelError, SimBridgeError, SizeMismatchError, UsageError
from sim_bridge.pixels.labels import taxonomy
from sim_bridge.recordings.captures import read_capture, recording_taxonomy
from sim_bridge.recordings.read import (
    CameraInfo,
    Folder,
    RecordedFrame,
    Recording,
    RecordingInfo,
    open_recording,
)
from sim_bridge.recordings.write import RecordingWriter, write_bytes
from tests.sim_bridge.recording_helpers import (
    TAXONOMY,
    class_ids,
    data,
    data_folder,
    make_recording,
    palette_image,
    picture,
    read_rgb,
    write_rgb,
)


def test_what_is_no_json_is_refused_by_its_key(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "r", RecordingInfo()) as writer:
        for value in (float("nan"), {"a": [float("inf")]}, object()):
            with pytest.raises(UsageError, match="the manifest key 'speed' of frame 7 is"):
                writer.add(RecordedFrame("camera", 7, None, None, {}, {"speed": value}))
    assert (tmp_path / "r" / "manifest.jsonl").read_bytes() == b""


def test_what_was_written_is_read(tmp_path: Path) -> None:
    pose = np.arange(16, dtype=np.float64).reshape(4, 4) / 7
    depth = np.array([[1.5, np.inf]], np.float32)
    instance = np.array([[26001, 24]], np.uint16)
    K = ((400.0, 0.0, 24.0), (0.0, 400.0, 16.0), (0.0, 0.0, 1.0))
    info = RecordingInfo(
        cameras={"camera": CameraInfo(width=48, height=32, fov=90.0, K=K)},
        taxonomy=TAXONOMY,
        session="s1",
        licence="MIT",
    )
    with RecordingWriter(tmp_path / "r", info) as writer:
        files = {
            Folder.RGB: writer.write_image("camera", Folder.RGB, 2**40, picture(1)),
            Folder.INSTANCE: writer.write_image("camera", Folder.INSTANCE, 2**40, instance),
            Folder.DEPTH: writer.write_image("camera", Folder.DEPTH, 2**40, depth),
        }
        writer.add(RecordedFrame("camera", 2**40, 1.25, pose, files, {"weather": "rain"}))
    recording = Recording.open(tmp_path / "r")
    (frame,) = recording.frames("camera")
    assert (frame.number, frame.time, frame.extra) == (2**40, 1.25, {"weather": "rain"})
    assert frame.pose is not None
    assert (frame.pose == pose).all()
    assert recording.info == info
    assert (read_rgb(frame.files[Folder.RGB]) == picture(1)).all()
    assert (np.load(frame.files[Folder.DEPTH]) == depth).all()
    assert frame.files[Folder.INSTANCE].name == "1099511627776.png"


def test_manifest_may_be_missing(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "r", [3, 20, 100])
    (root / "manifest.jsonl").unlink()
    (root / "rgb" / "notes.txt").write_text("x")
    (root / "rgb" / "thumb.png").write_bytes(b"x")
    frames = list(Recording.open(root).frames("camera"))
    assert [frame.number for frame in frames] == [3, 20, 100]
    assert set(frames[0].files) == {Folder.RGB, Folder.SEMANTIC}
    assert frames[0].time is None


@pytest.mark.parametrize("manifest", [True, False])
def test_cameras_have_folders_of_their_own(tmp_path: Path, manifest: bool) -> None:
    root = make_recording(tmp_path / "r", [1, 2], cameras=("left", "right"))
    if not manifest:
        (root / "manifest.jsonl").unlink()
    recording = Recording.open(root)
    assert recording.cameras() == ("left", "right")
    assert len(recording) == 4
    right = [read_rgb(frame.files[Folder.RGB]) for frame in recording.frames("right")]
    assert (right[1] == picture(1002)).all()
    assert recording.only("left").cameras() == ("left",)
    with pytest.raises(UsageError, match="has no camera 'middle': it has left, right"):
        recording.frames("middle")


def test_second_camera_needs_camera_folders(tmp_path: Path) -> None:
    with (
        RecordingWriter(tmp_path / "r", RecordingInfo()) as writer,
        pytest.raises(UsageError, match="needs a folder of its own"),
    ):
        writer.path("left", Folder.RGB, 1, ".png")


@pytest.mark.parametrize("camera", ["../x", "a/b", "", ".hidden"])
def test_camera_names_cannot_leave_the_recording(tmp_path: Path, camera: str) -> None:
    with (
        RecordingWriter(tmp_path / "r", RecordingInfo(), camera_folders=True) as writer,
        pytest.raises(UsageError, match="camera name"),
    ):
        writer.path(camera, Folder.RGB, 1, ".png")


def test_line_cut_off_by_a_kill_is_left_out_and_written_over(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "r", [1, 2])
    manifest = root / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + b'{"frame": 3, "files": {"rgb": "rg')
    assert [frame.number for frame in Recording.open(root).frames("camera")] == [1, 2]
    with RecordingWriter(root, RecordingInfo(taxonomy=TAXONOMY)) as writer:
        path = writer.write_image("camera", Folder.RGB, 4, picture(4))
        writer.add(RecordedFrame("camera", 4, None, None, {Folder.RGB: path}))
    assert manifest.read_bytes() == whole + b'{"frame": 4, "files": {"rgb": "rgb/000004.png"}}\n'


def test_later_line_of_a_frame_replaces_the_earlier(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "r", [1])
    with (root / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"frame": 1, "files": {"rgb": "rgb/other.png"}}\n')
    (frame,) = Recording.open(root).frames("camera")
    assert frame.files == {Folder.RGB: root / "rgb/other.png"}


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('{"frame": 1, "files": {"rgb": "/etc/passwd"}}', "'/etc/passwd' leaves the recording"),
        ('{"frame": 1, "files": {"rgb": "rgb/../../x.png"}}', "leaves the recording"),
        ('{"frame": 1, "files": {"rgb": "C:/x.png"}}', "leaves the recording"),
        ('{"frame": 1, "files": {"rgb": "rgb\\\\..\\\\x.png"}}', "no forward slashes"),
        ('{"frame": 1, "files": {"rgb": ""}}', "'' leaves the recording"),
        ('{"frame": 1, "files": {"rgb": 7}}', "at 'files.rgb'"),
        ('{"frame": 1, "files": ["rgb/1.png"]}', "at 'files'"),
        ('{"frame": 1}', "at 'files' .Field required"),
        ('{"files": {}}', "at 'frame' .Field required"),
        ('{"frame": -1, "files": {}}', "at 'frame'"),
        ('{"frame": true, "files": {}}', "at 'frame'"),
        ('{"frame": 1.5, "files": {}}', "at 'frame'"),
        ('{"frame": 18446744073709551616, "files": {}}', "at 'frame'"),
        ('{"frame": 1, "files": {}, "pose": [1, 2]}', "at 'pose'"),
        ('{"frame": 1, "files": {}, "time": "noon"}', "at 'time'"),
        ('{"frame": 1, "files": {}, "time": NaN}', "at 'time'"),
        ('{"frame": 1, "files": {}, "camera": "../up"}', "at 'camera'"),
        ("[1, 2]", "broken .Input should be an object"),
        ("{frame: 1}", "Invalid JSON"),
        ("\udcff", "Invalid JSON"),
    ],
)
def test_broken_manifest_line_is_named(tmp_path: Path, line: str, part: str) -> None:
    root = make_recording(tmp_path / "r", [1])
    with (root / "manifest.jsonl").open("ab") as manifest:
        manifest.write(line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(UsageError, match=part) as caught:
        Recording.open(root)
    assert "line 2 of" in str(caught.value)


@pytest.mark.parametrize("content", ["{", '{"cameras": 3}', '{"cameras": {"camera": {"fov": 400}}}'])
def test_broken_description_is_named(tmp_path: Path, content: str) -> None:
    root = make_recording(tmp_path / "r", [1])
    (root / "recording.json").write_text(content)
    with pytest.raises(UsageError, match=r"recording\.json is broken (at|.Invalid JSON)"):
        Recording.open(root)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "in", [1, 2])
    before = Recording.open(root)
    for name in ("recording.json", "manifest.jsonl"):
        (root / name).write_bytes(b"\xef\xbb\xbf" + (root / name).read_bytes())
    again = Recording.open(root)
    assert again.info == before.info
    assert [frame.number for frame in again.frames("camera")] == [1, 2]


def test_unknown_keys_of_a_description_are_ignored(tmp_path: Path) -> None:
    root = make_recording(tmp_path / "r", [1])
    (root / "recording.json").write_text(json.dumps({"taxonomy": TAXONOMY, "town": "Town10HD"}))
    assert Recording.open(root).info.taxonomy == TAXONOMY


def test_folder_without_frames_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--rgb GLOB, --semantic GLOB and --labels NAME"):
        Recording.open(tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        Recording.open(tmp_path / "none")


def test_file_is_whole_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_bytes(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(SimBridgeError, match=r"cannot be written \(disk full\)"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def foreign(root: Path, rgb: list[str], semantic: list[str]) -> Recording:
    for name in rgb:
        write_rgb(root / "rgb" / name, picture(0))
    for name in semantic:
        write_rgb(root / "seg" / name, class_ids(0))
    return Recording.foreign(root, rgb="rgb/*", semantic="seg/*", labels=TAXONOMY)


@pytest.mark.parametrize(
    ("rgb", "semantic", "part"),
    [
        ("none/*", "seg/*", "--rgb 'none/\\*' matches no file"),
        ("rgb/*", "/seg/*", "--semantic '/seg/\\*' must be relative"),
        ("**/*.png", "**/*.png", "matched both as RGB and as labels"),
        ("", "seg/*", "must be relative"),
        (".", "seg/*", "must be relative"),
        ("rgb/../../*", "seg/*", "and stay in it"),
    ],
)
def test_bad_globs(tmp_path: Path, rgb: str, semantic: str, part: str) -> None:
    foreign(tmp_path, ["1.png"], ["1.png"])
    with pytest.raises(UsageError, match=part):
        Recording.foreign(tmp_path, rgb=rgb, semantic=semantic, labels=TAXONOMY)


def test_a_part_of_the_flags_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add --semantic and --labels"):
        open_recording(tmp_path, rgb="*", semantic=None, labels=None, camera=None)


def test_capture_reads_ids_and_palettes_alike(tmp_path: Path) -> None:
    write_rgb(tmp_path / "rgb.png", picture(5))
    write_rgb(tmp_path / "raw.png", class_ids(5))
    write_rgb(tmp_path / "colors.png", palette_image(class_ids(5)))
    carla = np.zeros((32, 48, 4), np.uint8)
    carla[..., 0] = class_ids(5)  # red of RGB; alpha comes last and is opaque
    carla[..., 3] = 255
    write_rgb(tmp_path / "carla.png", carla[..., :3])
    source = taxonomy(TAXONOMY)
    for name in ("raw", "colors", "carla"):
        files = {Folder.RGB: tmp_path / "rgb.png", Folder.SEMANTIC: tmp_path / f"{name}.png"}
        capture = read_capture(RecordedFrame("camera", 1, None, None, files), source)
        assert capture.ids is not None
        assert (palette_image(capture.ids) == palette_image(class_ids(5))).all(), name
        assert (capture.rgb == picture(5)).all()


def test_capture_errors_name_the_file(tmp_path: Path) -> None:
    write_rgb(tmp_path / "rgb.png", picture(5))
    write_rgb(tmp_path / "small.png", class_ids(5, (16, 16)))
    write_rgb(tmp_path / "strange.png", np.full((32, 48, 3), 200, np.uint8))
    write_rgb(tmp_path / "deep.png", np.full((32, 48, 3), 200, np.uint16))  # type: ignore[arg-type]
    source = taxonomy(TAXONOMY)

    def read(rgb: str, semantic: str | None) -> None:
        files = {Folder.RGB: tmp_path / rgb}
        if semantic is not None:
            files[Folder.SEMANTIC] = tmp_path / semantic
        read_capture(RecordedFrame("camera", 1, None, None, files), source)

    with pytest.raises(SizeMismatchError, match=r"48x32 and its labels .*small\.png are 16x16"):
        read("rgb.png", "small.png")
    with pytest.raises(LabelError, match=r"strange\.png: colour \(200, 200, 200\)"):
        read("rgb.png", "strange.png")
    with pytest.raises(ImageError, match=r"deep\.png has uint16"):
        read("deep.png", "small.png")
    with pytest.raises(ImageError, match="has no semantic image"):
        read("rgb.png", None)
    with pytest.raises(ImageError, match=r"none\.png"):
        read("none.png", "small.png")


def test_taxonomy_must_be_known(tmp_path: Path) -> None:
    recording = Recording(tmp_path, RecordingInfo(), {})
    with pytest.raises(UsageError, match="give --labels NAME"):
        recording_taxonomy(recording, None)
    with pytest.raises(UsageError, match="'carla' is unknown"):
        recording_taxonomy(recording, "carla")


@data
@pytest.mark.parametrize(
    ("folder", "rgb", "semantic", "labels", "numbers"),
    [
        ("carla/carla_0.9.12_alexacarlson_town07", "rgb/*", "sem/*", "carla-0.9.10", [7, 8, 9, 10, 11]),
        ("carla/carla_0.9.15_carlascapes", "*_img.png", "*_labelIds.png", "carla-0.9.14", [5026200, 5026800]),
        ("carla/carla_0.9.6_alannaoto", "rgb*", "sem*", "carla-0.9.0", [142916]),
        ("carla/carla_0.9.5_nikos134", "rgb/*", "sem/*", "carla-0.9.0", [183310, 183311, 183312]),
        ("cityscapes", "leftImg8bit/**/*.png", "gtFine/**/*_labelIds.png", "cityscapes", [0, 1, 2]),
    ],
)
def test_real_captures_pair_and_decode(folder: str, rgb: str, semantic: str, labels: str, numbers: list[int]) -> None:
    recording = Recording.foreign(data_folder() / folder, rgb=rgb, semantic=semantic, labels=labels)
    frames = list(recording.frames("camera"))
    assert [frame.number for frame in frames] == numbers
    capture = read_capture(frames[0], taxonomy(labels))
    assert capture.ids is not None
    assert len(np.unique(capture.ids)) > 5


@data
def test_camvid_repeats_frame_numbers_and_is_numbered_by_order() -> None:
    recording = Recording.foreign(data_folder() / "camvid", rgb="train/*", semantic="trainannot/*", labels="camvid")
    assert [frame.number for frame in recording.frames("camera")] == list(range(367))
    assert "numbered from 0" in recording.notes[1]
