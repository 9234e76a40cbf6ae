"""What camvid-lite must hold on CamVid's validation photographs. Needs the sample data: SIM_BRIDGE_DATA."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.bundles.files import load_bundle
from models.nets.sflow import SFlowNetwork
from sim_bridge.frames import ByteArray
from sim_bridge.translators.device import has_bf16
from trainers.data.dataset import DataSet
from trainers.data.open import open_data
from trainers.data.photograph import Photograph
from trainers.recipes.schema import DataRecipe
from trainers.scores.evaluate import Scorer, style_differences, validation_photographs
from trainers.systems.segmentation import Judge
from trainers.systems.sflow import generate

DATA = os.environ.get("SIM_BRIDGE_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="SIM_BRIDGE_DATA does not name the sample data (CamVid photographs)")

SEEDS = (0, 1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def network() -> SFlowNetwork:
    """In bf16, as the bridge runs it where the processor has it."""
    dtype = torch.bfloat16 if has_bf16(torch.device("cpu")) else torch.float32
    return load_bundle("camvid-lite").sflow.to(memory_format=torch.channels_last).to(dtype)


@pytest.fixture(scope="module")
def data() -> DataSet:
    """As it was trained with: with road markings as a class."""
    assert DATA is not None
    recipe = DataRecipe.model_validate(load_bundle("camvid-lite").card.recipe["data"])
    return open_data(recipe, Path(DATA) / "camvid", "val")


@pytest.fixture(scope="module")
def photographs(data: DataSet) -> list[Photograph]:
    return validation_photographs(data, every=5)


@pytest.fixture(scope="module")
def by_seed(network: SFlowNetwork, photographs: list[Photograph]) -> dict[int, list[ByteArray]]:
    return {seed: generate(network, photographs, seed) for seed in SEEDS}


@pytest.fixture(scope="module")
def scores(
    by_seed: dict[int, list[ByteArray]], photographs: list[Photograph], data: DataSet
) -> dict[int, dict[str, Any]]:
    scorer = Scorer(photographs, data.classes, Judge.load("camvid-judge"))
    return {seed: scorer.score(pictures, seed) for seed, pictures in by_seed.items()}


def test_no_grid_of_period_two(scores: dict[int, dict[str, Any]]) -> None:
    assert all(s["pxy"] <= 0.5 for s in scores.values())


def test_sharp_and_readable(scores: dict[int, dict[str, Any]]) -> None:
    learned = scores[0]
    assert learned["judge_ratio"] >= 0.85
    assert learned["sharpness"] >= 0.6
    assert learned["judge_mean_iou"] >= 0.9 * learned["photograph_judge_mean_iou"]


def test_readable_without_hints(network: SFlowNetwork, photographs: list[Photograph], data: DataSet) -> None:
    """With hints it is told the photograph's own colours; without, it must be read as well."""
    scorer = Scorer(photographs, data.classes, Judge.load("camvid-judge"))
    score = scorer.score(generate(network, photographs, hints=False))
    assert score["judge_mean_iou"] >= 0.9 * score["photograph_judge_mean_iou"]
    assert score["sharpness"] >= 0.6


def test_style_seeds_differ_visibly_and_stay_readable(
    by_seed: dict[int, list[ByteArray]], scores: dict[int, dict[str, Any]]
) -> None:
    assert style_differences(by_seed) >= 3
    base = scores[0]["judge_accuracy"]
    for seed in SEEDS[1:]:
        accuracy = scores[seed]["judge_accuracy"]
        assert abs(accuracy - base) <= 0.02, f"seed {seed}: {accuracy:.3f} against {base:.3f}"


def test_same_seed_twice_is_the_same_picture(
    network: SFlowNetwork, photographs: list[Photograph], by_seed: dict[int, list[ByteArray]]
) -> None:
    again = generate(network, photographs[:2], 3)
    assert all(np.array_equal(a, b) for a, b in zip(again, by_seed[3], strict=False))


def test_card_says_what_it_must() -> None:
    card = load_bundle("camvid-lite").card
    assert card.licence_weights == "CC-BY-NC-4.0"
    assert card.metrics["seed_0"]["judge_ratio"] >= 0.85
    assert len(card.ensemble) == 6 and abs(sum(card.ensemble) - 1) < 1e-3
