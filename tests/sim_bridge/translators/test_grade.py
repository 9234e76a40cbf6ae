"""A grade file as a translator: strength 0 is the render, and what is no grade is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sim_bridge.errors import TranslatorError, UsageError
from sim_bridge.frames import Style
from sim_bridge.pixels.grade import GAINS, Grade
from sim_bridge.translators import Translator
from sim_bridge.translators.load import load_translator
from tests.sim_bridge.translators.shots import translate

CLASSES = ["road", "unlabeled"]
LIGHTER = Grade(np.ones((2, 3), np.float32), np.array([[20, 0, 0], [0, 0, 0]], np.float32), 0.0, 0.0, 0.0)


def write(path: Path, **changes: object) -> Path:
    path.write_text(
        json.dumps({"classes": CLASSES, "licence": "CC0-1.0", "data": "none", **LIGHTER.to_dict(), **changes})
    )
    return path


def load(path: Path) -> Translator:
    return load_translator(SimpleNamespace(bundle=f"grade:{path}", device="cpu", precision="fp32"))


def test_it_grades_by_class_and_by_strength(tmp_path: Path) -> None:
    translator = load(write(tmp_path / "grey.json"))
    rgb = np.full((2, 40, 60, 3), 100, np.uint8)
    labels = np.stack([np.zeros((40, 60), np.uint8), np.ones((40, 60), np.uint8)])
    road, other = translate(translator, rgb, labels, Style()).rgb
    assert (road > 130).all() and np.abs(other.astype(int) - 100).max() <= 1
    assert np.array_equal(translate(translator, rgb, labels, Style(strength=0.0)).rgb, rgb)
    half = translate(translator, rgb, labels, Style(strength=0.5)).rgb[0]
    assert np.abs(half.astype(int) - (100 + road.astype(int)) / 2).max() <= 1
    assert translator.name == "grey" and translator.classes == tuple(CLASSES) and len(translator.model_id) == 12


def test_what_is_no_grade_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no grade file"):
        load(tmp_path / "none.json")
    with pytest.raises(TranslatorError, match="is no grade file"):
        load(write(tmp_path / "odd.json", blurr=1))
    with pytest.raises(TranslatorError, match="names 1 classes and grades 2"):
        load(write(tmp_path / "few.json", classes=["road"]))


def test_contrast_has_a_limit_that_invents_few_edges() -> None:
    assert GAINS[1][0] <= 1.15
