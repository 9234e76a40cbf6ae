"""Style seeds: one scene, many photoreal versions, by the weights of DNED's ensemble (S-Flow GAN, 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from models.dned import SIDES


def ensemble_weights(logits: Tensor, seed: int, spread: float) -> Tensor:
    """Ensemble weights of a style seed.

    Args:
        logits: Learned logits ``(6,)``.
        seed: 0 gives the learned weights; any other seed draws around them, the same every time and on every device.
        spread: Standard deviation of the drawn logits around the learned ones.

    Returns:
        float32 ``(6,)`` on the CPU, positive, sum 1.
    """
    base = logits.detach().float().cpu()
    if seed == 0:
        return torch.softmax(base, 0)
    noise = torch.randn(SIDES, generator=torch.Generator().manual_seed(seed))
    return torch.softmax(base + spread * noise, 0)


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
    drawn = torch.where(keep, torch.zeros(()), noise).to(logits.device)
    return torch.softmax(logits.float() + drawn, 1)
