"""An enhancer with pairs: render and photograph of one scene. It keeps the render's edges, and draws materials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.losses.adversarial import HingeGAN, LeastSquaresGAN
from models.nets.discriminator import PatchDiscriminator
from models.nets.efficientnet_lite import EfficientNetLite
from models.nets.enhance import CAMERA, EnhanceNetwork
from models.nets.projected import ProjectedDiscriminator
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from trainers.batches.held import SampleSource
from trainers.data.photograph import Photograph
from trainers.recipes.enhance_paired import EnhancePairedRecipe, PairedStage
from trainers.systems.base import MicroBatch, Player, System, Term
from trainers.systems.enhance import MEASURED, bounds, enhanced, softly_clamped, tiles

BLOCK = 8
"""Pixels a side of the blocks whose mean is held."""


class PairedCritic(nn.Module):
    """Both discriminators. The one on pixels sees the render, too.

    Args:
        channels: Of the frozen network's maps.
        classes: How many.
        width: Channels of the patch discriminator.
    """

    measured: Tensor

    def __init__(self, channels: Sequence[int], classes: int, width: int) -> None:
        super().__init__()
        self.projected = ProjectedDiscriminator(channels, classes)
        self.patch = PatchDiscriminator(classes, width, planes=3)
        self.register_buffer("measured", torch.zeros((), dtype=torch.bool))


class Made(NamedTuple):
    """What one forward pass made; pictures are ``(N, 3, H, W)`` in -1..1.

    Attributes:
        labels: Of both.
        render, photograph: The pair.
        fake: The picture made of the render, softly clamped.
        of_fake, of_photograph: Features.
    """

    labels: Tensor
    render: Tensor
    photograph: Tensor
    fake: Tensor
    of_fake: list[Tensor]
    of_photograph: list[Tensor]


class EnhancePaired(System[EnhancePairedRecipe]):
    """Paired training. See :class:`System`.

    Raises:
        UsageError: The data are no pairs.
    """

    Recipe = EnhancePairedRecipe
    arch = "enhance"

    def __init__(self, recipe: EnhancePairedRecipe, classes: Sequence[str], device: torch.device) -> None:
        super().__init__(recipe, classes, device)
        if recipe.data.edges_from != "render":
            raise UsageError(f"recipe {recipe.name!r} needs pairs: set data.edges_from to render")
        self.network = self.build(recipe, classes)
        self.seen = EfficientNetLite("lite0")
        self.critic = PairedCritic(self.seen.channels, len(classes), recipe.patch_width)
        for module in (self.network, self.seen, self.critic):
            self.to_device(module)
        self.networks = {"network": self.network, "critic": self.critic}
        self.players = (Player("d", self.critic, "lr_discriminator"), Player("g", self.network, "lr", recipe.clip))

    def begin(self, samples: Sequence[SampleSource]) -> None:
        """Measures features of photographs once, which the checkpoint keeps."""
        self.network.detail.copy_(bounds(self.recipe.detail, self.classes))
        if self.critic.measured:
            return
        w, h = self.recipe.data.crop
        some = [samples[i].rgb for i in range(0, len(samples), max(1, len(samples) // MEASURED))]
        shown = torch.cat([tiles(rgb, h, w) for rgb in some])[: 2 * MEASURED].to(self.device)
        with self.autocast(), torch.no_grad():
            self.critic.projected.measure(self._features(shown))
        self.critic.measured.fill_(True)

    def forward(self, micro: MicroBatch, stage: PairedStage) -> Made:
        """Translates the renders, and takes all features."""
        render, photograph, labels = micro.batch.hint_rgb, micro.batch.x, micro.batch.s
        style = torch.zeros(len(render), 1 + len(CAMERA), device=render.device)
        style[:, 0].fill_(1)  # made where it is used: a GPU does not wait for the host
        with self.autocast():
            fake = softly_clamped(self.network(render, labels, style))
            of_fake = self._features(fake)
            with torch.no_grad():
                of_photograph = self._features(photograph)
        return Made(labels, render, photograph, fake, of_fake, of_photograph)

    def _features(self, picture: Tensor) -> list[Tensor]:
        return self.seen.features(picture.contiguous(memory_format=torch.channels_last))

    def losses(self, player: str, made: Made, micro: MicroBatch, stage: PairedStage) -> list[Term]:
        """Both discriminators' losses; or what makes the picture like the photograph."""
        if player == "d":
            return self._critic_terms(made, stage)
        return [*self._adversarial_terms(made, stage), *self._paired_terms(made, stage)]

    def _critic_terms(self, made: Made, stage: PairedStage) -> list[Term]:
        w, terms, hinge, squares = stage.weights, list[Term](), HingeGAN(), LeastSquaresGAN()
        with self.autocast():
            if w.projected:
                on_real = self.critic.projected(made.of_photograph, made.labels)
                on_fake = self.critic.projected([f.detach() for f in made.of_fake], made.labels)
                pairs = zip(on_real, on_fake, strict=True)
                heads = [hinge.discriminator(r.float(), f.float()).mean() for r, f in pairs]
                terms.append(Term("d", torch.stack(heads).mean()))
            if w.patch or w.matching:
                (real,) = self.critic.patch(made.labels, made.photograph, made.render)
                (fake,) = self.critic.patch(made.labels, made.fake.detach(), made.render)
                terms.append(Term("d_patch", squares.discriminator(real.patches.float(), fake.patches.float()).mean()))
        return terms

    def _adversarial_terms(self, made: Made, stage: PairedStage) -> list[Term]:
        w, terms, hinge, squares = stage.weights, list[Term](), HingeGAN(), LeastSquaresGAN()
        with self.autocast():
            if w.projected:
                heads = self.critic.projected(made.of_fake, made.labels)
                score = torch.stack([hinge.generator(h.float()).mean() for h in heads]).mean()
                terms.append(Term("g", score, w.projected))
            if w.patch or w.matching:
                (fake,) = self.critic.patch(made.labels, made.fake, made.render)
                with torch.no_grad():
                    (real,) = self.critic.patch(made.labels, made.photograph, made.render)
                terms.append(Term("g_patch", squares.generator(fake.patches.float()).mean(), w.patch))
                terms.append(Term("matching", _difference(fake.features, real.features), w.matching))
        return terms

    def _paired_terms(self, made: Made, stage: PairedStage) -> list[Term]:
        w, depths = stage.weights, self.recipe.perceptual_depths
        kept = [i for i, depth in enumerate(depths) if depth]
        perceptual = sum(
            (depths[i] * _difference([made.of_fake[i]], [made.of_photograph[i]]) for i in kept),
            start=made.fake.new_zeros(()),
        )
        ours, theirs = (F.avg_pool2d(picture, BLOCK) for picture in (made.fake, made.photograph))
        return [
            Term("perceptual", perceptual, w.perceptual),
            Term("pixel", F.l1_loss(made.fake, made.photograph), w.pixel),
            Term("tone", F.l1_loss(ours, theirs), w.tone),
        ]

    # Pictures

    @classmethod
    def build(cls, recipe: EnhancePairedRecipe, classes: Sequence[str]) -> EnhanceNetwork:
        """It draws."""
        network = EnhanceNetwork(recipe.tier, len(classes), [recipe.look], draws=True)
        network.detail.copy_(bounds(recipe.detail, classes))
        return network

    @classmethod
    def pictures(cls, network: EnhanceNetwork, photographs: Sequence[Photograph], version: int = 0) -> list[ByteArray]:
        """Of renders. A version is a style seed."""
        return [enhanced(network, p.shown_rgb, p.labels, version) for p in photographs]

    @classmethod
    def card(cls, network: EnhanceNetwork, recipe: EnhancePairedRecipe, classes: Sequence[str]) -> dict[str, Any]:
        """With the network's arguments."""
        return {"arch": cls.arch, "args": network.args}


SYSTEM = EnhancePaired


def _difference(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of maps, relative to the real ones' size; the mean over the maps."""
    parts = [
        (f.float() - r.float()).abs().mean() / r.float().abs().mean().clamp_min(1e-6)
        for f, r in zip(fake, real, strict=True)
    ]
    return torch.stack(parts).mean()
