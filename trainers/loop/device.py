"""Where a training runs, and how much memory it takes there."""

from __future__ import annotations

import logging
import resource
import sys

import torch

from sim_bridge.translators.device import Target, has_bf16

_log = logging.getLogger(__name__)


def pick_device() -> torch.device:
    """CUDA where there is one; of several GPUs the process's current one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def warn_of_slow_precision(precision: str, device: torch.device) -> None:
    """Says so where bf16 is emulated: a step then takes ten times as long as in fp32."""
    if precision == "bf16" and not has_bf16(device):
        name = Target(device, torch.bfloat16).describe()
        _log.warning("%s has no bf16 arithmetic and emulates it, slowly: add --set precision=fp32", name)


def peak_memory(device: torch.device) -> float:
    """The most memory this process has held so far, GB (1e9 bytes): allocated by torch on CUDA, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
