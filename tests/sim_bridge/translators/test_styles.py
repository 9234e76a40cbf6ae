"""Styles as texts, of flags, settings files and variables: read by a network's controls, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sim_bridge.errors import UsageError
from sim_bridge.frames import Style, StyleValue
from sim_bridge.load_settings import load_settings
from sim_bridge.translators.styles import MAX_WEIGHT, Control, check_style, read_style

SEED = Control("seed", "seed", "Seed", high=99)
STRENGTH = Control("strength", "number", "Strength", low=-1.0, high=1.0, default=1.0)
LOOK = Control("look", "choice", "Look", default="noon", names=("noon", "dusk"))
MIX = Control("mix", "weights", "Mixture", names=("a", "b", "c"))
CONTROLS = (SEED, STRENGTH, LOOK, MIX)


@pytest.mark.parametrize(
    ("control", "text", "value"),
    [
        (SEED, "0", 0),
        (SEED, "99", 99),
        (STRENGTH, "0.5", 0.5),
        (STRENGTH, "-1", -1.0),
        (STRENGTH, "1e-3", 0.001),
        (LOOK, "dusk", "dusk"),
        (MIX, "1,0,0.5", (1.0, 0.0, 0.5)),
        (MIX, " 1, 2 ,3", (1.0, 2.0, 3.0)),
    ],
)
def test_a_text_becomes_the_value_that_the_translator_takes(control: Control, text: str, value: StyleValue) -> None:
    read = control.read(text)
    assert read == value and type(read) is type(value)
    assert control.check(read) == value, "what was read is a value of it"


@pytest.mark.parametrize(
    ("control", "texts", "limits"),
    [
        (SEED, ("", "-1", "100", "1.5", "one", "nan"), "a whole number from 0 to 99"),
        (STRENGTH, ("", "1.01", "-2", "much", "nan", "inf"), "a number from -1 to 1"),
        (LOOK, ("", "night", "Dusk"), "one of noon, dusk"),
        (
            MIX,
            ("", "1", "1,2", "1,2,3,4", "0,0,0", "-1,1,1", "1,,2", "nan,1,1", "1e9,1,1"),
            "3 numbers from 0 to 1e+06",
        ),
    ],
)
def test_any_other_text_is_one_sentence_with_the_limits(control: Control, texts: Sequence[str], limits: str) -> None:
    assert MAX_WEIGHT == 1e6
    for text in texts:
        with pytest.raises(UsageError, match=f"the style {control.name} cannot be ") as caught:
            control.read(text)
        assert limits in str(caught.value) and "\n" not in str(caught.value)


def test_settings_are_read_and_the_page_s_values_are_checked() -> None:
    given = {"look": "dusk", "strength": "0.5", "mix": "1,0,1"}
    expected = Style({"look": "dusk", "strength": 0.5, "mix": (1.0, 0.0, 1.0)})
    assert read_style(CONTROLS, given) == check_style(CONTROLS, dict(expected)) == expected
    assert read_style(CONTROLS, {"strength": 0.5}) == Style({"strength": 0.5}), "a settings file has numbers"
    with pytest.raises(UsageError, match=r"strength cannot be '0\.5'"):
        check_style(CONTROLS, {"strength": "0.5"})
    with pytest.raises(UsageError, match="no style 'strenght': give one of seed, strength, look, mix"):
        read_style(CONTROLS, {"strenght": "1"})
    with pytest.raises(UsageError, match="no style 'look': leave it out: this network has no style"):
        read_style((), {"look": "dusk"})


def test_flag_variable_and_file_say_the_same(tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text("style: {look: dusk, mix: [1, 0, 0.5], strength: 0.5}\n")
    words = ["look=dusk", "mix=1,0,0.5", "strength=0.5"]
    styles = [
        load_settings({"style": words}, environ={}).style,
        load_settings({"style": " ".join(words)}, environ={}).style,
        load_settings(environ={"SIM_BRIDGE_STYLE": " ".join(words)}).style,
        load_settings(config=config, environ={}).style,
    ]
    assert [read_style(CONTROLS, style) for style in styles] == 4 * [
        Style({"look": "dusk", "mix": (1.0, 0.0, 0.5), "strength": 0.5})
    ]
    over = load_settings({"style": ["look=noon"]}, config=config, environ={}).style
    assert read_style(CONTROLS, over) == Style({"look": "noon"}), "a flag replaces the whole style"


@pytest.mark.parametrize("text", ["look", "look=", "=dusk", "look=dusk mix"])
def test_a_style_is_written_with_its_name(text: str) -> None:
    with pytest.raises(UsageError, match="a style is written NAME=VALUE") as caught:
        load_settings({"style": [text]}, environ={})
    assert "--style" in str(caught.value)
