"""Losses on values computed by hand."""

import math

import pytest
import torch

from models.losses import (
    EdgeLoss,
    FeatureMatching,
    FusedEdgeLoss,
    HingeGAN,
    LeastSquaresGAN,
    Perceptual,
    Pixel,
    Tone,
    VanillaGAN,
)
from models.segmenter import UNetSegmenter

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])


def test_least_squares() -> None:
    # real: mean(1, 1); fake: mean(1, 1)
    assert LeastSquaresGAN().discriminator(REAL, FAKE).item() == pytest.approx(2.0)
    assert LeastSquaresGAN().generator(FAKE).item() == pytest.approx((4 + 0) / 2)


def test_hinge() -> None:
    # relu(1 - real) = 0, 1; relu(1 + fake) = 0, 2
    assert HingeGAN().discriminator(REAL, FAKE).item() == pytest.approx(1.5)
    assert HingeGAN().generator(FAKE).item() == pytest.approx(0.0)


def test_vanilla_is_eq_2() -> None:
    def sigmoid(v: float) -> float:
        return 1 / (1 + math.exp(-v))

    d = -(math.log(sigmoid(2)) + math.log(sigmoid(0))) / 2 - (math.log(1 - sigmoid(-1)) + math.log(1 - sigmoid(1))) / 2
    assert VanillaGAN().discriminator(REAL, FAKE).item() == pytest.approx(d, rel=1e-5)
    g = -(math.log(sigmoid(-1)) + math.log(sigmoid(1))) / 2
    assert VanillaGAN().generator(FAKE).item() == pytest.approx(g, rel=1e-5)


def test_feature_matching_is_eq_5() -> None:
    real = [torch.tensor([[1.0, 3.0]]), torch.zeros(1, 4)]
    fake = [torch.tensor([[2.0, 1.0]], requires_grad=True), torch.full((1, 4), 0.5)]
    # layer means 1.5 and 0.5, summed over the T = 2 layers
    loss = FeatureMatching()(real, fake)
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    assert fake[0].grad is not None and fake[0].grad.abs().sum() > 0


def test_edge_loss_is_eq_4() -> None:
    target = torch.zeros(1, 1, 32, 32)
    sides = [torch.zeros(1, 1, 32 >> i, 32 >> i) for i in range(6)]
    # BCE of probability 1/2 against anything is log 2
    assert EdgeLoss((1, 1, 1, 1, 1, 1))(sides, target).item() == pytest.approx(6 * math.log(2), rel=1e-5)
    assert EdgeLoss((0, 0, 3, 0, 0, 0))(sides, target).item() == pytest.approx(3 * math.log(2), rel=1e-5)
    with pytest.raises(ValueError, match="6 constants"):
        EdgeLoss((1, 1))
    sides[0] = torch.full((1, 1, 32, 32), -2.0)
    expected = math.log(1 + math.exp(-2)) + 5 * math.log(2)
    assert EdgeLoss()(sides, target).item() == pytest.approx(expected, rel=1e-5)
    assert FusedEdgeLoss()(sides[0], target).item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)


def test_pixel_loss() -> None:
    assert Pixel()(torch.tensor([0.5, -0.5]), torch.tensor([0.0, 0.5])).item() == pytest.approx(0.75)


def test_tone_loss_sees_light_and_not_texture() -> None:
    x = torch.zeros(1, 3, 32, 32)
    texture = (1 - 2 * (torch.arange(32) % 2)).float().expand(1, 3, 32, 32) * 0.5
    assert Tone()(x, texture).item() == pytest.approx(0)
    assert Tone()(x, texture + 0.25).item() == pytest.approx(0.25)


def test_perceptual_loss_is_zero_only_for_equal_pictures_and_trains_only_the_picture() -> None:
    torch.manual_seed(0)
    network = UNetSegmenter(4, 4)
    loss = Perceptual(network)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert loss(x, x).item() == 0
    fake = (x * 0.5).requires_grad_()
    value = loss(x, fake)
    value.backward()
    assert value.item() > 0.01
    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.parameters())


def test_perceptual_loss_without_its_extensions_is_eq_6() -> None:
    torch.manual_seed(0)
    network = UNetSegmenter(4, 4).eval()
    x, fake = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        slices = [(a - b).abs().mean() for a, b in zip(network.features(x), network.features(fake), strict=True)]
        expected = sum(slices) / 5
        assert Perceptual(network, blur=False, normalise=False)(x, fake) == pytest.approx(expected)
        assert Perceptual(network, blur=False)(x, fake) != pytest.approx(expected)


def test_perceptual_blur_hides_a_checkerboard() -> None:
    """A frozen strided network would pay for a grid of period 2; the blur leaves that to the other losses."""
    torch.manual_seed(0)
    x = torch.zeros(1, 3, 32, 32)
    sign = 1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)
    grid = (x + 0.3 * sign)[..., :, :]
    inner = Perceptual(UNetSegmenter(4, 4))._prepare(grid)[..., 1:-1, 1:-1]
    assert inner.abs().max() < 1e-6
