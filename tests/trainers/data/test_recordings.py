"""Recordings as training data: pairs stay aligned, labels are mapped by name, what is missing is named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundles.files import load_bundle
from models.edges import EdgeSettings, LaplacianEdges
from sim_bridge.errors import LabelError, SizeMismatchError, UsageError
from sim_bridge.pixels.images import write_png
from sim_bridge.recordings.read import Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter
from trainers.batches.sample import load_all
from trainers.batches.sampler import Sampler
from trainers.data.open import open_data
from trainers.data.recordings import STREET_CLASSES, Recordings
from trainers.loop.begin import begin
from trainers.loop.run_folder import RunFolder
from trainers.recipes.read import load_recipe
from trainers.recipes.schema import DataRecipe
from trainers.recipes.segmenter import SegmenterRecipe
from trainers.recipes.sflow import SFlowRecipe
from trainers.scores.evaluate import validation_photographs
from trainers.scores.export import score_bundle
from trainers.scores.metrics import psnr

TOYTOWN = ROAD, CAR, ROAD_LINE, BRIDGE = 7, 26, 34, 15
"""Its class ids."""
WIDTH, HEIGHT = 96, 64


def record(
    root: Path,
    frames: int = 3,
    *,
    photo: bool = True,
    taxonomy: str = "toytown",
    ids: tuple[int, int, int, int] = TOYTOWN,
) -> Path:
    """A grey CG scene with a car, and its photograph, which has a texture of its own."""
    rng = np.random.default_rng(1)
    road, car, road_line, bridge = ids
    folders = [Folder.RGB, Folder.SEMANTIC, *([Folder.PHOTO] if photo else [])]
    with RecordingWriter(root, RecordingInfo(taxonomy=taxonomy, licence="CC0-1.0")) as writer:
        for number in range(frames):
            labels = np.full((HEIGHT, WIDTH), road, np.uint8)
            labels[20:40, 10 + number : 40 + number] = car
            labels[50:54] = road_line
            labels[:2] = bridge
            rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            rgb[labels == car] = (10, 20, 200)
            images = {Folder.RGB: rgb, Folder.SEMANTIC: labels}
            images[Folder.PHOTO] = (rgb + rng.integers(0, 40, rgb.shape)).astype(np.uint8)
            files = {f: writer.write_image("camera", f, number, images[f]) for f in folders}
            writer.add(RecordedFrame("camera", number, number / 10, None, files))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    record(tmp_path / "train" / "north")
    record(tmp_path / "train" / "south", 2)
    record(tmp_path / "val")
    return tmp_path


def test_all_recordings_of_a_split_are_read_and_labels_mapped_by_name(root: Path) -> None:
    data = open_data(DataRecipe(kind="recordings"), root, "train")
    assert len(data) == 5 and data.licence == "CC0-1.0"
    photograph = data[0]
    assert photograph.render is None and photograph.shown_rgb is photograph.rgb
    assert photograph.labels[45, 5] == STREET_CLASSES.index("road")
    assert photograph.labels[30, 20] == STREET_CLASSES.index("car")
    assert photograph.labels[51, 5] == STREET_CLASSES.index("road line")
    assert photograph.labels[0, 0] in (data.void, STREET_CLASSES.index("building"))
    assert [p.name for p in data[3:]] == ["000000", "000001"]
    with pytest.raises(IndexError):
        data[5]


def test_shares_do_not_overlap(root: Path) -> None:
    odd, even = (Recordings(root, "train", share=share) for share in ("odd", "even"))
    assert (len(odd), len(even)) == (2, 3)


def test_the_render_gives_the_shown_edges_and_the_photograph_the_target(root: Path) -> None:
    operator = LaplacianEdges(EdgeSettings(threshold=20, signed=True))
    recipe = DataRecipe(kind="recordings", edges_from="render", crop=(64, 32))
    (sample, *_) = load_all(open_data(recipe, root, "train"), operator)
    photo = Recordings(root, "train")[0]
    render = Recordings(root, "train", renders=True)[0].shown_rgb
    np.testing.assert_array_equal(sample.rgb, photo.rgb)
    np.testing.assert_array_equal(sample.edges, operator(torch.from_numpy(photo.rgb)[None])[0].numpy())
    np.testing.assert_array_equal(sample.shown, operator(torch.from_numpy(render)[None])[0].numpy())
    assert sample.shown.mean() < sample.edges.mean() / 2  # a flat render has fewer edges than a grained photograph

    stage = {"name": "a", "steps": 1, "generator_sees": "laplacian", "lr": 1e-3, "weights": {}}
    edge = operator.settings.as_dict()
    resolved = SFlowRecipe.model_validate({"name": "a", "data": recipe.model_dump(), "edge": edge, "stages": [stage]})
    batch = Sampler([sample], resolved, len(STREET_CLASSES)).draw()
    assert batch.e_degraded.mean() < batch.e.mean() / 2


def test_recordings_without_photographs_are_their_own_target(tmp_path: Path) -> None:
    record(tmp_path / "train", photo=False)
    data = Recordings(tmp_path, "train")
    assert tuple(data[0].rgb[30, 20]) == (10, 20, 200)
    with pytest.raises(UsageError, match="edges of renders need photographs"):
        Recordings(tmp_path, "train", renders=True)


def test_what_is_missing_or_wrong_is_named(root: Path) -> None:
    with pytest.raises(UsageError, match="test holds no recording"):
        Recordings(root, "test")
    (root / "train" / "south" / "semantic" / "000001.png").unlink()
    with pytest.raises(Exception, match=r"semantic.000001\.png"):
        list(Recordings(root, "train"))
    write_png(root / "val" / "photo" / "000001.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SizeMismatchError, match=r"photo.000001\.png is 8x8 and .*000001\.png is 96x64"):
        list(Recordings(root, "val"))
    write_png(root / "val" / "semantic" / "000000.png", np.full((HEIGHT, WIDTH), 99, np.uint8))
    with pytest.raises(LabelError, match=r"000000\.png: .*99"):
        list(Recordings(root, "val"))


def test_recordings_that_do_not_say_what_their_ids_mean_are_problems_beside_the_others(root: Path) -> None:
    (root / "train" / "north" / "recording.json").write_text("{}")
    (root / "train" / "south" / "photo" / "000000.png").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"north does not say what its label ids mean: write its taxonomy into rec"):
        Recordings(root, "train")
    lenient = Recordings(root, "train", strict=False)
    assert [p.file.parent.name for p in lenient.problems] == ["north"] and len(lenient) == 2
    (root / "train" / "north" / "recording.json").write_text('{"taxonomy": "mytown"}')
    with pytest.raises(UsageError, match=r"the labels of the recording .*north: the taxonomy 'mytown' is unknown"):
        Recordings(root, "train")
    (root / "train" / "north" / "recording.json").write_text("{")
    assert "is broken" in str(Recordings(root, "train", strict=False).problems[0].error)


def test_photographs_without_renders_belong_into_rgb(root: Path) -> None:
    (root / "val" / "rgb" / "000000.png").unlink()
    (root / "val" / "manifest.jsonl").unlink()
    with pytest.raises(UsageError, match="has no rgb image beside it: photographs that have no renders go into rgb"):
        Recordings(root, "val")


def test_captures_of_carla_train_by_their_own_labels(tmp_path: Path) -> None:
    record(tmp_path / "train", photo=False, taxonomy="carla-0.9.14", ids=(1, 14, 24, 26))
    photograph = Recordings(tmp_path, "train")[0]
    for (row, column), name in {(45, 5): "road", (30, 20): "car", (51, 5): "road line"}.items():
        assert photograph.labels[row, column] == STREET_CLASSES.index(name)


def test_photographs_for_some_frames_only_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "train" / "a")
    record(tmp_path / "train" / "b", photo=False)
    with pytest.raises(UsageError, match=r"3 of 6 frames in .*train have a photo"):
        Recordings(tmp_path, "train")


def test_renders_are_refused_where_there_are_none(recipe: Path) -> None:
    with pytest.raises(UsageError, match="needs recordings, camvid holds photographs alone"):
        load_recipe(SFlowRecipe, str(recipe), {"data": {"edges_from": "render", "crop": [64, 32]}})


def test_a_segmenter_learns_from_recordings_under_their_licence(root: Path, tmp_path: Path) -> None:
    recipe = SegmenterRecipe.model_validate(
        {
            "name": "x",
            "data": {"kind": "recordings", "crop": [64, 32]},
            "arch": "unet-segmenter",
            "width": 4,
            "stages": [{"steps": 2}],
        }
    )
    assert begin(recipe, root, RunFolder(tmp_path / "run", resume=False), "none")
    card = load_bundle(tmp_path / "run" / "bundle").card
    assert card.licence_weights == "CC0-1.0" and card.classes == list(STREET_CLASSES)
    assert card.data.startswith("recordings") and "photo images" in card.data


def test_a_bundle_is_scored_on_the_edges_that_are_asked_for(root: Path) -> None:
    as_trained = score_bundle("toytown-lite", root, None, [0], 1)
    renders = score_bundle("toytown-lite", root, None, [0], 1, "render")
    photographs = score_bundle("toytown-lite", root, None, [0], 1, "photograph")
    assert as_trained == renders
    assert photographs["seed_0"]["psnr"] != renders["seed_0"]["psnr"] and "render" not in photographs
    with pytest.raises(UsageError, match="camvid-lite was trained on photographs alone"):
        score_bundle("camvid-lite", root, None, [0], 1, "render")


def test_renders_are_scored_beside_what_is_made_of_them(root: Path) -> None:
    scored = score_bundle("toytown-lite", root, "toytown-judge", [0], 1)
    render, made = scored["render"], scored["seed_0"]
    recipe = DataRecipe.model_validate({"kind": "recordings", "edges_from": "render"})
    pairs = validation_photographs(open_data(recipe, root, "val"), 1)
    assert render["psnr"] == pytest.approx(np.mean([psnr(p.shown_rgb, p.rgb) for p in pairs]), abs=1e-4)
    assert render["style_seed"] is None and made["style_seed"] == 0
    assert render["psnr"] != made["psnr"] and render["frechet"] != made["frechet"] > 0
    same = ("pictures", "photograph_pxy", "photograph_judge_mean_iou", "photograph_frechet")
    assert [render[name] for name in same] == [made[name] for name in same]
