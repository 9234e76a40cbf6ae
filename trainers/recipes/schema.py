"""Recipes: one typed object per training, from a YAML file; printed and saved before the first step."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from models.edges import EdgeSettings
from models.nets.discriminator import STRIDE as JUDGE_STRIDE
from models.nets.discriminator import DiscriminatorSettings
from models.nets.dned import STRIDE as DNED_STRIDE
from models.style import check_axes
from sim_bridge.errors import UsageError
from trainers.batches.degrade import EdgeAugmentation

RECIPES: Final = Path(__file__).parent

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Side = Annotated[int, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_SYNTHIA_KEYS: Final = ("val_share", "val_sequences", "views")


class ColourAugmentation(_Section):
    """Random colour of the picture: each channel times U(1 - gain, 1 + gain), all plus U(-shift, shift) grey levels."""

    gain: Share = 0.0
    shift: Weight = 0.0


class DataRecipe(_Section):
    """Photographs: which set, and how crops are cut."""

    kind: Literal["camvid", "cityscapes", "recordings", "synthia"] = "camvid"
    edges: Literal["photograph", "render"] = "photograph"
    """Whose edge map DNED is shown: of recordings with both pictures it may be the render's."""
    exclude: tuple[str, ...] = ()
    """Left out of training: drives (camvid), cities (cityscapes), recordings, sequences (synthia), by name."""
    share: Literal["all", "odd", "even"] = "all"
    road_lines: bool = False
    """Of CamVid: give road markings a class of their own, which its labels do not have."""
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """SYNTHIA: the share of each folder's frames, the last by name, that validates."""
    val_sequences: tuple[str, ...] = ()
    """SYNTHIA: names of the sequences that validate, instead of a share."""
    views: Annotated[tuple[str, ...], Field(min_length=1)] = ("Stereo_Left/Omni_F",)
    """SYNTHIA's sequences: the cameras that are taken."""
    resize: tuple[Side, Side] | None = None
    """Width and height to which every picture is brought first; None for its own."""
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
        if self.edges == "render" and self.kind != "recordings":
            raise ValueError(f"edges 'render' needs recordings, {self.kind} holds photographs alone")
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


class LossWeights(_Section):
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


class Stage(_Section):
    """A part of the schedule of section 3.2.

    ``edges`` is what the generator sees: ``laplacian`` E(x) (phase 1), ``dned_detached`` (phase 2), ``dned`` (phase
    3, both train).
    """

    name: str
    steps: Annotated[int, Field(gt=0)]
    edges: Literal["laplacian", "dned_detached", "dned"]
    lr: Positive
    lr_discriminator: Positive = 5e-4
    weights: LossWeights


class HintsRecipe(_Section):
    """Colour hints (an extension, :mod:`models.hints`): block means of the colours of some classes."""

    classes: tuple[str, ...] | Literal["all"]
    """Names in the data set's classes, one at least."""
    jitter: Weight = 0.0
    """Spread of brightness and saturation of the hints: renders have other colours than the photographs trained on."""
    dropout: Share = 0.1
    """Share of the samples without hints."""
    keep_hues: bool = False
    """Add the hints' chroma, limited to what photographs have of each class, to the picture: the generator learns the
    rest, and need not have seen a hue to keep it."""

    @field_validator("classes")
    @classmethod
    def _not_empty(cls, classes: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not classes:
            raise ValueError("names no class: name one, or leave hints out")
        return classes


class ImageRecipe(_Section):
    """Everything an image training depends on besides the data's folder."""

    name: str
    data: DataRecipe = DataRecipe()
    tier: Literal["lite", "base", "full"] = "lite"
    style_spread: Positive = 1.5
    style_learned_share: Share = 0.3
    style_reach: tuple[Share, ...] = ()
    """Share of ``style_spread`` with which the exported bundle's style seeds draw, by axis; empty for all of it."""
    style_centre: tuple[float, ...] = ()
    """Where its style seeds are drawn around, in units of ``style_spread``, by axis; empty for the learned weights."""
    style_input: bool = False
    """Tell the generator the drawn ensemble weights beside the map made with them (an extension)."""
    style_relight: bool = False
    """Re-light the target by the drawn ensemble weights, so that style seeds differ in light (an extension)."""
    hints: HintsRecipe | None = None
    half_chroma: bool = False
    """Pictures have colour at half the resolution of light, as in JPEG and video (an extension)."""
    edge: EdgeSettings = EdgeSettings()
    edge_augmentation: EdgeAugmentation | None = None
    adversarial: Literal["lsgan", "vanilla", "hinge"] = "lsgan"
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    dned_side_weights: tuple[Weight, Weight, Weight, Weight, Weight, Weight] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    """The constants a_0..a_5 of eq. 4, fine to coarse."""
    perceptual: Literal["bundle", "vgg19"] = "bundle"
    """Whose features train: of a segmenter's bundle, or of torchvision's VGG19 with its published weights."""
    perceptual_bundle: str | None = None
    """That bundle; must be given where a stage weighs ``perceptual``. Never random weights."""
    perceptual_weights: Path | None = None
    """A copy of VGG19's published weights on this machine; None for torch hub's folder."""
    perceptual_slices: Literal["equal", "pix2pixhd"] = "equal"
    """Factors of the slices: 1/P each (eq. 6), or pix2pixHD's 1/32, 1/16, 1/8, 1/4, 1 (an extension)."""
    perceptual_blur: bool = True
    """Blur both pictures before the frozen network (an extension of eq. 6)."""
    perceptual_normalise: bool = True
    """Divide each slice by the size of its real features (an extension of eq. 6)."""
    judge_crop: tuple[Side, Side] | None = None
    """Width and height of the randomly shifted window that the losses' networks see; None for the whole crop."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    batch: Annotated[int, Field(gt=0)] = 4
    """Samples that are in memory at once, those of all processes together."""
    accumulate: Annotated[int, Field(gt=0)] = 1
    """Batches whose mean gradient makes one step."""
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    clip: Positive = 10.0
    warmup: Annotated[int, Field(ge=0)] = 20
    decay_from: Share = 0.5
    """Share of all steps after which the learning rates fall linearly."""
    decay_to: Share = 0.05
    ema: Share = 0.999
    precision: Literal["fp32", "bf16"] = "bf16"
    seed: Seed = 0
    sample_every: Annotated[int, Field(gt=0)] = 500
    checkpoint_every: Annotated[int, Field(gt=0)] = 500
    report_every: Annotated[int, Field(gt=0)] = 50

    @model_validator(mode="before")
    @classmethod
    def _take_former_keys(cls, raw: Any) -> Any:
        """Recipes written before there was a section ``discriminator`` (of runs, on bundles' cards) go on working."""
        former = {f"discriminator_{key}": key for key in ("width", "sees_edges")}
        if not isinstance(raw, dict) or not (found := former.keys() & raw.keys()):
            return raw
        if "discriminator" in raw:
            raise ValueError(f"{min(found)} is the former name of a key of the section discriminator: give it there")
        kept = {k: v for k, v in raw.items() if k not in former}
        return kept | {"discriminator": {former[k]: raw[k] for k in found}}

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
        if self.judge_crop is not None:
            fits = all(small <= large for small, large in zip(self.judge_crop, self.data.crop, strict=True))
            if not fits or any(side % JUDGE_STRIDE for side in self.judge_crop):
                raise ValueError(
                    f"judge_crop is {self.judge_crop}, both sides must be multiples of {JUDGE_STRIDE}"
                    f" within {self.data.crop}"
                )
        check_axes(style_reach=self.style_reach, style_centre=self.style_centre)
        if self.style_relight and not self.style_input:
            raise ValueError("style_relight without style_input asks for light that the generator is not told of")
        for stage in self.stages:
            if stage.weights.feature_matching and not stage.weights.gan:
                raise ValueError(f"stage {stage.name!r} weighs feature_matching without gan: there is no D to match")
        return self

    @property
    def step_batch(self) -> int:
        """Samples of one step."""
        return self.batch * self.accumulate

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(s.steps for s in self.stages)

    @property
    def uses_dned(self) -> bool:
        """Whether the trained generator is used to DNED's ensemble; otherwise it knows E(x) alone."""
        return any(s.edges != "laplacian" for s in self.stages)

    def stage_at(self, step: int) -> Stage:
        """The stage a step (from 0) belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


class SegmenterRecipe(_Section):
    """Everything a segmenter training depends on besides the data's folder."""

    name: str
    data: DataRecipe = DataRecipe()
    arch: Literal["unet-segmenter", "pyramid-segmenter", "pspnet-segmenter"]
    width: Annotated[int, Field(gt=0)]
    backbone: Literal["resnet18", "resnet34", "resnet50", "mobilenet_v3_small", "mobilenet_v3_large"] | None = None
    """Of ``pspnet-segmenter``, which begins with its published ImageNet weights, never with random ones."""
    backbone_weights: Path | None = None
    """A copy of these weights on this machine; None for torch hub's folder."""
    steps: Annotated[int, Field(gt=0)]
    batch: Annotated[int, Field(gt=0)] = 6
    lr: Positive = 3e-3
    weight_decay: Weight = 1e-2
    colour_gain: Share = 0.2
    colour_shift: Weight = 15.0
    precision: Literal["fp32", "bf16"] = "bf16"
    seed: Seed = 0
    checkpoint_every: Annotated[int, Field(gt=0)] = 500
    report_every: Annotated[int, Field(gt=0)] = 50

    @model_validator(mode="after")
    def _has_its_backbone(self) -> Self:
        """A backbone for the network that has one, and for no other."""
        if (self.arch == "pspnet-segmenter") is not (self.backbone is not None):
            raise ValueError(
                f"arch is {self.arch} and backbone is {self.backbone or 'missing'}: pspnet-segmenter needs one, the"
                " other networks have none"
            )
        if self.backbone_weights is not None and self.backbone is None:
            raise ValueError(f"backbone_weights names {self.backbone_weights}, but there is no backbone: leave it out")
        return self

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        """Segmenters hold all photographs in memory and have colour keys of their own."""
        if self.data.frames > 1:
            raise ValueError(f"segmenters learn from single frames, and data.frames is {self.data.frames}: set it to 1")
        if self.data.colour or self.data.memory != "all":
            raise ValueError(
                "segmenters have colour_gain and colour_shift, and hold all photographs: leave out"
                " data.colour and data.memory"
            )
        return self


_TRAINS: Final[Mapping[type[BaseModel], str]] = {
    ImageRecipe: "an image training (trainers/run.py image)",
    SegmenterRecipe: "a segmenter (trainers/run.py segmenter)",
}
RecipeT = TypeVar("RecipeT", bound=BaseModel)
_UNKNOWN: Final = ("extra_forbidden", "unexpected_keyword_argument")
_MISTAKES: Final = 5
"""How many mistakes of a recipe are told at once."""


def find_recipe(name_or_path: str) -> Path:
    """Path of a recipe given by path or by the name of one that comes with the package.

    Raises:
        UsageError: There is none; the message lists the known ones.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = RECIPES / f"{path.stem}.yaml"
    if shipped.is_file() and path.name in {path.stem, shipped.name}:
        return shipped
    known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
    raise UsageError(f"recipe {name_or_path!r} is neither a file nor a known recipe ({known}): give one of them")


def load_recipe(kind: type[RecipeT], name_or_path: str, overrides: dict[str, Any] | None = None) -> RecipeT:
    """Reads and checks a recipe.

    Raises:
        UsageError: No such recipe, not YAML, or a value is wrong; the message names the key.
    """
    path = find_recipe(name_or_path)
    return _validate(kind, path, _read(path) | (overrides or {}))


def load_any_recipe(name_or_path: str) -> ImageRecipe | SegmenterRecipe:
    """Reads and checks a recipe of either kind: that of an image training has ``stages``.

    Raises:
        UsageError: As :func:`load_recipe`.
    """
    path = find_recipe(name_or_path)
    raw = _read(path)
    return _validate(ImageRecipe, path, raw) if "stages" in raw else _validate(SegmenterRecipe, path, raw)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as e:
        raise UsageError(f"recipe {path} is not YAML ({_yaml_reason(e)}): mend it") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"recipe {path} is not UTF-8 (byte {e.start} is {e.object[e.start]:#x}): save it so") from e
    except OSError as e:
        raise UsageError(f"recipe {path} cannot be read ({e.strerror}): check its rights") from e
    if not isinstance(raw, dict):
        raise UsageError(f"recipe {path} is not a mapping of keys: mend it")
    return raw


def _yaml_reason(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the lines that the parser draws."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    return f"line {error.problem_mark.line + 1}: {error.problem}"


def _validate(kind: type[RecipeT], path: Path, raw: dict[str, Any]) -> RecipeT:
    named = ImageRecipe if "stages" in raw else SegmenterRecipe if "arch" in raw else kind
    if named is not kind:
        raise UsageError(f"recipe {path} is of {_TRAINS[named]}, not of {_TRAINS[kind]}: give it to the other command")
    try:
        return kind.model_validate(raw)
    except ValidationError as e:
        raise UsageError(f"recipe {path}: {_mistakes(kind, e)}: mend it") from e


def data_of_card(raw: Mapping[str, Any], name: str) -> DataRecipe:
    """The section ``data`` of the recipe on a bundle's card.

    Raises:
        UsageError: A key or value is not one of this version's.
    """
    try:
        return DataRecipe.model_validate(raw)
    except ValidationError as e:
        raise UsageError(f"card of {name}: recipe.data: {_mistakes(DataRecipe, e)}: update, or mend the card") from e


def _mistakes(kind: type[BaseModel], error: ValidationError) -> str:
    """Where something is wrong, and what it is; of many the first ones, unknown keys before all, and how many more."""
    found = sorted(error.errors(), key=lambda mistake: mistake["type"] not in _UNKNOWN)
    named = [_mistake(kind, mistake) for mistake in found[:_MISTAKES]]
    more = len(found) - len(named)
    return "; ".join([*named, f"and {more} more"] if more else named)


def _mistake(kind: type[BaseModel], found: ErrorDetails) -> str:
    where = ".".join(str(part) for part in found["loc"]) or "recipe"
    message = found["msg"].removeprefix("Value error, ")
    if found["type"] in _UNKNOWN:
        near = difflib.get_close_matches(str(found["loc"][-1]), _keys(kind), 1)
        message = f"unknown key{f', did you mean {near[0]}' if near else ', leave it out'}"
    elif found["type"] not in ("missing", "value_error") and found["loc"]:
        message += f", not {found['input']!r}"
    return f"{where}: {message}"


def _keys(kind: type[BaseModel]) -> set[str]:
    """All keys of a recipe and its sections."""
    schema = kind.model_json_schema()
    return {key for part in (schema, *schema.get("$defs", {}).values()) for key in part.get("properties", {})}


def dump_recipe(recipe: BaseModel) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
