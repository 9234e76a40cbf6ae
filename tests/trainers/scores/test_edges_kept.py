"""Invented and kept edges of pictures drawn by hand."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from trainers.scores.edges_kept import WIDTH, edge_map, edges_kept

Picture = npt.NDArray[np.uint8]


def lines(*columns: int, height: int = 120) -> Picture:
    """Steps from black to white and back at columns of a picture at the measure's own width."""
    x = np.arange(WIDTH)
    row = sum((x >= c).astype(int) for c in columns) % 2 * 255
    return np.broadcast_to(row[None, :, None], (height, WIDTH, 3)).astype(np.uint8).copy()


def test_a_step_is_one_edge() -> None:
    found = edge_map(lines(300)) > 0
    assert found.any(0).sum() <= 2 and 298 <= int(found.any(0).argmax()) <= 301
    assert found.any(1).all()


def test_the_render_itself_invents_nothing_and_keeps_all() -> None:
    assert edges_kept([lines(300)], [lines(300)]) == (0.0, 1.0)


def test_half_of_two_edges_is_invented() -> None:
    assert edges_kept([lines(300, 600)], [lines(300)]) == pytest.approx((0.5, 1.0))


def test_half_of_two_edges_is_lost() -> None:
    assert edges_kept([lines(300)], [lines(300, 600)]) == pytest.approx((0.0, 0.5))


@pytest.mark.parametrize(("shift", "share"), [(2, 0.0), (3, 1.0)])
def test_an_edge_has_its_counterpart_within_two_pixels(shift: int, share: float) -> None:
    assert edges_kept([lines(300 + shift)], [lines(300)]) == pytest.approx((share, 1 - share))


def test_pictures_count_by_their_edges() -> None:
    """Three edges stay, one is new: a quarter, not the mean of 0 and a half."""
    outputs, renders = [lines(200, 400), lines(300, 600)], [lines(200, 400), lines(300)]
    assert edges_kept(outputs, renders).invented == pytest.approx(0.25)


def test_without_edges_there_is_no_share() -> None:
    flat = np.full((60, WIDTH, 3), 90, np.uint8)
    assert all(math.isnan(v) for v in edges_kept([flat], [flat]))


def test_small_and_large_pictures_are_measured_at_one_width() -> None:
    half = lines(300, height=120)[::2, ::2]
    assert edge_map(half).shape == edge_map(np.repeat(np.repeat(half, 3, 0), 3, 1)).shape == (60 * 2, WIDTH)
