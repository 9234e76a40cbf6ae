"""Runs a bundle of this project: edge operator, DNED and generator, on a CPU or on CUDA."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from sim_bridge.errors import MissingExtraError, TranslatorError, UsageError
from sim_bridge.frames import ByteArray, Style
from sim_bridge.settings import MAX_STYLE_SEED
from sim_bridge.translators import GpuTime, Shot, Translation, Translator
from sim_bridge.translators.batches import stack_ids
from sim_bridge.translators.device import Target, choose_target
from sim_bridge.translators.load import TranslatorSettings
from sim_bridge.translators.memory import keep_freed_memory
from sim_bridge.translators.styles import Control

try:
    import torch
    from torch import Tensor

    from models.bundles.files import BundleError
    from models.edges import LaplacianEdges
    from models.nets.dned import SIDES
    from models.nets.sflow import SFlowNetwork
    from models.style import ensemble_weights
    from sim_bridge.translators.bundles import open_bundle
    from sim_bridge.translators.cuda import GraphRunner
except ImportError as error:
    raise MissingExtraError(error.name or "torch", "engine", "running a bundle") from error

_CPU_WARM_UP_FRAMES: Final = 3
_STYLES_KEPT: Final = 64

ENSEMBLE: Final = "ensemble"
STYLES: Final = (
    Control("seed", "seed", "Seed", high=MAX_STYLE_SEED),
    Control(ENSEMBLE, "weights", "Ensemble weights", names=tuple(f"stride {2**side}" for side in range(SIDES))),
)
"""A seed draws the weights of DNED's side outputs around the learned ones, which seed 0 has; given weights override."""

_this_thread = threading.local()


class Runner(Protocol):
    """Runs the network on a device: host arrays in, host arrays out."""

    @property
    def gpu_times(self) -> Collection[GpuTime]:
        """Of the latest batches; empty where nothing is timed on a GPU."""

    def run(self, rgb: ByteArray, labels: ByteArray, weights: Tensor) -> tuple[ByteArray, ByteArray]:
        """uint8 ``(B, H, W, 3)``, uint8 ``(B, H, W)`` and float32 ``(B, 6)`` to picture and edge map."""

    def warm_up(self, width: int, height: int, batch: int = 1) -> None:
        """Does everything slow about batches of 1 up to ``batch`` frames of this size."""


class CpuRunner:
    """The network on the processor; oneDNN keeps what it prepared per shape."""

    gpu_times: tuple[GpuTime, ...] = ()

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


class SFlowTranslator(Translator):
    """A bundle in the bridge's network stage. It keeps nothing between frames.

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
        # Kept out of the conversion: rounded to bf16 the logits would be another ensemble, and seed 0 no longer the
        # learned one. The limits of the hints' chroma stay those of training, bit for bit.
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
        self._weights_of: OrderedDict[Style, tuple[Tensor, Style]] = OrderedDict()
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
        loaded = open_bundle(bundle, target)
        try:
            network = loaded.sflow
        except BundleError as error:
            raise UsageError(str(error)) from error
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
    def styles(self) -> tuple[Control, ...]:
        """Seed and ensemble weights."""
        return STYLES

    @property
    def facts(self) -> Mapping[str, str]:
        """Tier (``lite``, ``base`` or ``full``), device and precision."""
        return {"tier": self._tier, "device": self._target.describe(), "precision": self._target.precision}

    @property
    def gpu_times(self) -> Sequence[GpuTime]:
        """See :class:`sim_bridge.translators.TimesGpu`."""
        return tuple(self._runner.gpu_times)

    @property
    def target(self) -> Target:
        """Where and in which arithmetic it runs."""
        return self._target

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        """Translates a batch of any size; the network pads and crops.

        Raises TranslatorError when an id is no class, the shapes disagree, the style is unusable, or the device fails.
        """
        rgb, labels = stack_ids(shots, self._ids, self._name)
        weights, used = self._weights(shots[0].style)
        try:
            image, edges = self._runner.run(rgb, labels, weights.expand(len(shots), SIDES))
        except RuntimeError as error:
            size = f"{rgb.shape[2]}x{rgb.shape[1]}"
            first_line = str(error).strip().partition("\n")[0]
            raise TranslatorError(
                f"bundle {self._name} failed on a {size} frame ({first_line}): try a smaller --size"
            ) from error
        return [Translation(*pictures, used) for pictures in zip(image, edges, strict=True)]

    def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        """Prepares the given ``(width, height)`` sizes: CUDA graphs are captured here and never in the stream.

        Args:
            sizes: Each ``(width, height)``.
            batch: Largest batch that will come; on CUDA each size from 1 has a graph of its own.
        """
        for width, height in sizes:
            self._runner.warm_up(width, height, batch)

    def edge_map(self, rgb: ByteArray) -> ByteArray:
        """The edge operator's own map E(x), before DNED, on the CPU.

        Args:
            rgb: uint8 ``(H, W, 3)``.

        Returns:
            uint8 ``(H, W)``, 255 where there is an edge, of either sign.
        """
        if not getattr(_this_thread, "alone", False):
            _compute_alone()
            _this_thread.alone = True
        planes = self._operator(_as_tensor(rgb[None]))[0]
        edges: ByteArray = planes.any(0).to(torch.uint8).mul_(255).numpy()
        return edges

    def _weights(self, style: Style) -> tuple[Tensor, Style]:
        """Ensemble weights float32 ``(1, 6)`` of a style, and the same as a style; drawing them takes milliseconds."""
        found = self._weights_of.get(style)
        if found is None:
            weights = self._draw(style)
            found = self._weights_of[style] = weights[None], Style(ensemble=tuple(weights.tolist()))
            if len(self._weights_of) > _STYLES_KEPT:
                self._weights_of.popitem(last=False)
        else:
            self._weights_of.move_to_end(style)
        return found

    def _draw(self, style: Style) -> Tensor:
        given = style.get(ENSEMBLE)
        if given is None:
            return ensemble_weights(self._logits, style.seed, self._spread, self._centre)
        numbers = given if isinstance(given, tuple) else ()
        usable = len(numbers) == SIDES and all(math.isfinite(w) and w >= 0 for w in numbers) and max(numbers) > 0
        if not usable:
            raise TranslatorError(f"the ensemble weights {given} must be {SIDES} numbers, none negative, not all 0")
        # In float64 and by the largest first: float32 would make 0/0 of tiny weights and inf/inf of huge ones.
        weights = torch.tensor(numbers, dtype=torch.float64)
        weights /= weights.max()
        return (weights / weights.sum()).to(torch.float32)


def load(reference: str, settings: TranslatorSettings) -> Translator:
    """Loads the bundle called ``reference``, as :meth:`SFlowTranslator.load` does."""
    return SFlowTranslator.load(reference, device=settings.device, precision=settings.precision)


def _compute_alone() -> None:
    """Has this thread compute without a team of OpenMP threads, which would slow the network's own.

    Torch takes the number as the default of threads to come, too: a thread that ends at once gives that back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    restore = threading.Thread(target=torch.set_num_threads, args=(before,))
    restore.start()
    restore.join()


def _empty_frames(count: int, width: int, height: int) -> tuple[ByteArray, ByteArray, Tensor]:
    return (
        np.zeros((count, height, width, 3), np.uint8),
        np.zeros((count, height, width), np.uint8),
        torch.full((count, SIDES), 1 / SIDES),
    )


def _as_tensor(array: ByteArray) -> Tensor:
    # A received message is read-only and torch wraps writable memory only; the copy costs some hundredths of a ms.
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
