"""The closed-form grade of a look: by hand, within its bounds, and without a change of hue."""

import numpy as np
import pytest

from trainers.systems.grades import (
    CAST,
    COLOUR,
    COLOUR_HELD,
    CONTRAST,
    DETAIL,
    DETAIL_HELD,
    SHIFT,
    LabelledPicture,
    fit_bands,
    fit_grade,
    fit_tones,
    share_of_bands,
    statistics,
)


def picture(*columns: tuple[int, tuple[int, int, int]], size: int = 160) -> LabelledPicture:
    """Equal columns, each of a class and a colour."""
    width = size // len(columns)
    labels = np.repeat(np.array([c for c, _ in columns], np.uint8), width)[None].repeat(size, 0)
    rgb = np.repeat(np.array([rgb for _, rgb in columns], np.uint8), width, 0)[None].repeat(size, 0)
    return LabelledPicture(np.ascontiguousarray(rgb), np.ascontiguousarray(labels))


def test_statistics_by_hand() -> None:
    found = statistics([[picture((0, (51, 51, 51)), (1, (255, 0, 0)))]], 2)
    red = 0.299 * 2 - 1
    assert found.luma == pytest.approx([-0.6, red]) and found.spread == pytest.approx([0, 0], abs=1e-6)
    assert found.cast[1] == pytest.approx([1 - red, -1 - red, -1 - red]) and found.chroma[0] == pytest.approx(
        0, abs=1e-6
    )
    assert found.share == pytest.approx([0.5, 0.5])


def test_a_class_of_few_pixels_has_the_statistics_of_all() -> None:
    small = picture((0, (60, 60, 60)), (0, (200, 200, 200)))
    small.labels[0, :4] = 1
    found = statistics([[small]], 2)
    assert found.luma[1] == pytest.approx(found.luma[0], abs=0.01) and found.spread[1] > 0.5


def test_sets_count_alike_whatever_their_size() -> None:
    dark, light = picture((0, (0, 0, 0))), picture((0, (255, 255, 255)))
    assert statistics([[dark] * 9, [light]], 1).luma[0] == pytest.approx(0)


def test_alike_sets_need_no_grade() -> None:
    one = statistics([[picture((0, (10, 90, 30)), (0, (200, 160, 90)), (1, (120, 120, 160)))]], 2)
    assert fit_tones(one, one, [False, True]) == pytest.approx(np.tile([1, 1, 0, 0, 0], (2, 1)), abs=1e-5)


def test_light_and_colour_move_towards_the_photographs_within_their_bounds() -> None:
    render = statistics([[picture((0, (20, 120, 20)), (0, (40, 250, 40)), (1, (250, 220, 0)), (1, (90, 80, 0)))]], 2)
    photo = statistics([[picture((0, (60, 70, 60)), (0, (61, 71, 61)), (1, (250, 250, 250)), (1, (90, 90, 90)))]], 2)
    grade = fit_tones(render, photo, [False, True])
    assert grade[0, 0] == pytest.approx(CONTRAST[0]) and grade[0, 1] == pytest.approx(COLOUR[0])
    moved = grade[0, 0] * render.luma[0] + grade[0, 2:] @ np.array([0.299, 0.587, 0.114]) - render.luma[0]
    assert moved == pytest.approx(-SHIFT, abs=1e-5)
    assert (
        COLOUR_HELD[0] <= grade[1, 1] <= COLOUR_HELD[1]
        and np.abs(grade[:, 2:].T - grade[:, 2:].mean(1)).max() <= 3 * CAST
    )


def test_grey_stays_grey_but_for_the_cast_of_the_whole() -> None:
    """Trunks are grey beside green leaves: no class's colour is shifted."""
    render = statistics([[picture((0, (20, 160, 20)), (1, (100, 100, 100)))]], 2)
    photo = statistics([[picture((0, (70, 90, 70)), (1, (100, 100, 100)))]], 2)
    grade = fit_tones(render, photo, [False, False])
    casts = grade[:, 2:] - grade[:, 2:].mean(1, keepdims=True)
    assert casts[0] == pytest.approx(casts[1], abs=1e-6)


def noise(spread: float, seed: int = 0, sky: float = 0) -> LabelledPicture:
    """A road of noise below a sky of other noise."""
    grey = 128 + np.random.default_rng(seed).standard_normal((160, 160)) * np.repeat([sky, spread], 80)[:, None]
    labels = np.zeros((160, 160), np.uint8)
    labels[80:] = 1
    return LabelledPicture(np.repeat(grey.round().clip(0, 255).astype(np.uint8)[..., None], 3, 2), labels)


def test_shares_of_bands_are_by_class_and_do_not_know_contrast() -> None:
    weak, strong = (share_of_bands([[noise(spread)]], 2) for spread in (3, 6))
    assert (weak[0] < 0.1 * weak[1]).all()
    assert weak[1] == pytest.approx(strong[1], rel=0.15)  # strong detail is limited
    assert weak[1, 0] > weak[1, 1] > weak[1, 2] > weak[1, 3]  # as white noise's energy


def test_a_border_between_classes_is_no_texture() -> None:
    flat = picture((0, (20, 20, 20)), (1, (220, 220, 220)))
    assert share_of_bands([[flat]], 2)[:, :2] == pytest.approx(np.zeros((2, 2)), abs=5e-3)


def test_bands_move_towards_the_photographs_within_their_bounds() -> None:
    render, photo = np.array([[1.0, 1, 1, 1]] * 3), np.array([[1.05, 0.9, 0.1, 9], [1, 1, 1, 1], [0, 0, 9, 9]])
    gains = np.exp(fit_bands(render, photo, [False, False, True]))
    assert gains[0] == pytest.approx([1.05, 0.9, DETAIL[2][0], DETAIL[3][1]], abs=1e-5)
    assert gains[1] == pytest.approx(np.ones(4))
    assert gains[2] == pytest.approx([DETAIL_HELD] * 2 + [1 / DETAIL_HELD] * 2)


def test_grain_is_what_photographs_have_and_renders_lack() -> None:
    few, many = (noise(spread, seed, spread) for seed, spread in enumerate((1, 8)))
    found = [fit_grade([[ours]], [theirs], [False, False]) for ours, theirs in ((few, many), (many, few))]
    assert found[0].grades.shape == (2, 9) and found[0].grades.dtype == np.float32
    assert found[0].grain > 0 and found[1].grain == 0
