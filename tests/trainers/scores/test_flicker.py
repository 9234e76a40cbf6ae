"""Warping error and flicker of clips whose motion and noise are known."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from trainers.scores.flicker import Clip, flicker, sharpened_as, visible, warped, warping_error

H, W = 48, 64


def moving(frames: int = 4, step: int = 3, noise: float = 0.0, seed: int = 0) -> Clip:
    """A smooth texture that moves to the right; its exact flow; noise of its own in each frame."""
    rng = np.random.default_rng(seed)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (H, W + 40, 3)).astype(np.float32), (0, 0), 1.5)
    wide = (wide - wide.mean()) / wide.std() * 40 + 128
    cuts = [wide[:, 20 - i * step : 20 - i * step + W] for i in range(frames)]
    pictures = [(c + rng.normal(0, noise, c.shape)).round().clip(0, 255).astype(np.uint8) for c in cuts]
    flow = np.zeros((H, W, 2), np.float32)
    flow[..., 0] = step
    return Clip(pictures, [np.zeros((H, W), np.uint8)] * frames, [flow] * (frames - 1))


def test_a_picture_that_only_moves_has_no_error() -> None:
    assert warping_error(moving()) == pytest.approx(0, abs=1e-5)
    still = Clip(moving().pictures, moving().labels, [np.zeros((H, W, 2), np.float32)] * 3)
    assert warping_error(still) > 10


def test_noise_of_each_frame_is_what_is_seen() -> None:
    """|difference| of two normal draws of 5 grey levels: 10 / sqrt(pi)."""
    assert warping_error(moving(noise=5.0)) == pytest.approx(10 / np.pi**0.5, rel=0.05)


def test_a_step_of_light_counts_in_full_and_in_the_low_frequencies() -> None:
    clip = moving(2)
    brighter = [clip.pictures[0] // 2, cv2.add(clip.pictures[1] // 2, np.full_like(clip.pictures[1], 7))]
    changed = Clip(brighter, clip.labels, clip.flows)
    assert warping_error(changed) == pytest.approx(7, abs=0.05)
    # The blur mixes what leaves the picture, too.
    assert warping_error(changed, 4.0) == pytest.approx(7, abs=0.7)


def test_only_points_that_both_frames_show_with_one_class_count() -> None:
    flow = np.zeros((4, 4, 2), np.float32)
    flow[..., 0] = 1
    flow[0, 0] = np.nan
    first, second = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    second[1, 2] = 5  # where (1, 1) goes
    expected = np.ones((4, 4), bool)
    expected[:, 3] = expected[0, 0] = expected[1, 1] = False
    assert np.array_equal(visible(flow, first, second), expected)


def test_warping_fetches_bilinearly() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[None, :, None], (3, 8, 1)).copy()
    flow = np.zeros((3, 8, 2), np.float32)
    flow[..., 0] = 0.5
    np.testing.assert_allclose(warped(ramp, flow).reshape(3, 8)[:, :7], ramp[:, :7, 0] + 0.5)


def test_the_render_is_the_unit() -> None:
    found = flicker(moving(noise=4).pictures, moving(noise=4))
    assert (found.whole, found.low, found.sharpened, found.gradient) == pytest.approx((1, 1, 1, 1))
    assert found.against_sharpened == pytest.approx(1)


def test_twice_the_noise_is_nearly_twice_the_flicker() -> None:
    assert flicker(moving(noise=8).pictures, moving(noise=4)).whole == pytest.approx(2, rel=0.05)


def test_sharpening_is_told_from_flicker() -> None:
    """A translation that is nothing but the sharpened render flickers as the control does."""
    render = moving(noise=3)
    sharper = [
        np.clip(p + 1.0 * (p - cv2.GaussianBlur(p.astype(np.float32), (0, 0), 1.0)), 0, 255) for p in render.pictures
    ]
    found = flicker([s.round().astype(np.uint8) for s in sharper], render)
    assert found.whole > 1.3 and found.gradient > 1.3
    assert found.against_sharpened == pytest.approx(1, abs=0.01)


def test_a_blurred_translation_is_compared_with_the_render_as_it_is() -> None:
    render = moving(noise=3)
    blurred = [cv2.GaussianBlur(p, (0, 0), 1.0) for p in render.pictures]
    found = flicker(blurred, render)
    assert found.sharpened == pytest.approx(1) and found.whole < 0.7 and found.gradient < 0.7
    assert all(
        np.array_equal(a, b) for a, b in zip(sharpened_as(render.pictures, blurred), render.pictures, strict=True)
    )


def test_a_clip_without_change_is_refused() -> None:
    flat = [np.full((H, W, 3), 90, np.uint8)] * 2
    labels: list[npt.NDArray[np.uint8]] = [np.zeros((H, W), np.uint8)] * 2
    with pytest.raises(ValueError, match="give frames that move"):
        flicker(flat, Clip(flat, labels, [np.zeros((H, W, 2), np.float32)]))
