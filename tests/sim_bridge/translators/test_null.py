"""The null translator, and that it needs no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np

from sim_bridge.translators import Reason, Shot, Translator
from sim_bridge.translators.load import load_translator
from sim_bridge.translators.null import NullTranslator


@dataclass(frozen=True)
class Settings:
    bundle: str = "null"
    device: str = "auto"
    precision: str = "auto"


def test_passes_the_same_pixels_on_without_a_copy() -> None:
    translator = NullTranslator()
    pictures = np.random.default_rng(0).integers(0, 255, (2, 8, 9, 3), np.uint8)
    shots = [Shot("camera", "s", n, 0.0, rgb, np.zeros((8, 9), np.uint8)) for n, rgb in enumerate(pictures)]
    translator.warm_up([(9, 8)])
    translator.reset("camera", Reason.SESSION)
    for shot, answer in zip(shots, translator.translate(shots), strict=True):
        assert answer.rgb is shot.rgb
        assert answer.edges is None


def test_is_a_translator_with_an_identity() -> None:
    translator = load_translator(Settings())
    assert isinstance(translator, Translator)
    assert (translator.name, translator.model_id, translator.classes) == ("null", "000000000000", ())


def test_loads_without_torch_onnxruntime_and_opencv() -> None:
    program = """
import sys
for name in ("torch", "cv2", "onnxruntime"):
    sys.modules[name] = None
from types import SimpleNamespace
from sim_bridge.translators.load import load_translator
assert load_translator(SimpleNamespace(bundle="null", device="auto", precision="auto")).name == "null"
from sim_bridge.errors import MissingExtraError
for bundle, extra in (("camvid-lite", "engine"), ("net.onnx", "onnx")):
    try:
        load_translator(SimpleNamespace(bundle=bundle, device="auto", precision="auto"))
    except MissingExtraError as error:
        assert f"pip install '.[{extra}]'" in str(error), error
    else:
        raise SystemExit(f"{bundle} loaded")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
