"""What the loop and the scores ask of a system. A new system is one subclass and one recipe.

The loop calls, step by step: ``draw`` (what is random besides crops), ``prepare`` and ``forward`` for every
micro-batch, and ``losses`` for every player. The scores call the class methods below "Pictures", on a trained network
alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from models.bundles.files import WEIGHTS, BundleError, Card, load_tensors, read_card, sha256_of
from sim_bridge.frames import ByteArray
from trainers.batches.held import SampleSource
from trainers.batches.make import Batch
from trainers.data.photograph import Photograph
from trainers.recipes.schema import Recipe

RecipeT = TypeVar("RecipeT", bound=Recipe)
Paint = Callable[[Any, Sequence[Photograph]], list[ByteArray]]
"""Makes a picture uint8 ``(H, W, 3)`` RGB of every photograph, by a network."""


class MicroBatch(NamedTuple):
    """What one forward and backward pass works on."""

    batch: Batch  # the clips, as frames
    window: tuple[slice, slice]  # rows and columns that losses see, shifted at random; ``loss_window`` of the recipe
    drawn: Mapping[str, Any]  # what System.prepare returned


class Term(NamedTuple):
    """One term of an objective: a scalar under the name that reports show, and its weight in this stage."""

    name: str
    value: Tensor
    weight: float = 1.0


class Player(NamedTuple):
    """Weights with an objective and an optimiser of their own."""

    name: str  # short; reports show ``lr_NAME``
    module: nn.Module
    rate: str = "lr"  # key of a stage with its learning rate
    clip: float | None = None  # largest norm of its gradient; None does not clip


class System(ABC, Generic[RecipeT]):
    """Networks, losses and phases of one kind of training.

    ``networks`` by name are on the device, and checkpoints hold all; ``network`` is averaged, exported and makes the
    pictures. ``players`` learn in their order from one forward pass; a discriminator before its generator.
    """

    Recipe: ClassVar[type[Recipe]] = Recipe
    arch: ClassVar[str] = ""
    """``arch`` on the cards of its bundles."""
    makes_pictures: ClassVar[bool] = True
    """Whether its pictures are scored against photographs; otherwise :meth:`score` does it."""
    several_processes: ClassVar[bool] = True
    """Whether several processes may share a batch: not with batch normalisation."""
    bundles_at_end: ClassVar[bool] = False
    """Whether a finished training writes its bundle at once, into the run's folder."""

    networks: dict[str, nn.Module]
    players: tuple[Player, ...]

    def __init__(self, recipe: RecipeT, classes: Sequence[str], device: torch.device) -> None:
        self.recipe, self.classes, self.device = recipe, tuple(classes), device

    # Training

    def begin(self, samples: Sequence[SampleSource]) -> None:
        """Measures the training data, once, before the first step of a run or of its continuation."""

    def shown(self, photographs: Sequence[Photograph]) -> Sequence[Photograph]:
        """What sample sheets show of validation photographs; it may come before :meth:`begin`."""
        return photographs

    def draw(self, count: int) -> dict[str, Tensor]:
        """Random numbers of ``count`` clips, ``(count, ...)`` each; every process draws the same.

        ``prepare`` gets them by frame: those of a clip repeated for its frames.
        """
        return {}

    def prepare(self, batch: Batch, drawn: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """What ``forward`` needs besides a micro-batch that is still on the host: read labels here, not on a GPU."""
        return drawn

    @abstractmethod
    def forward(self, micro: MicroBatch, stage: Any) -> Any:
        """Runs the networks; what it returns goes to :meth:`losses`."""

    @abstractmethod
    def losses(self, player: str, made: Any, micro: MicroBatch, stage: Any) -> list[Term]:
        """A player's objective; the other players' weights are constants meanwhile. Empty: it does not learn now."""

    def state(self) -> dict[str, Any]:
        """What else a resumed training needs: plain values and tensors."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where :meth:`state` was taken."""

    def started_from(self, card: Card) -> None:
        """Follows the loading of a bundle's weights into the networks."""

    def autocast(self) -> torch.autocast:
        """The recipe's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def to_device(self, module: nn.Module) -> nn.Module:
        """Channels-last, on the device."""
        return module.to(self.device).to(memory_format=torch.channels_last)

    # Pictures: of a trained network in evaluation mode, on whatever device it is

    @classmethod
    @abstractmethod
    def build(cls, recipe: Any, classes: Sequence[str]) -> nn.Module:
        """The network that is exported, untrained."""

    @classmethod
    @abstractmethod
    def pictures(cls, network: Any, photographs: Sequence[Photograph], version: int = 0) -> list[ByteArray]:
        """What the network makes of photographs: uint8 ``(H, W, 3)`` RGB each."""

    @classmethod
    def variants(cls, network: Any) -> Mapping[str, Paint]:
        """Other ways of making pictures that an evaluation scores, by name."""
        return {}

    @classmethod
    def harder(cls, recipe: Any) -> Mapping[str, Paint]:
        """Inputs that are harder than photographs, which an ablation scores, by name."""
        return {}

    @classmethod
    def maps(cls, network: Any, rgb: ByteArray, labels: ByteArray) -> dict[str, ByteArray]:
        """Edge maps uint8 ``(H, W)`` that a picture becomes on its way: ``operator`` and ``dned``, or nothing."""
        return {}

    @classmethod
    def sheet(cls, network: Any, photograph: Photograph) -> Mapping[str, ByteArray]:
        """Columns of a sample sheet before the photograph, by heading; the picture made comes last.

        Each is uint8 ``(H, W, 3)``.
        """
        shown = "photograph in" if photograph.render is None else "render"
        return {shown: photograph.shown_rgb, "picture": cls.pictures(network, [photograph])[0]}

    @classmethod
    def parts(cls, recipe: Any) -> dict[str, Any]:
        """What the recipe becomes without each of its parts, by name, for an ablation."""
        return {}

    # Bundles

    @classmethod
    def card(cls, network: Any, recipe: Any, classes: Sequence[str]) -> dict[str, Any]:
        """What a card says of the network besides what every card says; ``args`` hold the number of classes."""
        return {"arch": cls.arch or cls.__name__.lower(), "args": {"classes": len(classes)}}

    @classmethod
    def score(cls, network: Any, photographs: Sequence[Photograph], classes: Sequence[str]) -> dict[str, Any]:
        """Scores by name of a system that makes no pictures."""
        raise TypeError(f"system {cls.__name__} makes no pictures, so it must define score")

    @classmethod
    def load(cls, bundle: Path, recipe: Any, classes: Sequence[str]) -> Any:
        """The network of a bundle; BundleError where the weights are damaged."""
        weights, card = bundle / WEIGHTS, read_card(bundle)
        if not weights.is_file() or sha256_of(weights) != card.sha256:
            raise BundleError(f"weights {weights} are missing or not those of the card: fetch the bundle again")
        network = cls.build(recipe, classes)
        try:
            network.load_state_dict(load_tensors(weights))
        except RuntimeError as e:
            raise BundleError(f"weights {weights} are not of the card's recipe: fetch the bundle again") from e
        return network.eval()


def as_picture(image: Tensor) -> ByteArray:
    """RGB ``(3, H, W)`` in -1..1 as uint8 ``(H, W, 3)``."""
    pixels = (image.detach().float() * 127.5 + 128).clamp(0, 255).permute(1, 2, 0).to(torch.uint8)
    return np.ascontiguousarray(pixels.cpu().numpy())
