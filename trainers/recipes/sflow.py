"""The recipe of S-Flow GAN (eq. 1 to 7); what goes beyond the paper is in ``extensions`` and off by default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from models.edges import EdgeSettings
from models.nets.discriminator import STRIDE as DISCRIMINATOR_STRIDE
from models.nets.discriminator import DiscriminatorSettings
from models.nets.dned import STRIDE as DNED_STRIDE
from models.style import check_axes
from trainers.recipes.schema import EdgeAugmentation, Positive, Recipe, Section, Share, Side, Stage, Weight


class LossWeights(Section):
    """Factors of the objective, eq. 7; ``pixel``, ``chroma``, ``tone`` and ``dned_fused`` are extensions."""

    gan: Weight = 0.0
    feature_matching: Weight = 0.0
    """lambda_1"""
    perceptual: Weight = 0.0
    """lambda_2"""
    dned: Weight = 0.0
    """lambda_3"""
    dned_fused: Weight = 0.0
    pixel: Weight = 0.0
    chroma: Weight = 0.0
    tone: Weight = 0.0


class SFlowStage(Stage):
    """A phase of section 3.2."""

    generator_sees: Literal["laplacian", "dned_detached", "dned"]
    """E(x) (phase 1), DNED's ensemble without gradient (phase 2), or with it: both train (phase 3)."""
    weights: LossWeights


class HintsRecipe(Section):
    """Colour hints (:mod:`models.hints`): block means of the colours of some classes."""

    classes: tuple[str, ...] | Literal["all"]
    """Names in the data set's classes, one at least."""
    jitter: Weight = 0.0
    """Spread of the hints' brightness and saturation: renders have other colours than the training photographs."""
    dropout: Share = 0.1
    """Share of the samples without hints."""
    keep_hues: bool = False
    """Add the hints' chroma, limited to what photographs have of each class, to the picture: the generator learns the
    rest, and keeps hues that it never saw."""

    @field_validator("classes")
    @classmethod
    def _not_empty(cls, classes: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not classes:
            raise ValueError("names no class: name one, or leave hints out")
        return classes


class Extensions(Section):
    """What goes beyond the paper."""

    edge_augmentation: EdgeAugmentation | None = None
    """Degrade E(x) before DNED sees it, as the edges of renders are; ``{}`` for the defaults."""
    hints: HintsRecipe | None = None
    half_chroma: bool = False
    """Pictures have colour at half the resolution of light, as in JPEG and video."""
    style_input: bool = False
    """Give the generator the drawn ensemble weights beside the map made with them."""
    style_relight: bool = False
    """Re-light the target by the drawn ensemble weights, so that style seeds differ in light."""
    style_reach: tuple[Share, ...] = ()
    """Share of ``style_spread`` with which the exported bundle's style seeds draw, by axis; empty for all of it."""
    style_centre: tuple[float, ...] = ()
    """Centre of its style seeds, in units of ``style_spread``, by axis; empty for the learned weights."""
    loss_window: tuple[Side, Side] | None = None
    """Width and height of the random window that D and the perceptual network see; None for the whole crop."""
    perceptual_slices: Literal["equal", "pix2pixhd"] = "equal"
    """Factors of the slices: 1/P each (eq. 6), or pix2pixHD's 1/32, 1/16, 1/8, 1/4, 1."""
    perceptual_blur: bool = False
    """Blur both pictures before the frozen network."""
    perceptual_normalise: bool = False
    """Divide each slice by the size of its real features."""

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        check_axes(style_reach=self.style_reach, style_centre=self.style_centre)
        if self.style_relight and not self.style_input:
            raise ValueError("style_relight needs style_input: the generator cannot know the light otherwise")
        if self.loss_window is not None and any(side % DISCRIMINATOR_STRIDE for side in self.loss_window):
            raise ValueError(
                f"loss_window is {self.loss_window}, both sides must be multiples of {DISCRIMINATOR_STRIDE}"
            )
        return self


class SFlowRecipe(Recipe):
    """Image training of S-Flow GAN."""

    system: str = "sflow"
    stages: Annotated[tuple[SFlowStage, ...], Field(min_length=1)]
    tier: Literal["lite", "base", "full"] = "lite"
    edge: EdgeSettings = EdgeSettings()
    style_spread: Positive = 1.5
    """Spread of the ensemble weights drawn in training."""
    style_learned_share: Share = 0.3
    """Share of the samples that keep the learned ensemble weights."""
    adversarial: Literal["lsgan", "vanilla", "hinge"] = "lsgan"
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    dned_side_weights: tuple[Weight, Weight, Weight, Weight, Weight, Weight] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    """The constants a_0..a_5 of eq. 4, fine to coarse."""
    perceptual: Literal["bundle", "vgg19"] = "bundle"
    """Whose features train: of a segmenter's bundle, or of torchvision's VGG19 with its published weights."""
    perceptual_bundle: str | None = None
    """That bundle; needed where a stage weighs ``perceptual``. Never random weights."""
    perceptual_weights: Path | None = None
    """A copy of VGG19's published weights on this machine; None for torch hub's folder."""
    extensions: Extensions = Extensions()

    @model_validator(mode="after")
    def _networks_fit(self) -> Self:
        """No network without its weights or its input, and no key that has no effect."""
        if self.discriminator.sees_instance_edges and self.data.kind != "cityscapes":
            raise ValueError(
                "discriminator.sees_instance_edges needs instance ids, which training reads of cityscapes alone, and"
                f" data.kind is {self.data.kind!r}: leave it out"
            )
        if self.perceptual == "vgg19" and self.perceptual_bundle is not None:
            raise ValueError(
                f"perceptual is vgg19 and perceptual_bundle is {self.perceptual_bundle!r}: give one of them"
            )
        if self.perceptual == "bundle" and self.perceptual_weights is not None:
            raise ValueError(
                f"perceptual_weights names {self.perceptual_weights}, which only perceptual vgg19 reads: set it"
            )
        if any(s.weights.dned for s in self.stages) and not any(self.dned_side_weights):
            raise ValueError("dned_side_weights are all 0, but stages weigh dned: give one above 0")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Sizes that the networks can take, and no weight that has no effect."""
        if any(side % DNED_STRIDE for side in self.data.crop):
            raise ValueError(f"data.crop is {self.data.crop}, both sides must be multiples of {DNED_STRIDE}")
        window = self.extensions.loss_window
        if window is not None and any(small > large for small, large in zip(window, self.data.crop, strict=True)):
            raise ValueError(f"extensions.loss_window is {window}, it must lie within data.crop {self.data.crop}")
        for stage in self.stages:
            if stage.weights.feature_matching and not stage.weights.gan:
                raise ValueError(f"stage {stage.name!r} weighs feature_matching without gan: there is no D to match")
        return self

    @property
    def uses_dned(self) -> bool:
        """Whether the trained generator sees DNED's ensemble; otherwise it knows E(x) alone."""
        return any(s.generator_sees != "laplacian" for s in self.stages)

    @property
    def edge_settings(self) -> EdgeSettings:
        """See :class:`Recipe`, as the following."""
        return self.edge

    @property
    def edge_augmentation(self) -> EdgeAugmentation | None:  # noqa: D102
        return self.extensions.edge_augmentation

    @property
    def loss_window(self) -> tuple[int, int] | None:  # noqa: D102
        return self.extensions.loss_window

    @property
    def needs_instances(self) -> bool:  # noqa: D102
        return self.discriminator.sees_instance_edges

    @property
    def feature_bundle(self) -> str | None:  # noqa: D102
        return self.perceptual_bundle
