"""Colour hints: block means by hand, and what they do in the network."""

import pytest
import torch

from models.edges import EdgeSettings
from models.hints import chroma_limits, colour_hints, draw_variations, hues_of, vary_hints
from models.layers import HalfChroma
from models.nets.sflow import SFlowNetwork

ROAD, CAR = 0, 1


def hinting(*classes: int, keep_hues: bool = False) -> SFlowNetwork:
    torch.manual_seed(0)
    return SFlowNetwork("lite", 3, EdgeSettings(), hint_classes=classes, keep_hues=keep_hues).eval()


def flat(*colour: float) -> torch.Tensor:
    return torch.tensor(colour)[None, :, None, None].expand(1, 3, 16, 16)


def cb_cr(rgb: torch.Tensor) -> torch.Tensor:
    """``(2,)`` of a picture of one colour, by the textbook's formula."""
    red, green, blue = rgb[0, :3, 0, 0]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([(blue - luma) / 1.772, (red - luma) / 1.402])


def test_block_means_of_hinted_classes_alone() -> None:
    rgb = torch.full((1, 3, 16, 16), -1.0)
    labels = torch.zeros(1, 16, 16, dtype=torch.uint8)
    labels[:, :8, :4] = CAR
    rgb[:, 0, :8, :2], rgb[:, 0, :8, 2:4] = 1.0, 0.5
    rgb[:, 1, :8, 4:8] = 1.0  # road beside the car: not its colour
    hints = colour_hints(rgb, labels, torch.tensor([False, True, False]))
    assert hints.shape == (1, 4, 2, 2)
    assert hints[0, :, 0, 0].tolist() == pytest.approx([0.75, -1.0, -1.0, 0.5])
    assert hints[0].flatten(1)[:, 1:].abs().sum() == 0


def test_one_pixel_gives_its_own_colour() -> None:
    rgb, labels = torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    labels[0, 3, 3], rgb[0, :, 3, 3] = CAR, torch.tensor([0.2, -0.4, 0.6])
    hints = colour_hints(rgb, labels, torch.tensor([False, True]))
    assert hints.flatten().tolist() == pytest.approx([0.2, -0.4, 0.6, 1 / 64])


def test_variation_keeps_what_is_empty_and_drops_whole_samples() -> None:
    hints = torch.rand(400, 4, 2, 2)
    hints[:, :, 0, 0] = 0
    varied = vary_hints(hints, draw_variations(400, 0.3, 0.25, torch.Generator().manual_seed(1)))
    assert varied[:, :, 0, 0].abs().sum() == 0
    dropped = (varied == 0).flatten(1).all(1)
    assert dropped.float().mean() == pytest.approx(0.25, abs=0.07)
    assert not torch.equal(varied[~dropped], hints[~dropped]) and varied[:, :3].abs().max() <= 1
    same = vary_hints(hints, draw_variations(400, 0.0, 0.0, torch.Generator().manual_seed(1)))
    assert torch.allclose(same, hints, atol=1e-6)


def test_limits_are_the_chroma_of_each_classs_blocks() -> None:
    colour = torch.tensor([200, 60, 40], dtype=torch.uint8)
    rgb, labels = torch.full((352, 80, 3), 90, dtype=torch.uint8), torch.zeros(352, 80, dtype=torch.uint8)
    labels[:, 40:], rgb[:, 40:] = CAR, colour
    labels[:8, :8], rgb[:8, :8] = 2, torch.tensor([0, 0, 255], dtype=torch.uint8)  # one block: too few to tell
    rgb[24:32, 56:64] = torch.tensor([0, 255, 0], dtype=torch.uint8)  # one lamp does not count
    limits = chroma_limits([(rgb, labels)], 4)
    of_car = cb_cr(colour[None, :, None, None] / 127.5 - 1).norm().item()
    assert limits[:2].tolist() == pytest.approx([0.0, of_car], abs=1e-5)
    assert limits[2] == limits[3] == pytest.approx(of_car, rel=0.05), "rare classes have the limit of all"
    assert chroma_limits([], 2).tolist() == [0.0, 0.0]


def test_limited_hints_keep_hue_and_luma_and_come_near_the_limit() -> None:
    labels = torch.full((1, 16, 16), CAR, dtype=torch.uint8)
    hinted, limits = torch.tensor([False, True]), torch.tensor([0.9, 0.2])
    vivid, dull = flat(0.9, -0.5, -0.7), flat(0.05, 0.0, -0.02)
    of_vivid, of_dull = (colour_hints(rgb, labels, hinted, limits) for rgb in (vivid, dull))
    before, after = cb_cr(vivid), cb_cr(of_vivid)
    assert 0.19 < after.norm() <= 0.2 < before.norm()
    assert torch.allclose(after / after.norm(), before / before.norm(), atol=1e-5)
    luma = torch.tensor([0.299, 0.587, 0.114])
    assert (of_vivid[0, :3, 0, 0] @ luma).item() == pytest.approx((vivid[0, :, 0, 0] @ luma).item(), abs=1e-5)
    assert torch.allclose(of_dull[:, :3], dull[:, :, :2, :2], atol=2e-3)


def test_hues_added_are_those_of_the_hints() -> None:
    grey = flat(-0.2, -0.2, -0.2)
    hints = torch.cat([flat(0.3, -0.1, -0.1)[..., :2, :2], torch.ones(1, 1, 2, 2)], 1)
    added = grey + hues_of(hints, 8)
    assert added.shape == grey.shape
    assert torch.allclose(cb_cr(added), cb_cr(hints), atol=1e-6)
    assert torch.allclose(added - added.mean((2, 3), keepdim=True), torch.zeros(()), atol=1e-6)
    assert torch.allclose(HalfChroma()(grey, hues_of(hints, 4)), added, atol=1e-6)
    hints[:, 3] = 0.5
    assert torch.allclose(cb_cr(hues_of(hints, 8)), cb_cr(hints) / 2, atol=1e-6), "of half the block's pixels"


def test_a_network_that_keeps_hues_shows_one_that_it_never_saw() -> None:
    network = hinting(CAR, keep_hues=True)
    assert network.chroma_limits is not None and not network.chroma_limits.any()
    labels = torch.full((1, 64, 64), CAR, dtype=torch.uint8)
    grey = torch.full((1, 64, 64, 3), 110, dtype=torch.uint8)
    green = torch.tensor([70, 135, 84], dtype=torch.uint8).expand(1, 64, 64, 3).contiguous()
    assert torch.equal(network.operator(grey), network.operator(green))
    unmeasured = network.translate(green, labels)[0].float().mean((0, 1, 2))
    network.chroma_limits.fill_(0.5)
    difference = network.translate(green, labels)[0].float().mean((0, 1, 2)) - unmeasured
    assert difference[1] > 15 and difference[0] < -15 and difference[2] < 0
    kept = SFlowNetwork(edge=EdgeSettings(), **network.args)
    kept.load_state_dict(network.state_dict())
    assert kept.chroma_limits is not None and kept.chroma_limits[0] == 0.5


def test_only_the_colour_of_hinted_classes_reaches_the_picture() -> None:
    network = hinting(CAR)
    labels = torch.zeros(1, 50, 70, dtype=torch.uint8)  # no multiple of the stride
    labels[:, 16:40, 16:50] = CAR
    grey = torch.full((1, 50, 70, 3), 100, dtype=torch.uint8)
    red_car, red_road = grey.clone(), grey.clone()
    red_car[0][labels[0] == CAR] = torch.tensor([120, 90, 90], dtype=torch.uint8)
    red_road[0][labels[0] == ROAD] = torch.tensor([120, 90, 90], dtype=torch.uint8)
    plain = network.translate(grey, labels)[0]
    assert torch.equal(network.operator(grey), network.operator(red_car)), "the edges are the same"
    assert not torch.equal(network.translate(red_car, labels)[0], plain)
    assert torch.equal(network.translate(red_road, labels)[0], plain)


def test_a_network_without_hints_is_the_one_it_was() -> None:
    network = hinting()
    assert network.generator.hint_projection is None and network.args["hint_classes"] == []
    assert not any("hint" in name for name in network.state_dict())


def test_unknown_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hint_classes are \[3\], but there are 3 classes"):
        hinting(3)


def test_no_hints_are_what_training_drops() -> None:
    network = hinting(CAR)
    for conv in (network.generator.hint_projection, network.generator.hint_up):
        assert conv is not None
        torch.nn.init.normal_(conv.weight)
        assert conv.bias is not None
        torch.nn.init.normal_(conv.bias)  # a bias reaches the picture though all hints are zero
    rgb = torch.randint(0, 256, (1, 32, 64, 3), dtype=torch.uint8)
    labels = torch.full((1, 32, 64), CAR, dtype=torch.uint8)
    edges = network.operator(rgb).float()
    assert torch.equal(network(labels, edges).image, network(labels, edges, hints=torch.zeros(1, 4, 4, 8)).image)
    assert not torch.equal(network.translate_edges(edges, labels)[0], network.translate(rgb, labels)[0])
    assert torch.equal(network.translate_edges(edges, labels, hints_from=rgb)[0], network.translate(rgb, labels)[0])
