"""A second GAN in one file: a toy pix2pix with a generator and a discriminator of its own (labels in, picture out)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.losses.adversarial import LeastSquaresGAN
from models.losses.pixel import Pixel
from sim_bridge.frames import ByteArray
from trainers.data.photograph import Photograph
from trainers.recipes.schema import Recipe, Weight
from trainers.systems.base import MicroBatch, Player, System, Term, as_picture


class Pix2PixRecipe(Recipe):
    """Of all keys, one is new."""

    l1: Weight = 100.0


class Generator(nn.Sequential):
    def __init__(self, classes: int) -> None:
        super().__init__(
            nn.Conv2d(classes, 8, 3, 1, 1), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 3, 3, 1, 1), nn.Tanh()
        )
        self.classes = classes

    def forward(self, labels: Tensor) -> Tensor:
        planes = F.one_hot(labels.long(), self.classes).permute(0, 3, 1, 2).float()
        picture: Tensor = super().forward(planes)
        return picture


class Pix2Pix(System[Pix2PixRecipe]):
    Recipe = Pix2PixRecipe
    arch = "toy-pix2pix"

    def __init__(self, recipe: Pix2PixRecipe, classes: Sequence[str], device: torch.device) -> None:
        super().__init__(recipe, classes, device)
        self.g = self.to_device(self.build(recipe, classes))
        self.d = self.to_device(nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4, 2, 1)))
        self.networks = {"network": self.g, "discriminator": self.d}
        self.players = (Player("d", self.d, "lr_discriminator"), Player("g", self.g))
        self.L_GAN, self.L_pixel = LeastSquaresGAN(), Pixel()

    def forward(self, micro: MicroBatch, stage: Any) -> Tensor:
        fake: Tensor = self.g(micro.batch.s)
        return fake

    def losses(self, player: str, made: Tensor, micro: MicroBatch, stage: Any) -> list[Term]:
        x = micro.batch.x
        if player == "d":
            return [Term("d", self.L_GAN.discriminator(self.d(x), self.d(made.detach())).mean())]
        return [
            Term("g", self.L_GAN.generator(self.d(made)).mean()),
            Term("pixel", self.L_pixel(x, made).mean(), self.recipe.l1),
        ]

    @classmethod
    def build(cls, recipe: Pix2PixRecipe, classes: Sequence[str]) -> Generator:
        return Generator(len(classes))

    @classmethod
    @torch.inference_mode()
    def pictures(cls, network: Generator, photographs: Sequence[Photograph], version: int = 0) -> list[ByteArray]:
        device = next(network.parameters()).device
        return [as_picture(network(torch.from_numpy(p.labels)[None].to(device))[0]) for p in photographs]
