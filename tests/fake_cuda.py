"""CUDA tensors without CUDA: PyTorch's own device, dtype and autocast rules on tensors that hold no values.

``host_copies`` runs code on them and names every line that would make the host wait for the GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

M = TypeVar("M", bound=nn.Module)
ROOT = Path(__file__).parents[1]
# Operators whose answer, or its shape, the host must know before it can go on.
SYNCS = (
    "aten._local_scalar_dense", "aten.equal", "aten.is_nonzero", "aten.item", "aten.masked_select", "aten.nonzero",
    "aten.nonzero_numpy", "aten.repeat_interleave", "aten.unique_dim", "aten._unique2", "aten.unique_consecutive",
)  # fmt: skip
# Under inference_mode composite operators (``to``, ``item``) arrive whole.
COPIES = ("aten._to_copy", "aten.to", "aten.copy", "aten.copy_")


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Tensors and networks made inside have no values, and may be on ``cuda``; autocast works there."""
    with (
        patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
        patch("torch.cuda.is_bf16_supported", lambda *_, **__: True),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        yield


def on_cuda(network: M, dtype: torch.dtype | None = None) -> M:
    """Puts fake CUDA tensors, channels last, in place of a network's own (``Module.to`` cannot).

    Args:
        network: Changed in place.
        dtype: Of its floating-point tensors; None for their own.
    """

    def moved(tensor: Tensor) -> Tensor:
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        return torch.empty(tensor.shape, dtype=wanted, device="cuda", memory_format=layout)

    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(moved(parameter), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = moved(buffer)
    return network


class HostCopies(TorchDispatchMode):
    """Notes each operator that syncs, copies between devices, or makes a tensor of host values.

    Args:
        pinned: Whether non-blocking copies from pinned memory are fine, as they are outside a captured graph.
    """

    def __init__(self, *, pinned: bool) -> None:
        super().__init__()
        self.found: list[str] = []
        self._pinned_is_fine = pinned
        self._pinned: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs the operator, and notes it where the host waits."""
        kwargs = kwargs or {}
        name = str(func).rpartition(".")[0]
        # Constants of the host come as they are.
        args = tuple(_as_fake(a) if isinstance(a, Tensor) else a for a in args)
        if name in ("aten._pin_memory", "aten.pin_memory"):  # fake tensors do not know it
            self._pinned.append(args[0].clone())
            return self._pinned[-1]
        if name in SYNCS or (name.startswith("aten.index") and _has_mask(args)):
            self._note(f"{name} waits for the GPU")
        if name in ("aten.lift", "aten.lift_fresh"):
            self._note(f"{name} makes a tensor of host values")
        result = func(*args, **kwargs)
        if name in COPIES:
            self._check_copy(name, args[1] if "copy" in name and "_to" not in name else args[0], result, args, kwargs)
        return result

    def _check_copy(self, name: str, source: Tensor, result: Tensor, args: tuple[Any, ...], kwargs: Any) -> None:
        non_blocking = kwargs.get("non_blocking", False) or any(a is True for a in args)
        sent = non_blocking and any(source is p for p in self._pinned)
        if source.device.type != result.device.type and not (sent and self._pinned_is_fine):
            self._note(f"{name} copies from {source.device} to {result.device}")

    def _note(self, what: str) -> None:
        self.found.append(f"{_line_of_caller()}: {what}")


def _as_fake(tensor: Tensor) -> Tensor:
    if isinstance(tensor, FakeTensor):
        return tensor
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=tensor.device)


def _has_mask(args: tuple[Any, ...]) -> bool:
    indices = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _line_of_caller() -> str:
    """The innermost line of this project outside this file."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT) and file != Path(__file__):
            return f"{file.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


def host_copies(run: Callable[[], object], *, pinned: bool = False) -> list[str]:
    """Lines of the project that make the host wait while ``run`` runs; call it inside :func:`fake_cuda`.

    Args:
        run: What is watched. It ends early where it needs a value, which fake tensors have not: that line is named.
        pinned: Whether non-blocking copies from pinned memory are fine.
    """
    watcher = HostCopies(pinned=pinned)
    try:
        with watcher:
            run()
    except (
        torch._subclasses.fake_tensor.DataDependentOutputException,
        torch._subclasses.fake_tensor.DynamicOutputShapeException,
    ):
        assert watcher.found, "a value was needed by an operator that the watcher does not know"
    return list(dict.fromkeys(watcher.found))
