"""A drawn data set, a tiny perceptual bundle, and a recipe of a few steps."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from models.bundles.files import Card, save_bundle
from models.nets.segmenter import UNetSegmenter
from tests.trainers.camvid_tree import draw_camvid
from tests.trainers.command_line import CommandLine
from trainers.data.camvid import CAMVID_CLASSES


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    return draw_camvid(tmp_path / "camvid")


@pytest.fixture
def features(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = UNetSegmenter(len(CAMVID_CLASSES), 4).eval()
    card = Card(
        arch="unet-segmenter", args=network.args, classes=list(CAMVID_CLASSES), size=[32, 32], data="none",
        command="none", steps=1, licence_weights="CC0-1.0", licence_data="none",
    )  # fmt: skip
    save_bundle(tmp_path / "features", network, card)
    return tmp_path / "features"


@pytest.fixture
def recipe(tmp_path: Path, features: Path) -> Path:
    weights = {"gan": 1, "feature_matching": 2.5, "perceptual": 2, "pixel": 1, "dned": 0.2, "dned_fused": 2}
    stages = [
        {
            "name": "pretrain",
            "steps": 2,
            "generator_sees": "laplacian",
            "lr": 1e-3,
            "weights": {"pixel": 10, "dned": 0.2},
        },
        {"name": "phase2", "steps": 2, "generator_sees": "dned_detached", "lr": 3e-4, "weights": weights},
        {"name": "phase3", "steps": 2, "generator_sees": "dned", "lr": 3e-4, "weights": weights},
    ]
    extensions = {
        "edge_augmentation": {}, "loss_window": [48, 16], "style_input": True, "style_relight": True,
        "perceptual_blur": True, "perceptual_normalise": True,
    }  # fmt: skip
    content: dict[str, Any] = {
        "system": "sflow", "name": "tiny", "data": {"crop": [64, 32]}, "edge": {"threshold": 20.0, "signed": True},
        "perceptual_bundle": str(features), "batch": 2, "stages": stages, "extensions": extensions,
        "discriminator": {"width": 8, "sees_edges": True},
        "sample_every": 100, "checkpoint_every": 100, "report_every": 1, "precision": "fp32",
    }  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)
