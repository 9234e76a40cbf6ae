"""Where a training runs."""

from __future__ import annotations

import torch


def pick_device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
