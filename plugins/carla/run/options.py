"""What can be asked of the CARLA source, checked."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator

from plugins.carla.rig.rig import DEFAULT_FOV, DEFAULT_PLACE, DEFAULT_SIZE, Rig, read_rig, single_camera
from plugins.carla.world.cleanup import Owner
from plugins.carla.world.server import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_TIMEOUT, Where
from plugins.carla.world.vehicles import DEFAULT_ROLE, Target
from sim_bridge.frames import Kind
from sim_bridge.source_options import CheckedOptions, check_kinds

EXTRA_KINDS: Final = (Kind.INSTANCE, Kind.DEPTH)
"""What can be asked for beside RGB and semantic images."""


def unique_tag() -> str:
    """A new tag: two runs beside each other must not sweep up each other's sensors."""
    return f"sim-bridge-{uuid.uuid4().hex[:8]}"


class CarlaOptions(CheckedOptions):
    """The source's options; unknown names are errors.

    Attributes:
        timeout: Seconds that an answer of the server, or the vehicle's appearance, may take.
        role_name: Of the vehicle, also of one that is made.
        actor: Id of the vehicle, in place of the role name.
        spawn: Make a vehicle.
        wait: Wait for the vehicle for ever, as for one that a scenario spawns later.
        rig: The cameras, or the path of a YAML file.
        labels: Taxonomy of the semantic images; None goes by the server's version.
        tick: Drive the world in synchronous mode.
        step: With ``tick``: simulator seconds of a tick; None leaves what is set, or takes 0.05.
        paced: With ``tick``: no faster than real time.
        reconnect: Connect again after a loss; otherwise a loss is an error.
        tag: Role name of the sensors, a new one each run; what a killed process of the same tag left is destroyed.
    """

    host: Annotated[str, Field(min_length=1)] = DEFAULT_HOST
    port: Annotated[int, Field(ge=1, le=65534)] = DEFAULT_PORT
    timeout: Annotated[float, Field(ge=0.5, le=600, allow_inf_nan=False)] = DEFAULT_TIMEOUT
    role_name: Annotated[str, Field(min_length=1)] = DEFAULT_ROLE
    actor: Annotated[int | None, Field(ge=1)] = None
    spawn: bool = False
    wait: bool = False
    rig: Rig = single_camera(DEFAULT_SIZE, DEFAULT_FOV, DEFAULT_PLACE)
    labels: str | None = None
    kinds: tuple[Kind, ...] = ()
    tick: bool = False
    step: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    paced: bool = True
    reconnect: bool = True
    tag: Annotated[str, Field(min_length=1, max_length=64, default_factory=unique_tag)]

    @field_validator("rig", mode="before")
    @classmethod
    def _read_rig(cls, value: object) -> object:
        return read_rig(Path(value)) if isinstance(value, str | Path) else value

    @classmethod
    def checked(cls, options: Mapping[str, object]) -> CarlaOptions:
        """The options by name. Raises UsageError: one is unknown or out of bounds."""
        made = cls.checked_for("carla", options)
        check_kinds("carla", made.kinds, EXTRA_KINDS)
        return made

    @property
    def where(self) -> Where:
        """The server."""
        return Where(self.host, self.port, self.timeout)

    @property
    def target(self) -> Target:
        """The vehicle."""
        return Target(self.role_name, self.actor, self.spawn)

    @property
    def owner(self) -> Owner:
        """The name of all that is made."""
        return Owner(self.where, self.tag, self.role_name if self.spawn else None)

    @property
    def all_kinds(self) -> tuple[Kind, ...]:
        """What each camera sees."""
        return tuple(dict.fromkeys((Kind.RGB, Kind.SEMANTIC, *self.kinds)))
