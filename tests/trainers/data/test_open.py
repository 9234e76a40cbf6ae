"""Cityscapes and SYNTHIA in their exact layouts, drawn here and real; resizing; what recipes may say about data."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from sim_bridge.errors import ImageError, LabelError, SizeMismatchError, UsageError
from sim_bridge.pixels.preprocess import fit_pair
from sim_bridge.recordings.captures import read_rgb
from tests.trainers.camvid_tree import draw_camvid
from tests.trainers.data.test_recordings import record
from tests.trainers.trees import CITYSCAPES_IDS, draw_cityscapes, draw_random_views, draw_sequences, scene
from trainers.data.camvid import CamVid
from trainers.data.cityscapes import CITYSCAPES_CLASSES, Cityscapes
from trainers.data.open import open_data
from trainers.data.problems import EmptySplitError, MissingCounterpartError, MissingViewError
from trainers.data.recordings import STREET_CLASSES
from trainers.data.synthia import Synthia
from trainers.recipes.read import load_recipe
from trainers.recipes.schema import DataRecipe
from trainers.recipes.segmenter import SegmenterRecipe
from trainers.recipes.sflow import SFlowRecipe

SAMPLES = Path(os.environ.get("SIM_BRIDGE_DATA", "/nonexistent"))
needs_cityscapes = pytest.mark.skipif(not (SAMPLES / "cityscapes").is_dir(), reason="no Cityscapes samples")


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    return draw_cityscapes(tmp_path / "cityscapes")


def names(data: Cityscapes | Synthia) -> list[str]:
    return [data.name_of(image) for image, _ in data.files]


def test_cityscapes_is_read_in_its_train_classes(cityscapes: Path) -> None:
    data = Cityscapes(cityscapes, "train")
    assert (len(data), len(Cityscapes(cityscapes, "val"))) == (6, 3)
    assert data.classes == CITYSCAPES_CLASSES and len(data.classes) == 20 and data.classes[data.void] == "unlabeled"
    photograph = data[1]
    picture, ids = scene(1, CITYSCAPES_IDS, (128, 64))
    assert photograph.name == "aachen_000001_000019" and photograph.size == (128, 64)
    np.testing.assert_array_equal(photograph.rgb, picture[..., ::-1])
    for number, expected in ((23, "sky"), (11, "building"), (7, "road"), (26, "car"), (9, "road")):
        assert {data.classes[k] for k in np.unique(photograph.labels[ids == number])} == {expected}


def test_cities_and_shares_are_left_out_of_training_only(cityscapes: Path) -> None:
    recipe = DataRecipe(kind="cityscapes", exclude=("ulm", "lindau"), share="odd", crop=(64, 32))
    train, val = (open_data(recipe, cityscapes, split) for split in ("train", "val"))
    assert [p.name for p in train] == ["aachen_000001_000019"] and len(val) == 3
    odd, even, whole = (names(Cityscapes(cityscapes, "train", share=s)) for s in ("odd", "even", "all"))
    assert not set(odd) & set(even) and sorted([*odd, *even]) == whole


def test_missing_counterparts_of_cityscapes_are_named_on_either_side(cityscapes: Path) -> None:
    folder = "aachen/aachen_000000_000019"
    (cityscapes / "gtFine" / "train" / f"{folder}_gtFine_labelIds.png").unlink()
    with pytest.raises(MissingCounterpartError, match=r"labels .*aachen_000000_000019_gtFine_labelIds.* are missing"):
        Cityscapes(cityscapes, "train")
    (cityscapes / "leftImg8bit" / "train" / f"{folder}_leftImg8bit.png").unlink()
    assert len(Cityscapes(cityscapes, "train")) == 5
    (cityscapes / "leftImg8bit" / "train" / "ulm" / "ulm_000001_000019_leftImg8bit.png").unlink()
    with pytest.raises(MissingCounterpartError, match=r"ulm_000001_000019_gtFine_labelIds\.png have no picture"):
        Cityscapes(cityscapes, "train")
    assert len(Cityscapes(cityscapes, "train", exclude=("ulm",))) == 2
    with pytest.raises(EmptySplitError, match=r"test holds no photographs with labels: give --root"):
        Cityscapes(cityscapes, "test")


def test_wrong_files_of_cityscapes_are_named(cityscapes: Path) -> None:
    data = Cityscapes(cityscapes, "train")
    image, labels = data.files[0]
    ids = cv2.imread(str(labels), cv2.IMREAD_UNCHANGED)
    assert ids is not None
    strange = ids.copy()
    strange[:16] = 77
    cv2.imwrite(str(labels), strange)
    with pytest.raises(LabelError, match=r"aachen_000000_000019_gtFine_labelIds\.png: class id 77 .* 25\.00 %"):
        data.read(0)
    cv2.imwrite(str(labels), ids[:32])
    with pytest.raises(SizeMismatchError, match=r"labelIds\.png is 128x32 and .*leftImg8bit\.png is 128x64"):
        data.read(0)
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(ImageError, match=r"aachen_000000_000019_leftImg8bit\.png is a truncated PNG"):
        data.read(0)
    labels.write_bytes(b"no picture")
    assert [p.file for p in data.inspect(0).problems] == [image, labels]


def test_instances_are_read_where_they_are_asked_for(cityscapes: Path) -> None:
    recipe = DataRecipe(kind="cityscapes", resize=(96, 48), crop=(64, 32))
    assert open_data(recipe, cityscapes, "train")[0].instances is None
    (whole, *_), (small, *_) = (
        Cityscapes(cityscapes, "train", instances=True), open_data(recipe, cityscapes, "train", instances=True)
    )  # fmt: skip
    assert whole.instances is not None and small.instances is not None and small.instances.shape == (48, 96)
    assert set(np.unique(whole.instances)) == {7, 9, 11, 23, 26000, 26001} == set(np.unique(small.instances))
    car = whole.labels == whole.labels[whole.instances == 26000][0]
    np.testing.assert_array_equal(car, whole.instances >= 26000)
    cut = whole.cut(36, 12, 8, 10)
    assert cut.instances is not None and cut.instances.shape == (8, 10)
    np.testing.assert_array_equal(np.unique(cut.instances[:, :8]), 26000)
    assert (cut.instances[:, 8:] == 26001).all()


def test_wrong_and_missing_instances_are_named(cityscapes: Path) -> None:
    data = Cityscapes(cityscapes, "train", instances=True)
    file = data.instances_of(data.files[0][1])
    assert file is not None
    cv2.imwrite(str(file), np.zeros((64, 128, 3), np.uint8))
    with pytest.raises(ImageError, match=r"instanceIds\.png has 3 channels, but instance ids are one number a pixel"):
        data.read(0)
    cv2.imwrite(str(file), np.zeros((32, 128), np.uint16))
    with pytest.raises(SizeMismatchError, match=r"instanceIds\.png is 128x32 and .*leftImg8bit\.png is 128x64"):
        data.read(0)
    file.unlink()
    assert len(Cityscapes(cityscapes, "train")) == 6
    with pytest.raises(MissingCounterpartError, match=r"000000_000019_gtFine_instanceIds\.png are missing: unpack"):
        Cityscapes(cityscapes, "train", instances=True)


def test_clips_are_cut_from_the_video_around_a_label(cityscapes: Path) -> None:
    folder = cityscapes / "leftImg8bit_sequence" / "train" / "ulm"
    folder.mkdir(parents=True)
    for frame in range(17, 22):
        picture = np.full((64, 128, 3), (0, 0, frame), np.uint8)
        cv2.imwrite(str(folder / f"ulm_000002_{frame:06d}_leftImg8bit.png"), picture)
    data = Cityscapes(cityscapes, "train")
    clips = data.cut_clips(2, 1, "none")
    assert [[f.name[-2:] for f in clip.frames] for clip in clips] == [[str(n), str(n + 1)] for n in range(17, 21)]
    assert [f.name[-2:] for f in data.cut_clips(2, 3, "none")[0].frames] == ["17", "20"]
    unlabelled = data.inspect_frame(clips[0].frames[0]).photograph
    assert unlabelled is not None and not unlabelled.labelled and (unlabelled.labels == data.void).all()
    with pytest.raises(
        EmptySplitError, match=r"in which all frames have labels \(required\): set data\.labels to none"
    ):
        data.cut_clips(2, 1)
    with pytest.raises(EmptySplitError, match=r"data\.frames 6 .*: its longest video spans 5 frames"):
        data.cut_clips(6, 1, "none")


def test_a_share_counts_what_is_excluded(tmp_path: Path) -> None:
    """A judge of all drives and features of some must not meet, also where an odd number is left out."""
    root = draw_cityscapes(tmp_path)
    judge = {image for image, _ in Cityscapes(root, "train", share="even").files}
    features = {image for image, _ in Cityscapes(root, "train", exclude=("aachen",), share="odd").files}
    assert features and not judge & features


@pytest.mark.skipif(not (SAMPLES / "camvid").is_dir(), reason="no CamVid")
def test_shares_of_the_real_camvid_never_meet() -> None:
    judge = {image for image, _ in CamVid(SAMPLES / "camvid", "train", share="even").files}
    features = {image for image, _ in CamVid(SAMPLES / "camvid", "train", ("0006R0",), "odd").files}
    assert len(features) > 100 and not judge & features
    assert len(CamVid(SAMPLES / "camvid", "val").cut_clips(3)) == 99


def test_random_views_of_synthia_are_read_and_split_by_name(tmp_path: Path) -> None:
    root = draw_random_views(tmp_path)
    train, val = (Synthia(root, split, val_share=0.25) for split in ("train", "val"))
    assert names(train) == [f"{n:07d}" for n in range(7)] and names(val) == [f"{n:07d}" for n in (7, 8, 9)]
    photograph = train[3]
    stored = cv2.imread(str(root / "GT" / "LABELS" / "0000003.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None and stored.dtype == np.uint16 and stored.shape == (64, 96, 3)
    assert train.classes == STREET_CLASSES
    for number, expected in ((1, "sky"), (2, "building"), (3, "road"), (22, "road line"), (8, "car")):
        assert {train.classes[k] for k in np.unique(photograph.labels[stored[..., 2] == number])} == {expected}
    np.testing.assert_array_equal(
        photograph.rgb,
        scene(3, {"sky": 1, "building": 2, "road": 3, "road line": 22, "car": 8}, (96, 64))[0][..., ::-1],
    )


def test_sequences_of_synthia_have_ids_and_a_split_of_their_own(tmp_path: Path) -> None:
    root = draw_sequences(tmp_path)
    by_share = Synthia(root, "val")
    assert [p.parts[-5] for p, _ in by_share.files] == ["SYNTHIA-SEQS-05-SPRING", "SYNTHIA-SEQS-06-FOG"]
    assert names(by_share) == ["000009", "000009"] and len(Synthia(root, "train")) == 18
    recipe = DataRecipe(kind="synthia", val_sequences=("SYNTHIA-SEQS-06-FOG",), crop=(64, 32))
    train, val = (open_data(recipe, root, split) for split in ("train", "val"))
    assert {train.files_of(i)[0].parts[-5] for i in range(len(train))} == {"SYNTHIA-SEQS-05-SPRING"}
    assert {val.files_of(i)[0].parts[-5] for i in range(len(val))} == {"SYNTHIA-SEQS-06-FOG"}
    assert (len(train), len(val)) == (10, 10)
    line = train[0].labels[-5]
    assert {train.classes[k] for k in np.unique(line)} == {"road line"}
    both = Synthia(root, "train", views=("Stereo_Left/Omni_F", "Stereo_Right/Omni_F"))
    assert len(both) == 20
    one = Synthia(root / "SYNTHIA-SEQS-05-SPRING", "train")
    assert len(one) == 9
    with pytest.raises(UsageError, match=r"names SEQS-99, but .* holds SYNTHIA-SEQS-05-SPRING, SYNTHIA-SEQS-06-FOG"):
        Synthia(root, "train", val_sequences=("SEQS-99",))


def test_sequence_ids_in_a_folder_of_random_views_are_not_taken_for_theirs(tmp_path: Path) -> None:
    """12 is motorcycle in one table and lane marking in the other: the folder decides."""
    draw_random_views(tmp_path / "RAND_CITYSCAPES")
    draw_sequences(tmp_path)
    data = Synthia(tmp_path, "train")
    lines = {data.classes[int(data[i].labels[-5, 0])] for i in range(len(data))}
    assert lines == {"road line"} and len(data) == 27


def test_a_missing_file_of_synthia_moves_no_other_to_the_other_side(tmp_path: Path) -> None:
    root = draw_random_views(tmp_path)
    (root / "GT" / "LABELS" / "0000002.png").unlink()
    (root / "RGB" / "0000009.png").unlink()
    train, val = (Synthia(root, split, val_share=0.2, strict=False) for split in ("train", "val"))
    assert names(train) == [f"{n:07d}" for n in (0, 1, 3, 4, 5, 6, 7)] and names(val) == ["0000008"]
    assert [p.file.name for p in train.problems] == ["0000002.png"]
    assert [p.file.name for p in val.problems] == ["0000009.png"]
    with pytest.raises(EmptySplitError, match="holds no photographs with labels"):
        Synthia(tmp_path / "GT", "train")


@pytest.mark.parametrize(
    ("half", "says"), [("RGB", "(it holds labels of 10 frames alone)"), ("", "in RGB (it holds nothing else)")]
)
def test_half_a_download_of_synthia_does_not_vanish(tmp_path: Path, half: str, says: str) -> None:
    root = draw_sequences(tmp_path)
    fog = root / "SYNTHIA-SEQS-06-FOG"
    shutil.rmtree(fog / half / "Stereo_Left" if half else fog)
    if not half:
        (fog / "RGB").mkdir(parents=True)
    (problem,) = Synthia(root, "train", strict=False).problems
    assert problem.kind == "missing view" and problem.file.is_relative_to(fog / "RGB") and says in str(problem.error)
    with pytest.raises(MissingViewError, match=r"leave it out with data\.exclude"):
        Synthia(root, "train")
    assert len(Synthia(root, "train", exclude=("SYNTHIA-SEQS-06-FOG",))) == 9
    shutil.rmtree(root / "SYNTHIA-SEQS-05-SPRING" / "GT")
    found = Synthia(root, "train", strict=False).problems
    assert [p.kind for p in found] == ["empty split", *["missing counterpart"] * 9, "missing view"]


def test_a_view_that_synthia_does_not_have_is_named_with_those_it_has(tmp_path: Path) -> None:
    root = draw_sequences(tmp_path)
    recipe = DataRecipe(kind="synthia", views=("Stereo_Left/Omni_F", "Stereo_Right/Omni_B"), crop=(64, 32))
    for split in ("train", "val"):
        problems = open_data(recipe, root, split, strict=False).problems
        assert [p.kind for p in problems] == ["missing view"] * 2
        assert "view Stereo_Right/Omni_B (it holds Stereo_Left/Omni_F, Stereo_Right/Omni_F)" in str(problems[0].error)
    with pytest.raises(MissingViewError, match=r"Omni_B.*and 1 more problem"):
        open_data(recipe, root, "train")


@pytest.mark.parametrize(
    ("kind", "wrong", "held"),
    [
        ("camvid", "0016E", "0001A"),
        ("cityscapes", "achen", "aachen, lindau, ulm"),
        ("synthia", "SEQS-5", "SYNTHIA-SEQS-05-SPRING, SYNTHIA-SEQS-06-FOG"),
        ("recordings", "nroth", "north, south"),
    ],
)
def test_a_name_to_exclude_that_is_not_there_is_refused(tmp_path: Path, kind: str, wrong: str, held: str) -> None:
    """A typing error would train on what validates."""
    if kind == "recordings":
        record(tmp_path / "train" / "north")
        record(tmp_path / "val" / "south")
    else:
        {"camvid": draw_camvid, "cityscapes": draw_cityscapes, "synthia": draw_sequences}[kind](tmp_path)
    recipe = DataRecipe.model_validate({"kind": kind, "exclude": [wrong], "crop": [64, 32]})
    with pytest.raises(UsageError, match=rf"data\.exclude names {wrong}, but .* holds {held}: name those"):
        open_data(recipe, tmp_path, "train")


def test_a_drive_of_camvid_may_be_excluded_from_a_copy_without_it(tmp_path: Path) -> None:
    recipe = load_recipe(SFlowRecipe, "camvid_lite").data
    assert recipe.exclude == ("0001TP",)
    assert len(open_data(recipe, draw_camvid(tmp_path), "train")) == 4


@pytest.mark.parametrize("kind", ["camvid", "cityscapes", "synthia", "recordings"])
def test_endings_in_any_case_are_read_and_hidden_files_are_not(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    if kind == "recordings":
        record(root / "train" / "north")
        (root / "train" / ".cache").mkdir()
    else:
        {"camvid": draw_camvid, "cityscapes": draw_cityscapes, "synthia": draw_sequences}[kind](root)
    recipe = DataRecipe.model_validate({"kind": kind, "crop": [64, 32]})
    whole = [photograph.name for photograph in open_data(recipe, root, "train")]
    if kind == "recordings":
        (root / "train" / "north" / "manifest.jsonl").unlink()  # it names the files
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        if number % 3:
            file.rename(file.with_suffix(".PNG" if number % 2 else ".Png"))
        file.with_name(f"._{file.name}").write_bytes(b"what macOS leaves")
    assert [photograph.name for photograph in open_data(recipe, root, "train")] == whole


@pytest.mark.parametrize("kind", ["camvid", "recordings"])
def test_a_share_that_is_nothing_is_named(tmp_path: Path, kind: str) -> None:
    if kind == "camvid":
        draw_camvid(tmp_path, train=1)
    else:
        record(tmp_path / "train", 1)
    recipe = DataRecipe.model_validate({"kind": kind, "share": "odd", "crop": [64, 32]})
    with pytest.raises(EmptySplitError, match=r"data\.share is 'odd', which is none of the 1 samples of .*train: set"):
        open_data(recipe, tmp_path, "train")


def test_resizing_is_the_live_bridges(cityscapes: Path) -> None:
    recipe = DataRecipe(kind="cityscapes", resize=(96, 32), crop=(64, 32))
    small, whole = open_data(recipe, cityscapes, "val")[0], Cityscapes(cityscapes, "val")[0]
    rgb, labels = fit_pair(whole.rgb, whole.labels, (96, 32))
    np.testing.assert_array_equal(small.rgb, rgb)
    np.testing.assert_array_equal(small.labels, labels)
    assert small.size == (96, 32) and set(np.unique(small.labels)) <= set(np.unique(whole.labels))
    assert "at 96x32" in open_data(recipe, cityscapes, "val").description


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "cityscapes", "val_share": 0.2}, "val_share is for synthia, cityscapes has a split of its own"),
        ({"resize": [96, 64], "crop": [128, 64]}, "is larger than the smallest picture"),
        ({"resize": [96, 64], "crop": [96, 64], "scale": [0.8, 1.2]}, r"smallest picture \(77, 51\)"),
        ({"scale": [1.5, 1.2], "crop": [64, 32]}, "the smaller factor comes first"),
        ({"resize": [0, 64]}, r"data\.resize\.0"),
        ({"val_share": 1.0, "kind": "synthia"}, r"data\.val_share"),
        ({"workers": -1}, r"data\.workers"),
        ({"colour": {"gain": 2}}, r"data\.colour\.gain"),
    ],
)
def test_data_keys_that_cannot_be_are_refused(recipe: Path, data: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe(SFlowRecipe, str(recipe), {"data": data})


def test_keys_that_segmenters_do_not_know_are_refused(tmp_path: Path) -> None:
    content = {"system": "segmenter", "name": "x", "arch": "unet-segmenter", "width": 4, "stages": [{"steps": 1}]}
    content["data"] = {"memory": "stream", "colour": {"gain": 0.1}}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=r"segmenters have colour_gain .* leave out data\.colour"):
        load_recipe(SegmenterRecipe, str(tmp_path / "x.yaml"))


def test_recordings_are_left_out_by_name(tmp_path: Path) -> None:
    record(tmp_path / "train" / "north")
    record(tmp_path / "train" / "south", 2)
    recipe = DataRecipe(kind="recordings", exclude=("north",), crop=(64, 32))
    assert len(open_data(recipe, tmp_path, "train")) == 2


# Real files


@pytest.fixture
def real_cityscapes(tmp_path: Path) -> Path:
    """The sample's labelled photographs, and its video as ``leftImg8bit_sequence``, in the layout of the downloads.

    The sample's video is JPEG; files are known by their content, not by their ending.
    """
    root = tmp_path / "real"
    source = SAMPLES / "cityscapes"
    for file in [*source.glob("leftImg8bit/train/*/*.png"), *source.glob("gtFine/*/*/*.png")]:
        link(file, root / file.relative_to(source))
    for video in sorted((SAMPLES / "cityscapes_seq_512x256").glob("seq*")):
        for frame in sorted((video / "leftImg8bit").glob("*.jpg")):
            link(frame, root / "leftImg8bit_sequence" / "train" / "aachen" / f"{frame.stem}_leftImg8bit.png")
    return root


def link(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.symlink_to(file)


@needs_cityscapes
def test_real_cityscapes_is_read(real_cityscapes: Path) -> None:
    recipe = DataRecipe(kind="cityscapes", resize=(512, 256), crop=(256, 128))
    data = open_data(recipe, real_cityscapes, "train")
    assert [p.name for p in data] == [f"aachen_{n:06d}_000019" for n in range(3)]
    shares = np.bincount(data[0].labels.ravel(), minlength=20) / data[0].labels.size
    assert data[0].size == (512, 256) and shares[data.classes.index("road")] > 0.2
    assert shares[data.void] < 0.2 and 20 < data[0].rgb.mean() < 200
    with pytest.raises(EmptySplitError, match="val holds no photographs with labels"):
        open_data(recipe, real_cityscapes, "val")


@needs_cityscapes
def test_real_instances_lie_within_their_classes(real_cityscapes: Path) -> None:
    data = Cityscapes(real_cityscapes, "train", instances=True)
    for photograph in data:
        assert photograph.instances is not None
        things = photograph.instances[photograph.instances >= 1000]
        assert len(np.unique(things)) > 5
        cars = photograph.labels[photograph.instances // 1000 == 26]
        assert cars.size and set(np.unique(cars)) == {data.classes.index("car")}


@needs_cityscapes
def test_real_video_frames_show_the_labelled_photograph(real_cityscapes: Path) -> None:
    data = Cityscapes(real_cityscapes, "train")
    clip = next(c for c in data.cut_clips(5, 1, "none") if c.frames[2].name == data[0].name)
    frames = [read_rgb(f.picture) for f in clip.frames]
    frames[2] = read_rgb(real_cityscapes / "leftImg8bit_sequence" / "train" / "aachen" / clip.frames[2].picture.name)
    small = cv2.resize(data[0].rgb, frames[2].shape[1::-1], interpolation=cv2.INTER_AREA)
    differences = [float(np.abs(small.astype(float) - frame).mean()) for frame in frames]
    assert int(np.argmin(differences)) == 2


@needs_cityscapes
def test_predicted_labels_of_the_real_video_train_as_cityscapes(tmp_path: Path) -> None:
    for video in sorted((SAMPLES / "cityscapes_seq_512x256").glob("seq*"))[:2]:
        split = "train" if video.name == "seq0000" else "val"
        for frame in sorted((video / "leftImg8bit").glob("*.jpg"))[:6]:
            link(frame, tmp_path / "leftImg8bit" / split / "aachen" / f"{frame.stem}_leftImg8bit.png")
            labels = tmp_path / "gtFine" / split / "aachen" / f"{frame.stem}_gtFine_labelIds.png"
            link(video / "labelIds_pred" / f"{frame.stem}.png", labels)
    for split in ("train", "val"):
        data = Cityscapes(tmp_path, split)
        photographs = list(data)
        assert len(photographs) == 6 and all(p.size == (512, 256) and p.stray == 0 for p in photographs)
