"""Segmentation networks: shapes, published backbones, and that judge and features share no layer plan."""

from pathlib import Path

import pytest
import torch
from torchvision.models import mobilenet_v3_small, resnet18

from models.bundles.files import BundleError, Card, load_bundle, save_bundle
from models.bundles.published import WeightsError
from models.nets.efficientnet_lite import EfficientNetLite
from models.nets.segmenter import BACKBONES, SEGMENTERS, LiteSegmenter, PSPNetSegmenter, Segmenter, load_backbone


def build(arch: str) -> Segmenter:
    backbone = {"pspnet-segmenter": {"backbone": "mobilenet_v3_small"}, "lite-segmenter": {"backbone": "lite0"}}
    return SEGMENTERS[arch](7, 8, **backbone.get(arch, {})).eval()


@pytest.mark.parametrize("arch", SEGMENTERS)
def test_logits_and_predictions_have_the_pictures_size(arch: str) -> None:
    network = build(arch)
    logits = network(torch.zeros(2, 3, 48, 64))
    assert logits.shape == (2, 7, 48, 64)
    ids = network.predict(torch.zeros(2, 48, 64, 3, dtype=torch.uint8))
    assert ids.shape == (2, 48, 64) and ids.dtype == torch.uint8 and int(ids.max()) < 7


@pytest.mark.parametrize(
    ("arch", "strides"),
    [
        ("unet-segmenter", [1, 2, 4, 8, 16]),
        ("pyramid-segmenter", [2, 4, 8]),
        ("lite-segmenter", [2, 4, 8, 16, 32]),
    ],
)
def test_features_go_from_fine_to_coarse(arch: str, strides: list[int]) -> None:
    features = build(arch).features(torch.zeros(1, 3, 64, 64))
    assert [64 // f.shape[-1] for f in features] == strides


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_are_dilated_to_stride_8(backbone: str) -> None:
    network = PSPNetSegmenter(7, 8, backbone).eval()
    features = network.features(torch.zeros(1, 3, 64, 96))
    assert [64 // f.shape[-2] for f in features] == [2, 4, 8, 8, 8]
    assert features[-1].shape[1] == BACKBONES[backbone].channels
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 7, 64, 96)


def test_a_dilated_backbone_says_at_every_fourth_pixel_what_the_published_one_says() -> None:
    torch.manual_seed(0)
    published = resnet18(weights=None).eval()
    network = PSPNetSegmenter(7, 8, "resnet18").eval()
    network.fill_backbone(published.state_dict())
    network.eval()
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        x = published.maxpool(published.relu(published.bn1(published.conv1(network.normalise(image)))))
        expected = published.layer4(published.layer3(published.layer2(published.layer1(x))))
        found = network.features(image)[-1]
    assert expected.std() > 0.01
    torch.testing.assert_close(found[..., ::4, ::4], expected, atol=1e-4, rtol=1e-4)


def test_a_lite_segmenter_begins_with_the_published_weights() -> None:
    network, published = LiteSegmenter(7, 8, "lite1").eval(), EfficientNetLite("lite1")
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    assert not torch.equal(network.features(image)[-1], published.features(image)[-1])
    network.fill_backbone()
    assert all(torch.equal(a, b) for a, b in zip(network.features(image), published.features(image), strict=True))
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(ValueError, match="version is 'lite9', known are lite0, lite1, lite2"):
        LiteSegmenter(7, 8, "lite9")


def test_published_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    network = PSPNetSegmenter(7, 8, "resnet18")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(WeightsError, match="weights of backbone 'resnet18' are of another network"):
        network.fill_backbone(mobilenet_v3_small(weights=None).state_dict())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    with pytest.raises(WeightsError, match="backbone is 'vgg', known are resnet18"):
        PSPNetSegmenter(7, 8, "vgg")
    with pytest.raises(WeightsError, match=r"backbone_weights names .*, which is no file: fetch https://.*resnet18-"):
        load_backbone("resnet18", tmp_path / "absent.pth")


def test_a_bundle_of_a_backbone_needs_no_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = build("pspnet-segmenter")
    card = Card(
        arch="pspnet-segmenter", args=network.args, classes=[f"class {i}" for i in range(7)], size=[64, 64],
        data="none", command="none", steps=0, licence_weights="CC0-1.0", licence_data="none",
    )  # fmt: skip
    save_bundle(tmp_path / "mine", network, card)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "nowhere"))
    loaded = load_bundle(tmp_path / "mine").network
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image), atol=0.05, rtol=0.05)
    text = (tmp_path / "mine" / "card.json").read_text()
    (tmp_path / "mine" / "card.json").write_text(text.replace("mobilenet_v3_small", "alexnet"))
    with pytest.raises(BundleError, match=r"cannot be built: backbone is 'alexnet', known are"):
        load_bundle(tmp_path / "mine")
