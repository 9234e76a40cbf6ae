"""The network that keeps the render: identity at the start, exact at strength 0, and its size."""

import pytest
import torch
from torch import Tensor, nn

from models.edges import EdgeSettings
from models.layers import BilinearDoubling, luma_of
from models.nets.enhance import BLACK, CAMERA_SPREAD, STRONG, EnhanceNetwork, pad_picture

CLASSES = 12


def scene(height: int, width: int, count: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)
    blocks = torch.randint(0, CLASSES, (count, height // 8 + 1, width // 8 + 1), generator=generator, dtype=torch.uint8)
    labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width].contiguous()
    return rgb, labels


def fresh(tier: str = "lite", **settings: object) -> EnhanceNetwork:
    torch.manual_seed(0)
    return EnhanceNetwork(tier, CLASSES, **settings).eval()  # type: ignore[arg-type]


def trained(**settings: object) -> EnhanceNetwork:
    """As after a training: nothing is zero any more, and gains differ from place to place."""
    network = fresh(**settings)
    with torch.no_grad():
        network.gains.weight.normal_(std=3)
    return network


@pytest.mark.parametrize("tier", ["lite", "base"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_starts_as_the_identity(tier: str, dtype: torch.dtype) -> None:
    rgb, labels = scene(50, 75, 2)
    assert torch.equal(fresh(tier).to(dtype).translate(rgb, labels), rgb)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strength_0_is_the_render_bit_for_bit_and_1_is_not(dtype: torch.dtype) -> None:
    rgb = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(2, 1, 1, 3)
    labels, network = torch.zeros(2, 16, 16, dtype=torch.uint8), trained().to(dtype)
    assert torch.equal(network.translate(rgb, labels, strength=0.0), rgb)
    mixed = network.translate(rgb, labels, strength=torch.tensor([0.0, 1.0]))
    assert torch.equal(mixed[0], rgb[0])
    assert not torch.equal(mixed[1], rgb[1])


def test_strength_goes_straight_from_render_to_translation() -> None:
    rgb, labels = scene(32, 48)
    picture, network = rgb.permute(0, 3, 1, 2) / 127.5 - 1, trained()
    none, half, whole = (network(picture, labels, strength=s) for s in (0.0, 0.5, 1.0))
    assert torch.equal(none, picture)
    torch.testing.assert_close(half, (none + whole) / 2)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (50, 75), (1, 1), (33, 64), (45, 80)])
def test_any_size_comes_out_at_its_own_size(height: int, width: int) -> None:
    rgb, labels = scene(height, width)
    out = trained().translate(rgb, labels)
    assert out.shape == rgb.shape and out.dtype == torch.uint8


def test_what_is_padded_is_cropped_where_it_was_added() -> None:
    rgb, labels = scene(50, 75)
    network = trained()
    padded = pad_picture(rgb.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
    padded_labels = pad_picture(labels[:, None])[:, 0]
    assert padded.shape == (1, 64, 80, 3)
    whole = network.translate(padded, padded_labels)
    assert torch.equal(network.translate(rgb, labels), whole[:, :50, :75])


def test_a_frame_is_treated_the_same_alone_and_in_a_batch() -> None:
    rgb, labels = scene(64, 64, 3)
    network = trained()
    together = network.translate(rgb, labels)
    one = [network.translate(rgb[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert (together.int() - torch.cat(one).int()).abs().max() <= 1


def test_bfloat16_stays_close_to_float32() -> None:
    rgb, labels = scene(64, 96)
    network = trained()
    expected = network.translate(rgb, labels).float()
    difference = expected - network.to(torch.bfloat16).translate(rgb, labels).float()
    assert difference.abs().mean() < 2 and difference.mean().abs() < 0.3


def test_render_labels_and_style_all_reach_the_picture() -> None:
    rgb, labels = scene(64, 96)
    network = trained(looks=2)
    base = network.translate(rgb, labels)
    changed = [
        network.translate(rgb, (labels + 1) % CLASSES),
        network.translate(rgb, labels, network.style(1)[None]),
        network.translate(rgb, labels, network.style(0, seed=3)[None]),
    ]
    assert torch.equal(network.translate(rgb, labels), base)
    assert all(not torch.equal(out, base) for out in changed)
    assert not torch.equal(network.translate(rgb // 2, labels), base // 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_flat_surface_stays_flat(dtype: torch.dtype) -> None:
    """What the render does not show cannot slide over the screen when the scene moves."""
    network = trained().to(dtype)
    labels = torch.randint(0, CLASSES, (1, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for level in (0, 37, 128, 255):
        flat = torch.full((1, 64, 64, 3), level, dtype=torch.uint8)
        assert torch.equal(network.translate(flat, labels), flat)


def test_detail_changes_light_within_the_bound_of_its_class_and_leaves_hues() -> None:
    rgb, labels = scene(64, 96)
    network = fresh()
    with torch.no_grad():
        network.gains.bias.copy_(torch.tensor([90.0, -90, 90, -90]))
        network.detail.copy_(torch.linspace(0, 1.2, CLASSES))
    picture = rgb.permute(0, 3, 1, 2) / 127.5 - 1
    bands = network.bands(luma_of(picture))
    wanted = (
        torch.expm1(network.detail[labels.long()][:, None] * torch.tensor([1.0, -1, 1, -1]).view(1, 4, 1, 1)) * bands
    )
    made = network(picture, labels).detach()
    torch.testing.assert_close(luma_of(made) - luma_of(picture), wanted.sum(1, keepdim=True), atol=1e-4, rtol=1e-3)
    factor = (made + 1 + 2 * BLACK) / (picture + 1 + 2 * BLACK)
    assert torch.allclose(factor[:, :1].expand(-1, 3, -1, -1), factor, atol=1e-3)  # one for red, green and blue


def test_bands_add_up_to_fine_detail_and_leave_edges_alone() -> None:
    bands = fresh().bands
    faint = 0.02 * torch.sin(torch.arange(64) * 2.0).view(1, 1, 1, -1).expand(1, 1, 64, 64)  # a period of 3.1 pixels
    split = bands(faint)
    torch.testing.assert_close(split.sum(1, keepdim=True)[..., 16:48], faint[..., 16:48], atol=2e-3, rtol=0)
    assert split[:, 0].abs().max() > 3 * split[:, 2:].abs().max()
    edge = torch.ones(1, 1, 64, 64)
    edge[..., 32:] = -1
    assert bands(edge).abs().max() <= STRONG


def test_detail_moves_with_the_scene() -> None:
    """Bands are the same wherever on the grid of strides something is."""
    picture = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(1)) * 0.1
    bands = fresh().bands
    whole = bands(picture)[..., 32:64, 32:64]
    for move in (1, 2, 3):
        moved = bands(picture.roll(move, 3))[..., 32:64, 32 + move : 64 + move]
        assert (moved - whole)[:, :2].abs().max() < 1e-6
        assert (moved - whole).abs().max() < 0.1 * whole.abs().max()


def test_bands_are_exact_under_autocast() -> None:
    picture = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = fresh().bands(picture)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fresh().bands(picture), expected)


def test_tables_stay_exact_in_bfloat16() -> None:
    network = fresh()
    network.grades[0, 0, 0] = 1.003
    half = network.to(torch.bfloat16)
    assert half.grades.dtype == half.detail.dtype == torch.float32 and half.grades[0, 0, 0] == torch.tensor(1.003)


def test_a_grade_is_what_its_table_says() -> None:
    network = fresh(looks=2)
    network.grades[1, :, :5] = torch.tensor([0.5, 2, 0.1, 0, -0.1])
    network.grades[1, :, 5:] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    rgb = torch.tensor([0.5, -0.1, 0.2]).view(1, 3, 1, 1).expand(-1, -1, 32, 32)
    labels = torch.zeros(1, 32, 32, dtype=torch.uint8)
    luma = 0.299 * 0.5 - 0.587 * 0.1 + 0.114 * 0.2
    wanted = [0.5 * luma + 2 * (c - luma) + o for c, o in zip((0.5, -0.1, 0.2), (0.1, 0, -0.1), strict=True)]
    made, bands = network.graded(rgb, labels, network.style(1)[None])
    torch.testing.assert_close(made[0, :, 16, 16], torch.tensor(wanted))
    torch.testing.assert_close(bands[0, :, 16, 16], torch.tensor([0.1, 0.2, 0.3, 0.4]))
    untouched, bands = network.graded(rgb, labels, network.style(0)[None])
    torch.testing.assert_close(untouched, rgb)
    assert not bands.any()


def test_a_grade_scales_the_bands_of_its_class() -> None:
    network = fresh()
    network.grades[0, 1, 5:] = torch.tensor(0.5).log()
    picture = (0.02 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))).expand(-1, 3, -1, -1)
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    labels[:, :, 32:] = 1
    made = network(picture, labels).detach()
    torch.testing.assert_close(made[..., :24], picture[..., :24])
    fine = [network.bands(p[:, :1])[:, :1, 16:48, 40:56].std() for p in (picture, made)]
    assert fine[1] / fine[0] == pytest.approx(0.5, abs=0.05)


def test_a_seed_varies_the_camera_and_not_the_texture() -> None:
    network, (rgb, labels) = trained(), scene(32, 32)
    style = torch.tensor([[1.0, 1.0, 0.0, 0.0, 2.0]])  # light, warmth
    picture = rgb.permute(0, 3, 1, 2) / 127.5 - 1
    plain, bands = network.graded(picture, labels, network.style()[None])
    shift = torch.tensor(CAMERA_SPREAD[0]) + torch.tensor([2.0, 0, -2]) * CAMERA_SPREAD[3]
    varied, same = network.graded(picture, labels, style)
    torch.testing.assert_close(varied - plain, shift.view(1, 3, 1, 1).expand_as(plain), atol=1e-5, rtol=0)
    assert torch.equal(same, bands)


def test_edges_come_in_by_option() -> None:
    rgb, labels = scene(64, 96)
    network = trained(edge=EdgeSettings(threshold=0.11, blur=1.5, contrast_window=31, signed=True))
    edges = torch.zeros(1, 2, 64, 96)
    picture = rgb.permute(0, 3, 1, 2) / 127.5 - 1
    assert not torch.equal(network(picture, labels, edges=edges), network(picture, labels, edges=edges + 1))
    assert network.translate(rgb, labels).shape == rgb.shape


def test_seeds_vary_a_look_the_same_way_every_time() -> None:
    network = fresh(looks=3)
    assert network.style(2).tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert network.style([0.5, 0.5, 0]).tolist()[:3] == [0.5, 0.5, 0]
    assert torch.equal(network.style(1, 7), network.style(1, 7))
    assert not torch.equal(network.style(1, 7), network.style(1, 8))


@pytest.mark.parametrize("look", [3, -1, [1.0, 0.0], [0.0, 0.0, 0.0]])
def test_looks_that_there_are_not_are_refused(look: int | list[float]) -> None:
    with pytest.raises(ValueError, match=r"but there are 3, numbered from 0"):
        fresh(looks=3).style(look)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"tier": "huge"}, "known are lite, base"), ({"looks": 0}, "classes and looks are 12 and 0")],
)
def test_sizes_that_there_are_not_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fresh(**settings)  # type: ignore[arg-type]


def multiply_adds(network: EnhanceNetwork) -> float:
    """Of one 512x256 frame, in 1e9."""
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, BilinearDoubling):
            total += output.numel() * module.weight.shape[0] * 4

    for module in network.modules():
        module.register_forward_hook(count)
    network.translate(*scene(256, 512))
    return total / 1e9


@pytest.mark.parametrize(("tier", "most", "weights"), [("lite", 2.5, 1.3), ("base", 11, 5.5)])
def test_tiers_keep_to_their_size(tier: str, most: float, weights: float) -> None:
    network = fresh(tier, looks=2)
    assert 0.9 * most < multiply_adds(network) <= most
    assert 0.85 * weights < sum(p.numel() for p in network.parameters()) / 1e6 <= weights


def test_every_weight_learns_once_nothing_is_zero() -> None:
    network = trained(looks=2).train()
    rgb, labels = scene(32, 32, 2)
    style = torch.stack([network.style(0, 1), network.style(1, 2)])
    picture = rgb.permute(0, 3, 1, 2) / 127.5 - 1
    network(picture, labels, style).square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not without


def test_a_drawing_network_begins_as_one_that_does_not_and_draws_in_colour() -> None:
    network, (rgb, labels) = fresh(draws=True), scene(64, 96)
    picture = rgb.permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(network(picture, labels), picture)
    assert network.args["draws"] is True and network.pencil is not None
    network.pencil.draw.bias = nn.Parameter(torch.full((12,), 0.1))
    torch.testing.assert_close(network(picture, labels), picture + 0.1)
    assert torch.equal(network.translate(rgb, labels, strength=0.0), rgb)
