"""Hue and light of pictures whose answers are known."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from trainers.scores.colour import hues, lab, light, light_kept

Picture = npt.NDArray[np.uint8]
ALL = {"road line": [np.ones((16, 16), bool)]}


def plain(*rgb: int) -> Picture:
    return np.broadcast_to(np.array(rgb, np.uint8), (16, 16, 3)).copy()


def test_hues_of_primaries_are_those_of_cie_lab() -> None:
    """sRGB red, green and blue lie at 40, 136 and 306 degrees."""
    for rgb, degrees in (((255, 0, 0), 40.0), ((0, 255, 0), 136.0), ((0, 0, 255), 306.3)):
        hue = hues([plain(*rgb)], [plain(*rgb)], ALL)["road line"]
        assert hue.render == hue.output == pytest.approx(degrees, abs=0.2)
        assert hue.error == 0


def test_an_error_goes_the_short_way_round() -> None:
    """Blue at 306 and red at 40 degrees are 94 apart, not 266."""
    assert hues([plain(255, 0, 0)], [plain(0, 0, 255)], ALL)["road line"].error == pytest.approx(93.7, abs=0.3)


def test_darker_and_paler_paint_has_its_hue() -> None:
    hue = hues([plain(120, 100, 40)], [plain(240, 200, 80)], ALL)["road line"]
    assert hue.error < 5


def test_only_what_is_saturated_in_the_render_counts() -> None:
    render, output = plain(255, 0, 0), plain(255, 0, 0)
    render[8:], output[8:] = 128, (0, 0, 255)
    assert hues([output], [render], ALL)["road line"].error == pytest.approx(0)
    assert hues([output], [plain(128, 128, 128)], ALL) == {}


def test_only_what_lies_under_the_mask_counts() -> None:
    mask = np.zeros((16, 16), bool)
    mask[:8] = True
    output = plain(255, 0, 0)
    output[8:] = (0, 255, 0)
    assert hues([output], [plain(255, 0, 0)], {"traffic light": [mask]})["traffic light"].error == 0


def test_too_few_pixels_are_left_out() -> None:
    few = np.zeros((16, 16), bool)
    few[:7, :7] = True
    assert hues([plain(255, 0, 0)], [plain(255, 0, 0)], {"traffic sign": [few]}) == {}


def test_grey_has_no_hue() -> None:
    hue = hues([plain(128, 128, 128)], [plain(255, 0, 0)], ALL)["road line"]
    assert math.isnan(hue.output) and math.isnan(hue.error)


def test_lab_of_white_and_black() -> None:
    np.testing.assert_allclose(lab(plain(255, 255, 255))[0, 0], (100, 0, 0), atol=0.02)
    np.testing.assert_allclose(lab(plain(0, 0, 0))[0, 0], (0, 0, 0), atol=0.02)


def test_light_is_mean_luma() -> None:
    assert light([plain(100, 100, 100), plain(200, 200, 200)]) == pytest.approx(150)
    assert light([plain(100, 0, 0)]) == pytest.approx(29.9)


def test_light_keeps_order_and_two_thirds() -> None:
    kept = light_kept({"noon": 120, "dusk": 80, "low": 100}, {"noon": 140, "dusk": 80, "low": 110})
    assert kept.in_order
    assert set(kept.shares) == {("noon", "dusk"), ("noon", "low"), ("dusk", "low")}
    assert list(kept.shares.values()) == pytest.approx([2 / 3] * 3)
    assert kept.least == pytest.approx(2 / 3)


def test_light_that_changes_places_is_not_in_order() -> None:
    kept = light_kept({"noon": 80, "dusk": 90}, {"noon": 140, "dusk": 80})
    assert not kept.in_order and kept.least == pytest.approx(-1 / 6)


@pytest.mark.parametrize(
    ("outputs", "renders", "message"),
    [
        ({"a": 1.0}, {"b": 1.0}, "give the same presets"),
        ({"a": 1.0, "b": 9.0}, {"a": 5.0, "b": 6.0}, "differ by 3 grey"),
    ],
)
def test_lights_that_cannot_be_compared(outputs: dict[str, float], renders: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        light_kept(outputs, renders)
