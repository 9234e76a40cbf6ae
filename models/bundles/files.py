"""Model bundles: a folder with ``weights.safetensors`` and ``card.json``. Nothing in a bundle can run code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from models.bundles.published import WeightsError
from models.edges import EdgeSettings
from models.nets.segmenter import SEGMENTERS
from models.nets.sflow import SFlowNetwork

FORMAT: Final = 1
WEIGHTS: Final = "weights.safetensors"
TRAINING: Final = "training.safetensors"
CARD: Final = "card.json"
ZOO: Final = Path(__file__).parent / "zoo"
_MAX_CARD_BYTES: Final = 1 << 20
ID_DIGITS: Final = 12
NORMALISATION: Final = "rgb / 127.5 - 1"
_TYPES: Final[Mapping[str, type]] = {
    **dict.fromkeys(("arch", "data", "command", "licence_weights", "licence_data", "normalisation", "sha256"), str),
    **dict.fromkeys(("args", "edge", "metrics", "recipe"), dict),
    **dict.fromkeys(("classes", "size", "ensemble", "recipe_changes"), list),
    **dict.fromkeys(("steps", "format"), int),
}
_OPTIONAL: Final = frozenset({"edge", "normalisation", "ensemble", "metrics", "recipe", "recipe_changes"})


class BundleError(ValueError):
    """A bundle is missing, damaged, or of an unknown kind. One sentence for the user."""


class BundleNotFoundError(BundleError):
    """There is no bundle of that name or at that path."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a bundle says of itself.

    Attributes:
        arch: ``sflow``, ``unet-segmenter``, ``pyramid-segmenter`` or ``pspnet-segmenter``.
        args: What the architecture is built with.
        classes: Canonical class names by id.
        size: ``[width, height]`` of the training crops; the networks take any size.
        edge: Settings of the edge operator (:class:`~models.edges.EdgeSettings`).
        normalisation: How pixels enter the network.
        ensemble: The learned ensemble weights of DNED.
        data: What it was trained on.
        command: The command that trained it.
        steps: Optimisation steps.
        metrics: What was measured, by name.
        licence_weights: SPDX id of the weights' licence.
        licence_data: SPDX id, or name, of the data's licence.
        recipe: The resolved recipe of the training, as it stood at the end.
        recipe_changes: Steps at which that recipe replaced another one.
        sha256: Of the weights file.
        format: Version of this layout.
    """

    arch: str
    args: dict[str, Any]
    classes: list[str]
    size: list[int]
    data: str
    command: str
    steps: int
    licence_weights: str
    licence_data: str
    edge: dict[str, Any] = field(default_factory=dict)
    normalisation: str = NORMALISATION
    ensemble: list[float] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    recipe_changes: list[int] = field(default_factory=list)
    sha256: str = ""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded bundle: its folder, card and network (evaluation mode, float32, CPU)."""

    path: Path
    card: Card
    network: nn.Module

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def model_id(self) -> str:
        """First 12 hexadecimal digits of the weights' SHA-256; published frames carry it."""
        return self.card.sha256[:ID_DIGITS]

    @property
    def sflow(self) -> SFlowNetwork:
        """The network of a translation bundle.

        Raises:
            BundleError: The bundle holds another kind of network.
        """
        if not isinstance(self.network, SFlowNetwork):
            raise BundleError(
                f"bundle {self.path} holds a {self.card.arch!r}, no translator: give a bundle of arch 'sflow'"
            )
        return self.network


def shipped_bundles() -> dict[str, Path]:
    """Folders of the bundles that come with the package, by name."""
    return {p.parent.name: p.parent for p in sorted(ZOO.glob(f"*/{CARD}"))}


def find_bundle(name_or_path: str | Path) -> Path:
    """Folder of a bundle given by path or by a shipped name.

    Raises:
        BundleNotFoundError: Neither a folder with a card nor a shipped name.
    """
    shipped = shipped_bundles()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if not (path / CARD).is_file():
        raise BundleNotFoundError(
            f"bundle {str(name_or_path)!r} is neither a folder with a {CARD} nor one of the shipped ones"
            f" ({', '.join(shipped) or 'none'}): give the path of a bundle's folder, or one of these"
        )
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build_sflow(card: Card) -> nn.Module:
    return SFlowNetwork(edge=EdgeSettings(**card.edge), **card.args)


def _build_segmenter(card: Card) -> nn.Module:
    return SEGMENTERS[card.arch](**card.args)


_BUILDERS: Final[Mapping[str, Callable[[Card], nn.Module]]] = {
    "sflow": _build_sflow,
    **dict.fromkeys(SEGMENTERS, _build_segmenter),
}


def read_card(path: Path) -> Card:
    """Reads and checks ``card.json`` of a bundle's folder.

    Raises:
        BundleError: Not JSON, a key is missing or unknown, or of another format version.
    """
    file = path / CARD
    if file.stat().st_size > _MAX_CARD_BYTES:
        raise BundleError(
            f"card {file} has {file.stat().st_size} bytes, at most {_MAX_CARD_BYTES} are read: it is no card"
        )
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as e:
        raise BundleError(f"card {file} is not JSON ({e}): fetch the bundle again") from e
    if not isinstance(raw, dict):
        raise BundleError(f"card {file} is not a JSON object: fetch the bundle again")
    if raw.get("format") != FORMAT:
        raise BundleError(
            f"card {file} is of format {raw.get('format')!r}, this version reads format {FORMAT}: update sim-bridge"
        )
    _check_card(raw, file)
    return Card(**raw)


def _check_card(raw: Mapping[str, Any], file: Path) -> None:
    if missing := _TYPES.keys() - _OPTIONAL - raw.keys():
        raise BundleError(f"card {file} lacks {', '.join(sorted(missing))}: fetch the bundle again")
    if unknown := raw.keys() - _TYPES.keys():
        raise BundleError(
            f"card {file} has unknown keys {', '.join(sorted(unknown))}: update sim-bridge or remove them"
        )
    for name, value in raw.items():
        if not isinstance(value, _TYPES[name]):
            kind = _TYPES[name].__name__
            raise BundleError(f"card {file}: {name} is {value!r}, it must be a {kind}: fetch the bundle again")
    if (found := raw.get("normalisation", NORMALISATION)) != NORMALISATION:
        raise BundleError(f"card {file}: normalisation is {found!r}, known is {NORMALISATION!r}: update sim-bridge")
    if raw["args"].get("classes") != len(raw["classes"]):
        raise BundleError(
            f"card {file} names {len(raw['classes'])} classes for a network of {raw['args'].get('classes')!r}:"
            " fetch the bundle again"
        )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; a pickle or anything else is refused unread.

    Raises:
        BundleError: The file is missing, or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except FileNotFoundError as e:
        raise BundleError(f"weights {path} are missing: fetch the bundle again") from e
    except (SafetensorError, OSError) as e:
        raise BundleError(
            f"weights {path} are not a safetensors file ({e}): only safetensors is read, never pickle"
        ) from e


def load_bundle(name_or_path: str | Path) -> Bundle:
    """Loads a bundle by path or shipped name; the hash is checked before the weights are read.

    Raises:
        BundleError: Anything wrong with it, in one sentence.
    """
    path = find_bundle(name_or_path)
    card = read_card(path)
    weights = path / WEIGHTS
    if not weights.is_file():
        raise BundleError(f"weights {weights} are missing: fetch the bundle again")
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
    except (TypeError, ValueError, RuntimeError) as e:
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
    network.load_state_dict({k: v.to(wanted[k].dtype) for k, v in tensors.items()})


def as_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as it is stored: floats as fp16, contiguous, on the CPU."""
    return {
        k: v.detach().cpu().to(torch.float16 if v.is_floating_point() else v.dtype).contiguous()
        for k, v in state.items()
    }


def save_bundle(path: Path, network: nn.Module, card: Card, training: Mapping[str, Tensor] | None = None) -> Card:
    """Writes a bundle.

    Args:
        path: Folder; made if missing.
        network: Its state is stored as fp16.
        card: ``sha256`` is filled in here.
        training: State of a whole training (names with prefixes), for fine-tuning; stored as fp16 beside the weights.

    Returns:
        The card as written.
    """
    from safetensors.torch import save_file

    path.mkdir(parents=True, exist_ok=True)
    save_file(as_half(network.state_dict()), path / WEIGHTS)
    if training is not None:
        save_file(as_half(training), path / TRAINING)
    for file in path.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes for the owner alone
    written = asdict(card) | {"sha256": sha256_of(path / WEIGHTS)}
    (path / CARD).write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Card(**written)
