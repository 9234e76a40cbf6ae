"""The translator of an enhancer's bundle: the render at strength 0, looks and seeds, and the whole bridge."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.bundles.files import Card, save_bundle
from models.nets.enhance import EnhanceNetwork
from sim_bridge.errors import TranslatorError, UsageError
from sim_bridge.frames import Style
from sim_bridge.translators import Translator
from sim_bridge.translators.load import load_translator
from sim_bridge.translators.styles import check_style, read_style
from tests.sim_bridge.bridge_helpers import Simulator, make_pair, streaming
from tests.sim_bridge.translators.shots import translate

CLASSES = ["road", "sky", "car", "unlabeled"]
pytestmark = pytest.mark.usefixtures("one_thread")


def make_bundle(folder: Path, looks: int | list[str] = 1, classes: list[str] = CLASSES) -> Path:
    """As after a training: nothing is zero any more."""
    torch.manual_seed(0)
    network = EnhanceNetwork("lite", len(classes), looks).eval()
    with torch.no_grad():
        network.gains.weight.normal_(std=3)
        network.grades[:, :, :2] *= torch.linspace(0.9, 1.1, network.looks)[:, None, None]
    card = Card(
        arch="enhance", args=network.args, classes=classes, size=[64, 32], data="none", command="none", steps=1,
        licence_weights="CC0-1.0", licence_data="none",
    )  # fmt: skip
    save_bundle(folder, network, card)
    return folder


def load(bundle: Path, precision: str = "fp32") -> Translator:
    return load_translator(SimpleNamespace(bundle=str(bundle), device="cpu", precision=precision))


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (2, 37, 50, 3), np.uint8)
    rgb.flags.writeable = False  # as a received frame is
    return rgb, np.repeat(rng.integers(0, 4, (2, 37, 10), np.uint8), 5, 2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_strength_goes_from_the_render_to_the_picture(
    tmp_path: Path, scene: tuple[np.ndarray, np.ndarray], precision: str
) -> None:
    translator = load(make_bundle(tmp_path / "mine"), precision)
    none, half, whole = (
        translate(translator, *scene, check_style(translator.styles, {"strength": s})).rgb.astype(int)
        for s in (0, 0.5, 1)
    )
    assert np.array_equal(none, scene[0])
    assert np.abs(whole - none).mean() > 2
    inside = (whole > 0) & (whole < 255)  # beyond, pixels are clamped
    assert np.abs(half - (whole + none) / 2)[inside].max() <= 1.5
    assert np.array_equal(whole, translate(translator, *scene, Style()).rgb)
    assert [control.name for control in translator.styles] == ["strength", "seed"]
    assert translator.classes == tuple(CLASSES) and translator.facts["precision"] == precision


def test_seeds_and_looks_differ_and_a_picture_is_the_same_alone_and_in_a_batch(
    tmp_path: Path, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    translator = load(make_bundle(tmp_path / "mine", ["grey", "warm"]))
    translator.warm_up([(50, 37)], 2)

    def made(**values: object) -> np.ndarray:
        return translate(translator, *scene, check_style(translator.styles, values)).rgb

    grey, warm, seeded = made(), made(look="warm"), made(seed=7)
    assert not np.array_equal(grey, warm) and not np.array_equal(grey, seeded)
    assert np.array_equal(made(look="grey"), grey) and np.array_equal(made(mix=[3.0, 0.0]), grey)
    assert np.array_equal(made(mix=[0, 1], look="grey"), warm)  # shares override the choice
    alone = translate(translator, scene[0][1:], scene[1][1:], Style()).rgb
    assert np.abs(alone[0].astype(int) - grey[1]).max() <= 1
    with pytest.raises(UsageError, match="give one of grey, warm"):
        read_style(translator.styles, {"look": "blue"})
    with pytest.raises(UsageError, match="a number from 0 to 1"):
        read_style(translator.styles, {"strength": "1.5"})


def test_an_id_that_is_no_class_and_a_bundle_of_another_kind_are_refused(
    tmp_path: Path, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    translator = load(make_bundle(tmp_path / "mine"))
    with pytest.raises(TranslatorError, match="has 4 classes, but a label has the id 9"):
        translate(translator, scene[0], np.full_like(scene[1], 9), Style())
    with pytest.raises(UsageError, match="without enhance:"):
        load(Path("enhance:camvid-lite"))


@pytest.mark.parametrize(("strength", "same"), [("0", True), ("0.5", False)])
def test_the_bridge_takes_strength_from_its_settings(tmp_path: Path, strength: str, same: bool) -> None:
    bundle = make_bundle(tmp_path / "mine")
    settings = {"bundle": str(bundle), "style": [f"strength={strength}"], "size": (32, 32)}
    with Simulator() as simulator, streaming(simulator, lambda: load(bundle), **settings) as (_, reader):
        pair = make_pair(3, size=(32, 32))
        simulator.send(*pair)
        frame = reader.frame()
    assert frame.number == 3 and np.array_equal(frame.pixels, pair[0].pixels) is same
    assert frame.provenance is not None and frame.provenance.style.get("strength") == float(strength)
