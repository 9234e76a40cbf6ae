"""Feature matching, eq. 5."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class FeatureMatching:
    """L_FM^k, eq. 5: L1 between D_k's activations on the photograph and on the picture made from its labels.

    Eq. 7 sums it over the discriminators. 1/N_i is the mean over a layer's activations. pix2pixHD also divides by the
    number of discriminators; the paper does not.
    """

    def __call__(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Sum over the T layers of the mean absolute difference, by sample ``(N,)``; no gradient to ``real``.

        Args:
            real: D_k^i(s, x), ``(N, ...)`` each.
            fake: D_k^i(s, G(s, e)), the same shapes.
        """
        pairs = zip(real, fake, strict=True)
        # Not ``flatten(1)``, which copies what is channels-last.
        terms = [(r.detach().float() - f.float()).abs().mean(tuple(range(1, f.ndim))) for r, f in pairs]
        return torch.stack(terms).sum(0)
