"""Published weights of torchvision's networks: found, fetched and checked, never replaced by random ones."""

from __future__ import annotations

import hashlib
import http.client
import importlib
import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

HASH_IN_NAME: Final = re.compile(r"-([a-f0-9]{8,64})\.")
"""torch hub's convention: ``vgg19-dcbb9e9d.pth`` begins its SHA-256 with ``dcbb9e9d``."""
_log = logging.getLogger(__name__)

_DAMAGED: Final = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError)
"""What torch.load raises of a file that is cut off or no file of weights."""


class WeightsError(ValueError):
    """Published weights cannot be had or are not what they should be. One sentence for the user."""


def torchvision_models() -> Any:
    """``torchvision.models``, imported where it is needed: a bridge runs without it.

    Raises:
        WeightsError: It is not installed.
    """
    try:
        return importlib.import_module("torchvision.models")
    except ImportError as e:
        raise WeightsError(
            f"torchvision, which has this network, is not installed ({e}): run pip install '.[train]'"
        ) from e


def hub_file(url: str) -> Path:
    """Where torch hub keeps the file of an address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def load_published(url: str, path: Path | None, option: str) -> dict[str, Tensor]:
    """The state dict of a published network: from ``path``, or from torch hub's folder, fetched into it if need be.

    A file whose name carries the beginning of its hash, as torch hub's do, is checked against it; one of another name
    is taken, with a warning where its hash is not that of the published one.

    Args:
        url: Address of the published file.
        path: A copy on this machine; None for torch hub's folder.
        option: Key of a recipe by which a user names a copy.

    Raises:
        WeightsError: There is no such file and it cannot be fetched, or it is damaged or holds something else.
    """
    file = hub_file(url) if path is None else path
    if not file.is_file():
        if path is not None:
            raise WeightsError(f"{option} names {path}, which is no file: fetch {url} and give its path")
        _fetch(url, file, option)
    _check_hash(file, url)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as e:
        raise WeightsError(f"weights {file} cannot be read ({e}): make them readable, or fetch {url} again") from e
    except _DAMAGED as e:
        raise WeightsError(f"{file} is no file of weights, or is damaged: fetch {url} again") from e
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{file} holds no state dict (names and tensors): fetch {url} again")
    return state


def fill_published(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Puts a state dict into a network, every tensor of it or none.

    Raises:
        WeightsError: A tensor is missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        ours, theirs = wanted.get(name), state.get(name)
        if theirs is None and name.endswith("num_batches_tracked"):
            continue  # files older than this counter lack it, and nothing reads it
        if ours is None or theirs is None or ours.shape != theirs.shape:
            found, need = (None if t is None else tuple(t.shape) for t in (theirs, ours))
            raise WeightsError(
                f"{source} are of another network: tensor {name!r} is {found or 'missing'} there,"
                f" {need or 'missing'} in the network: give the published file"
            )
    cast = {name: tensor.to(wanted[name].dtype) for name, tensor in state.items()}
    network.load_state_dict(cast, strict=False, assign=any(t.is_meta for t in wanted.values()))


def _fetch(url: str, file: Path, option: str) -> None:
    found = HASH_IN_NAME.search(file.name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), found.group(1) if found else None)
    except (OSError, RuntimeError, http.client.HTTPException) as e:
        raise WeightsError(
            f"published weights {file.name} are not in {file.parent} and cannot be fetched ({e}): download {url} on a"
            f" machine with internet and put the file there, or name it with {option}; random weights are never taken"
        ) from e


def _check_hash(file: Path, url: str) -> None:
    named, published = HASH_IN_NAME.search(file.name), HASH_IN_NAME.search(url)
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as e:
        raise WeightsError(f"weights {file} cannot be read ({e}): make them readable, or fetch {url} again") from e
    if named is None:
        if published is not None and not digest.startswith(published.group(1)):
            _log.warning(
                "weights %s have SHA-256 %s..., the published ones %s: they are taken at your word",
                file, digest[:8], published.group(1),
            )  # fmt: skip
    elif not digest.startswith(named.group(1)):
        raise WeightsError(
            f"weights {file} have SHA-256 {digest[:8]}..., their name says {named.group(1)}: the file is damaged or"
            f" another one, fetch {url} again"
        )
