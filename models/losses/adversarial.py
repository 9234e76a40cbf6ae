"""L_GAN of eq. 1 to 3, of one discriminator D_k; every loss is a map of the patch scores' shape."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


class LeastSquaresGAN:
    """The least-squares criterion in place of the logarithm."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What D minimises, by patch; the scores have one shape."""
        return (real - 1) ** 2 + fake**2

    def generator(self, fake: Tensor) -> Tensor:
        """What G minimises, by patch."""
        return (fake - 1) ** 2


class VanillaGAN:
    """Eq. 2 and 3 as written, on logits; G minimises -log D (the non-saturating form)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What D minimises, by patch; the scores have one shape."""
        return F.softplus(-real) + F.softplus(fake)

    def generator(self, fake: Tensor) -> Tensor:
        """What G minimises, by patch."""
        return F.softplus(-fake)


class HingeGAN:
    """The hinge criterion."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What D minimises, by patch; the scores have one shape."""
        return F.relu(1 - real) + F.relu(1 + fake)

    def generator(self, fake: Tensor) -> Tensor:
        """What G minimises, by patch."""
        return -fake


ADVERSARIAL: dict[str, Callable[[], LeastSquaresGAN | VanillaGAN | HingeGAN]] = {
    "lsgan": LeastSquaresGAN,
    "vanilla": VanillaGAN,
    "hinge": HingeGAN,
}
