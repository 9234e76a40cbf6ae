"""The losses of S-Flow GAN (eq. 1 to 7); symbols are the paper's.

Each loss is a small callable that owns its constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers import chroma_of
from models.nets.dned import SIDES, enlarge_side
from models.nets.features import FeatureNetwork


class LeastSquaresGAN:
    """L_GAN of eq. 1 to 3 with the least-squares criterion in place of the logarithm; of one D_k, as the next two."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What D minimises, given its patch scores."""
        return ((real - 1) ** 2).mean() + (fake**2).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """What G minimises."""
        return ((fake - 1) ** 2).mean()


class VanillaGAN:
    """L_GAN of eq. 2 and 3 as written; G minimises -log D (the non-saturating form)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What D minimises, given its patch scores (logits)."""
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """What G minimises."""
        return F.softplus(-fake).mean()


class HingeGAN:
    """L_GAN with the hinge criterion."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What D minimises, given its patch scores."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """What G minimises."""
        return -fake.mean()


ADVERSARIAL: dict[str, Callable[[], LeastSquaresGAN | VanillaGAN | HingeGAN]] = {
    "lsgan": LeastSquaresGAN,
    "vanilla": VanillaGAN,
    "hinge": HingeGAN,
}


class FeatureMatching:
    """L_FM^k, eq. 5: L1 between D_k's activations on the photograph and on the picture made from its labels.

    Eq. 7 sums it over the discriminators. 1/N_i is the mean over a layer's activations; pix2pixHD also divides by the
    number of discriminators, which the paper does not.
    """

    def __call__(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Sum over the T layers of the mean absolute difference; no gradient to the real side.

        Args:
            real: D_k^i(s, x), any shapes.
            fake: D_k^i(s, G(s, e)), the same shapes.
        """
        terms = [(r.detach().float() - f.float()).abs().mean() for r, f in zip(real, fake, strict=True)]
        return torch.stack(terms).sum()


class Perceptual:
    """L_percep, eq. 6: L1 between the features of a frozen network, mean over its P slices.

    Three extensions, each by option. Slices can have factors of their own in place of 1/P. They can be divided by the
    mean size of their real features, so that none of them rules. Both pictures can be blurred first by [1 2 1] x
    [1 2 1]: a frozen strided network takes a checkerboard for texture and would reward it; the blur removes period 2.

    Args:
        network: A trained network in evaluation mode; its parameters are frozen here.
        blur: The blur above.
        normalise: The division above.
        slice_weights: Factors of the slices; empty for 1/P each.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        blur: bool = True,
        normalise: bool = True,
        slice_weights: Sequence[float] = (),
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self._normalise = normalise
        self._slice_weights = tuple(slice_weights)
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self._kernel = (line[:, None] * line).expand(3, 1, 3, 3).contiguous() if blur else None

    def _prepare(self, image: Tensor) -> Tensor:
        if self._kernel is None:
            return image
        return F.conv2d(image, self._kernel.to(image), padding=1, groups=3)

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        """The loss of ``fake`` against the photograph ``x``, both RGB ``(N, 3, H, W)`` in -1..1.

        Raises:
            ValueError: The network has another number of slices than there are factors.
        """
        with torch.no_grad():
            wanted = self.network.features(self._prepare(x))
        got = self.network.features(self._prepare(fake))
        terms = torch.stack([self._slice(w.float(), g.float()) for w, g in zip(wanted, got, strict=True)])
        if not self._slice_weights:
            return terms.mean()
        if len(self._slice_weights) != len(terms):
            raise ValueError(f"{len(self._slice_weights)} factors for a network of {len(terms)} slices")
        return terms @ terms.new_tensor(self._slice_weights)

    def _slice(self, wanted: Tensor, got: Tensor) -> Tensor:
        difference = (wanted - got).abs().mean()
        return difference / (wanted.abs().mean() + 1e-3) if self._normalise else difference


class EdgeLoss:
    """L_DNED, eq. 4: sum of a_i * BCE(d_i(x), E(x)) over the six side outputs, each at full size.

    Args:
        a: The constants a_0..a_5.
    """

    def __init__(self, a: Sequence[float] = (1.0,) * SIDES) -> None:
        if len(a) != SIDES:
            raise ValueError(f"eq. 4 has {SIDES} constants a_i, got {len(a)}")
        self.a = tuple(a)

    def __call__(self, sides: Sequence[Tensor], target: Tensor) -> Tensor:
        """The loss of the side logits d_0..d_5 against E(x), ``(N, P, H, W)`` in 0..1."""
        terms = [
            a * F.binary_cross_entropy_with_logits(enlarge_side(d.float(), i), target)
            for i, (a, d) in enumerate(zip(self.a, sides, strict=True))
        ]
        return torch.stack(terms).sum()


class FusedEdgeLoss:
    """BCE of the ensemble itself; what the ensemble's weights are learned by (eq. 4 alone gives them no gradient)."""

    def __call__(self, fused: Tensor, target: Tensor) -> Tensor:
        """The loss of the fused logits ``(N, P, H, W)`` against E(x)."""
        return F.binary_cross_entropy_with_logits(fused.float(), target)


class Pixel:
    """L1 between pictures; not in the paper, a small share of it steadies short trainings."""

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        """Mean absolute difference, both in -1..1."""
        return (x - fake).abs().mean()


class Chroma:
    """L1 between the chroma of pictures (Cb and Cr of BT.601, as JPEG has them); not in the paper.

    Photographs have little fine colour, and D hardly minds it: without this, colour noise takes the place of texture.
    """

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        """Mean absolute difference of Cb and Cr, on the scale of the pictures, which are in -1..1."""
        blue, red = chroma_of((x - fake).float())
        return (blue.abs().mean() + red.abs().mean()) / 2


class Tone:
    """L1 between pictures averaged over blocks of 16x16 pixels; not in the paper.

    It holds colour and light where they belong without asking for any single pixel, which would blur.
    """

    def __call__(self, x: Tensor, fake: Tensor) -> Tensor:
        """Mean absolute difference of the block means, both pictures in -1..1."""
        return (F.avg_pool2d(x, 16) - F.avg_pool2d(fake, 16)).abs().mean()
