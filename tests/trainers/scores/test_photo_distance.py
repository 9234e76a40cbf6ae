"""Photo distance: the kernel by hand, pairing by layout, and what near and far pictures score."""

import random

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from models.nets.features import FeatureNetwork
from trainers.scores.photo_distance import (
    OF_PHOTOGRAPH,
    SIDE,
    PhotoDistance,
    PhotoJudge,
    Place,
    Scene,
    ToneRemover,
    crop_features,
    kernel_distance,
    match,
    places,
)


class Plain(FeatureNetwork):
    """Colours and their local spread at four strides: enough to tell pictures apart."""

    def features(self, image: Tensor) -> list[Tensor]:
        blurred = [torch.nn.functional.avg_pool2d(image, s) for s in (2, 4, 8, 16, 32)]
        return [torch.cat([b, b.abs()], 1) for b in blurred]


def scenes(count: int, mean: float, spread: float, seed: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        noise = cv2.GaussianBlur(rng.normal(0, 1, (200, 240, 3)).astype(np.float32), (0, 0), 2)
        rgb = (mean + rng.normal(0, 3) + spread * noise / noise.std()).clip(0, 255).astype(np.uint8)
        labels = np.zeros((200, 240), np.uint8)
        labels[100:] = 1
        out.append(Scene(rgb, labels))
    return out


def test_kernel_distance_by_hand() -> None:
    """Photographs -1, 1 (spread sqrt 2), pictures 0, 2, n = 1: standardised 0.707 and 0, 1.414."""
    b, a = np.array([[-1.0], [1.0]]), np.array([[0.0], [2.0]])
    within_a = (0 * 2**0.5 + 1) ** 3
    within_b = (-0.5 + 1) ** 3
    between = np.mean([1, 1, (-1 + 1) ** 3, (1 + 1) ** 3])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between, abs=1e-4)


def test_kernel_distance_of_one_distribution_is_nothing_on_average() -> None:
    rng = np.random.default_rng(0)
    found = [kernel_distance(rng.normal(size=(60, 8)), rng.normal(size=(60, 8))) for _ in range(40)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 40**0.5 + 0.01
    assert kernel_distance(rng.normal(1, 1, (60, 8)), rng.normal(size=(60, 8))) > 5 * max(found)


def at(i: int, share: float, height: float = 0.5) -> Place:
    return Place(i, 0, 0, np.array([share, 1 - share, height]))


def test_crops_are_paired_with_the_nearest_unused_layout() -> None:
    renders = [at(0, 0.0), at(1, 0.0), at(2, 1.0)]
    photographs = [at(0, 0.05), at(1, 0.1), at(2, 0.5), at(3, 0.95), at(4, 0.0), at(5, 0.9), at(6, 0.2)]
    found = match(renders, photographs, random.Random(0))
    assert [p.picture for p in found.photographs] == [4, 0, 3]
    assert [p.picture for p in found.others] == [1, 6, 5]


def test_a_layout_without_its_like_is_left_out() -> None:
    """Shares 0.3 apart are 0.6 in two classes; heights count, too."""
    renders = [at(0, 0.5), at(1, 0.9), at(2, 0.0, 1.0), at(3, 0.55)]
    found = match(renders, [at(i, 0.5) for i in range(9)], random.Random(0))
    assert [p.picture for p in found.renders] == [0, 3]


def test_too_few_photographs_are_refused() -> None:
    with pytest.raises(ValueError, match="2 crops of renders found photographs of their layout and 1 are left over"):
        match([at(0, 0.5), at(1, 0.5)], [at(i, 0.5) for i in range(3)], random.Random(0))


def test_places_say_what_lies_in_a_crop() -> None:
    found = places(scenes(2, 100, 10, 0), OF_PHOTOGRAPH, 3, random.Random(1))
    assert len(found) == 2 * OF_PHOTOGRAPH and {p.picture for p in found} == {0, 1}
    for place in found:
        above = (100 - place.top) / SIDE
        np.testing.assert_allclose(place.layout, [above, 1 - above, 0, (place.top + SIDE / 2) / 200])


def test_small_pictures_are_refused() -> None:
    small = Scene(np.zeros((100, 300, 3), np.uint8), np.zeros((100, 300), np.uint8))
    with pytest.raises(ValueError, match="a picture is 300x100, but crops are 160x160"):
        places([small], 1, 2, random.Random(0))


def test_features_are_means_and_spreads_of_the_four_coarsest_maps() -> None:
    crop = np.zeros((SIDE, SIDE, 3), np.uint8)
    crop[:, SIDE // 2 :] = 255
    found = crop_features(Plain(), [crop] * 17)
    assert [f.shape for f in found] == [(17, 12)] * 4
    np.testing.assert_allclose(found[0][3], [0, 0, 0, 1, 1, 1, *[found[0][3][6]] * 3, 0, 0, 0], atol=1e-6)
    assert found[0][3][6] == pytest.approx(1, abs=1e-3)


@pytest.fixture(scope="module")
def judge() -> PhotoJudge:
    return PhotoJudge(Plain(), scenes(4, 90, 10, 1), scenes(30, 130, 25, 2), 2)


def test_the_render_has_all_of_its_distance_and_photographs_next_to_none(judge: PhotoJudge) -> None:
    assert judge([s.rgb for s in scenes(4, 90, 10, 1)]).left == pytest.approx(1)
    found = judge([s.rgb for s in scenes(4, 130, 25, 5)])
    assert abs(found.left) < 0.1 and found.pairs > 100
    half = judge([s.rgb for s in scenes(4, 100, 12, 1)]).left
    assert 0.1 < half < 0.9


def test_without_tone_a_change_of_tone_is_worth_nothing() -> None:
    renders, photographs = scenes(4, 90, 10, 1), scenes(30, 130, 25, 2)
    judge = PhotoJudge(Plain(), renders, photographs, 2, tone_removed=True)
    brighter = [(s.rgb * 1.2 + 10).round().clip(0, 255).astype(np.uint8) for s in renders]
    assert judge(brighter).left == pytest.approx(1, abs=0.15)


def test_tone_is_brought_to_the_photographs(judge: PhotoJudge) -> None:
    del judge
    photographs: list[npt.NDArray[np.uint8]] = [s.rgb for s in scenes(5, 130, 20, 2)]
    toned = ToneRemover(photographs)(scenes(1, 90, 8, 1)[0].rgb)
    assert toned.mean() == pytest.approx(np.mean([p.mean() for p in photographs]), abs=3)
    assert toned.std() == pytest.approx(np.concatenate(photographs).std(), rel=0.1)


def test_shares_by_hand() -> None:
    found = PhotoDistance((3.0, 2.0), (5.0, 2.0), (1.0, 1.0), 9)
    assert found.left_by_depth == (0.5, 1.0) and found.left == 0.75
