"""The networks: shapes, determinism, what the generator may see, and the size of the tiers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.edges import EdgeSettings
from models.layers import LUMA, BilinearDoubling, HalfChroma, double, extend, space_to_depth_ids, unshuffle
from models.nets.dned import DNED, SIDES, enlarge_side, fuse_sides
from models.nets.generator import TIERS
from models.nets.sflow import SFlowNetwork, edges_to_pixels, pad_to_stride, to_pixels
from models.style import AXES, draw_weights, ensemble_weights, style_offsets

EDGE = EdgeSettings(threshold=0.11, blur=1.5, contrast_window=31, signed=True)


@pytest.fixture(scope="module")
def network() -> SFlowNetwork:
    torch.manual_seed(0)
    return SFlowNetwork("lite", 12, EDGE).eval().to(memory_format=torch.channels_last)


def scene(height: int, width: int, count: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (count, height, width, 3), np.uint8)
    blocks = rng.integers(0, 12, (count, height // 8 + 1, width // 8 + 1), np.uint8)
    labels = blocks.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    return torch.from_numpy(rgb), torch.from_numpy(np.ascontiguousarray(labels))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (50, 75), (1, 1), (33, 64), (45, 80)])
def test_any_size_comes_out_at_its_own_size(network: SFlowNetwork, height: int, width: int) -> None:
    image, edges = network.translate(*scene(height, width))
    assert image.shape == (1, height, width, 3) and image.dtype == torch.uint8
    assert edges.shape == (1, height, width) and edges.dtype == torch.uint8


def test_padding_does_not_change_sizes_that_divide(network: SFlowNetwork) -> None:
    rgb, labels = scene(64, 96)
    with torch.inference_mode():
        out = network(labels, network.operator(rgb).float())
    assert torch.equal(network.translate(rgb, labels)[0], to_pixels(out.image))


def test_what_is_padded_is_cropped_where_it_was_added(network: SFlowNetwork) -> None:
    """Sizes that do not divide are the top left of the padded picture."""
    rgb, labels = scene(50, 75)
    padded_labels, edges = pad_to_stride(labels, network.operator(rgb).float())
    assert padded_labels.shape == (1, 64, 96) and edges.shape == (1, 2, 64, 96)
    assert torch.equal(padded_labels[:, :50, :75], labels) and not edges[:, :, 50:].any()
    with torch.inference_mode():
        whole = network(padded_labels, edges)
    image, seen = network.translate(rgb, labels)
    assert torch.equal(image, to_pixels(whole.image)[:, :50, :75])
    assert torch.equal(seen, edges_to_pixels(whole.edges)[:, :50, :75])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_to_pixels_is_even_and_saturates(dtype: torch.dtype) -> None:
    assert edges_to_pixels(torch.ones(1, 1, 2, 2, dtype=dtype)).eq(255).all()
    image = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64).to(dtype)
    exact = image.double() * 127.5 + 127.5
    error = to_pixels(image).permute(0, 3, 1, 2).double() - exact
    assert abs(error.mean().item()) < 0.05 and error.abs().max() <= 0.51


def test_a_frame_is_treated_the_same_alone_and_in_a_batch(network: SFlowNetwork) -> None:
    rgb, labels = scene(64, 64, count=3)
    together, _ = network.translate(rgb, labels)
    alone = torch.cat([network.translate(rgb[i : i + 1], labels[i : i + 1])[0] for i in range(3)])
    assert (together.int() - alone.int()).abs().max() <= 1


def test_no_cg_pixel_reaches_the_generator(network: SFlowNetwork) -> None:
    """Pictures of equal edge maps and labels, but other colours, give the same photoreal frame."""
    rgb, labels = scene(64, 96)
    dark = rgb // 4
    light = dark + 120
    assert torch.equal(network.operator(dark), network.operator(light))
    assert torch.equal(network.translate(dark, labels)[0], network.translate(light, labels)[0])


def test_labels_and_edges_both_reach_the_picture(network: SFlowNetwork) -> None:
    rgb, labels = scene(64, 96)
    base = network.translate(rgb, labels)[0]
    assert not torch.equal(base, network.translate(rgb, (labels + 1) % 12)[0])
    assert not torch.equal(base, network.translate(torch.zeros_like(rgb), labels)[0])


def test_bfloat16_stays_close_to_float32() -> None:
    torch.manual_seed(0)
    exact = SFlowNetwork("lite", 12, EDGE).eval()
    rgb, labels = scene(64, 96)
    expected, _ = exact.translate(rgb, labels)
    rounded, _ = exact.to(torch.bfloat16).translate(rgb, labels)
    difference = (expected.int() - rounded.int()).abs().float()
    assert difference.mean() < 2 and difference.max() < 40
    assert (expected.float() - rounded.float()).mean().abs() < 0.2


def test_fused_sides_equal_the_sum_of_sides_enlarged_one_by_one() -> None:
    torch.manual_seed(0)
    dned = DNED(2, (8, 8, 8, 8, 8), 1).eval()
    edges = (torch.rand(2, 2, 64, 96) > 0.8).float()
    weights = torch.softmax(torch.randn(2, SIDES), 1)
    sides = dned.sides(edges)
    assert [tuple(s.shape[1:]) for s in sides] == [(2, 64 >> i, 96 >> i) for i in range(SIDES)]
    direct = sum(weights[:, i, None, None, None] * enlarge_side(sides[i], i) for i in range(SIDES))
    assert isinstance(direct, Tensor)
    torch.testing.assert_close(fuse_sides(sides, weights), direct, atol=1e-5, rtol=1e-5)


def test_ensemble_weights_choose_sides() -> None:
    torch.manual_seed(0)
    dned = DNED(1, (8, 8, 8, 8, 8), 1).eval()
    edges = (torch.rand(1, 1, 64, 64) > 0.8).float()
    sides = dned.sides(edges)
    for i in range(SIDES):
        only = F.one_hot(torch.tensor([i]), SIDES).float()
        torch.testing.assert_close(dned(edges, only).fused, enlarge_side(sides[i], i))


def test_style_seeds_are_repeatable_and_differ() -> None:
    logits = torch.randn(SIDES, generator=torch.Generator().manual_seed(3))
    assert torch.equal(ensemble_weights(logits, 0, 2.0), torch.softmax(logits, 0))
    drawn = [ensemble_weights(logits, seed, 2.0) for seed in range(1, 6)]
    assert all(torch.equal(w, ensemble_weights(logits, seed, 2.0)) for seed, w in enumerate(drawn, 1))
    assert all(w.sum().item() == pytest.approx(1) and (w > 0).all() for w in drawn)
    gaps = [(a - b).abs().max() for i, a in enumerate(drawn) for b in drawn[i + 1 :]]
    assert min(gaps) > 0.05


def test_neighbouring_seeds_lie_far_apart_in_style() -> None:
    logits = torch.zeros(SIDES)
    offsets = torch.stack([style_offsets(ensemble_weights(logits, s, 1.0)[None], logits)[0] for s in range(6)])
    assert offsets[0].abs().max() < 1e-6
    assert torch.pdist(offsets).min() > 1


def test_style_centre_moves_all_seeds_but_the_learned_one() -> None:
    plain = SFlowNetwork("lite", 12, EDGE, style_spread=0.5)
    moved = SFlowNetwork("lite", 12, EDGE, style_spread=0.5, style_centre=[0.8, 0, 0, 0, 0])
    assert torch.equal(plain.style_weights(0), moved.style_weights(0))
    for seed in range(1, 20):
        apart = torch.log(moved.style_weights(seed) / plain.style_weights(seed)) @ AXES.T
        assert apart.tolist() == pytest.approx([0.4, 0, 0, 0, 0], abs=1e-5)
    with pytest.raises(ValueError, match="style_centre has 2 numbers, but styles have 5 axes"):
        SFlowNetwork("lite", 12, EDGE, style_centre=[0.8, 0])


def test_style_reach_draws_seeds_nearer_to_the_learned_weights() -> None:
    near, far = (SFlowNetwork("lite", 12, EDGE, style_spread=0.5, style_reach=[reach] * 5) for reach in (0.5, 1.0))
    for network in (near, far):
        network.dned.ensemble_logits.data.zero_()
    offsets = [style_offsets(n.style_weights(3)[None], n.dned.ensemble_logits)[0] for n in (near, far)]
    centred = [o - o.mean() for o in offsets]
    torch.testing.assert_close(2 * centred[0], centred[1], atol=1e-5, rtol=0)


def test_style_input_is_an_option_and_starts_without_effect() -> None:
    """The paper's generator sees the edge map alone; with the option it is told the weights as well."""
    torch.manual_seed(0)
    told = SFlowNetwork("lite", 12, EDGE, style_input=True).eval()
    assert SFlowNetwork("lite", 12, EDGE).generator.style_projection is None
    labels, edges = scene(64, 64)[1], (torch.rand(1, 2, 64, 64) > 0.8).float()
    with torch.inference_mode():
        assert torch.equal(told.generator(labels, edges, torch.ones(1, SIDES)), told.generator(labels, edges))
        assert told.generator.style_projection is not None
        told.generator.style_projection.weight.fill_(0.5)
        assert not torch.equal(told.generator(labels, edges, torch.ones(1, SIDES)), told.generator(labels, edges))
        learned = told.style_weights(0)[None]
        torch.testing.assert_close(told(labels, edges, learned).image, told(labels, edges).image, atol=1e-4, rtol=0)


def test_training_draws_keep_a_share_of_learned_weights() -> None:
    logits = torch.zeros(SIDES)
    weights = draw_weights(logits, 2000, 1.0, 0.3, torch.Generator().manual_seed(0))
    learned = (weights - 1 / SIDES).abs().max(1).values < 1e-6
    assert 0.25 < learned.float().mean() < 0.35


def test_doubling_equals_bilinear_interpolation() -> None:
    x = torch.randn(2, 3, 7, 10)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(double(x), expected)
    torch.testing.assert_close(BilinearDoubling(3)(x, 2), extend(expected, 2))


def test_unshuffles_equal_torchs() -> None:
    x = torch.randn(2, 3, 6, 8)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(unshuffle(x.to(dtype)), F.pixel_unshuffle(x.to(dtype), 2))
    assert torch.equal(unshuffle(x.requires_grad_()), F.pixel_unshuffle(x, 2))
    ids = torch.randint(0, 255, (2, 6, 8), dtype=torch.uint8)
    expected = F.pixel_unshuffle(ids[:, None].float(), 2).permute(0, 2, 3, 1).to(torch.uint8)
    assert torch.equal(space_to_depth_ids(ids), expected)


def multiply_adds(network: nn.Module, height: int, width: int) -> float:
    """Multiply-adds of all convolutions for one frame, in units of 1e9."""
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += module.weight.numel() * output.shape[-1] * output.shape[-2]

    handles = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.device("meta"), torch.no_grad():
        labels = torch.zeros(1, height, width, dtype=torch.uint8)
        network.to("meta")(labels, torch.zeros(1, 2, height, width))
    for handle in handles:
        handle.remove()
    return total / 1e9


@pytest.mark.parametrize(("tier", "low", "high"), [("lite", 3, 5), ("base", 25, 35), ("full", 115, 145)])
def test_tiers_are_in_their_class(tier: str, low: float, high: float) -> None:
    """512x256; pix2pixHD's global generator has 122."""
    assert low < multiply_adds(SFlowNetwork(tier, 35, EDGE), 256, 512) < high


def test_unknown_tier_is_refused() -> None:
    with pytest.raises(ValueError, match="'huge', known are lite, base, full"):
        SFlowNetwork("huge", 12, EDGE)
    assert set(TIERS) == {"lite", "base", "full"}


def test_half_chroma_keeps_light_and_even_colours_and_takes_colour_noise_away() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 16, 24) - 0.5  # far from what would be clipped
    light = torch.tensor(LUMA)[:, None, None]
    out = HalfChroma()(x)
    torch.testing.assert_close((out * light).sum(1), (x * light).sum(1), atol=1e-5, rtol=0)
    even = torch.tensor([0.5, -0.2, 0.1])[:, None, None].expand(1, 3, 16, 24)
    torch.testing.assert_close(HalfChroma()(even), even, atol=1e-6, rtol=0)
    squares = (1 - 2 * (torch.arange(24) % 2)) * (1 - 2 * (torch.arange(16) % 2))[:, None]
    noise = even / 2 + torch.tensor([0.3, 0, -0.3 * LUMA[0] / LUMA[2]])[:, None, None] * squares  # of one light
    torch.testing.assert_close(HalfChroma()(noise), even / 2, atol=1e-5, rtol=0)


def test_a_network_of_half_chroma_is_told_by_its_arguments_and_has_the_same_weights() -> None:
    torch.manual_seed(0)
    whole, half = SFlowNetwork("lite", 12, EDGE), SFlowNetwork("lite", 12, EDGE, half_chroma=True)
    half.load_state_dict(whole.state_dict())
    assert half.args == whole.args | {"half_chroma": True}
    labels, edges = torch.zeros(1, 32, 64, dtype=torch.uint8), (torch.rand(1, 2, 32, 64) > 0.8).float()
    with torch.no_grad():
        expected = HalfChroma()(whole(labels, edges).image)
        torch.testing.assert_close(half(labels, edges).image, expected)
