"""Where a network runs and in which arithmetic."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sim_bridge.errors import MissingExtraError, UsageError

try:
    import torch
except ImportError as error:
    raise MissingExtraError("torch", "engine", "running a network") from error

_BF16_FEATURES: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Names of bf16 dot products in /proc/cpuinfo: AVX-512, AMX, and Arm's."""

_CPUINFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Target:
    """A resolved device and arithmetic.

    Attributes:
        device: Where the network runs.
        dtype: ``torch.float32`` or ``torch.bfloat16``.
    """

    device: torch.device
    dtype: torch.dtype

    @property
    def precision(self) -> str:
        """``bf16`` or ``fp32``, as the setting is written."""
        return "bf16" if self.dtype is torch.bfloat16 else "fp32"

    def describe(self) -> str:
        """One line for tables and logs, for example ``cpu (AMD EPYC 9B45, 2 threads)``."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        return f"cpu ({cpu_name()}, {torch.get_num_threads()} threads)"


def choose_target(device: str, precision: str) -> Target:
    """Resolves the settings ``device`` and ``precision``.

    Args:
        device: ``auto`` (CUDA when there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` (bf16 where the hardware has it), ``fp32`` or ``bf16``.

    Raises:
        UsageError: CUDA was asked for and is not there, or a name is unknown.
    """
    place = choose_device(device)
    if precision not in ("auto", "fp32", "bf16"):
        raise UsageError(f"the precision {precision!r} is unknown: use auto, fp32 or bf16")
    fast = precision == "bf16" or (precision == "auto" and has_bf16(place))
    return Target(place, torch.bfloat16 if fast else torch.float32)


def choose_device(name: str) -> torch.device:
    """Resolves ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; a plain ``cuda`` is the current device.

    Raises UsageError when the device is unknown or not there.
    """
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdecimal())):
        raise UsageError(f"the device {name!r} is unknown: use auto, cpu, cuda or cuda:N")
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(
            f"the device {name!r} was asked for, but torch {torch.__version__} finds no CUDA device: "
            "use --device cpu, or check the driver with nvidia-smi"
        )
    index = int(number) if number else torch.cuda.current_device()
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"the device {name!r} was asked for, but there are {torch.cuda.device_count()} CUDA devices, "
            f"the last of them cuda:{torch.cuda.device_count() - 1}"
        )
    return torch.device("cuda", index)


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16; without that, bf16 is slower than fp32."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current device, which may be another card
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN calls bf16 "supported" on any AVX-512 processor and emulates it, so the instruction itself is looked for.
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return has_onednn and bool(_BF16_FEATURES & cpu_features())


def cpu_features(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """The first processor's feature names as the kernel lists them; empty where there is no such list."""
    return frozenset(_cpuinfo_field(cpuinfo, ("flags", "Features")).split())


def cpu_name(cpuinfo: Path = _CPUINFO) -> str:
    """The processor's model name, or its architecture where the kernel names no model."""
    return _cpuinfo_field(cpuinfo, ("model name",)) or platform.machine()


def _cpuinfo_field(cpuinfo: Path, names: tuple[str, ...]) -> str:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in names:
            return value.strip()
    return ""
