"""The paper's recipes: the objective of eq. 7 and nothing else, and the one network that must not be random is not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.edges import EdgeSettings, LaplacianEdges
from models.losses.adversarial import VanillaGAN
from models.nets.dned import SIDES
from sim_bridge.errors import UsageError
from tests.models.published_file import write_vgg19
from tests.trainers.recipe_files import one_step
from trainers.batches.sample import load_all
from trainers.data.camvid import CamVid
from trainers.loop.loop import train
from trainers.loop.run_folder import RunFolder
from trainers.loop.training import Training
from trainers.recipes.read import RECIPES, load_recipe
from trainers.recipes.segmenter import SegmenterRecipe
from trainers.recipes.sflow import Extensions, LossWeights, SFlowRecipe
from trainers.systems.base import Term

PAPER = sorted(p.stem for p in RECIPES.glob("paper_*.yaml") if not p.stem.endswith("_judge"))
TINY_DATA = {"kind": "camvid", "crop": [64, 32]}
PAPER_TERMS = {"gan", "feature_matching", "perceptual", "dned"}


@pytest.fixture(scope="module")
def vgg19_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vgg19(tmp_path_factory.mktemp("vgg") / "mine.pth")


pytestmark = pytest.mark.usefixtures("one_thread")


def paper(name: str, **changes: Any) -> SFlowRecipe:
    """A paper's recipe on other data: of Cityscapes there is nothing here."""
    return load_recipe(SFlowRecipe, name, {"data": TINY_DATA} | changes)


def tiny_trainer(camvid: Path, run: Path, recipe: SFlowRecipe) -> Training:
    data = CamVid(camvid, "train")
    return Training(recipe, load_all(data, LaplacianEdges(recipe.edge)), data.classes, RunFolder(run, resume=False))


def test_both_sizes_of_the_paper_have_a_recipe() -> None:
    assert PAPER == ["paper_cityscapes_512x256", "paper_cityscapes_768x384"]


@pytest.mark.parametrize("name", PAPER)
def test_every_extension_is_off(name: str) -> None:
    recipe = paper(name)
    assert recipe.extensions == Extensions()
    assert recipe.edge == EdgeSettings(threshold=recipe.edge.threshold)  # the plain Laplacian, one plane, no blur
    assert not (recipe.discriminator.sees_edges or recipe.discriminator.sees_instance_edges)
    assert not recipe.discriminator.spectral_norm
    assert recipe.ema == 0 and recipe.warmup == 0 and recipe.clip is not None and recipe.clip >= 1e9
    raw = load_recipe(SFlowRecipe, name)
    assert raw.uses_dned and raw.accumulate == 1
    assert not raw.data.road_lines and raw.data.colour is None and raw.data.scale is None
    for stage in recipe.stages:
        weighed = {k for k, v in stage.weights.model_dump().items() if v}
        assert weighed == PAPER_TERMS, stage.name
    assert set(LossWeights.model_fields) - PAPER_TERMS == {"dned_fused", "pixel", "chroma", "tone"}


@pytest.mark.parametrize("name", PAPER)
def test_what_the_paper_says_is_set(name: str) -> None:
    recipe = paper(name)
    assert [s.generator_sees for s in recipe.stages] == ["laplacian", "dned_detached", "dned"]  # section 3.2
    assert recipe.adversarial == "vanilla" and recipe.perceptual == "vgg19"
    assert (recipe.discriminator.arch, recipe.discriminator.scales) == ("patch70", 1)
    assert recipe.betas == (0.5, 0.999) and (recipe.decay_from, recipe.decay_to) == (0.5, 0)
    assert {(s.lr, s.lr_discriminator) for s in recipe.stages} == {(2e-4, 2e-4)}
    assert len(recipe.dned_side_weights) == SIDES


@pytest.mark.parametrize("scales", [1, 3])
def test_the_total_is_eq_7(camvid: Path, tmp_path: Path, vgg19_file: Path, scales: int) -> None:
    discriminator = {"arch": "patch70", "width": 4, "normalisation": "instance", "scales": scales}
    recipe = paper(
        PAPER[0], tier="lite", perceptual_weights=str(vgg19_file), batch=2, discriminator=discriminator,
        dned_side_weights=[1, 1, 0.5, 0.5, 0.25, 2],
    )  # fmt: skip
    run = tiny_trainer(camvid, tmp_path / "run", recipe)
    assert isinstance(run.system.L_GAN, VanillaGAN) and run.system.L_DNED.a == (1, 1, 0.5, 0.5, 0.25, 2)
    terms = losses_of_a_step(run)
    w = recipe.stages[-1].weights
    lambda_1, lambda_2, lambda_3 = w.feature_matching, w.perceptual, w.dned
    expected = terms["g"] + lambda_1 * terms["fm"] + lambda_2 * terms["perceptual"] + lambda_3 * terms["dned"]
    assert terms["total"] == pytest.approx(expected, rel=1e-5)
    assert all(terms[name] > 0 for name in ("g", "d", "fm", "perceptual", "dned"))


def losses_of_a_step(run: Training) -> dict[str, float]:
    """By name, as they are reported, and the ``total`` that G differentiates; of one step of the last stage."""
    found: dict[str, float] = {}
    losses = run.system.losses

    def noting(player: str, *arguments: Any) -> list[Term]:
        terms: list[Term] = losses(player, *arguments)
        found.update({t.name: t.value.item() for t in terms})
        if player == "g":
            found["total"] = sum(t.weight * t.value.item() for t in terms)
        return terms

    run.system.losses = noting  # type: ignore[method-assign]
    one_step(run, run.recipe.stages[-1])
    return found


def test_it_trains_through_its_phases(camvid: Path, tmp_path: Path, vgg19_file: Path) -> None:
    stages = [s.model_dump() | {"steps": 2} for s in paper(PAPER[0]).stages]
    recipe = paper(PAPER[0], tier="lite", stages=stages, perceptual_weights=str(vgg19_file), report_every=1)
    run = tiny_trainer(camvid, tmp_path / "run", recipe)
    before = {k: v.clone() for k, v in run.network.state_dict().items()}
    assert train(run) and run.step == 6
    after = run.network.state_dict()
    assert all(torch.isfinite(v).all() for v in after.values())
    learned = [k for k in after if not torch.equal(after[k], before[k])]
    assert any(k.startswith("generator.") for k in learned) and any(k.startswith("dned.") for k in learned)
    # The objective alone gives the ensemble's weights no gradient: all sides go on weighing the same.
    assert torch.equal(after["dned.ensemble_logits"], torch.zeros(SIDES))
    # No average of weights is kept: what is exported is what was trained.
    assert all(torch.equal(v, after[k]) for k, v in run.average.state_dict().items())


@pytest.mark.usefixtures("hub")
def test_without_published_weights_it_does_not_begin(camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"published weights vgg19-dcbb9e9d\.pth are not in .*hub.* cannot be fetched"):
        tiny_trainer(camvid, tmp_path / "run", paper(PAPER[0], tier="lite"))


def test_the_papers_judge_is_a_pspnet_on_a_published_backbone() -> None:
    judge = load_recipe(SegmenterRecipe, "paper_cityscapes_judge", {"data": TINY_DATA})
    assert judge.arch == "pspnet-segmenter" and judge.backbone == "resnet50"
