"""Published weights of torchvision's networks, found or fetched, and checked; never random ones in their place."""

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

from models.content import missing_file_content

HASH_IN_NAME: Final = re.compile(r"-([a-f0-9]{8,64})\.")  # the SHA-256 of torch hub's vgg19-dcbb9e9d.pth starts so
# torch.load raises these for a file that is cut off or holds no weights.
_DAMAGED: Final = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError)
_log = logging.getLogger(__name__)


class WeightsError(ValueError):
    """One sentence about published weights that are missing, damaged, or another network's."""


def torchvision_models() -> Any:
    """Imports ``torchvision.models`` late, because a bridge runs without it; raises WeightsError if not installed."""
    try:
        return importlib.import_module("torchvision.models")
    except ImportError as e:
        raise WeightsError(
            f"torchvision, which has this network, is not installed ({e}): run pip install '.[train]'"
        ) from e


def hub_file(url: str) -> Path:
    """The path at which torch hub keeps a URL's file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def load_published(url: str, path: Path | None, option: str) -> dict[str, Tensor]:
    """The published state dict in ``path``, or in torch hub's folder, into which it is fetched if need be.

    Raises WeightsError for a file that is missing, damaged, or against the hash in its name. A file with no hash in its
    name passes, with a warning if it differs from the published one. ``option`` is the recipe's key for ``path``.
    """
    file = hub_file(url) if path is None else path
    if not file.is_file():
        if path is not None:
            raise WeightsError(f"{option} names {path}, which is no file: fetch {url} and give its path")
        _fetch(url, file, option)
    if (missing := missing_file_content(file)) is not None:
        raise WeightsError(f"the file of weights {file} {missing.fact}: {missing.advice}")
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
    """Loads all tensors of a state dict; raises WeightsError, loading none, if one is missing, unknown or misshapen."""
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
