"""Segmentation networks: one whose features train the generator, one that only judges it.

The two have different architectures on purpose: a judge that shared its network with a loss would reward what the
loss rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.bundles.published import WeightsError, fill_published, hub_file, load_published, torchvision_models
from models.nets.efficientnet_lite import Backbone as EfficientNetBackbone
from models.nets.efficientnet_lite import EfficientNetLite
from models.nets.features import FeatureNetwork, ImageNetNormalisation


def _block(c_in: int, c_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, dilation, dilation, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


def _grow(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


class Segmenter(FeatureNetwork):
    """Base of the segmentation networks.

    Args:
        classes: Number of classes, the ignored one included.
        width: Channels at full resolution (at stride 2; behind the pyramid).
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.args: dict[str, Any] = {"classes": classes, "width": width}

    def as_input(self, rgb: Tensor) -> Tensor:
        """RGB uint8 ``(N, H, W, 3)`` as the network takes it: ``(N, 3, H, W)`` in -1..1, of its type, where it is."""
        first = next(self.parameters())
        x = rgb.to(first.device).permute(0, 3, 1, 2).to(first.dtype).div(127.5).sub(1)
        return x.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict(self, rgb: Tensor) -> Tensor:
        """Class ids uint8 ``(N, H, W)`` of RGB uint8 ``(N, H, W, 3)``; H and W multiples of 16."""
        logits: Tensor = self(self.as_input(rgb))
        return logits.argmax(1).to(torch.uint8)


class UNetSegmenter(Segmenter):
    """A small U-Net; its encoder gives five perceptual features at strides 1 to 16."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes, width)
        c = [width, 2 * width, 4 * width, 6 * width, 8 * width]
        self.encoder = nn.ModuleList(
            [nn.Sequential(_block(3, c[0]), _block(c[0], c[0]))]
            + [nn.Sequential(_block(a, b, 2), _block(b, b)) for a, b in pairwise(c)]
        )
        self.up8 = _block(c[4] + c[3], c[2])
        self.up4 = _block(c[2] + c[2], c[1])
        self.up2 = _block(c[1] + c[1], c[1])
        self.classify = nn.Conv2d(c[1], classes, 1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Five maps, strides 1, 2, 4, 8, 16."""
        out = []
        for stage in self.encoder:
            image = stage(image)
            out.append(image)
        return out

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(N, classes, H, W)``."""
        _, b, c, d, e = self.features(image)
        x = self.up8(torch.cat([_grow(e, d), d], 1))
        x = self.up4(torch.cat([_grow(x, c), c], 1))
        x = self.up2(torch.cat([_grow(x, b), b], 1))
        return F.interpolate(self.classify(x), scale_factor=2, mode="bilinear", align_corners=False)


class PyramidPooling(nn.ModuleList):
    """PSPNet's pyramid: means over coarse grids, each reduced by a 1x1 convolution, beside the features themselves.

    The means are not normalised: of one picture, the coarsest has one value a channel.

    Args:
        channels: Of the features.
        width: Channels of each mean.
        bins: Cells of the grids along a side.
    """

    def __init__(self, channels: int, width: int, bins: Sequence[int]) -> None:
        super().__init__([nn.Conv2d(channels, width, 1) for _ in bins])
        self.bins = tuple(bins)
        self.channels = channels + len(self.bins) * width

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, channels, H, W)`` to ``(N, channels + len(bins) * width, H, W)``."""
        pooled = [
            _grow(F.relu(conv(F.adaptive_avg_pool2d(x, bins))), x) for conv, bins in zip(self, self.bins, strict=True)
        ]
        return torch.cat([x, *pooled], 1)


class PyramidSegmenter(Segmenter):
    """A dilated backbone at stride 8 with pyramid pooling (as PSPNet has it) and one fine skip."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes, width)
        w = width
        self.stem = nn.Sequential(_block(3, w, 2), _block(w, w))
        self.stride4 = nn.Sequential(_block(w, 2 * w, 2), _block(2 * w, 2 * w))
        self.stride8 = nn.Sequential(
            _block(2 * w, 4 * w, 2),
            _block(4 * w, 4 * w),
            _block(4 * w, 4 * w, dilation=2),
            _block(4 * w, 4 * w, dilation=4),
        )
        self.pyramid = PyramidPooling(4 * w, w, (1, 2, 4))
        self.mix = _block(self.pyramid.channels, 4 * w)
        self.refine = _block(4 * w + 2 * w, 2 * w)
        self.classify = nn.Conv2d(2 * w, classes, 1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Three maps, strides 2, 4, 8."""
        a = self.stem(image)
        b = self.stride4(a)
        return [a, b, self.stride8(b)]

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(N, classes, H, W)``."""
        _, b, c = self.features(image)
        x = self.mix(self.pyramid(c))
        x = self.refine(torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), b], 1))
        return F.interpolate(self.classify(x), scale_factor=4, mode="bilinear", align_corners=False)


def _resnet_stages(network: Any) -> list[nn.Module]:
    stem = nn.Sequential(network.conv1, network.bn1, network.relu)
    first = nn.Sequential(network.maxpool, network.layer1)
    return [stem, first, network.layer2, _dilate(network.layer3, 2), _dilate(network.layer4, 4)]


def _mobilenet_stages(network: Any) -> list[nn.Module]:
    """Cut before every block that halves the resolution; the last cut is dilated in place of it."""
    blocks = list(network.features)
    starts = [i for i, b in enumerate(blocks) if any(getattr(m, "stride", None) == (2, 2) for m in b.modules())]
    stages = [nn.Sequential(*blocks[a:b]) for a, b in pairwise([*starts, len(blocks)])]
    return [*stages[:3], _dilate(stages[3], 2), _dilate(stages[4], 4)]


def _dilate(stage: nn.Module, rate: int) -> nn.Module:
    """Takes a stage's stride away and spreads its kernels instead, so that published weights see what they saw.

    What follows the strided convolution saw a grid twice as coarse; the strided one itself saw the finer one.
    """
    for module in stage.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        spread = rate // 2 if module.stride[0] == 2 else rate
        module.stride = (1, 1)
        module.dilation = (spread, spread)
        module.padding = tuple(spread * (k // 2) for k in module.kernel_size)
    return stage


class Backbone(NamedTuple):
    """A network published by torchvision.

    Attributes:
        weights: Name of its weights' enumeration.
        channels: Of its last stage.
        stages: Cuts it into five.
    """

    weights: str
    channels: int
    stages: Callable[[Any], list[nn.Module]]


BACKBONES: Final[Mapping[str, Backbone]] = {
    "resnet18": Backbone("ResNet18_Weights", 512, _resnet_stages),
    "resnet34": Backbone("ResNet34_Weights", 512, _resnet_stages),
    "resnet50": Backbone("ResNet50_Weights", 2048, _resnet_stages),
    "mobilenet_v3_small": Backbone("MobileNet_V3_Small_Weights", 576, _mobilenet_stages),
    "mobilenet_v3_large": Backbone("MobileNet_V3_Large_Weights", 960, _mobilenet_stages),
}


def _backbone_url(name: str) -> str:
    url: str = getattr(torchvision_models(), BACKBONES[name].weights).DEFAULT.url
    return url


def backbone_file(name: str, path: Path | None) -> Path:
    """The file that a backbone's published weights are read from; see :func:`load_backbone`."""
    return path or hub_file(_backbone_url(name))


def load_backbone(name: str, path: Path | None) -> dict[str, Tensor]:
    """The published ImageNet weights of a backbone.

    Args:
        name: One of :data:`BACKBONES`.
        path: A copy of the published file; None for torch hub's folder, into which it is fetched if need be.

    Raises:
        WeightsError: They cannot be had, or are damaged.
    """
    return load_published(_backbone_url(name), path, "backbone_weights")


class PSPNetSegmenter(Segmenter):
    """PSPNet (Zhao et al. 2017): a dilated ImageNet backbone at stride 8, pyramid pooling, logits enlarged by eight.

    Without the paper's auxiliary loss.

    Args:
        classes: Number of classes, the ignored one included.
        width: Channels behind the pyramid; PSPNet has 512.
        backbone: One of :data:`BACKBONES`; random until filled, by :meth:`fill_backbone` or with a bundle's weights.

    Raises:
        WeightsError: Unknown backbone, or no torchvision.
    """

    def __init__(self, classes: int, width: int, backbone: str) -> None:
        super().__init__(classes, width)
        if backbone not in BACKBONES:
            raise WeightsError(f"backbone is {backbone!r}, known are {', '.join(BACKBONES)}")
        self.args["backbone"] = backbone
        channels = BACKBONES[backbone].channels
        self.normalise = ImageNetNormalisation()
        self.stages = self._cut_backbone(None)
        self.pyramid = PyramidPooling(channels, channels // 4, (1, 2, 3, 6))
        self.mix = nn.Sequential(_block(self.pyramid.channels, width), nn.Dropout2d(0.1))
        self.classify = nn.Conv2d(width, classes, 1)

    def _cut_backbone(self, published: Mapping[str, Tensor] | None) -> nn.ModuleList:
        name = self.args["backbone"]
        network = getattr(torchvision_models(), name)(weights=None)
        if published is not None:
            fill_published(network, published, f"weights of backbone {name!r}")
        return nn.ModuleList(BACKBONES[name].stages(network))

    def fill_backbone(self, published: Mapping[str, Tensor]) -> None:
        """Takes up published weights (:func:`load_backbone`).

        Raises:
            WeightsError: They are of another network.
        """
        self.stages = self._cut_backbone(published)

    def features(self, image: Tensor) -> list[Tensor]:
        """Five maps, strides 2, 4, 8, 8, 8."""
        out = []
        x = self.normalise(image)
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(N, classes, H, W)``."""
        x = self.classify(self.mix(self.pyramid(self.features(image)[-1])))
        return F.interpolate(x, image.shape[-2:], mode="bilinear", align_corners=False)


class LiteSegmenter(Segmenter):
    """EfficientNet-Lite with a feature pyramid (Lin et al. 2017) and the picture's mean; logits at stride 4.

    Args:
        classes: Number of classes, the ignored one included.
        width: Channels of the pyramid.
        backbone: ``lite0``, ``lite1`` or ``lite2``; random until filled (:meth:`fill_backbone`, or a bundle).

    Raises:
        ValueError: Unknown backbone.
    """

    def __init__(self, classes: int, width: int, backbone: str) -> None:
        super().__init__(classes, width)
        self.args["backbone"] = backbone
        self.backbone = EfficientNetBackbone(backbone)
        channels = self.backbone.channels[1:]
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.context = PyramidPooling(width, width, (1, 2, 4))
        self.gather = _block(self.context.channels, width)
        self.smooth = nn.ModuleList(_block(width, width) for _ in channels[:-1])
        self.mix = nn.Sequential(_block(len(channels) * width, 2 * width), nn.Dropout2d(0.1))
        self.classify = nn.Conv2d(2 * width, classes, 1)

    def fill_backbone(self) -> None:
        """Fills in the published ImageNet weights. Raises WeightsError where their package is not installed."""
        self.backbone.load_state_dict(EfficientNetLite(self.args["backbone"]).backbone.state_dict())

    def features(self, image: Tensor) -> list[Tensor]:
        """Five maps, strides 2, 4, 8, 16, 32."""
        out: list[Tensor] = self.backbone(image)
        return out

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``(N, classes, H, W)``."""
        maps = [lateral(x) for lateral, x in zip(self.lateral, self.features(image)[1:], strict=True)]
        x = self.gather(self.context(maps[-1]))
        levels = [x]
        for smooth, finer in zip(reversed(self.smooth), reversed(maps[:-1]), strict=True):
            x = smooth(finer + F.interpolate(x, finer.shape[-2:], mode="bilinear", align_corners=False))
            levels.append(x)
        same = [F.interpolate(level, x.shape[-2:], mode="bilinear", align_corners=False) for level in levels]
        logits = self.classify(self.mix(torch.cat(same, 1)))
        return F.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)


SEGMENTERS: dict[str, type[Segmenter]] = {
    "lite-segmenter": LiteSegmenter,
    "unet-segmenter": UNetSegmenter,
    "pyramid-segmenter": PyramidSegmenter,
    "pspnet-segmenter": PSPNetSegmenter,
}
