"""Data sets and recipes: what is wrong is named; samples stay aligned."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.bundles.files import find_bundle
from models.edges import EdgeSettings, LaplacianEdges
from sim_bridge.errors import ImageError, LabelError, SizeMismatchError, UsageError
from trainers.batches.degrade import degrade
from trainers.batches.sample import load_all, prepare
from trainers.batches.sampler import Sampler
from trainers.data.camvid import CamVid
from trainers.data.problems import MissingCounterpartError
from trainers.recipes.enhance import EnhanceRecipe
from trainers.recipes.enhance_paired import EnhancePairedRecipe
from trainers.recipes.read import RECIPES, load_recipe
from trainers.recipes.schema import EdgeAugmentation
from trainers.recipes.segmenter import SegmenterRecipe
from trainers.recipes.sflow import SFlowRecipe

SIGNED = LaplacianEdges(EdgeSettings(threshold=20, signed=True))
TWO_SCALES = LaplacianEdges(EdgeSettings(threshold=8, blur=1.0, coarse_blur=2.0, signed=True))


def test_shares_do_not_overlap_and_make_the_whole(camvid: Path) -> None:
    odd, even = (CamVid(camvid, "train", share=s).files for s in ("odd", "even"))
    assert not set(odd) & set(even)
    assert sorted([*odd, *even]) == CamVid(camvid, "train").files


def test_missing_labels_empty_split_and_foreign_ids_are_named(camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no photographs"):
        CamVid(tmp_path, "train")
    with pytest.raises(UsageError, match="holds no photographs"):
        CamVid(camvid, "train", exclude=("0001A",))
    labels = camvid / "trainannot" / "0001A_0001.png"
    cv2.imwrite(str(labels), np.full((64, 96), 40, np.uint8))
    with pytest.raises(
        LabelError,
        match=r"0001A_0001\.png: class id 40 is not in the taxonomy 'camvid'.*100\.00 %.*: correct the labels, or set",
    ):
        list(CamVid(camvid, "train"))
    cv2.imwrite(str(labels), np.zeros((32, 96), np.uint8))
    with pytest.raises(SizeMismatchError, match=r"annot.0001A_0001\.png is 96x32 and .*0001A_0001\.png is 96x64"):
        list(CamVid(camvid, "train"))
    labels.write_bytes(labels.read_bytes()[:60])
    with pytest.raises(ImageError):
        list(CamVid(camvid, "train"))
    labels.unlink()
    with pytest.raises(MissingCounterpartError, match=r"annot.0001A_0001\.png of the picture .* are missing"):
        CamVid(camvid, "train")


def test_crops_and_flips_keep_everything_aligned(camvid: Path) -> None:
    sample = prepare(next(iter(CamVid(camvid, "train"))), SIGNED)
    crop = sample.crop(8, 16, 32, 40, flip=True)
    assert (crop.rgb == sample.rgb[8:40, 16:56][:, ::-1]).all()
    assert (crop.labels == sample.labels[8:40, 16:56][:, ::-1]).all()
    assert (crop.edges == sample.edges[:, 8:40, 16:56][:, :, ::-1]).all()
    assert (crop.strength == sample.strength[:, 8:40, 16:56][:, :, ::-1]).all()


@pytest.mark.parametrize("operator", [SIGNED, TWO_SCALES])
def test_strength_says_what_the_operator_says(camvid: Path, operator: LaplacianEdges) -> None:
    sample = prepare(next(iter(CamVid(camvid, "train"))), operator)
    assert sample.edges.any(axis=(1, 2)).all()
    assert ((sample.strength > 1) == sample.edges[0::2]).mean() > 0.999
    assert ((sample.strength < -1) == sample.edges[1::2]).mean() > 0.999


@pytest.mark.parametrize("operator", [SIGNED, TWO_SCALES])
def test_degraded_edges_are_repeatable_different_and_signed(camvid: Path, operator: LaplacianEdges) -> None:
    sample = prepare(next(iter(CamVid(camvid, "train"))), operator)
    settings = EdgeAugmentation()
    maps = [degrade(sample, settings, 12, np.random.default_rng(seed)) for seed in (1, 1, 2, 3)]
    assert (maps[0] == maps[1]).all()
    assert (maps[0] != maps[2]).any() and (maps[2] != maps[3]).any()
    assert all(m.shape == sample.edges.shape and not (m[0] & m[1]).any() for m in maps)
    off = EdgeAugmentation(image_threshold=0, class_threshold=0, speck_share=0, bare_class=0, holes_share=0)
    same = degrade(sample, off, 12, np.random.default_rng(0))
    assert (same == sample.edges).mean() > 0.999


def test_unlabelled_borders_stay_void(camvid: Path) -> None:
    sample = next(iter(CamVid(camvid, "train")))
    assert set(np.unique(sample.labels)) == {0, 1, 3, 8, 11}
    assert torch.from_numpy(sample.labels).dtype == torch.uint8


def test_sampled_windows_lie_inside_the_crop_and_move(camvid: Path, recipe: Path) -> None:
    resolved = load_recipe(SFlowRecipe, str(recipe))
    sampler = Sampler(load_all(CamVid(camvid, "train"), SIGNED), resolved, 12)
    windows = {(rows.start, columns.start) for rows, columns in (sampler.loss_window(32, 64) for _ in range(50))}
    assert len(windows) > 20 and max(windows) <= (16, 16) and min(windows) >= (0, 0)
    batch = sampler.draw()
    assert batch.x.shape == (2, 3, 32, 64) and batch.e.shape == batch.e_degraded.shape == (2, 2, 32, 64)
    assert batch.s.dtype == torch.uint8 and batch.x.min() >= -1 and batch.x.max() <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"crop": [100, 64]}}, "multiples of 32"),
        ({"extensions": {"loss_window": [128, 16]}}, "loss_window"),
        ({"extensions": {"loss_window": [44, 16]}}, "loss_window"),
        (
            {"stages": [{"steps": 1, "generator_sees": "dned", "lr": 1, "weights": {"feature_matching": 1}}]},
            "without gan",
        ),
    ],
)
def test_recipes_that_cannot_train_are_refused(recipe: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe(SFlowRecipe, str(recipe), changes)


def test_bundles_of_shipped_recipes_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (RECIPES / f"{name}_lite.yaml" for name in ("camvid", "toytown")):
        name = load_recipe(SFlowRecipe, path.stem).perceptual_bundle
        assert name is not None and find_bundle(name).is_dir()


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*.yaml")))
def test_shipped_recipes_are_valid(name: str) -> None:
    kind = EnhanceRecipe if name.startswith("enhance") else SFlowRecipe
    if name.endswith("_enhance"):
        kind = EnhancePairedRecipe
    if name.endswith(("_features", "_judge")):
        kind = SegmenterRecipe
    assert load_recipe(kind, name).name.replace("-", "_") == name


def test_judge_and_features_share_neither_network_nor_frames() -> None:
    features, judge = (load_recipe(SegmenterRecipe, f"camvid_{n}") for n in ("features", "judge"))
    assert features.arch != judge.arch and features.seed != judge.seed
    assert {features.data.share, judge.data.share} == {"odd", "even"}


def test_wrong_recipes_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither a file nor a known recipe \(.*camvid_lite"):
        load_recipe(SFlowRecipe, "no_such")
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "system: sflow\nname: x\nstages: [{name: a, steps: 0, generator_sees: laplacian, lr: 1, weights: {}}]\n"
    )
    with pytest.raises(UsageError, match=r"stages\.0\.steps"):
        load_recipe(SFlowRecipe, str(broken))
    broken.write_text("name: [\n")
    with pytest.raises(UsageError, match="is not YAML"):
        load_recipe(SFlowRecipe, str(broken))
    broken.write_text("just text\n")
    with pytest.raises(UsageError, match="not a mapping"):
        load_recipe(SFlowRecipe, str(broken))
