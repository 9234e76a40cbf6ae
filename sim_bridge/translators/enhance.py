"""Runs an enhancer's bundle: the render, changed by a strength from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from sim_bridge.errors import MissingExtraError, TranslatorError, UsageError
from sim_bridge.frames import ByteArray, Style
from sim_bridge.settings import MAX_STYLE_SEED
from sim_bridge.translators import Shot, Translation, Translator
from sim_bridge.translators.batches import stack_ids
from sim_bridge.translators.device import Target, choose_target
from sim_bridge.translators.load import TranslatorSettings
from sim_bridge.translators.memory import keep_freed_memory
from sim_bridge.translators.styles import Control

try:
    import torch
    from torch import Tensor

    from models.nets.enhance import EnhanceNetwork
    from sim_bridge.translators.bundles import open_bundle
    from sim_bridge.translators.cuda import full_float32
except ImportError as error:
    raise MissingExtraError(error.name or "torch", "engine", "running a bundle") from error

_WARM_UP_FRAMES: Final = 3

STRENGTH: Final = Control("strength", "number", "Strength", default=1.0)
SEED: Final = Control("seed", "seed", "Seed", high=MAX_STYLE_SEED)


def style_controls(looks: Sequence[str]) -> tuple[Control, ...]:
    """Strength and seed; of several looks also which one, or shares of all, which override it."""
    if len(looks) == 1:
        return STRENGTH, SEED
    names = tuple(looks)
    choice = Control("look", "choice", "Look", default=names[0], names=names)
    return STRENGTH, choice, Control("mix", "weights", "Mixture of looks", names=names), SEED


class EnhanceTranslator(Translator):
    """An enhancer in the bridge's network stage. It keeps nothing between frames.

    Args:
        network: In evaluation mode, float32, on the CPU; it is moved and converted in place.
        name: The bundle's name.
        model_id: First 12 hexadecimal digits of its hash.
        classes: Canonical class names by id.
        target: Where and in which arithmetic to run.
    """

    def __init__(
        self, network: EnhanceNetwork, *, name: str, model_id: str, classes: Sequence[str], target: Target
    ) -> None:
        keep_freed_memory()
        self._network = network.to(target.device, target.dtype).to(memory_format=torch.channels_last).eval()
        self._name, self._model_id, self._classes = name, model_id, tuple(classes)
        self._ids = min(len(self._classes), int(network.args["classes"]))
        self._target = target
        self._styles = style_controls(network.look_names)

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self._name

    @property
    def model_id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the weights."""
        return self._model_id

    @property
    def classes(self) -> tuple[str, ...]:
        """Canonical class names by id."""
        return self._classes

    @property
    def styles(self) -> tuple[Control, ...]:
        """See :func:`style_controls`."""
        return self._styles

    @property
    def facts(self) -> Mapping[str, str]:
        """Tier, device and precision."""
        tier = str(self._network.args["tier"])
        return {"tier": tier, "device": self._target.describe(), "precision": self._target.precision}

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        """Translates a batch of any size; at strength 0 every picture is the render itself.

        Raises TranslatorError when an id is no class, the shapes disagree, or the device fails.
        """
        rgb, labels = stack_ids(shots, self._ids, self._name)
        style = shots[0].style
        strength = _number(style, "strength", 1.0)
        if strength == 0:
            return [Translation(shot.rgb) for shot in shots]
        try:
            pictures = self._run(rgb, labels, self._style(style), strength)
        except RuntimeError as error:
            first_line = str(error).strip().partition("\n")[0]
            raise TranslatorError(
                f"bundle {self._name} failed on a {rgb.shape[2]}x{rgb.shape[1]} frame ({first_line}): try a smaller"
                " --size"
            ) from error
        return [Translation(picture) for picture in pictures]

    def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        """Runs a few empty batches: the first of a shape costs several times the later ones."""
        style = self._style(Style())
        for width, height in sizes:
            for count in range(1, batch + 1):
                empty = np.zeros((count, height, width, 3), np.uint8), np.zeros((count, height, width), np.uint8)
                for _ in range(_WARM_UP_FRAMES):
                    self._run(*empty, style, 1.0)

    def _run(self, rgb: ByteArray, labels: ByteArray, style: Tensor, strength: float) -> ByteArray:
        device, count = self._target.device, len(labels)
        with full_float32():
            made = self._network.translate(
                _tensor(rgb).to(device), _tensor(labels).to(device), style.expand(count, -1), strength
            )
        pictures: ByteArray = made.cpu().numpy()
        return pictures

    def _style(self, style: Style) -> Tensor:
        looks, mix = self._network.look_names, style.get("mix")
        if isinstance(mix, tuple):
            largest = max(mix)  # first, or huge shares have no finite sum
            total = sum(share / largest for share in mix)
            made = self._network.style([share / largest / total for share in mix], style.seed)
        else:
            made = self._network.style(looks.index(str(style.get("look", looks[0]))), style.seed)
        return made[None].to(self._target.device)


def _number(style: Style, name: str, default: float) -> float:
    value = style.get(name)
    return float(value) if isinstance(value, int | float) else default


def load(reference: str, settings: TranslatorSettings) -> Translator:
    """Loads the bundle called ``reference``.

    Raises:
        TranslatorError: The bundle is damaged or of another format.
        UsageError: There is no such bundle, it holds no enhancer, or the device is not there.
    """
    target = choose_target(settings.device, settings.precision)
    loaded = open_bundle(reference, target)
    if not isinstance(loaded.network, EnhanceNetwork):
        raise UsageError(
            f"bundle {loaded.path} holds a {loaded.card.arch!r}: write --bundle {reference} without enhance:"
        )
    return EnhanceTranslator(
        loaded.network, name=loaded.name, model_id=loaded.model_id, classes=loaded.card.classes, target=target
    )


def _tensor(array: ByteArray) -> Tensor:
    # A received message is read-only, and torch wraps writable memory alone.
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
