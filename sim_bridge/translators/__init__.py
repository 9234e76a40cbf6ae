"""Translators: what turns a CG frame and its labels into a photoreal frame.

One file is one way to translate. What a stream does around it lives in sim_bridge/live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, runtime_checkable

from sim_bridge.frames import ByteArray, Kind, PixelArray, Style, StyleValue
from sim_bridge.translators.styles import Control

__all__ = [
    "OPTIONAL_INPUTS",
    "ByteArray",
    "Control",
    "GpuTime",
    "Reason",
    "Shot",
    "ShowsEdges",
    "Style",
    "StyleValue",
    "TimesGpu",
    "Translation",
    "Translator",
]

OPTIONAL_INPUTS: Final = (Kind.DEPTH, Kind.FLOW, Kind.INSTANCE)
"""Kinds that a translator may want beside RGB and labels."""


class Reason(StrEnum):
    """Why a translator must forget a camera's past."""

    SESSION = "session"
    """A new simulator run began."""
    REWIND = "rewind"
    """An older frame comes, which lockstep allows."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One tick of one camera, decoded, at the network's size.

    Attributes:
        camera: Whose frame it is.
        session: Id of the simulator run.
        number: The simulator's frame number.
        time: Simulator time, seconds.
        rgb: uint8 ``(H, W, 3)``, the CG render; may be read-only.
        labels: uint8 ``(H, W)``, ids into :attr:`Translator.classes`.
        style: Which photoreal version is wanted.
        dropped: Frame numbers between the last shot of this camera that was translated and this one: 0 when it follows
            directly. None for the first shot of a session, and after a :meth:`Translator.reset`.
        inputs: The kinds that :attr:`Translator.wants` names: depth float32 ``(H, W)`` in metres, flow float32
            ``(H, W, 2)`` in pixels, instance uint16 ``(H, W)``.
    """

    camera: str
    session: str
    number: int
    time: float
    rgb: ByteArray
    labels: ByteArray
    style: Style = field(default_factory=Style)
    dropped: int | None = None
    inputs: Mapping[Kind, PixelArray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Translation:
    """The answer to one shot.

    Attributes:
        rgb: uint8 ``(H, W, 3)``.
        edges: uint8 ``(H, W)``, the edge map that the generator saw (0 none, 255 sure); None without one.
        used: Style values that the translator chose itself, as the weights that a seed drew.
    """

    rgb: ByteArray
    edges: ByteArray | None = None
    used: Style = field(default_factory=Style)


@runtime_checkable
class Translator(Protocol):
    """What the bridge's network stage runs. One thread calls it at a time.

    Subclass it: then only ``name`` and :meth:`translate` are needed. :mod:`sim_bridge.translators.load` says how an
    entry point makes it known.
    """

    @property
    def name(self) -> str:
        """Short name for tables and logs."""

    @property
    def model_id(self) -> str:
        """12 hexadecimal digits, of a bundle the first of its weights' SHA-256; zeros without weights."""
        return "0" * 12

    @property
    def classes(self) -> tuple[str, ...]:
        """Canonical class names by id, which the labels index; empty: labels are not read."""
        return ()

    @property
    def styles(self) -> tuple[Control, ...]:
        """What can be chosen about its pictures."""
        return ()

    @property
    def wants(self) -> tuple[Kind, ...]:
        """Kinds of :data:`OPTIONAL_INPUTS` that it needs; a tick without one of them is ``unpaired``."""
        return ()

    @property
    def facts(self) -> Mapping[str, str]:
        """``tier``, ``device`` and ``precision`` for the benchmark's table, where they are known."""
        return {}

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        """Translates a batch: shots of different cameras, of one size and one style. One answer per shot, in order.

        When a batch of several fails, its shots come again one by one, with the same ``dropped``. So change what is
        kept of a camera only after all answers are made.
        """

    def warm_up(self, sizes: Sequence[tuple[int, int]], batch: int = 1) -> None:
        """Does all slow first-call work, so that none falls into the stream.

        Args:
            sizes: Each ``(width, height)``.
            batch: Largest batch that will come.
        """
        return

    def reset(self, camera: str, reason: Reason) -> None:
        """Forgets a camera's past: the next shot does not follow the last one."""
        return


class GpuTime(NamedTuple):
    """Time on the GPU of one batch, milliseconds."""

    copy_in: float
    kernels: float
    copy_out: float


@runtime_checkable
class TimesGpu(Protocol):
    """A translator that times its batches on the GPU."""

    @property
    def gpu_times(self) -> Sequence[GpuTime]:
        """The latest batches, oldest first; empty on a processor."""


@runtime_checkable
class ShowsEdges(Protocol):
    """A translator that can also show the edge operator's own map, which its network sees."""

    def edge_map(self, rgb: ByteArray) -> ByteArray:
        """E(x) of a picture uint8 ``(H, W, 3)``: uint8 ``(H, W)``, 0 or 255.

        Another thread calls it, beside :meth:`Translator.translate`.
        """
