"""Runs a bundle of this project: edge operator, DNED and generator, on a CPU or on CUDA."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from sim_bridge.errors import MissingExtraError, TranslatorError, UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.translators import Ensemble, Style, Translation
from sim_bridge.translators.device import Target, choose_target, has_bf16
from sim_bridge.translators.memory import keep_freed_memory

try:
    import torch
    from torch import Tensor

    from models.bundles.files import BundleError, BundleNotFoundError, load_bundle
    from models.edges import LaplacianEdges
    from models.nets.dned import SIDES
    from models.nets.sflow import SFlowNetwork
    from models.style import ensemble_weights
    from sim_bridge.translators.cuda import GraphRunner
except ImportError as error:
    raise MissingExtraError(error.name or "torch", "engine", "running a bundle") from error

_log = logging.getLogger(__name__)

_FREE_LICENCES: Final = frozenset(
    {"apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "isc", "mit", "unlicense"}
)
_CPU_WARM_UP_FRAMES: Final = 3
_this_thread = threading.local()


class Runner(Protocol):
    """Runs the network on a device: host arrays in, host arrays out."""

    def run(self, rgb: ByteArray, labels: ByteArray, weights: Tensor) -> tuple[ByteArray, ByteArray]:
        """uint8 ``(B, H, W, 3)``, uint8 ``(B, H, W)`` and float32 ``(B, 6)`` to picture and edge map."""

    def warm_up(self, width: int, height: int, batch: int = 1) -> None:
        """Does everything slow about batches of 1 up to ``batch`` frames of this size."""


class CpuRunner:
    """The network on the processor; oneDNN keeps what it prepared per shape."""

    def __init__(self, network: SFlowNetwork) -> None:
        keep_freed_memory()
        self._network = network

    def run(self, rgb: ByteArray, labels: ByteArray, weights: Tensor) -> tuple[ByteArray, ByteArray]:
        """uint8 ``(B, H, W, 3)``, uint8 ``(B, H, W)`` and float32 ``(B, 6)`` to picture and edge map."""
        image, edges = self._network.translate(_as_tensor(rgb), _as_tensor(labels), weights)
        return image.numpy(), edges.numpy()

    def warm_up(self, width: int, height: int, batch: int = 1) -> None:
        """Runs a few empty batches: the first one of a shape costs several times the later ones."""
        for count in range(1, batch + 1):
            for _ in range(_CPU_WARM_UP_FRAMES):
                self.run(*_empty_frames(count, width, height))


class SFlowTranslator:
    """A bundle in the bridge's network stage.

    On a CPU build it in the thread that will call it: every thread that computes with torch gets a team of OpenMP
    threads, and with more of them than cores libgomp puts idle ones to sleep at every step (lite at 512x256 on 2 cores:
    44 ms instead of 32).

    Args:
        network: In evaluation mode, float32, on the CPU; it is moved and converted in place.
        name: The bundle's name.
        model_id: First 12 hexadecimal digits of its hash.
        classes: Canonical class names by id.
        target: Where and in which arithmetic to run.
    """

    def __init__(
        self, network: SFlowNetwork, *, name: str, model_id: str, classes: Sequence[str], target: Target
    ) -> None:
        # Taken before the conversion, and put back after it: rounded to bf16 they would be another ensemble, seed 0
        # would no longer be the learned one to a style input that compares with them, nor a seed the same as in fp32.
        # Likewise the limits of the hints' chroma: the hints are those of training, bit for bit.
        self._logits = network.dned.ensemble_logits.detach().float().cpu().clone()
        limits = None if network.chroma_limits is None else network.chroma_limits.float().clone()
        self._spread, self._centre = network.seed_spread, network.seed_centre
        self._tier = str(network.args["tier"])
        self._operator = LaplacianEdges(network.operator.settings)
        self._name = name
        self._model_id = model_id
        self._classes = tuple(classes)
        # A card may list more classes than the network has learned: the embedding's size is what must hold.
        self._ids = min(len(self._classes), int(network.args["classes"]))
        self._target = target
        self._styles: tuple[Style, Tensor] | None = None
        self._ensemble: Ensemble | None = None
        network = network.to(target.device, target.dtype).to(memory_format=torch.channels_last).eval()
        network.dned.ensemble_logits = torch.nn.Parameter(self._logits.to(target.device), requires_grad=False)
        network.chroma_limits = None if limits is None else limits.to(target.device)
        on_cuda = target.device.type == "cuda"
        self._runner: Runner = GraphRunner(network, target.device) if on_cuda else CpuRunner(network)

    @classmethod
    def load(cls, bundle: str, *, device: str = "auto", precision: str = "auto") -> SFlowTranslator:
        """Loads a shipped bundle by name or any bundle by the path of its folder.

        Args:
            bundle: Name or path.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            precision: ``auto``, ``fp32`` or ``bf16``.

        Raises:
            TranslatorError: The bundle is damaged or of another format.
            UsageError: There is no such bundle, it holds no translator, or the device is not there.
        """
        target = choose_target(device, precision)
        try:
            loaded = load_bundle(Path(bundle).expanduser() if bundle.startswith("~") else bundle)
        except BundleNotFoundError as error:
            raise UsageError(str(error)) from error
        except BundleError as error:
            raise TranslatorError(str(error)) from error
        try:
            network = loaded.sflow
        except BundleError as error:
            raise UsageError(str(error)) from error
        if target.dtype is torch.bfloat16 and not has_bf16(target.device):
            _log.warning("%s has no bf16 arithmetic and emulates it: --precision fp32 is faster", target.describe())
        licence = loaded.card.licence_weights
        if licence.lower() not in _FREE_LICENCES:
            _log.warning("the weights of bundle %s are licensed %s", loaded.name, licence)
        return cls(
            network,
            name=loaded.name,
            model_id=loaded.model_id,
            classes=loaded.card.classes,
            target=target,
        )

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
    def tier(self) -> str:
        """Size of the network: ``lite``, ``base`` or ``full``."""
        return self._tier

    @property
    def target(self) -> Target:
        """Where and in which arithmetic it runs."""
        return self._target

    def translate(self, rgb: ByteArray, labels: ByteArray, style: Style) -> Translation:
        """Translates a batch; any size, the network pads and crops.

        Args:
            rgb: uint8 ``(B, H, W, 3)``.
            labels: uint8 ``(B, H, W)``, ids into :attr:`classes`.
            style: Which photoreal version.

        Raises:
            TranslatorError: An id is no class, the shapes disagree, the style is unusable, or the device fails.
        """
        if rgb.ndim != 4 or rgb.shape[3] != 3 or labels.shape != rgb.shape[:3]:
            raise TranslatorError(
                f"bundle {self._name} got pictures {rgb.shape} and labels {labels.shape}: "
                "it needs (B, H, W, 3) and (B, H, W)"
            )
        # An id beyond the embedding is undefined on a GPU, and there it takes the whole CUDA context with it.
        highest = int(labels.max(initial=0))
        if highest >= self._ids:
            raise TranslatorError(
                f"bundle {self._name} has {self._ids} classes, but a label has the id {highest}: "
                "map the labels with a LabelMap first"
            )
        weights = self._weights(style).expand(len(rgb), SIDES)
        try:
            image, edges = self._runner.run(rgb, labels, weights)
        except RuntimeError as error:
            size = f"{rgb.shape[2]}x{rgb.shape[1]}"
            first_line = str(error).strip().partition("\n")[0]
            raise TranslatorError(
                f"bundle {self._name} failed on a {size} frame ({first_line}): try a smaller --size"
            ) from error
        return Translation(image, edges, self._ensemble)

    def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        """Prepares the given ``(width, height)`` sizes: CUDA graphs are captured here and never in the stream.

        Args:
            sizes: Each ``(width, height)``.
            batch: Batches of 1 up to so many pictures will come; on CUDA each has a graph of its own.
        """
        for width, height in sizes:
            self._runner.warm_up(width, height, batch)

    def reset(self, camera: str) -> None:
        """Nothing is remembered between frames."""

    def edge_map(self, rgb: ByteArray) -> ByteArray:
        """The edge operator's own map E(x), before DNED, on the CPU.

        Args:
            rgb: uint8 ``(H, W, 3)``.

        Returns:
            uint8 ``(H, W)``, 255 where there is an edge, of either sign.
        """
        # A second team of OpenMP threads would slow the network's own (see above). Torch keeps the number of threads
        # per thread; the network's has taken its own before the first picture can be shown.
        if not getattr(_this_thread, "alone", False):
            torch.set_num_threads(1)
            _this_thread.alone = True
        planes = self._operator(_as_tensor(rgb[None]))[0]
        edges: ByteArray = planes.any(0).to(torch.uint8).mul_(255).numpy()
        return edges

    def _weights(self, style: Style) -> Tensor:
        """Ensemble weights float32 ``(1, 6)``; the last style's are kept, since a stream rarely changes it."""
        if self._styles is None or self._styles[0] != style:
            weights = self._draw(style)
            a, b, c, d, e, f = weights.tolist()
            self._styles, self._ensemble = (style, weights[None]), (a, b, c, d, e, f)
        return self._styles[1]

    def _draw(self, style: Style) -> Tensor:
        if style.ensemble is None:
            return ensemble_weights(self._logits, style.seed, self._spread, self._centre)
        given = style.ensemble
        usable = len(given) == SIDES and all(math.isfinite(w) and w >= 0 for w in given) and sum(given) > 0
        if not usable:
            raise TranslatorError(f"the ensemble weights {given} must be {SIDES} numbers, none negative, not all 0")
        weights = torch.tensor(given, dtype=torch.float32)
        return weights / weights.sum()


def _empty_frames(count: int, width: int, height: int) -> tuple[ByteArray, ByteArray, Tensor]:
    return (
        np.zeros((count, height, width, 3), np.uint8),
        np.zeros((count, height, width), np.uint8),
        torch.full((count, SIDES), 1 / SIDES),
    )


def _as_tensor(array: ByteArray) -> Tensor:
    # A received message is read-only and torch wraps writable memory only; the copy costs some hundredths of a ms.
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
