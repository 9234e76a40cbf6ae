"""What a user can ask of the simulator, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import Field, field_validator

from plugins.toytown.run.setup import DEFAULT_RATE, DEFAULT_SIZE, Setup
from plugins.toytown.town.traffic import Traffic
from plugins.toytown.view.cameras import Mount, parse_mount
from plugins.toytown.view.presets import preset_named
from plugins.toytown.view.raycast import Backend
from sim_bridge.errors import UsageError
from sim_bridge.frames import Kind
from sim_bridge.settings import MIN_SIDE, parse_size
from sim_bridge.source_options import CheckedOptions, check_kinds

MOST_SIDE: Final = 4096
EXTRA_KINDS: Final = (Kind.INSTANCE, Kind.DEPTH, Kind.FLOW)
"""What can be published beside RGB and semantic frames."""


class ToytownOptions(CheckedOptions):
    """The source's options; unknown names are errors.

    Attributes:
        size: Width and height, pixels.
        cameras: As :func:`~plugins.toytown.view.cameras.parse_mount` reads them.
        rate: Ticks per second; 0 goes as fast as it can.
        step: Simulator seconds from tick to tick; None is one over the rate.
        frames: Stop after this many ticks; None never stops.
        first: Number of the first tick.
        ahead: How many ticks it may be ahead of the answers (``answered``); 0 waits for none.
        kinds: Further kinds to publish.
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    preset: str = "noon"
    traffic: Traffic = Traffic.NORMAL
    size: tuple[int, int] = DEFAULT_SIZE
    cameras: tuple[str, ...] = ("camera",)
    rate: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = DEFAULT_RATE
    step: Annotated[float | None, Field(gt=0, le=60, allow_inf_nan=False)] = None
    frames: Annotated[int | None, Field(ge=1)] = None
    first: Annotated[int, Field(ge=0)] = 0
    ahead: Annotated[int, Field(ge=0)] = 0
    kinds: tuple[Kind, ...] = ()
    backend: Backend = Backend.EMBREEX

    @field_validator("size", mode="before")
    @classmethod
    def _read_size(cls, value: object) -> object:
        return parse_size(value) if isinstance(value, str) else value

    @classmethod
    def checked(cls, options: Mapping[str, object]) -> ToytownOptions:
        """The options by name. Raises UsageError: one is unknown or out of bounds."""
        made = cls.checked_for("toytown", options)
        check_kinds("toytown", made.kinds, EXTRA_KINDS)
        return made

    def setup(self) -> Setup:
        """The simulator's setup. Raises UsageError: preset or camera is unknown, or the size out of bounds."""
        step = self.step or 1 / (self.rate or DEFAULT_RATE)
        preset, mounts = preset_named(self.preset), parse_mounts(self.cameras)
        size = check_size(self.size)
        return Setup(self.seed, preset, self.traffic, size, mounts, step, backend=self.backend)


def parse_mounts(cameras: Sequence[str]) -> tuple[Mount, ...]:
    """The cameras of these names or places. Raises UsageError: one is unknown, there is none, or two share a name."""
    mounts = tuple(parse_mount(text) for text in cameras)
    names = [mount.name for mount in mounts]
    if len(set(names)) != len(names) or not names:
        raise UsageError(f"the cameras are {', '.join(names) or 'none'}: name at least one, and each only once")
    return mounts


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """The same size. Raises UsageError: it is out of bounds."""
    if not all(MIN_SIDE <= side <= MOST_SIDE for side in size):
        raise UsageError(
            f"the size {size[0]}x{size[1]} is out of bounds: give a width and a height of {MIN_SIDE} to {MOST_SIDE}"
        )
    return size
