"""Where a training runs, and how much memory it takes there."""

from __future__ import annotations

import resource
import sys

import torch


def pick_device() -> torch.device:
    """CUDA where there is one; of several GPUs the process's current one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_memory(device: torch.device) -> float:
    """The most memory this process has held so far, GB (1e9 bytes): allocated by torch on CUDA, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
