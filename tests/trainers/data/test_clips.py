"""Where data sets have consecutive frames, which of them have labels, and what is read of them."""

import json
import os
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from sim_bridge.errors import ImageError
from tests.trainers.data.test_check import write_recipe
from tests.trainers.trees import CITYSCAPES_IDS, draw_cityscapes, draw_flowing, draw_sequences, scene
from trainers.data.camvid import CamVid
from trainers.data.check import check_data
from trainers.data.cityscapes import Cityscapes
from trainers.data.clips import PREDICTED, Clip
from trainers.data.open import open_data
from trainers.data.photograph import Photograph
from trainers.data.problems import EmptySplitError
from trainers.data.read import read_flow
from trainers.data.synthia import Synthia
from trainers.recipes.schema import DataRecipe
from trainers.run import app

REAL = Path(os.environ.get("SIM_BRIDGE_DATA", "/nonexistent")) / "cityscapes_seq_512x256"


def numbers(clip: Clip) -> list[int]:
    """The frames' numbers, which end their names."""
    return [int(frame.name.rsplit("_")[-1]) for frame in clip.frames]


# Videos


def test_sequences_of_synthia_are_videos_and_random_views_are_not(tmp_path: Path) -> None:
    root = draw_sequences(tmp_path)
    data = Synthia(root, "train", views=("Stereo_Left/Omni_F", "Stereo_Right/Omni_F"))
    clips = data.cut_clips(3, 2)
    assert [numbers(clip) for clip in clips] == [[n, n + 2, n + 4] for n in range(5)] * 2  # frame 9 validates
    assert all(len({frame.picture.parent for frame in clip.frames}) == 1 for clip in clips)
    assert all(frame.labels is not None for clip in clips for frame in clip.frames)
    for name in ("SYNTHIA-SEQS-05-SPRING", "SYNTHIA-SEQS-06-FOG"):
        (root / name / "RGB" / "Stereo_Left" / "Omni_F" / "000004.png").unlink()
        (root / name / "GT" / "LABELS" / "Stereo_Left" / "Omni_F" / "000004.png").unlink()
    assert [numbers(clip) for clip in Synthia(root, "train").cut_clips(4)] == [[0, 1, 2, 3], [5, 6, 7, 8]] * 2


def test_drives_of_camvid_are_videos_of_15_frames_a_second(tmp_path: Path) -> None:
    for number in (*range(390, 400, 2), 1000, 1030):
        for folder in ("val", "valannot"):
            (tmp_path / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "val" / f"0016E5_{number:05d}.png"), np.full((64, 96, 3), number % 256, np.uint8))
        cv2.imwrite(str(tmp_path / "valannot" / f"0016E5_{number:05d}.png"), np.full((64, 96), 3, np.uint8))
    data = CamVid(tmp_path, "val")
    assert [numbers(c) for c in data.cut_clips(3)] == [[390, 392, 394], [392, 394, 396], [394, 396, 398]]
    assert [numbers(c) for c in data.cut_clips(2, 15)] == [[1000, 1030]]
    assert not data.cut_clips(2)[0].has_flow


def test_recordings_are_videos_with_flow_depth_and_pose(tmp_path: Path) -> None:
    root = draw_flowing(tmp_path)
    data = open_data(DataRecipe(kind="recordings", frames=4, crop=(64, 32)), root, "train")
    assert [numbers(clip) for clip in data.clips] == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]] * 2
    frame = data.clips[1].frames[0]
    assert data.clips[0].has_flow and frame.depth is not None and frame.pose is not None
    assert np.load(frame.depth)[0, 0] == 6 and frame.pose[2, 3] == 1
    photograph = data.inspect_frame(frame, flow=True).photograph
    assert photograph is not None and photograph.flow is not None and tuple(photograph.flow[0, 0]) == (2, 1)
    assert (
        len(data) == 12 and data.fingerprint() != open_data(DataRecipe(kind="recordings"), root, "train").fingerprint()
    )


def test_a_jump_in_time_ends_a_video(tmp_path: Path) -> None:
    root = draw_flowing(tmp_path)
    manifest = root / "train" / "first" / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    late = [{**line, "time": line["time"] + 60 * (line["frame"] > 2)} for line in lines]
    manifest.write_text("\n".join(map(json.dumps, late)) + "\n")
    clips = open_data(DataRecipe(kind="recordings", frames=3, crop=(64, 32)), root, "train").clips
    assert [numbers(clip) for clip in clips] == [[0, 1, 2], [3, 4, 5], *([n, n + 1, n + 2] for n in range(4))]


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    return draw_cityscapes(tmp_path / "cityscapes", neighbours=range(17, 22))


def predict(root: Path, frame: int) -> None:
    """Writes labels of one frame of every video of the training split, as a segmenter would."""
    for picture in (root / "leftImg8bit_sequence" / "train").glob(f"*/*_{frame:06d}_*"):
        file = root / PREDICTED / picture.relative_to(root)
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), scene(0, CITYSCAPES_IDS, (128, 64))[1])


def test_clips_of_cityscapes_take_what_labels_they_may(cityscapes: Path) -> None:
    data = Cityscapes(cityscapes, "train")
    assert len(data.cut_clips(3, 1, "none")) == 6 * 3
    for need in ("required", "predicted"):
        with pytest.raises(EmptySplitError, match=rf"\({need}\): set data\.labels to none"):
            data.cut_clips(2, 1, need)  # type: ignore[arg-type]
    predict(cityscapes, 20)
    clips = data.cut_clips(2, 1, "predicted")
    assert [numbers(clip) for clip in clips] == [[19, 20]] * 6
    real, guessed = (data.inspect_frame(frame).photograph for frame in clips[0].frames)
    assert real is not None and guessed is not None and guessed.labelled and guessed.stray == 0
    assert data.classes[guessed.labels[20, 20]] == "building"
    with pytest.raises(EmptySplitError, match="required"):
        data.cut_clips(2, 1, "required")
    assert clips[0].frames[1].labels == clips[0].frames[1].predicted


# The check


def test_the_check_reads_and_counts_clips(cityscapes: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "x.yaml", kind="cityscapes", frames=3, labels="none")
    command = ["data", "check", "--recipe", str(recipe), "--root", str(cityscapes)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "train: 6 pictures, 18 clips; sizes 128x64 (6)" in done.stdout
    folder = cityscapes / "leftImg8bit_sequence" / "train" / "ulm"
    (folder / "ulm_000000_000017_leftImg8bit.png").write_bytes(b"no picture")
    cv2.imwrite(str(folder / "ulm_000001_000020_leftImg8bit.png"), np.zeros((80, 160, 3), np.uint8))
    done = CliRunner().invoke(app, [*command, "--json"])
    train = json.loads(done.stdout)["splits"]["train"]
    assert done.exit_code == 1 and train["clips"] == 18
    assert [(p["kind"], Path(p["file"]).name) for p in train["problems"]] == [
        ("unreadable file", "ulm_000000_000017_leftImg8bit.png"),
        ("size mismatch", "ulm_000001_000020_leftImg8bit.png"),
    ]
    resized = DataRecipe(kind="cityscapes", frames=3, labels="none", resize=(96, 48), crop=(64, 32))
    assert len(check_data(resized, cityscapes)[0].problems) == 1


def test_the_check_reads_flow_and_says_where_there_are_no_clips(tmp_path: Path) -> None:
    root = draw_flowing(tmp_path)
    (root / "train" / "second" / "flow" / "000003.npy").write_bytes(b"no array")
    report = check_data(DataRecipe(kind="recordings", frames=2, crop=(64, 32)), root)[0]
    assert report.clips == 10 and ["second/flow/000003.npy" in str(p.error) for p in report.problems] == [True]
    report = check_data(DataRecipe(kind="recordings", frames=7, crop=(64, 32)), root)[0]
    assert report.clips == 0 and "its longest video spans 6 frames" in str(report.problems[0].error)
    assert check_data(DataRecipe(kind="recordings", crop=(64, 32)), root)[0].clips is None


# Flow


def test_flow_files_that_are_none_are_named(tmp_path: Path) -> None:
    file = tmp_path / "000000.npy"
    file.write_bytes(b"")
    with pytest.raises(ImageError, match=r"^flow \S+000000\.npy is empty: fetch or write it again$"):
        read_flow(file)
    file.write_bytes(b"no array")
    with pytest.raises(ImageError, match=r"^flow \S+000000\.npy cannot be read \([^\n]*\): record it again$"):
        read_flow(file)
    for wrong in (np.zeros((4, 6, 3), np.float32), np.zeros((4, 6, 2)), np.zeros((4, 6), np.float32)):
        np.save(file, wrong)
        with pytest.raises(ImageError, match=r"is not float32 of shape \(H, W, 2\): record it again"):
            read_flow(file)
    np.save(file, np.array([{}]), allow_pickle=True)
    with pytest.raises(ImageError, match="cannot be read"):
        read_flow(file)


def test_resized_flow_leads_to_the_same_place(tmp_path: Path) -> None:
    """Left half 4 pixels to the right and 2 down, right half hidden; half as wide and a third as high."""
    flow = np.full((60, 80, 2), np.nan, np.float32)
    flow[:, :40] = 4, 3
    np.save(tmp_path / "000000.npy", flow)
    picture = np.zeros((60, 80, 3), np.uint8)
    photograph = Photograph("0", picture, picture[..., 0], flow=read_flow(tmp_path / "000000.npy"))
    small = photograph.resized((40, 20)).flow
    assert small is not None and small.shape == (20, 40, 2)
    assert (small[:19, :20] == (2, 1)).all() and np.isnan(small[:, 20:]).all()
    assert np.isnan(small[19]).all()  # its target is below the picture
    large = photograph.scaled(2).flow
    assert large is not None and (large[:114, :80] == (8, 6)).all() and np.isnan(large[114:]).all()


@pytest.mark.skipif(not REAL.is_dir(), reason="no video of Cityscapes")
def test_predicted_labels_of_the_real_video_are_clips(tmp_path: Path) -> None:
    video = REAL / "seq0000"
    pictures = sorted((video / "leftImg8bit").glob("*.jpg"))[14:24]
    assert any(p.stem.endswith("_000019") for p in pictures)
    for picture in pictures:
        name = Path("train", "aachen", f"{picture.stem}_leftImg8bit.png")
        labels = video / "labelIds_pred" / f"{picture.stem}.png"
        whole = picture.stem.endswith("_000019")
        places = [(picture, Path("leftImg8bit" if whole else "leftImg8bit_sequence") / name)]
        given = Path("gtFine", "train", "aachen", f"{picture.stem}_gtFine_labelIds.png")
        places.append((labels, given if whole else Path(PREDICTED, "leftImg8bit_sequence") / name))
        for source, file in places:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).symlink_to(source)
    recipe = DataRecipe(kind="cityscapes", frames=4, labels="predicted")
    data = open_data(recipe, tmp_path, "train")
    assert len(data.clips) == 7 and len(data) == 1
    photographs = [data.inspect_frame(frame).photograph for frame in data.clips[3].frames]
    labels = [photograph.labels for photograph in photographs if photograph is not None]
    assert len(labels) == 4 and all(p is not None and p.labelled and p.stray == 0 for p in photographs)
    assert all((a == b).mean() > 0.8 for a, b in pairwise(labels))
