"""The grade: fitted on drawn pictures, it finds what was done to them."""

import json

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sim_bridge.pixels.grade import Grade, corner_loss, fit, noise_level, statistics

Picture = npt.NDArray[np.uint8]
CLASSES = 3


def pictures(count: int, seed: int, gain: float = 1.0, lift: float = 0.0) -> list[tuple[Picture, Picture]]:
    """Two classes, dark above and light below, with soft texture."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        noise = cv2.GaussianBlur(rng.normal(0, 1, (96, 128)).astype(np.float32), (0, 0), 3)
        base = np.where(np.arange(96) < 48, 90.0, 150.0)[:, None] + 12 * noise / noise.std()
        labels = (np.arange(96)[:, None] >= 48).astype(np.uint8) * np.ones((1, 128), np.uint8)
        grey = (base * gain + lift).round().clip(0, 255).astype(np.uint8)
        out.append((np.repeat(grey[..., None], 3, 2), labels))
    return out


def test_statistics_by_class_and_of_all_for_the_rare() -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:32] = 255
    labels = np.zeros((64, 64), np.uint8)
    labels[32:] = 1
    found = statistics([(rgb, labels)], CLASSES)
    np.testing.assert_allclose(found.mean[:, 0], [100, 0, 50], atol=0.1)
    np.testing.assert_allclose(found.spread[:, 0], [0, 0, 50], atol=0.1)


def test_a_set_graded_to_itself_stays() -> None:
    ours = pictures(4, 0)
    grade = fit(ours, ours, CLASSES)
    assert grade.blur == 0 and grade.grain < 0.2 and grade.vignette == 0
    rgb, labels = ours[0]
    assert np.abs(grade.apply(rgb, labels).astype(int) - rgb).mean() < 1


def test_light_and_contrast_are_brought_to_the_photographs() -> None:
    ours, theirs = pictures(4, 0), pictures(4, 1, 0.8, 50)
    grade = fit(ours, theirs, CLASSES)
    graded = [grade.apply(*pair) for pair in ours]
    wanted = np.stack([rgb for rgb, _ in theirs])
    assert np.stack(graded).mean() == pytest.approx(wanted.mean(), abs=2)
    assert np.stack(graded)[:, 60:].std() == pytest.approx(wanted[:, 60:].std(), rel=0.15)


def test_grain_of_photographs_is_added_and_repeats_by_seed() -> None:
    rng = np.random.default_rng(3)
    theirs = [
        ((rgb + rng.normal(0, 6, rgb.shape[:2])[..., None]).round().clip(0, 255).astype(np.uint8), labels)
        for rgb, labels in pictures(4, 1)
    ]
    grade = fit(pictures(4, 0), theirs, CLASSES)
    graded = [grade.apply(*pair, seed=i) for i, pair in enumerate(pictures(4, 0))]
    assert noise_level(graded) == pytest.approx(noise_level([rgb for rgb, _ in theirs]), rel=0.2)
    assert np.array_equal(grade.apply(*pictures(1, 0)[0], seed=4), grade.apply(*pictures(1, 0)[0], seed=4))
    assert not np.array_equal(grade.apply(*pictures(1, 0)[0], seed=4), grade.apply(*pictures(1, 0)[0], seed=5))


def test_blur_of_photographs_is_found() -> None:
    rng = np.random.default_rng(5)
    sharp = [
        (rng.integers(60, 200, (96, 128, 1)).repeat(3, 2).astype(np.uint8), labels) for _, labels in pictures(4, 0)
    ]
    soft = [(cv2.GaussianBlur(rgb, (0, 0), 0.8), labels) for rgb, labels in sharp]
    assert 0.5 <= fit(sharp, soft, CLASSES).blur <= 1.0
    assert fit(soft, sharp, CLASSES).blur == 0


def test_a_vignette_is_found() -> None:
    y, x = np.linspace(-1, 1, 96)[:, None], np.linspace(-1, 1, 128)
    dark = 1 - 0.3 * (x * x + y * y) / 2
    flat = [rgb for rgb, _ in pictures(4, 0)]
    corners = [(rgb * dark[..., None]).astype(np.uint8) for rgb in flat]
    assert corner_loss(flat, flat) == 0
    assert 0.08 < corner_loss(corners, flat) < 0.3


def test_strength_0_is_the_picture_itself() -> None:
    rgb, labels = pictures(1, 0)[0]
    grade = fit(pictures(2, 0), pictures(2, 1, 0.5, 90), CLASSES)
    assert np.array_equal(grade.apply(rgb, labels, strength=0), rgb)
    whole, half = (grade.apply(rgb, labels, strength=s).astype(float) for s in (1.0, 0.5))
    assert np.abs(half - (whole + rgb) / 2).max() <= 1


def test_a_grade_goes_through_a_small_file() -> None:
    grade = fit(pictures(2, 0), pictures(2, 1, 0.8, 30), CLASSES)
    text = json.dumps(grade.to_dict())
    rgb, labels = pictures(1, 7)[0]
    again = Grade.from_dict(json.loads(text))
    assert len(text) < 1500 and np.array_equal(again.apply(rgb, labels), grade.apply(rgb, labels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": [[1, 1]]}, r"gain and offset are \(1, 2\)"),
        ({"glow": 1}, "a grade has gain, offset, blur, grain, vignette"),
    ],
)
def test_files_that_hold_no_grade_are_refused(change: dict[str, object], message: str) -> None:
    values = fit(pictures(1, 0), pictures(1, 1), CLASSES).to_dict()
    with pytest.raises(ValueError, match=message):
        Grade.from_dict({**values, **change})


def test_empty_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 renders and 1 photographs"):
        fit([], pictures(1, 0), CLASSES)
