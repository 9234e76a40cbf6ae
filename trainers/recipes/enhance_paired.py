"""The recipe of an enhancer that has pairs: renders and photographs of the same scene."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainers.recipes.schema import Count, Decay, Positive, Recipe, Section, Share, Stage, Weight


class PairedWeights(Section):
    """Factors of the generator's losses; 0 leaves one out."""

    projected: Weight = 1.0
    """Of the discriminator on ImageNet features."""
    patch: Weight = 1.0
    """Of the discriminator on pixels."""
    matching: Weight = 2.0
    """Features of the discriminator on pixels."""
    perceptual: Weight = 2.0
    """ImageNet features of the photograph."""
    pixel: Weight = 1.0
    """The photograph's pixels."""
    tone: Weight = 6.0
    """Means of 8x8 blocks."""


class PairedStage(Stage):
    """A part of the schedule, with the weights of its losses."""

    lr: Positive = 4e-4
    lr_discriminator: Positive = 3e-4
    weights: PairedWeights = PairedWeights()


class EnhancePairedRecipe(Recipe):
    """Training of an enhancer that draws, from pairs: ``data.edges_from`` is ``render``."""

    system: str = "enhance_paired"
    stages: Annotated[tuple[PairedStage, ...], Field(min_length=1)]
    tier: Literal["lite", "base"]
    look: str = "photographs"
    detail: dict[str, Annotated[float, Field(ge=1)]] = Field(default_factory=dict)
    """Largest factor of a class's detail, and the inverse of the smallest; 1.5 for others."""
    perceptual_depths: tuple[Weight, Weight, Weight, Weight, Weight] = (1.0, 1.0, 1.0, 0.7, 0.4)
    """Of features at strides 2 to 32."""
    patch_width: Count = 32
    betas: tuple[Decay, Decay] = (0.0, 0.99)
    clip: Positive | None = 5.0
    ema: Share = 0.998
