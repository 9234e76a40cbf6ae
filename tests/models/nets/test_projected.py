"""The projected discriminator: fixed mixing, what the heads see, and what trains."""

import pytest
import torch
from torch import Tensor, nn

from models.losses.adversarial import HingeGAN
from models.nets.efficientnet_lite import EfficientNetLite
from models.nets.projected import ProjectedDiscriminator

CHANNELS = (4, 6, 8, 10, 12)
CLASSES = 3


def maps(height: int = 64, width: int = 96, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = [(-(-height // s), -(-width // s)) for s in (2, 4, 8, 16, 32)]
    return [torch.randn(count, c, *size, generator=generator) for c, size in zip(CHANNELS, sizes, strict=True)]


def labels(height: int = 64, width: int = 96, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, CLASSES, (count, height, width), generator=generator, dtype=torch.uint8)


def small(style: int = 0, seed: int = 0) -> ProjectedDiscriminator:
    torch.manual_seed(0)
    return ProjectedDiscriminator(CHANNELS, CLASSES, style, mixed=8, width=8, seed=seed)


def test_mixing_comes_from_its_seed_is_saved_and_never_trains() -> None:
    one, same, other = small(), small(), small(seed=1)
    mixing = [name for name in one.state_dict() if "_mix" in name]
    assert len(mixing) == 5 + 4
    for name in mixing:
        assert torch.equal(one.state_dict()[name], same.state_dict()[name])
        assert not torch.equal(one.state_dict()[name], other.state_dict()[name])
    assert not {name for name, _ in one.named_parameters()} & set(mixing)


def test_five_heads_score_at_coarser_and_coarser_grids() -> None:
    scores = small()(maps(), labels())
    assert [tuple(s.shape) for s in scores] == [
        (2, 1, 8, 12), (2, 1, 8, 12), (2, 1, 4, 6), (2, 1, 4, 6), (2, 1, 2, 3)
    ]  # fmt: skip


def test_sizes_that_do_not_divide_are_judged() -> None:
    scores = small()(maps(50, 75), labels(50, 75))
    assert all(torch.isfinite(s).all() for s in scores)


def test_coarse_maps_reach_fine_heads_and_not_the_other_way() -> None:
    network, found = small().eval(), [m.requires_grad_() for m in maps()]
    finest, *_, coarsest = network(found, labels())
    to_fine = torch.autograd.grad(finest.sum(), found, retain_graph=True)
    assert all(g.abs().sum() > 0 for g in to_fine)
    to_coarse = torch.autograd.grad(coarsest.sum(), found, allow_unused=True)
    assert [g is not None for g in to_coarse] == [False] * 4 + [True]


def test_scores_depend_on_labels_and_style() -> None:
    network = small(style=2).eval()
    base = network(maps(), labels(), torch.zeros(2, 2))
    others = (
        network(maps(), (labels() + 1) % CLASSES, torch.zeros(2, 2)),
        network(maps(), labels(), torch.tensor([[0.0, 1.0], [0.0, 0.0]])),
    )
    assert all(not torch.equal(a, b) for a, b in zip(base, others[0], strict=True))
    for a, b in zip(base, others[1], strict=True):
        assert not torch.allclose(a[0], b[0]) and torch.allclose(a[1], b[1])


def test_maps_are_divided_by_their_size_on_photographs() -> None:
    network, photographs = small().eval(), maps()
    network.measure([m * 5 for m in photographs])
    scaled = network.mix([m * 5 for m in photographs])
    network.measure(photographs)
    for a, b in zip(scaled, network.mix(photographs), strict=True):
        torch.testing.assert_close(a, b)
        assert 0.2 < a.std() < 5


def test_every_scoring_layer_has_spectral_norm() -> None:
    for head in small().heads:
        layers = [*head.layers, head.score]  # type: ignore[misc]
        assert all(nn.utils.parametrize.is_parametrized(layer, "weight") for layer in layers)


def test_hinge_steps_tell_two_kinds_of_pictures_apart() -> None:
    """On real features: flat pictures against noisy ones, alone from what the frozen network sees."""
    torch.manual_seed(0)
    frozen, hinge = EfficientNetLite("lite0"), HingeGAN()
    network = ProjectedDiscriminator(frozen.channels, CLASSES, mixed=16, width=16)
    ids = labels(64, 64)
    with torch.no_grad():
        real = frozen.features(torch.randn(2, 3, 64, 64).clamp(-1, 1))
        fake = frozen.features(torch.zeros(2, 3, 64, 64))
    network.measure(real)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3, betas=(0.0, 0.99))
    losses = []
    for _ in range(12):
        pairs = zip(network(real, ids), network(fake, ids), strict=True)
        loss = torch.stack([hinge.discriminator(r, f).mean() for r, f in pairs]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 < 1.5 < losses[0]


def test_another_number_of_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="has 4 maps, but there are 5 heads"):
        ProjectedDiscriminator(CHANNELS[:4], CLASSES)
