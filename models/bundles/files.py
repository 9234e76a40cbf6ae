"""Model bundles, folders of weights and a card, found, loaded and saved; no file in one can run code."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from models.bundles.card import (
    CARD,
    ZOO,
    BundleError,
    BundleNotFoundError,
    Card,
    checked_arguments,
    find_bundle,
    read_card,
    shipped_bundles,
)
from models.bundles.published import WeightsError
from models.content import missing_file_content
from models.edges import EdgeSettings
from models.nets.enhance import EnhanceNetwork
from models.nets.segmenter import SEGMENTERS
from models.nets.sflow import SFlowNetwork

__all__ = [
    "CARD", "ID_DIGITS", "TRAINING", "WEIGHTS", "ZOO", "Bundle", "BundleError", "BundleNotFoundError", "Card",
    "as_half", "find_bundle", "load_bundle", "load_tensors", "read_card", "save_bundle", "sha256_of", "shipped_bundles",
]  # fmt: skip

WEIGHTS: Final = "weights.safetensors"
TRAINING: Final = "training.safetensors"
ID_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle; its network is float32, in evaluation mode, on the CPU."""

    path: Path
    card: Card
    network: nn.Module

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def model_id(self) -> str:
        """First 12 hexadecimal digits of the weights' SHA-256, which published frames carry."""
        return self.card.sha256[:ID_DIGITS]

    @property
    def sflow(self) -> SFlowNetwork:
        """The network of a translator; raises BundleError for a bundle of another kind."""
        if not isinstance(self.network, SFlowNetwork):
            raise BundleError(
                f"bundle {self.path} holds a {self.card.arch!r}, no translator: give a bundle of arch 'sflow'"
            )
        return self.network


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_BUILDERS: Final[Mapping[str, Callable[[Card], nn.Module]]] = {
    "sflow": lambda card: SFlowNetwork(
        edge=EdgeSettings(**checked_arguments(EdgeSettings, card.edge)), **checked_arguments(SFlowNetwork, card.args)
    ),
    "enhance": lambda card: EnhanceNetwork(
        edge=EdgeSettings(**checked_arguments(EdgeSettings, card.edge)) if card.edge else None,
        **checked_arguments(EnhanceNetwork, card.args),
    ),
    **dict.fromkeys(
        SEGMENTERS, lambda card: SEGMENTERS[card.arch](**checked_arguments(SEGMENTERS[card.arch], card.args))
    ),
}


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; raises BundleError, and unpickles nothing, for any other or none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except FileNotFoundError as e:
        raise BundleError(f"weights {path} are missing: fetch the bundle again") from e
    except (SafetensorError, OSError) as e:
        if path.is_file() and (missing := missing_file_content(path)) is not None:
            raise BundleError(f"the file of weights {path} {missing.fact}: {missing.advice}") from e
        raise BundleError(
            f"weights {path} are not a safetensors file ({e}): only safetensors is read, never pickle"
        ) from e


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Loads a bundle by path or shipped name, its hash checked first; raises BundleError for anything wrong with it."""
    path = find_bundle(name_or_path)
    card = read_card(path)
    weights = path / WEIGHTS
    if not weights.is_file():
        raise BundleError(f"weights {weights} are missing: fetch the bundle again")
    if (missing := missing_file_content(weights)) is not None:
        raise BundleError(f"the file of weights {weights} {missing.fact}: {missing.advice}")
    if (found := sha256_of(weights)) != card.sha256:
        raise BundleError(
            f"weights {weights} have SHA-256 {found[:ID_DIGITS]}..., the card says {card.sha256[:ID_DIGITS]}...:"
            " the file is damaged or changed, fetch the bundle again"
        )
    if card.arch not in _BUILDERS:
        raise BundleError(
            f"bundle {path} is of architecture {card.arch!r}, known are {', '.join(_BUILDERS)}: update sim-bridge"
        )
    try:
        network = _BUILDERS[card.arch](card)
    except WeightsError as e:
        raise BundleError(f"bundle {path} cannot be built: {e}") from e
    except (TypeError, ValueError, RuntimeError, OverflowError) as e:
        raise BundleError(
            f"card {path / CARD} does not describe a {card.arch!r} network ({e}): fetch the bundle again"
        ) from e
    _fill(network, load_tensors(weights), weights)
    return Bundle(path, card, network.eval())


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    wanted = network.state_dict()
    if missing := wanted.keys() - tensors.keys():
        raise BundleError(
            f"weights {source} lack the tensor {min(missing)!r} ({len(missing)} missing): fetch the bundle again"
        )
    if extra := tensors.keys() - wanted.keys():
        raise BundleError(
            f"weights {source} hold an unknown tensor {min(extra)!r} ({len(extra)} unknown): fetch the bundle again"
        )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise BundleError(
                f"weights {source}: tensor {name!r} is {tuple(tensor.shape)}, the card's network has"
                f" {tuple(wanted[name].shape)}: fetch the bundle again"
            )
        if not torch.isfinite(tensor).all():
            raise BundleError(
                f"weights {source}: tensor {name!r} holds values that are no finite numbers: every picture would be"
                " black, export the bundle again"
            )
    network.load_state_dict({k: v.to(wanted[k].dtype) for k, v in tensors.items()})


def as_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as stored: floats as fp16, contiguous, on the CPU."""
    return {
        k: v.detach().cpu().to(torch.float16 if v.is_floating_point() else v.dtype).contiguous()
        for k, v in state.items()
    }


def save_bundle(path: Path, network: nn.Module, card: Card, training: Mapping[str, Tensor] | None = None) -> Card:
    """Writes a bundle, weights as fp16, and returns its card with ``sha256`` filled in.

    It replaces a bundle at ``path`` whole, or leaves it as it was; other files there, such as a licence, stay.
    ``training`` is the state of a whole training (names with prefixes), kept for fine-tuning.
    """
    from safetensors.torch import save_file

    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        made.mkdir()
        save_file(as_half(network.state_dict()), made / WEIGHTS)
        if training is not None:
            save_file(as_half(training), made / TRAINING)
        for file in made.iterdir():
            file.chmod(0o644)  # safetensors writes for the owner alone
        written = asdict(card) | {"sha256": sha256_of(made / WEIGHTS)}
        (made / CARD).write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for kept in path.iterdir() if path.exists() else ():
            if kept.name not in (WEIGHTS, TRAINING, CARD):
                shutil.copytree(kept, made / kept.name) if kept.is_dir() else shutil.copy2(kept, made / kept.name)
        _replace(path, made, Path(scratch) / "before")
    return Card(**written)


def _replace(path: Path, made: Path, before: Path) -> None:
    """Moves ``made`` to ``path``, and what was there to ``before``; between the two a reader finds no bundle."""
    try:
        if path.exists():
            path.rename(before)
        made.rename(path)
    except BaseException:
        if before.exists() and not path.exists():
            before.rename(path)
        raise
