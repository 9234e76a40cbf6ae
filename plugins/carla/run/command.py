"""``sim-bridge carla``: a photoreal camera beside CARLA's own, or a recording of what CARLA's cameras see."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from plugins.carla.rig.rig import (
    DEFAULT_FOV,
    DEFAULT_PLACE,
    DEFAULT_SIZE,
    Rig,
    batched,
    parse_attributes,
    parse_transform,
    read_rig,
    single_camera,
)
from plugins.carla.run.options import CarlaOptions
from plugins.carla.run.process import CarlaProcess, RecordingProcess
from plugins.carla.world.server import DEFAULT_HOST, DEFAULT_PORT, DEFAULT_TIMEOUT, require_carla
from plugins.carla.world.tags import taxonomy_for
from plugins.carla.world.vehicles import DEFAULT_ROLE
from sim_bridge.errors import SimBridgeError, UsageError
from sim_bridge.frames import Kind
from sim_bridge.load_settings import load_settings
from sim_bridge.options import (
    BundleOption,
    ConfigOption,
    CurveKeysOption,
    DeviceOption,
    InsecureOption,
    OutputOption,
    PrecisionOption,
    SeedOption,
    setting_option,
)
from sim_bridge.process.logs import configure_logging
from sim_bridge.process.signals import on_signals
from sim_bridge.settings import BridgeSettings, parse_size

app = typer.Typer(
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

_PASSED: Final = ("host", "port", "actor", "spawn", "wait", "tick", "step", "labels", "timeout")
"""Flags that the source's options have, too."""
_SIZE: Final = f"{DEFAULT_SIZE[0]}x{DEFAULT_SIZE[1]}"
_PLACE: Final = ",".join(f"{value:g}" for value in DEFAULT_PLACE)

HostOption = Annotated[str, typer.Option(help="Machine of the CARLA server.")]
PortOption = Annotated[int, typer.Option(min=1, max=65534, help="Its RPC port.")]
TimeoutOption = Annotated[
    float,
    typer.Option(min=0.5, max=600, metavar="SECONDS", help="How long the server, or the vehicle, is waited for."),
]
RoleOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"The vehicle by its role name. [default: {DEFAULT_ROLE}]", show_default=False),
]
ActorOption = Annotated[int | None, typer.Option(min=1, metavar="ID", help="The vehicle by its actor id.")]
SpawnOption = Annotated[bool, typer.Option("--spawn", help="Make a vehicle; it stands still and goes at the end.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for the vehicle for ever, as for one that a scenario spawns later.")
]
AttributeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="Set an attribute of the RGB camera's blueprint, like gamma=2.4; repeatable."
    ),
]
CameraSizeOption = Annotated[str, typer.Option("--size", metavar="WxH", help="Size of the cameras' images.")]
FovOption = Annotated[float, typer.Option(metavar="DEGREES", help="Horizontal field of view.")]
TransformOption = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,Z,PITCH,YAW,ROLL",
        help=f"Where the camera is on the vehicle, in CARLA's axes. [default: {_PLACE}]",
        show_default=False,
    ),
]
RigOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Several cameras: a YAML file, see docs/carla.md.")
]
TaxonomyOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Taxonomy of the class ids. [default: by the server's version]"),
]
TickOption = Annotated[bool, typer.Option("--tick", help="Drive the world: synchronous, one tick after the other.")]
StepOption = Annotated[
    float | None,
    typer.Option(
        min=0.001, max=1, metavar="SECONDS", help="With --tick: simulator time of a tick. [default: as set, or 0.05]"
    ),
]


@app.callback(invoke_without_command=True)
def carla(
    context: typer.Context,
    host: HostOption = DEFAULT_HOST,
    port: PortOption = DEFAULT_PORT,
    role_name: RoleOption = None,
    actor: ActorOption = None,
    spawn: SpawnOption = False,
    wait: WaitOption = False,
    size: CameraSizeOption = _SIZE,
    fov: FovOption = DEFAULT_FOV,
    attribute: AttributeOption = None,
    transform: TransformOption = None,
    rig: RigOption = None,
    tick: TickOption = False,
    step: StepOption = None,
    labels: TaxonomyOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
    mode: Annotated[str | None, setting_option("mode")] = None,
    output: OutputOption = None,
    bundle: BundleOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    network_size: Annotated[str | None, setting_option("size", "--network-size")] = None,
    style_seed: SeedOption = None,
    on_error: Annotated[str | None, setting_option("on_error")] = None,
    batch_wait: Annotated[float | None, setting_option("batch_wait")] = None,
    page: Annotated[int | None, setting_option("page")] = None,
    curve_keys: CurveKeysOption = None,
    insecure: InsecureOption = None,
    log_level: Annotated[str | None, setting_option("log_level")] = None,
    config: ConfigOption = None,
) -> None:
    """Publish photoreal images of cameras in a running CARLA.

    The cameras are put on a vehicle. The bridge only looks at the world, unless --tick asks it to drive. One
    Ctrl-C ends cameras and bridge; what was made in the world is destroyed, and settings that were changed are put
    back. After the server was started again, or loaded another map, the cameras come back by themselves.
    """
    given = context.params
    if context.invoked_subcommand is not None:
        _refuse_flags(context)
        return
    options, cameras = _options(given)
    # The cameras' --size is not the network's.
    given_settings = {**given, "size": network_size}
    flags = {name: given_settings[name] for name in BridgeSettings.model_fields if name in given_settings}
    with tempfile.TemporaryDirectory(prefix="sim-bridge-") as folder:
        # A file instead of a port: nothing else can be in its place.
        own = {"topics": cameras.names, "input": f"ipc://{folder}/carla"}
        settings = batched(load_settings({**flags, **own}, config=config))
        configure_logging(settings.log_level)
        _check_mode(settings, tick)
        raise typer.Exit(_run(settings, {**options, "paced": settings.mode == "realtime"}, timeout))


def _refuse_flags(context: typer.Context) -> None:
    """Flags before the subcommand would be dropped without a word."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            name = context.invoked_subcommand
            raise UsageError(f"the flag {parameter.opts[0]} comes before {name!r}: give it after {name!r}")


def _options(given: Mapping[str, Any]) -> tuple[dict[str, object], Rig]:
    """What both commands ask of the source, checked, and the rig."""
    require_carla()
    named = [flag for flag in ("role_name", "actor", "spawn") if given[flag]]
    if len(named) > 1:
        flags = " and ".join(f"--{flag.replace('_', '-')}" for flag in named)
        raise UsageError(f"{flags} each name the vehicle: give one of them")
    if given["step"] is not None and not given["tick"]:
        raise UsageError(f"--step {given['step']:g} says how long a tick of --tick is: add --tick, or leave it out")
    if given["wait"] and (given["spawn"] or given["actor"] is not None):
        raise UsageError("--wait is for a vehicle that comes later, by its role name: leave out --spawn and --actor")
    size, fov, attributes = parse_size(given["size"]), given["fov"], parse_attributes(given["attribute"] or ())
    if given["rig"] is None:
        place = DEFAULT_PLACE if given["transform"] is None else parse_transform(given["transform"])
        rig = single_camera(size, fov, place, attributes=attributes)
    elif given["transform"] is not None:
        raise UsageError(
            "--transform is of the one camera, and --rig says where each of its cameras is: give one of them"
        )
    else:
        rig = read_rig(given["rig"], size, fov, attributes)
    if given["labels"] is not None:
        taxonomy_for("", given["labels"])
    options = {name: given[name] for name in _PASSED}
    options |= {"role_name": given["role_name"] or DEFAULT_ROLE, "rig": rig.model_dump(mode="json")}
    CarlaOptions.checked(options)
    return options, rig


def _check_mode(settings: BridgeSettings, tick: bool) -> None:
    """In lockstep somebody must wait for the photoreal frames before the next tick. Raises UsageError: nobody does."""
    if settings.mode == "lockstep" and not tick:
        raise UsageError(
            "--mode lockstep needs a wait for each photoreal frame before the next tick: give --tick, or have "
            "the script that ticks wait by PhotorealCamera.get(frame) and run 'sim-bridge --mode lockstep' beside it"
        )


def _run(settings: BridgeSettings, options: Mapping[str, object], timeout: float) -> int:
    from sim_bridge.live.bridge import Bridge, run_until_signalled
    from sim_bridge.translators.load import load_translator

    failures: list[SimBridgeError] = []
    with Bridge(settings, lambda: load_translator(settings)) as bridge:

        def fail(error: SimBridgeError) -> None:
            failures.append(error)
            bridge.stop(drain=False)

        with CarlaProcess(
            settings,
            bridge.output_address,
            options,
            wanted=lambda: bridge.state != "stopping",
            on_failure=fail,
            on_change=lambda ended: bridge.report_simulator(ended=ended),
            on_session=_say,
            timeout=timeout,
        ) as simulator:
            bridge.follow(simulator.tell)
            with _page(bridge, settings):
                code = run_until_signalled(bridge)
            published = sum(bridge.outputs.of(camera).published for camera in settings.topics)
    if failures:
        raise failures[0]
    _say(f"{published} photoreal frames in {simulator.sessions} session{'s' if simulator.sessions != 1 else ''}")
    return code


def _page(bridge: Any, settings: BridgeSettings) -> AbstractContextManager[object]:
    if settings.page is None:
        return nullcontext()
    from sim_bridge.page.server import Page

    page = Page(bridge)
    _say(f"open {page.address}")
    return page


def _say(sentence: str) -> None:
    typer.echo(f"carla: {sentence}", err=True)


@app.command()
def record(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write the recording; a new folder.")],
    frames: Annotated[int, typer.Option(min=1, help="How many ticks.")] = 100,
    every: Annotated[int, typer.Option(min=1, help="Write every so-many-th tick.")] = 1,
    instance: Annotated[bool, typer.Option("--instance", help="Write instance ids.")] = False,
    depth: Annotated[bool, typer.Option("--depth", help="Write planar depth.")] = False,
    host: HostOption = DEFAULT_HOST,
    port: PortOption = DEFAULT_PORT,
    role_name: RoleOption = None,
    actor: ActorOption = None,
    spawn: SpawnOption = False,
    wait: WaitOption = False,
    size: CameraSizeOption = _SIZE,
    fov: FovOption = DEFAULT_FOV,
    attribute: AttributeOption = None,
    transform: TransformOption = None,
    rig: RigOption = None,
    tick: TickOption = False,
    step: StepOption = None,
    labels: TaxonomyOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT,
) -> None:
    """Write what CARLA's cameras see as a recording: RGB, class ids, poses, on request instances and depth.

    docs/recordings.md has the layout; translate, replay, sheet and the trainers read it. With --tick no tick is lost;
    without, ticks that come faster than they can be written are left out.
    """
    asked = {Kind.INSTANCE: instance, Kind.DEPTH: depth}
    options, cameras = _options(context.params)
    kinds = [kind.value for kind, wanted in asked.items() if wanted]
    told = {**options, "kinds": kinds, "paced": False, "reconnect": False}
    with RecordingProcess(folder, told, frames, every, timeout) as recording, on_signals(recording.stop):
        for written in recording.progress():
            if written < frames:
                _say(f"{written} of {frames} ticks")
    count = f"{recording.written} ticks of {len(cameras.names)} camera{'s' if len(cameras.names) != 1 else ''}"
    _say(f"wrote {count} to {folder}; {recording.left_out} left out")
    if recording.written < frames and not recording.stopped:
        raise typer.Exit(1)
