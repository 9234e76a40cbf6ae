"""One settings object; :mod:`sim_bridge.load_settings` builds it.

``python -m sim_bridge.tools.docs`` writes ``docs/settings.md`` from the model below.
"""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from sim_bridge.errors import UsageError
from sim_bridge.frames import CAMERA_NAME, MAX_PIXELS, MAX_SIDE
from sim_bridge.wire.addresses import BRIDGE_ADDRESS, MAX_PORT, SIMULATOR_ADDRESS, is_loopback, parse_address

ENVIRONMENT_PREFIX: Final = "SIM_BRIDGE_"
CONFIG_VARIABLE: Final = "SIM_BRIDGE_CONFIG"
MAX_STYLE_SEED: Final = 2**20 - 1
"""Style seeds repeat after it (``models.style.SEEDS``, which is not imported: it needs torch)."""
MIN_TOKEN: Final = 16
"""Fewest characters of the live page's token."""
MIN_SIDE: Final = 16
"""Smallest width or height the network is asked for, in pixels."""
_SIZE: Final = re.compile(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*")

Size = tuple[int, int]
"""``(width, height)`` in pixels."""


def parse_size(text: str) -> Size:
    """Reads ``WIDTHxHEIGHT``, for example ``512x256``.

    Raises UsageError when it is not two whole numbers, or one is outside 16..16384.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"the size {text!r} is not WIDTHxHEIGHT in pixels: write it like 512x256")
    width, height = int(match[1]), int(match[2])
    for side in (width, height):
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise UsageError(f"the size {width}x{height} has a side of {side} pixels: use {MIN_SIDE} to {MAX_SIDE}")
    return width, height


class BridgeSettings(BaseModel):
    """Immutable; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    topics: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="Cameras to translate. `camera` means: join `camera/rgb` with `camera/semantic`, publish "
            "`camera/photoreal` and `camera/status`. The flag may be given several times.",
            json_schema_extra={"flag": "--topic", "values": "names of letters, digits, `_` `-` `.`, comma separated"},
        ),
    ] = ("camera",)
    input: Annotated[
        str,
        Field(
            description="Address the simulator publishes on; the bridge connects to it.",
            json_schema_extra={"values": "`tcp://HOST:PORT`, `ipc://PATH`", "metavar": "ADDRESS"},
        ),
    ] = SIMULATOR_ADDRESS
    output: Annotated[
        str,
        Field(
            description="Address the bridge binds and publishes on; port `*` lets the operating system choose.",
            json_schema_extra={"values": "`tcp://HOST:PORT`, `ipc://PATH`", "metavar": "ADDRESS"},
        ),
    ] = BRIDGE_ADDRESS
    mode: Annotated[
        Literal["realtime", "lockstep"],
        Field(
            description="`realtime`: the newest frame wins, older ones are dropped and counted. `lockstep`: the "
            "simulator waits for each photoreal frame and nothing is dropped."
        ),
    ] = "realtime"
    bundle: Annotated[
        str,
        Field(
            min_length=1,
            description="The network: name of a shipped bundle (`sim-bridge bundles` lists them), path of a bundle "
            "folder, path of an `.onnx` file with its sidecar, or `null` to pass frames through.",
            json_schema_extra={"values": "name or path", "metavar": "NAME|PATH"},
        ),
    ] = "street-enhance"
    device: Annotated[
        str,
        Field(
            pattern=r"^(auto|cpu|cuda(:\d+)?)$",
            description="Where the network runs; `auto` takes CUDA when there is one.",
            json_schema_extra={"values": "`auto`, `cpu`, `cuda`, `cuda:N`", "metavar": "auto|cpu|cuda|cuda:N"},
        ),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Field(
            description="Arithmetic of the network; `auto` takes bf16 where the processor has it in hardware. `fp32` "
            "on CUDA is float32, not TF32."
        ),
    ] = "auto"
    size: Annotated[
        Size | None,
        Field(
            description="The network's size, also the published one (RGB is scaled by area, labels by nearest "
            "neighbour). Unset means the size of the input, which is not known before the first frame: the network "
            "then warms up in the stream, once for every new size.",
            json_schema_extra={
                "values": f"`WIDTHxHEIGHT`, each {MIN_SIDE} to {MAX_SIDE}, or `input`",
                "metavar": "WIDTHxHEIGHT",
            },
        ),
    ] = None
    style_seed: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_STYLE_SEED,
            description="Which photoreal version of the scene: 0 is the learned one, any other seed a repeatable "
            "variation.",
        ),
    ] = 0
    style: Annotated[
        dict[str, str | float | tuple[float, ...]],
        Field(
            description="What else the network lets you choose about its pictures, by name; with an unknown name the "
            "bridge says which there are. `street-enhance` has `strength`, `look` and `mix`, `camvid-lite` has "
            "`ensemble`, six weights. The flag may be given several "
            "times.",
            json_schema_extra={
                "values": "`NAME=VALUE`, separated by spaces; weights as `1,0,0.5`",
                "metavar": "NAME=VALUE",
            },
        ),
    ] = {}
    on_error: Annotated[
        Literal["drop", "passthrough"],
        Field(
            description="When the network fails on a frame: `drop` counts it as `failed`; `passthrough` publishes the "
            "CG frame with status `fallback`."
        ),
    ] = "drop"
    batch_wait: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="Gives all cameras' pairs of a tick to the network as one batch, and waits at most this many "
            "seconds for the cameras that were in the tick before. Unset: each pair by itself, as soon as it is there.",
            json_schema_extra={"values": "number from 0 to 1", "metavar": "SECONDS"},
        ),
    ] = None
    taxonomies: Annotated[
        tuple[Path, ...],
        Field(
            description="YAML files with taxonomies of your own, which semantic frames may then name "
            "(docs/recordings.md has the format). The flag may be given several times.",
            json_schema_extra={"flag": "--taxonomy", "values": "paths, comma separated", "metavar": "FILE"},
        ),
    ] = ()
    pair_window: Annotated[
        int,
        Field(ge=1, le=1024, description="How many frames per camera may wait for their RGB or semantic partner."),
    ] = 8
    receive_hwm: Annotated[
        int,
        Field(
            ge=2,
            le=10_000,
            description="ZeroMQ receive high-water mark, in messages; ZeroMQ drops the rest uncounted.",
        ),
    ] = 64
    max_pixels: Annotated[
        int,
        Field(
            ge=MIN_SIDE * MIN_SIDE,
            le=MAX_PIXELS,
            description="Largest frame, width times height, that is taken in; a larger one is `malformed`, before it "
            "is decoded. Bounds the memory that one message can cost: a network takes 100 bytes a pixel or more.",
        ),
    ] = 4096 * 2304
    send_buffer_mib: Annotated[
        int,
        Field(ge=1, le=4096, description="Bound of the output queue of each slow subscriber, in MiB of frames."),
    ] = 64
    drain_timeout: Annotated[
        float,
        Field(
            ge=0,
            le=600,
            allow_inf_nan=False,
            description="Seconds the first Ctrl-C (or SIGTERM) waits for frames in flight; a second one does not wait.",
        ),
    ] = 5.0
    curve_keys: Annotated[
        Path | None,
        Field(
            description="Folder with CURVE keys, for addresses that leave this machine.",
            json_schema_extra={"values": "path", "metavar": "FOLDER"},
        ),
    ] = None
    insecure: Annotated[
        bool,
        Field(description="Allow an address that leaves this machine without encryption or authentication."),
    ] = False
    status_interval: Annotated[
        float,
        Field(gt=0, le=3600, allow_inf_nan=False, description="Seconds between two status messages."),
    ] = 1.0
    page: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_PORT,
            description="Port of the live page; 0 lets the operating system choose. Unset means no page.",
            json_schema_extra={"values": f"0 to {MAX_PORT}", "metavar": "PORT"},
        ),
    ] = None
    page_host: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            description="Name or address of this machine on which the live page is served. One that other machines "
            "can reach needs `page_token`.",
            json_schema_extra={"values": "host name or IP address", "metavar": "HOST"},
        ),
    ] = "127.0.0.1"
    page_token: Annotated[
        str | None,
        Field(
            min_length=MIN_TOKEN,
            max_length=256,
            pattern=r"^[A-Za-z0-9_-]+$",
            description=f"Secret of {MIN_TOKEN} characters or more that the live page asks for. Other users of this "
            "machine can read flags: give it by the environment variable or the file.",
            json_schema_extra={"values": f"{MIN_TOKEN} to 256 letters, digits, `_` `-`", "metavar": "TOKEN"},
        ),
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Least severe log line that is written to stderr."),
    ] = "info"

    @field_validator("topics", "taxonomies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if value) if isinstance(value, str) else value

    @field_validator("style", mode="before")
    @classmethod
    def _split_style(cls, value: object) -> object:
        if isinstance(value, list):
            value = " ".join(map(str, value))
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=")[::2] for part in value.split()]
        if not all(name and text for name, text in pairs):
            raise ValueError(f"a style is written NAME=VALUE and not {value!r}, for example ensemble=1,0,0,0,0,1")
        return dict(pairs)

    @field_validator("topics")
    @classmethod
    def _check_topics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not CAMERA_NAME.fullmatch(name):
                raise ValueError(
                    f"the camera name {name!r} is not 1 to 64 letters, digits, '_', '-' and '.', led by neither '-' "
                    "nor '.' (no '/': the bridge adds /rgb, /semantic and /photoreal itself)"
                )
        if len(set(value)) != len(value):
            raise ValueError("every camera may be named once only")
        return value

    @field_validator("bundle", mode="before")
    @classmethod
    def _null_is_a_name(cls, value: object) -> object:
        # YAML reads an unquoted null as None.
        return "null" if value is None else value

    @field_validator("input", "output")
    @classmethod
    def _check_address(cls, value: str, info: ValidationInfo) -> str:
        address = parse_address(value)
        if address.host is not None and address.port is None and info.field_name == "input":
            raise ValueError("the simulator's port must be known: write a number instead of '*'")
        return value

    @field_validator("size", mode="before")
    @classmethod
    def _read_size(cls, value: object) -> object:
        if isinstance(value, str):
            return None if value.strip().lower() in ("", "input", "none") else _size_or_value_error(value)
        return value

    @field_validator("size")
    @classmethod
    def _check_size(cls, value: Size | None) -> Size | None:
        return value if value is None else _size_or_value_error(f"{value[0]}x{value[1]}")

    @field_validator("log_level", "mode", "precision", "on_error", "device", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("curve_keys")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        return value if value is None else value.expanduser()

    @model_validator(mode="after")
    def _check_addresses_differ(self) -> BridgeSettings:
        if self.input == self.output:
            raise ValueError(
                f"input and output are both {self.input}: simulator and bridge each bind their own address"
            )
        return self

    @model_validator(mode="after")
    def _check_size_is_allowed(self) -> BridgeSettings:
        if self.size is not None and self.size[0] * self.size[1] > self.max_pixels:
            width, height = self.size
            raise ValueError(
                f"the size {width}x{height} has {width * height} pixels, above max_pixels {self.max_pixels}: give a "
                "smaller --size, or raise SIM_BRIDGE_MAX_PIXELS (--max-pixels of the bridge)"
            )
        return self

    @model_validator(mode="after")
    def _check_page_is_guarded(self) -> BridgeSettings:
        if self.page is not None and self.page_token is None and not is_loopback(self.page_host):
            raise ValueError(
                f"the page host {self.page_host!r} can be reached from other machines, where anybody could look and "
                f"change the style: set SIM_BRIDGE_PAGE_TOKEN to {MIN_TOKEN} characters or more (python -c 'import "
                "secrets; print(secrets.token_urlsafe())'), or keep 127.0.0.1"
            )
        return self

    def to_yaml(self) -> str:
        """The resolved settings as YAML that ``--config`` reads back; without the page's token, which is a secret."""
        values = self.model_dump(mode="json")
        note = ""
        if self.page_token is not None:
            del values["page_token"]
            note = "# page_token is set, and not shown\n"
        values["size"] = "input" if self.size is None else f"{self.size[0]}x{self.size[1]}"
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True) + note


def _size_or_value_error(text: str) -> Size:
    try:
        return parse_size(text)
    except UsageError as error:
        raise ValueError(str(error)) from error


def flag_of(name: str) -> str:
    """The command line flag of a setting, for example ``--pair-window``."""
    return str(extra(BridgeSettings.model_fields[name]).get("flag", "--" + name.replace("_", "-")))


def variable_of(name: str) -> str:
    """The environment variable of a setting, for example ``SIM_BRIDGE_PAIR_WINDOW``."""
    return ENVIRONMENT_PREFIX + name.upper()


def extra(info: FieldInfo) -> dict[str, Any]:
    """What a setting says of itself for help and documentation."""
    return dict(info.json_schema_extra) if isinstance(info.json_schema_extra, dict) else {}


def accepted(info: FieldInfo) -> str:
    """A setting's values as Markdown, from its annotation."""
    values = extra(info).get("values")
    if values is not None:
        return str(values)
    if typing.get_origin(info.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(info.annotation))
    if info.annotation is bool:
        return "`true`, `false`"
    bounds = {type(item).__name__.lower(): item for item in info.metadata}
    low = f"above {bounds['gt'].gt}" if "gt" in bounds else f"from {bounds['ge'].ge}"
    number = "whole number" if info.annotation is int else "number"
    return f"{number} {low} to {bounds['le'].le}"
