"""Feature matching, eq. 5. Eq. 7 sums it over the discriminators; only pix2pixHD divides by their number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class FeatureMatching:
    """L_FM^k, eq. 5: L1 between D_k's activations on the photograph and on the picture made from its labels."""

    def __call__(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Sum over T layers of the mean (1/N_i) |D_k^i(s, x) - D_k^i(s, G(s, e))|, ``(N,)``; ``real`` is detached."""
        pairs = zip(real, fake, strict=True)
        # Not ``flatten(1)``, which copies what is channels-last.
        terms = [(r.detach().float() - f.float()).abs().mean(tuple(range(1, f.ndim))) for r, f in pairs]
        return torch.stack(terms).sum(0)
