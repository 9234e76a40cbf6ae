"""Style seeds: one scene, many photoreal versions, by the weights of DNED's ensemble (S-Flow GAN, 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from models.layers import to_device
from models.nets.dned import SIDES

SEEDS: Final = 2**20
"""How many style seeds there are: reaching a point of the sequence takes time in proportion to its number."""


# The sequence whose first seeds, which people try first, lie farthest apart.
_SCRAMBLE: Final = 674

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
"""Directions of style ``(5, 6)`` among the six sides' log weights: fine against coarse, middle against both ends, then
the neighbours of each pair. Of length 1, orthogonal to each other and to a common factor, which a softmax drops."""


def check_axes(**settings: Sequence[float]) -> None:
    """Settings by name that have a number for every axis, or none at all.

    Raises:
        ValueError: One has another number of them.
    """
    for name, numbers in settings.items():
        if len(numbers) not in (0, len(AXES)):
            raise ValueError(f"{name} has {len(numbers)} numbers, but styles have {len(AXES)} axes")


def ensemble_weights(
    logits: Tensor, seed: int, spread: float | Sequence[float], centre: float | Sequence[float] = 0.0
) -> Tensor:
    """Ensemble weights of a style seed.

    Args:
        logits: Learned logits ``(6,)``.
        seed: 0 gives the learned weights; any other draws around them, the same every time and on every device.
            Seeds repeat after :data:`SEEDS`.
        spread: Standard deviation of the drawn logits, by axis or the same for all.
        centre: How far from the learned ones their mean lies, likewise.

    Returns:
        float32 ``(6,)`` on the CPU, positive, sum 1.
    """
    base = logits.detach().float().cpu()
    if seed == 0:
        return torch.softmax(base, 0)
    return torch.softmax(base + (torch.as_tensor(centre) + torch.as_tensor(spread) * _noise(seed)) @ AXES, 0)


def _noise(seed: int) -> Tensor:
    """A normal draw ``(5,)``, one number an axis, from a low-discrepancy sequence: seeds that lie close differ."""
    sequence = torch.quasirandom.SobolEngine(len(AXES), scramble=True, seed=_SCRAMBLE)  # type: ignore[no-untyped-call]
    sequence.fast_forward(seed % SEEDS)  # type: ignore[no-untyped-call]
    uniform: Tensor = sequence.draw(1)[0]
    noise: Tensor = torch.special.ndtri(uniform.clamp(0.01, 0.99))
    return noise


def style_offsets(weights: Tensor, logits: Tensor) -> Tensor:
    """How far ensemble weights lie from the learned ones: differences of logarithms ``(N, 6)``, zero for the learned.

    Args:
        weights: ``(N, 6)``, not negative, sum 1.
        logits: Learned logits ``(6,)``.
    """
    return torch.log(weights.float().clamp_min(1e-3)) - torch.log_softmax(logits.detach().float(), 0)


def draw_weights(logits: Tensor, count: int, spread: float, learned_share: float, generator: torch.Generator) -> Tensor:
    """Ensemble weights of a training batch: ``learned_share`` of the samples keep the learned ones, the rest are drawn.

    Args:
        logits: Learned logits ``(6,)``.
        count: Batch size.
        spread: As in :func:`ensemble_weights`.
        learned_share: In 0..1.
        generator: A CPU generator.

    Returns:
        float32 ``(count, 6)``; differentiable by ``logits``.
    """
    noise = torch.randn(count, SIDES, generator=generator) * spread
    keep = torch.rand(count, 1, generator=generator) < learned_share
    drawn = to_device(noise.masked_fill(keep, 0.0), logits.device)
    return torch.softmax(logits.float() + drawn, 1)
