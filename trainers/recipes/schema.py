"""What every recipe has: data, schedule, optimiser, intervals. A system adds its own keys by a subclass."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.edges import EdgeSettings

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Side = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A mapping in a recipe: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_SYNTHIA_KEYS: Final = ("val_share", "val_sequences", "views")


class ColourAugmentation(Section):
    """Random colour of the picture: each channel times U(1 - gain, 1 + gain), all plus U(-shift, shift) grey levels."""

    gain: Share = 0.0
    shift: Weight = 0.0


class EdgeAugmentation(Section):
    """Degradation of edge maps; the defaults cover the per-class edge densities of CARLA's and toytown's renders.

    Attributes:
        image_threshold: The threshold of a whole image is multiplied by exp(U(-x, x)).
        class_threshold: That of each class by exp(U(-x, x)) more.
        speck_share: Share of images that lose components below one of ``speck_sizes``, pixels.
        bare_class: Probability for a class to keep only its outline (CG surfaces without texture).
        holes_share: Share of images that lose ``holes``, a share of the blocks of an 8x16 raster.
    """

    image_threshold: Weight = 0.6
    class_threshold: Weight = 0.6
    speck_share: Share = 0.5
    speck_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] = (6, 12, 25)
    bare_class: Share = 0.12
    holes_share: Share = 0.4
    holes: Share = 0.15


class DataRecipe(Section):
    """Photographs: which set, and how crops are cut."""

    kind: Literal["camvid", "cityscapes", "recordings", "synthia"] = "camvid"
    edges_from: Literal["photograph", "render"] = "photograph"
    """Which picture gives the edge map that DNED sees; ``render`` needs recordings with both pictures."""
    exclude: tuple[str, ...] = ()
    """Left out of training, by name: drives (camvid), cities (cityscapes), recordings, sequences (synthia)."""
    share: Literal["all", "odd", "even"] = "all"
    road_lines: bool = False
    """CamVid: give road markings a class of their own, which its labels do not have."""
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """SYNTHIA: the share of each folder's frames, the last by name, that validates."""
    val_sequences: tuple[str, ...] = ()
    """SYNTHIA: names of the sequences that validate, instead of a share."""
    views: Annotated[tuple[str, ...], Field(min_length=1)] = ("Stereo_Left/Omni_F",)
    """SYNTHIA's sequences: which cameras."""
    resize: tuple[Side, Side] | None = None
    """Width and height of every picture before crops are cut; None for its own."""
    crop: tuple[Side, Side] = (256, 128)
    """Width and height of a training crop, pixels at the scale of ``resize``."""
    scale: tuple[Positive, Positive] | None = None
    """Smallest and largest factor by which a picture is resized before its crop is cut; its logarithm is uniform."""
    flip: bool = True
    """Mirror every other crop."""
    colour: ColourAugmentation | None = None
    """Change the picture's colours, and nothing else."""
    memory: Literal["all", "stream"] = "all"
    """Hold all samples in memory, or read each from its files when it is drawn."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that make batches, 0 for the training itself; as many threads read what is held in memory."""

    frames: Side = 1
    """Consecutive frames of a sample; from 2 on the set must have videos."""
    frame_step: Side = 1
    """Take every k-th frame of a video."""
    labels: Literal["required", "predicted", "none"] = "required"
    """Frames of a clip: labelled ones, also those that a segmenter labelled, or any (without labels all is void)."""

    @model_validator(mode="after")
    def _clips_fit(self) -> Self:
        """No key of clips without clips."""
        lone = [key for key in ("frame_step", "labels") if getattr(self, key) != DataRecipe.model_fields[key].default]
        if self.frames == 1 and lone:
            raise ValueError(f"{' and '.join(lone)} change nothing of single frames: set frames to 2 or more")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Sizes that fit into each other, and no key that has no effect."""
        if self.edges_from == "render" and self.kind != "recordings":
            raise ValueError(f"edges_from 'render' needs recordings, {self.kind} holds photographs alone")
        own = [key for key in _SYNTHIA_KEYS if getattr(self, key) != DataRecipe.model_fields[key].default]
        if own and self.kind != "synthia":
            raise ValueError(f"{', '.join(own)} is for synthia, {self.kind} has a split of its own")
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale is {self.scale}, the smaller factor comes first")
        if self.resize is not None:
            smallest = 1.0 if self.scale is None else self.scale[0]
            fitted = tuple(round(side * smallest) for side in self.resize)
            if fitted[0] < self.crop[0] or fitted[1] < self.crop[1]:
                raise ValueError(f"crop {self.crop} is larger than the smallest picture {fitted} (resize times scale)")
        return self


class Stage(Section):
    """A part of the schedule; a system's stages add what differs between them, such as the losses' weights."""

    name: str = "train"
    steps: Count
    lr: Positive
    lr_discriminator: Positive = 5e-4


class Recipe(Section):
    """Everything a training depends on besides the data's folder."""

    system: str
    """What is trained: a file in trainers/systems, an installed entry point, or ``FILE.py:CLASS``."""
    name: str
    data: DataRecipe = DataRecipe()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    batch: Count = 4
    """Samples that are in memory at once, those of all processes together."""
    accumulate: Count = 1
    """Batches whose mean gradient makes one step."""
    optimiser: Literal["adam", "adamw"] = "adam"
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    weight_decay: Weight = 0.0
    clip: Positive | None = 10.0
    """Largest norm of the generator's gradient; None does not clip."""
    warmup: Annotated[int, Field(ge=0)] = 20
    """Steps in which the learning rates rise from 0."""
    decay_from: Share = 0.5
    """Share of all steps after which the learning rates fall linearly."""
    decay_to: Share = 0.05
    ema: Share = 0.999
    """Weight of the past in the averaged network, which is exported; 0 exports the trained one."""
    precision: Literal["fp32", "bf16"] = "bf16"
    seed: Seed = 0
    sample_every: Count = 500
    checkpoint_every: Count = 500
    report_every: Count = 50

    @property
    def step_batch(self) -> int:
        """Samples of one step."""
        return self.batch * self.accumulate

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(s.steps for s in self.stages)

    def stage_at(self, step: int) -> Stage:
        """The stage that a step (from 0) belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def rate_factor(self, step: int) -> float:
        """Factor of the learning rates at a step (from 0): they rise, stay, and fall linearly."""
        done = step / self.steps
        fall = (1 - done) / (1 - self.decay_from) if self.decay_from < 1 else 1.0
        return min(1.0, (step + 1) / max(1, self.warmup)) * max(self.decay_to, min(1.0, fall))

    # What batches and scores ask every recipe for; a system that has it as a key overrides the property.

    @property
    def edge_settings(self) -> EdgeSettings:
        """The edge operator of the batches' E(x)."""
        return EdgeSettings()

    @property
    def edge_augmentation(self) -> EdgeAugmentation | None:
        """How E(x) is degraded in a batch."""
        return None

    @property
    def loss_window(self) -> tuple[int, int] | None:
        """Width and height of the random window that losses look at; None for the whole crop."""
        return None

    @property
    def needs_instances(self) -> bool:
        """Whether batches hold the borders of instances."""
        return False

    @property
    def feature_bundle(self) -> str | None:
        """The bundle whose features train, which must not judge."""
        return None

    def as_drawn(self) -> Recipe:
        """The recipe as the sampler reads it."""
        return self
