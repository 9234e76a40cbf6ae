"""Finds the first tensor of a step that is not finite.

A good step pays for one sum over its gradients. When that is not finite, this looks at losses, weights, and every
module's output in a second forward pass, before the gradients reach a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

ADVICE: Final = (
    "go on from the last checkpoint with --resume, and if it comes again lower the learning rates or train in fp32"
)


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """One number that is not finite where any element is not."""
    return torch.nn.utils.get_total_norm(tensors)


def gradients(module: nn.Module) -> list[Tensor]:
    """The parameters' gradients, without missing ones."""
    return [p.grad for p in module.parameters() if p.grad is not None]


def first_bad_value(named: Mapping[str, float] | Mapping[str, Tensor]) -> str | None:
    """Name of the first value or tensor that is not finite."""
    return next((name for name, value in named.items() if not _finite(value)), None)


def bad_weight(modules: Mapping[str, nn.Module]) -> str | None:
    """The first weight that holds a number that is not finite, as ``'network.dned.side.0.bias' (1 of 2 numbers)``."""
    return _describe({f"{n}.{k}": v for n, m in modules.items() for k, v in m.state_dict().items()})


def bad_gradient(modules: Mapping[str, nn.Module]) -> str | None:
    """The first weight whose gradient is not finite, as :func:`bad_weight`."""
    parameters = ((f"{n}.{k}", p.grad) for n, m in modules.items() for k, p in m.named_parameters())
    return _describe({name: grad for name, grad in parameters if grad is not None})


def bad_output(modules: Mapping[str, nn.Module], forward: Callable[[], object]) -> str | None:
    """The first module, in the order of computing, whose output is not finite.

    Args:
        modules: Watched with all modules within them.
        forward: Repeats the step's forward passes.
    """
    found: list[str] = []

    def watcher(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def watch(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and any(not _finite(t) for t in _tensors(output)):
                found.append(name)

        return watch

    with _hooks(modules, watcher), torch.no_grad():
        forward()
    return f"'{found[0]}'" if found else None


def find_cause(modules: Mapping[str, nn.Module], samples: Mapping[str, Tensor], forward: Callable[[], object]) -> str:
    """The place where a step stopped being finite, as part of a sentence.

    Args:
        modules: The networks, their gradients still in them.
        samples: The step's input.
        forward: Repeats the step's forward passes.
    """
    if (weight := bad_weight(modules)) is not None:
        return f"the weight {weight} is not finite"
    if (sample := first_bad_value(samples)) is not None:
        return f"the samples' {sample} is not finite"
    if (output := bad_output(modules, forward)) is not None:
        return f"the first output that is not finite is that of {output}"
    if (gradient := bad_gradient(modules)) is not None:
        return f"weights and outputs are finite, the gradient of {gradient} is not"
    return "weights, outputs and gradients are finite, each for itself"


@contextmanager
def _hooks(
    modules: Mapping[str, nn.Module], watcher: Callable[[str], Callable[[nn.Module, Any, Any], None]]
) -> Iterator[None]:
    handles = [
        inner.register_forward_hook(watcher(f"{name}.{path}".rstrip(".")))
        for name, module in modules.items()
        for path, inner in module.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part)


def _finite(value: float | Tensor) -> bool:
    return bool(torch.isfinite(torch.as_tensor(value)).all())


def _describe(tensors: Mapping[str, Tensor]) -> str | None:
    name = first_bad_value(tensors)
    if name is None:
        return None
    bad = tensors[name].numel() - int(torch.isfinite(tensors[name]).sum())
    return f"'{name}' ({bad} of {tensors[name].numel()} numbers)"
