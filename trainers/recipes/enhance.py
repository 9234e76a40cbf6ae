"""The recipe of an enhancer: renders against photographs, without pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainers.recipes.schema import Count, DataRecipe, Decay, Positive, Recipe, Section, Share, Stage, Weight


class EnhanceWeights(Section):
    """Factors of the generator's losses; 0 leaves one out."""

    projected: Weight = 1.0
    """Of the discriminator on ImageNet features."""
    patch: Weight = 0.7
    """Of the discriminator on pixels."""
    content: Weight = 1.0
    """Deep features of the render, by class (``keep``) and depth (``content_depths``)."""
    identity: Weight = 1.5
    """Photographs pass unchanged."""
    light: Weight = 1.0
    """Light of 32x32 blocks."""
    gains: Weight = 0.3
    """Squared gains of detail, before their bound: without it they stay at the bound where they once got."""
    steady: Weight = 8.0
    """A render that moves by a few pixels takes its texture along."""
    range: Weight = 2.0
    """Values that no pixel can have."""


class EnhanceStage(Stage):
    """A part of the schedule, with the weights of its losses."""

    lr: Positive = 3e-4
    lr_discriminator: Positive = 3e-4
    weights: EnhanceWeights = EnhanceWeights()


class Look(Section):
    """Further photographs, from which the network learns a look of their own."""

    name: str
    root: Path
    share: Share
    """Of the samples."""
    data: DataRecipe


class EnhanceRecipe(Recipe):
    """Training of an enhancer. ``data`` are the photographs of the first look."""

    system: str = "enhance"
    stages: Annotated[tuple[EnhanceStage, ...], Field(min_length=1)]
    tier: Literal["lite", "base"]
    look: str = "photographs"
    """Name of the first look."""
    looks: tuple[Look, ...] = ()
    renders: tuple[Path, ...] = ()
    """Recordings of simulators, RGB and labels; each counts alike. ``--renders`` sets it."""
    render_scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Smallest and largest factor by which a render is resized before its crop is cut."""
    judged_as: dict[str, str] = Field(default_factory=dict)
    """Classes that photographs' labels lack, and the class by which the discriminators know them."""
    keep: dict[str, Weight] = Field(default_factory=dict)
    """How much of a class's content is kept; 0.6 for others."""
    detail: dict[str, Annotated[float, Field(ge=1)]] = Field(default_factory=dict)
    """Largest factor of a class's detail, and the inverse of the smallest; 1.5 for others."""
    simulators: dict[str, Weight] = Field(default_factory=dict)
    """Factor of ``keep`` by the name of the recording's taxonomy, up to its first hyphen."""
    content_depths: tuple[Weight, Weight, Weight, Weight, Weight] = (0.0, 0.5, 1.0, 1.0, 0.7)
    """Of features at strides 2 to 32; those at 2 and 4 count for classes above 0.6 alone."""
    tone_share: Share = 0.8
    """Share of the samples whose contrast and light change before the discriminators see them."""
    patch_width: Count = 32
    betas: tuple[Decay, Decay] = (0.0, 0.99)
    clip: Positive | None = 5.0
    ema: Share = 0.998

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        """Looks leave the first one a share and have names of their own; scales are in order."""
        names = [self.look, *(look.name for look in self.looks)]
        if len(set(names)) < len(names):
            raise ValueError(f"looks are {', '.join(names)}: give each a name of its own")
        if (total := sum(look.share for look in self.looks)) >= 1:
            raise ValueError(f"shares of looks sum to {total:g}: leave {self.look} a share, below 1")
        if self.render_scale[0] > self.render_scale[1]:
            raise ValueError(f"render_scale is {self.render_scale}, the smaller factor comes first")
        if self.data.frames > 1:
            raise ValueError(f"enhance learns from single frames, and data.frames is {self.data.frames}: set it to 1")
        return self
