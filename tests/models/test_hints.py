"""Colour hints: block means by hand, and what they do in the network."""

import pytest
import torch

from models.edges import EdgeSettings
from models.hints import colour_hints, draw_variations, vary_hints
from models.network import SFlowNetwork

ROAD, CAR = 0, 1


def hinting(*classes: int) -> SFlowNetwork:
    torch.manual_seed(0)
    return SFlowNetwork("lite", 3, EdgeSettings(), hint_classes=classes).eval()


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
