"""Discriminators: how far a patch sees, what they are conditioned on, and that shipped weights still fit."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from models.bundles.files import TRAINING, load_tensors, shipped_bundles
from models.layers import label_boundary
from models.nets.discriminator import DiscriminatorSettings, Judgement, build_discriminator, one_hot

CLASSES = 5


def picture(height: int = 64, width: int = 96, count: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (count, height, width), generator=generator, dtype=torch.uint8)
    return labels, torch.rand(count, 3, height, width, generator=generator) * 2 - 1


def judge(planes: int = 0, edges: Tensor | None = None, **settings: Any) -> tuple[nn.Module, list[Judgement]]:
    torch.manual_seed(0)
    network = build_discriminator(DiscriminatorSettings(width=4, **settings), CLASSES, planes)
    return network, network(*picture(), edges)


@pytest.mark.parametrize(
    ("arch", "scale", "size"),
    [("space-to-depth", 0, 56), ("patch70", 0, 70), ("patch70", 1, 141), ("patch70", 2, 283)],
)
def test_a_score_sees_its_patch_and_nothing_else(arch: str, scale: int, size: int) -> None:
    """The receptive field, by differentiating one score in the middle by the picture."""
    torch.manual_seed(0)
    settings = DiscriminatorSettings(arch=arch, width=4, scales=3 if scale else 1)  # type: ignore[arg-type]
    network = build_discriminator(settings, CLASSES, 0).double()
    labels, image = picture(384, 448)
    image = image.double().requires_grad_()
    patches = network(labels, image)[scale].patches
    (gradient,) = torch.autograd.grad(patches[0, 0, patches.shape[2] // 2, patches.shape[3] // 2], image)
    seen = gradient.abs().sum((0, 1)) > 0
    for line in (seen.any(0), seen.any(1)):
        where = line.nonzero().flatten()
        assert int(where[-1] - where[0]) + 1 == size
    assert seen.sum() == size * size


def test_three_scales_judge_the_picture_averaged_to_half_and_quarter_size() -> None:
    network, judgements = judge(arch="patch70", scales=3)
    assert len(judgements) == 3
    labels, image = picture()
    x = torch.cat([one_hot(labels, CLASSES), image], 1)
    for scale, judgement in zip(network.scales, judgements, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(scale(x).patches, judgement.patches)
        assert [f.shape[1] for f in judgement.features] == [4, 8, 16, 32]  # T = 4 layers of eq. 5
        x = avg_pool2d(x, 3, 2, 1, count_include_pad=False)


def test_scales_are_discriminators_of_their_own() -> None:
    network, _ = judge(arch="patch70", scales=2)
    first, second = (p.detach() for p in (network.scales[0].score.weight, network.scales[1].score.weight))  # type: ignore[index,union-attr]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("size", [(32, 32), (40, 48), (16, 48)])
def test_small_pictures_are_judged_on_three_scales(size: tuple[int, int]) -> None:
    settings = DiscriminatorSettings(arch="patch70", width=4, scales=3, normalisation="instance")
    network = build_discriminator(settings, CLASSES, 0)
    for judgement in network(*picture(*size)):
        assert torch.isfinite(judgement.patches).all() and judgement.patches.numel() > 1


@pytest.mark.parametrize("arch", ["space-to-depth", "patch70"])
def test_judgements_depend_on_picture_labels_and_edges(arch: str) -> None:
    labels, image = picture()
    edges = (torch.rand(1, 3, 64, 96) > 0.8).float()
    # Three planes: two of a signed edge map and one of instance borders.
    network, (base,) = judge(2, edges, arch=arch, sees_edges=True, sees_instance_edges=True)
    assert network.planes == 3
    others = [
        network((labels + 1) % CLASSES, image, edges),
        network(labels, -image, edges),
        network(labels, image, 1 - edges),
    ]
    assert all(not torch.equal(other[0].patches, base.patches) for other in others)
    plain, _ = judge(2, arch=arch)
    assert plain.planes == 0


def test_borders_of_instances_come_from_the_one_boundary_operator() -> None:
    """What sees_instance_edges takes as its plane: ids of 16 bits, two cars side by side."""
    ids = torch.tensor([[26001, 26001, 26002], [26001, 26001, 26002]])[None]
    assert label_boundary(ids)[0].tolist() == [[False, False, True], [False, False, True]]


def test_one_hot_planes() -> None:
    planes = one_hot(torch.tensor([[[0, 2]]], dtype=torch.uint8), 3)
    assert planes[0, :, 0].tolist() == [[1, 0], [0, 0], [0, 1]]


def test_instance_normalisation_leaves_the_first_layer_alone() -> None:
    network, (normalised,) = judge(arch="patch70", normalisation="instance")
    labels, image = picture()
    activations: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm2d):
            module.register_forward_hook(lambda _m, _i, output: activations.append(output))
    network(labels, image)
    assert len(activations) == 3
    for a in activations:
        assert a.mean((2, 3)).abs().max() < 1e-4 and (a.std((2, 3), correction=0) - 1).abs().max() < 0.05
    brighter = network(labels, image * 0.5 + 0.5)[0]
    assert not torch.allclose(brighter.features[0], normalised.features[0])


@pytest.mark.parametrize("arch", ["space-to-depth", "patch70"])
def test_spectral_norm_bounds_every_layer(arch: str) -> None:
    network, _ = judge(arch=arch, spectral_norm=True)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        for layer in convolutions:
            layer.parametrizations.weight.original.mul_(7)  # type: ignore[union-attr]
        for _ in range(100):  # each pass is a step of the power iteration
            network(*picture(16, 16))
    for layer in convolutions:
        values = np.linalg.svd(layer.weight.detach().flatten(1).numpy(), compute_uv=False)
        assert values[0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("arch", ["space-to-depth", "patch70"])
def test_spectral_norm_trains_under_autocast_with_two_passes_before_one_backward(
    arch: Literal["space-to-depth", "patch70"], device: str
) -> None:
    torch.manual_seed(0)
    settings = DiscriminatorSettings(arch=arch, width=4, spectral_norm=True)
    network = build_discriminator(settings, CLASSES, 0).to(device)
    labels, image = (t.to(device) for t in picture())
    with torch.autocast(device, torch.bfloat16):
        (real,), (fake,) = network(labels, image), network(labels, -image)
    (real.patches.float().mean() - 2 * fake.patches.float().mean()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": 3}, "arch space-to-depth has one scale and no normalisation, got scales 3"),
        ({"normalisation": "instance"}, "take arch patch70"),
        ({"arch": "patch70", "scales": 4}, "scales is 4, known are 1, 2 and 3"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiscriminatorSettings(**settings)


@pytest.mark.parametrize("name", ["camvid-lite", "toytown-lite"])
def test_weights_of_shipped_bundles_fit(name: str) -> None:
    tensors = load_tensors(shipped_bundles()[name] / TRAINING)
    part = {k.removeprefix("discriminator."): v for k, v in tensors.items() if k.startswith("discriminator.")}
    classes = len(part["embed.table.weight"])
    built = build_discriminator(DiscriminatorSettings(width=48, sees_edges=True), classes, 2)
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in part.items()}
