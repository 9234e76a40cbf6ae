"""The recipe of a segmenter: perceptual features, or a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainers.recipes.schema import (
    ColourAugmentation,
    Count,
    Decay,
    Positive,
    Recipe,
    Share,
    Stage,
    Weight,
)


class SegmenterStage(Stage):
    """Most segmenters have one."""

    lr: Positive = 3e-3


class SegmenterRecipe(Recipe):
    """Training of a segmentation network."""

    system: str = "segmenter"
    stages: Annotated[tuple[SegmenterStage, ...], Field(min_length=1)]
    arch: Literal["unet-segmenter", "pyramid-segmenter", "pspnet-segmenter", "lite-segmenter"]
    width: Count
    backbone: (
        Literal[
            "resnet18", "resnet34", "resnet50", "mobilenet_v3_small", "mobilenet_v3_large", "lite0", "lite1", "lite2"
        ]
        | None
    ) = None
    """Of ``pspnet-segmenter`` and, lite0 to lite2, of ``lite-segmenter``, which begin with their published ImageNet
    weights, never with random ones."""
    backbone_weights: Path | None = None
    """A copy of these weights on this machine; None for torch hub's folder."""
    colour_gain: Share = 0.2
    colour_shift: Weight = 15.0
    batch: Count = 6
    optimiser: Literal["adam", "adamw"] = "adamw"
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: Weight = 1e-2
    clip: Positive | None = None
    decay_from: Share = 0.0
    decay_to: Share = 0.02
    ema: Share = 0.0

    @model_validator(mode="after")
    def _has_its_backbone(self) -> Self:
        """A backbone for the network that has one, and for no other."""
        lite = self.backbone is not None and self.backbone.startswith("lite")
        fits = {"pspnet-segmenter": self.backbone is not None and not lite, "lite-segmenter": lite}
        if not fits.get(self.arch, self.backbone is None):
            raise ValueError(
                f"arch is {self.arch} and backbone is {self.backbone or 'missing'}: pspnet-segmenter needs one of"
                " torchvision's, lite-segmenter lite0, lite1 or lite2, the other networks have none"
            )
        if self.backbone_weights is not None and lite:
            raise ValueError(
                f"backbone_weights names {self.backbone_weights}, but {self.backbone} comes with its package: leave it"
                " out"
            )
        if self.backbone_weights is not None and self.backbone is None:
            raise ValueError(f"backbone_weights names {self.backbone_weights}, but there is no backbone: leave it out")
        if self.data.colour:
            raise ValueError("segmenters have colour_gain and colour_shift: leave out data.colour")
        if self.data.frames > 1:
            raise ValueError(f"segmenters learn from single frames, and data.frames is {self.data.frames}: set it to 1")
        return self

    def as_drawn(self) -> SegmenterRecipe:
        """With the segmenter's colours in ``data``, where the sampler looks."""
        colour = ColourAugmentation(gain=self.colour_gain, shift=self.colour_shift)
        return self.model_copy(update={"data": self.data.model_copy(update={"colour": colour})})
