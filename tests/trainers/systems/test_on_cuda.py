"""Every system's training step on fake CUDA tensors: the host never waits for the GPU."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.fake_cuda import fake_cuda, host_copies, on_cuda
from tests.trainers.recipe_files import changed_recipe
from tests.trainers.systems.test_enhance import draw_renders
from trainers.batches.make import Batch
from trainers.data.camvid import CAMVID_CLASSES, WITH_ROAD_LINES
from trainers.recipes.enhance import EnhanceRecipe
from trainers.recipes.enhance_paired import EnhancePairedRecipe
from trainers.recipes.read import load_recipe, set_keys
from trainers.recipes.segmenter import SegmenterRecipe
from trainers.recipes.sflow import SFlowRecipe
from trainers.systems import system_names
from trainers.systems.base import MicroBatch, System
from trainers.systems.enhance import Enhance
from trainers.systems.enhance_paired import EnhancePaired
from trainers.systems.segmenter import SegmenterSystem
from trainers.systems.sflow import SFlow

SIDE = 64
SFLOW: dict[str, dict[str, Any]] = {
    "tiny": {},
    "plain": {"perceptual_blur": False, "style_input": False, "style_relight": False, "loss_window": None},
    "half_chroma": {"half_chroma": True},
    "hints": {"hints": {"classes": ["sky", "road"]}},
    "every hint": {"hints": {"classes": "all", "keep_hues": True, "jitter": 0.1, "dropout": 0.1}},
    "bf16": {"precision": "bf16"},
    "hinge": {"adversarial": "hinge"},
    "vanilla": {"adversarial": "vanilla"},
    "instance edges": {
        "data": {"kind": "cityscapes", "crop": [64, 32]},
        "discriminator": {"width": 8, "sees_edges": True, "sees_instance_edges": True},
    },
}
SEGMENTER_RECIPES = ("camvid_features", "camvid_judge", "toytown_features", "toytown_judge")


def step_copies(system: System[Any], planes: int, prepared: Mapping[str, Any] | None = None) -> list[str]:
    """Lines that make the host wait in one step of every stage: draw (unless ``prepared``), forward and losses."""
    with fake_cuda():
        modules = [*system.networks.values(), *(m for m in vars(system).values() if isinstance(m, nn.Module))]
        for module in dict.fromkeys(modules):
            on_cuda(module.train())
        system.device = torch.device("cuda")
        for name, value in vars(system).items():
            if isinstance(value, torch.Tensor):
                setattr(system, name, torch.empty_like(value, device="cuda"))
        picture, plane = torch.zeros(2, 3, SIDE, SIDE), torch.zeros(2, 1, SIDE, SIDE)
        x = picture.cuda().contiguous(memory_format=torch.channels_last)
        labels, edges = plane[:, 0].to(torch.uint8).cuda(), plane.expand(-1, planes, -1, -1).cuda()
        labelled, flow = torch.ones(2, 1, dtype=torch.bool).cuda(), torch.zeros(2, 0, 2, SIDE, SIDE).cuda()
        batch = Batch(x, labels, edges, edges, x, plane.cuda(), labelled, flow)

        def step(stage: Any) -> None:
            drawn = system.draw(2) if prepared is None else prepared
            micro = MicroBatch(batch, (slice(0, 32), slice(16, 48)), drawn)
            made = system.forward(micro, stage)
            for player in system.players:
                terms = system.losses(player.name, made, micro, stage)
                if terms:
                    torch.stack([t.weight * t.value for t in terms]).sum()

        return [line for stage in system.recipe.stages for line in host_copies(partial(step, stage), pinned=True)]


@pytest.mark.parametrize("changes", SFLOW.values(), ids=SFLOW)
def test_no_phase_or_extension_of_sflow_waits(recipe: Path, changes: dict[str, Any]) -> None:
    read = load_recipe(SFlowRecipe, str(changed_recipe(recipe, changes)))
    system = SFlow(read, CAMVID_CLASSES, torch.device("cpu"))
    assert step_copies(system, read.edge.planes) == []


@pytest.mark.parametrize("name", SEGMENTER_RECIPES)
def test_no_segmenter_waits(name: str) -> None:
    read = set_keys(SegmenterRecipe, name, ["width=8"])
    system = SegmenterSystem(read, CAMVID_CLASSES, torch.device("cpu"))
    system.class_weights = torch.ones(len(CAMVID_CLASSES))
    assert step_copies(system, 1) == []


@pytest.mark.parametrize("changes", [(), ("precision=fp32",)], ids=["bf16", "fp32"])
def test_no_enhancer_waits(changes: Sequence[str], tmp_path: Path) -> None:
    """Its prepare() needs the labels' values, and gets them while they are on the host."""
    renders = draw_renders(tmp_path / "renders")
    keys = ("data.crop=[64,64]", "render_scale=[1,1]", "patch_width=8", f"renders=['{renders}']", *changes)
    read = set_keys(EnhanceRecipe, "enhance_lite", keys)
    system = Enhance(read, WITH_ROAD_LINES, torch.device("cpu"))
    system._read()
    picture, labels = torch.zeros(2, 3, SIDE, SIDE), torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    plane, labelled, flow = picture[:, :1], torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 0, 2, SIDE, SIDE)
    batch = Batch(picture, labels, plane, plane, picture, plane, labelled, flow)
    assert step_copies(system, 1, system.prepare(batch, system.draw(2))) == []


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_no_paired_enhancer_waits(precision: str) -> None:
    read = set_keys(EnhancePairedRecipe, "toytown_enhance", ["patch_width=8", f"precision={precision}"])
    system = EnhancePaired(read, CAMVID_CLASSES, torch.device("cpu"))
    assert step_copies(system, 1) == []


def test_every_shipped_system_is_tested_here() -> None:
    assert system_names() == {"enhance", "enhance_paired", "segmenter", "sflow"}
