"""Losses on values computed by hand."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses.adversarial import ADVERSARIAL, HingeGAN, LeastSquaresGAN, VanillaGAN
from models.losses.edge import EdgeLoss, FusedEdgeLoss
from models.losses.matching import FeatureMatching
from models.losses.perceptual import Perceptual
from models.losses.pixel import Chroma, Pixel, Tone
from models.nets.dned import DNED
from models.nets.features import PIX2PIXHD_WEIGHTS, FeatureNetwork
from models.nets.segmenter import UNetSegmenter

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])


def test_least_squares() -> None:
    # real: mean(1, 1); fake: mean(1, 1)
    assert LeastSquaresGAN().discriminator(REAL, FAKE).mean().item() == pytest.approx(2.0)
    assert LeastSquaresGAN().generator(FAKE).mean().item() == pytest.approx((4 + 0) / 2)


def test_hinge() -> None:
    # relu(1 - real) = 0, 1; relu(1 + fake) = 0, 2
    assert HingeGAN().discriminator(REAL, FAKE).mean().item() == pytest.approx(1.5)
    assert HingeGAN().generator(FAKE).mean().item() == pytest.approx(0.0)


def test_vanilla_is_eq_2() -> None:
    def sigmoid(v: float) -> float:
        return 1 / (1 + math.exp(-v))

    d = -(math.log(sigmoid(2)) + math.log(sigmoid(0))) / 2 - (math.log(1 - sigmoid(-1)) + math.log(1 - sigmoid(1))) / 2
    assert VanillaGAN().discriminator(REAL, FAKE).mean().item() == pytest.approx(d, rel=1e-5)
    g = -(math.log(sigmoid(-1)) + math.log(sigmoid(1))) / 2
    assert VanillaGAN().generator(FAKE).mean().item() == pytest.approx(g, rel=1e-5)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_discriminator_raises_real_and_lowers_fake_and_generator_raises_fake(name: str) -> None:
    loss = ADVERSARIAL[name]()
    real, fake = (torch.full((2, 1, 3, 3), 0.3, requires_grad=True) for _ in range(2))
    loss.discriminator(real, fake).mean().backward()
    assert real.grad is not None and (real.grad < 0).all()
    assert fake.grad is not None and (fake.grad > 0).all()
    fake.grad = None
    loss.generator(fake).mean().backward()
    assert (fake.grad < 0).all()


def test_feature_matching_is_eq_5() -> None:
    real = [torch.tensor([[1.0, 3.0]]), torch.zeros(1, 4)]
    fake = [torch.tensor([[2.0, 1.0]], requires_grad=True), torch.full((1, 4), 0.5)]
    # layer means 1.5 and 0.5, summed over the T = 2 layers
    loss = FeatureMatching()(real, fake).mean()
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    assert fake[0].grad is not None and fake[0].grad.abs().sum() > 0


def test_feature_matching_weighs_every_layer_by_its_size_and_trains_the_fake_side_only() -> None:
    """1/N_i of eq. 5: a layer of many activations counts as much as one of few."""
    rng = np.random.default_rng(0)
    shapes = ((2, 4, 6, 8), (2, 8, 3, 4), (2, 16, 2, 2))
    real, fake = ([rng.normal(size=s) for s in shapes] for _ in range(2))
    expected = sum(np.abs(r - f).sum() / r.size for r, f in zip(real, fake, strict=True))
    given = [[torch.tensor(a, requires_grad=True) for a in side] for side in (real, fake)]
    loss = FeatureMatching()(*given).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(r.grad is None for r in given[0])
    for r, f in zip(*given, strict=True):
        torch.testing.assert_close(f.grad, (f - r).sign().detach() / f.numel())


def test_edge_loss_is_eq_4() -> None:
    target = torch.zeros(1, 1, 32, 32)
    sides = [torch.zeros(1, 1, 32 >> i, 32 >> i) for i in range(6)]
    # BCE of probability 1/2 against anything is log 2
    assert EdgeLoss((1, 1, 1, 1, 1, 1))(sides, target).mean().item() == pytest.approx(6 * math.log(2), rel=1e-5)
    assert EdgeLoss((0, 0, 3, 0, 0, 0))(sides, target).mean().item() == pytest.approx(3 * math.log(2), rel=1e-5)
    with pytest.raises(ValueError, match="6 constants"):
        EdgeLoss((1, 1))
    sides[0] = torch.full((1, 1, 32, 32), -2.0)
    expected = math.log(1 + math.exp(-2)) + 5 * math.log(2)
    assert EdgeLoss()(sides, target).mean().item() == pytest.approx(expected, rel=1e-5)
    assert FusedEdgeLoss()(sides[0], target).mean().item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)


def enlarged(side: npt.NDArray[np.float64], times: int) -> npt.NDArray[np.float64]:
    """Bilinear doubling of a square map by hand: each new pixel lies a quarter of an old one from its neighbour."""
    for _ in range(times):
        for axis in (0, 1):
            rows = np.moveaxis(side, axis, 0)
            before, after = np.concatenate([rows[:1], rows[:-1]]), np.concatenate([rows[1:], rows[-1:]])
            pairs = np.stack([0.75 * rows + 0.25 * before, 0.75 * rows + 0.25 * after], 1)
            side = np.moveaxis(pairs.reshape(-1, *rows.shape[1:]), 0, axis)
    return side


def test_edge_loss_is_eq_4_on_maps_of_all_values() -> None:
    rng = np.random.default_rng(0)
    a = (0.5, 1.0, 1.5, 2.0, 0.25, 0.75)
    target = (rng.random((32, 32)) > 0.8).astype(float)
    sides = [rng.normal(size=(32 >> i, 32 >> i)) for i in range(6)]
    expected = 0.0
    for i, (a_i, d_i) in enumerate(zip(a, sides, strict=True)):
        probability = 1 / (1 + np.exp(-enlarged(d_i, i)))
        expected += a_i * -np.mean(target * np.log(probability) + (1 - target) * np.log(1 - probability))
    given = [torch.tensor(d)[None, None] for d in sides]
    found = EdgeLoss(a)(given, torch.tensor(target, dtype=torch.float32)[None, None]).mean()
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_eq_4_trains_the_sides_and_not_the_ensemble_which_its_own_loss_trains() -> None:
    torch.manual_seed(0)
    dned = DNED(1, (4, 4, 4, 4, 4), 1)
    target = (torch.rand(1, 1, 32, 32) > 0.8).float()
    sides = dned.sides(target)
    EdgeLoss()(sides, target).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in dned.side.parameters())
    assert dned.ensemble_logits.grad is None
    FusedEdgeLoss()(dned(target).fused, target).mean().backward()
    assert dned.ensemble_logits.grad is not None and dned.ensemble_logits.grad.abs().sum() > 0


def test_pixel_loss() -> None:
    assert Pixel()(torch.tensor([0.5, -0.5]), torch.tensor([0.0, 0.5])).mean().item() == pytest.approx(0.75)


def test_tone_loss_sees_light_and_not_texture() -> None:
    x = torch.zeros(1, 3, 32, 32)
    texture = (1 - 2 * (torch.arange(32) % 2)).float().expand(1, 3, 32, 32) * 0.5
    assert Tone()(x, texture).mean().item() == pytest.approx(0)
    assert Tone()(x, texture + 0.25).mean().item() == pytest.approx(0.25)


def test_chroma_loss_sees_colour_and_not_light() -> None:
    x = torch.zeros(1, 3, 4, 4)
    assert Chroma()(x, x + 0.5).mean().item() == pytest.approx(0, abs=1e-7)
    red = x.clone()
    red[:, 0] = 1  # of BT.601: Cb = -0.168736, Cr = 0.5
    assert Chroma()(x, red).mean().item() == pytest.approx((0.168736 + 0.5) / 2, rel=1e-5)
    noise = 1 - 2 * (torch.arange(4) % 2).float().expand(1, 4, 4)
    x[:, 0] = noise  # which no block mean sees
    assert Tone()(F.pad(x, (0, 12, 0, 12)), torch.zeros(1, 3, 16, 16)).mean().item() == pytest.approx(0, abs=1e-7)
    assert Chroma()(x, torch.zeros_like(x)).mean().item() > 0.3


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
        assert Perceptual(network, blur=False, normalise=False)(x, fake).item() == pytest.approx(expected)
        assert Perceptual(network, blur=False)(x, fake).item() != pytest.approx(expected)


class Doubling(FeatureNetwork):
    """Slices whose values are known: the picture times 1, 2, 4, 8 and 16."""

    def features(self, image: Tensor) -> list[Tensor]:
        return [image * 2**i for i in range(5)]


def test_perceptual_slices_weigh_what_eq_6_or_pix2pixhd_gives_them() -> None:
    x, fake = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.25)
    # L1 by slice: 0.25, 0.5, 1, 2, 4
    assert Perceptual(Doubling(), blur=False, normalise=False)(x, fake).item() == pytest.approx(7.75 / 5)
    weighed = Perceptual(Doubling(), blur=False, normalise=False, slice_weights=PIX2PIXHD_WEIGHTS)
    expected = 0.25 / 32 + 0.5 / 16 + 1 / 8 + 2 / 4 + 4
    assert weighed(x, fake).item() == pytest.approx(expected)
    # every slice is half as large as its real features
    assert Perceptual(Doubling(), blur=False)(x, fake).item() == pytest.approx(0.5, abs=2e-3)
    with pytest.raises(ValueError, match="2 factors for a network of 5 slices"):
        Perceptual(Doubling(), slice_weights=(1, 1))(x, fake)


def test_perceptual_blur_hides_a_checkerboard() -> None:
    """A frozen strided network would pay for a grid of period 2; the blur leaves that to the other losses."""
    torch.manual_seed(0)
    x = torch.zeros(1, 3, 32, 32)
    sign = 1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)
    grid = (x + 0.3 * sign)[..., :, :]
    inner = Perceptual(UNetSegmenter(4, 4))._prepare(grid)[..., 1:-1, 1:-1]
    assert inner.abs().max() < 1e-6
