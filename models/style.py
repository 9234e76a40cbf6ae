"""Style seeds: the weights of DNED's ensemble choose among versions of a scene (S-Flow GAN, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from models.layers import to_device
from models.nets.dned import SIDES

SEEDS: Final = 2**20  # bounded, because reaching point n of the sequence takes time in proportion to n
_SCRAMBLE: Final = 674  # the sequence whose first seeds, which people try first, lie farthest apart

# Directions of style among the logits of the six sides, (5, 6): fine against coarse, middle against both ends, then the
# neighbours of each pair. Each has length 1 and is orthogonal to the others and to the sum, which a softmax drops.
AXES: Final = torch.nn.functional.normalize(
    torch.tensor(
        [
            [1.0, 1.0, 0.0, 0.0, -1.0, -1.0],
            [-1.0, -1.0, 2.0, 2.0, -1.0, -1.0],
            [1.0, -1.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, -1.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 1.0, -1.0],
        ]
    )
)


def check_axes(**settings: Sequence[float]) -> None:
    """Raises ValueError unless each setting has a number for every axis, or none."""
    for name, numbers in settings.items():
        if len(numbers) not in (0, len(AXES)):
            raise ValueError(f"{name} has {len(numbers)} numbers, but styles have {len(AXES)} axes")


def ensemble_weights(
    logits: Tensor, seed: int, spread: float | Sequence[float], centre: float | Sequence[float] = 0.0
) -> Tensor:
    """Ensemble weights of a style seed, float32 ``(6,)`` on the CPU, positive, sum 1.

    Seed 0 gives the learned weights, the softmax of ``logits`` ``(6,)``. Any other draws the logits around them, by
    axis: their mean is ``centre`` away, their standard deviation is ``spread``. Seeds repeat after :data:`SEEDS`.
    """
    base = logits.detach().float().cpu()
    if seed == 0:
        return torch.softmax(base, 0)
    return torch.softmax(base + (torch.as_tensor(centre) + torch.as_tensor(spread) * _noise(seed)) @ AXES, 0)


def _noise(seed: int) -> Tensor:
    """A normal draw ``(5,)`` from a low-discrepancy sequence, so that neighbouring seeds differ."""
    sequence = torch.quasirandom.SobolEngine(len(AXES), scramble=True, seed=_SCRAMBLE)  # type: ignore[no-untyped-call]
    sequence.fast_forward(seed % SEEDS)  # type: ignore[no-untyped-call]
    uniform: Tensor = sequence.draw(1)[0]
    noise: Tensor = torch.special.ndtri(uniform.clamp(0.01, 0.99))
    return noise


def style_offsets(weights: Tensor, logits: Tensor) -> Tensor:
    """Log of weights ``(N, 6)`` (>= 0, sum 1) less the log of the learned ones, the softmax of ``logits`` ``(6,)``."""
    return torch.log(weights.float().clamp_min(1e-3)) - torch.log_softmax(logits.detach().float(), 0)


def draw_weights(logits: Tensor, count: int, spread: float, learned_share: float, generator: torch.Generator) -> Tensor:
    """Ensemble weights of a training batch, float32 ``(count, 6)``, differentiable by ``logits`` ``(6,)``.

    A share of the samples, in 0..1, keeps the learned weights; the others' logits are drawn around the learned ones
    with the standard deviation ``spread``. ``generator`` is on the CPU.
    """
    noise = torch.randn(count, SIDES, generator=generator) * spread
    keep = torch.rand(count, 1, generator=generator) < learned_share
    drawn = to_device(noise.masked_fill(keep, 0.0), logits.device)
    return torch.softmax(logits.float() + drawn, 1)
