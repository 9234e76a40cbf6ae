"""``sim-bridge toytown``: run the embedded simulator on the wire, or record it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from plugins.toytown.run.options import check_size, parse_mounts
from plugins.toytown.run.setup import DEFAULT_RATE, DEFAULT_STEP, Look, Setup
from plugins.toytown.run.source import ToytownSource
from plugins.toytown.town.traffic import Traffic
from plugins.toytown.view.presets import PRESETS, preset_named
from plugins.toytown.view.raycast import Backend
from sim_bridge.errors import UsageError
from sim_bridge.frames import Kind
from sim_bridge.process.drive import Drive, Link, topic_flags
from sim_bridge.process.stop import stop_on_signals
from sim_bridge.settings import parse_size
from sim_bridge.wire.addresses import BRIDGE_ADDRESS, SIMULATOR_ADDRESS

app = typer.Typer(
    help="The embedded street simulator.",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)

PROGRESS_SECONDS: Final = 5.0

CamerasOption = Annotated[str, typer.Option(metavar="NAMES", help="Of camera, front, left, right, rear.")]
MountOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CAMERA",
        help="A camera of your own, NAME=X,Y,Z,YAW,PITCH[,FOV] on the vehicle or NAME@... in the world; repeatable.",
    ),
]
SizeOption = Annotated[str, typer.Option(metavar="WxH", help="Size of the images.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the town: the same seed, the same images.")]
PresetOption = Annotated[str, typer.Option(help=f"Weather and light: {', '.join(PRESETS)}.")]
TrafficOption = Annotated[Traffic, typer.Option(help="How much moves.")]
BackendOption = Annotated[Backend, typer.Option(help="What casts the rays.")]


@app.command()
def run(
    cameras: CamerasOption = "camera",
    mount: MountOption = None,
    size: SizeOption = "512x256",
    seed: SeedOption = 0,
    preset: PresetOption = "noon",
    traffic: TrafficOption = Traffic.NORMAL,
    rate: Annotated[
        float, typer.Option(min=0, max=1000, help="Ticks per second; 0 goes as fast as it can.")
    ] = DEFAULT_RATE,
    step: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Simulator time from tick to tick. [default: 1 / rate]"),
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many ticks.")] = None,
    first: Annotated[int, typer.Option(min=0, help="Number of the first tick.")] = 0,
    instance: Annotated[bool, typer.Option("--instance", help="Publish instance ids, too.")] = False,
    depth: Annotated[bool, typer.Option("--depth", help="Publish planar depth, too.")] = False,
    flow: Annotated[bool, typer.Option("--flow", help="Publish optical flow to the next tick, too.")] = False,
    address: Annotated[str, typer.Option(help="Where to publish (this side binds).")] = SIMULATOR_ADDRESS,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for a subscriber first.")
    ] = 0.0,
    lockstep: Annotated[
        bool, typer.Option("--lockstep", help="Wait for the photoreal frames of every tick before the next one.")
    ] = False,
    photoreal: Annotated[str, typer.Option(help="In lockstep, where the bridge publishes.")] = BRIDGE_ADDRESS,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="In lockstep, how long a tick may take.")
    ] = 30.0,
    curve_keys: Annotated[
        Path | None, typer.Option(help="Folder with CURVE keys, for addresses off this machine.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow an unencrypted address off this machine.")
    ] = False,
    backend: BackendOption = Backend.EMBREEX,
) -> None:
    """Run the simulator and publish its RGB and semantic frames.

    Realtime keeps to --rate and waits for nobody; --lockstep makes tick N+1 when the photoreal frames of tick N are
    there. Every run is a session of its own.
    """
    asked = {Kind.INSTANCE: instance, Kind.DEPTH: depth, Kind.FLOW: flow}
    kinds = tuple(kind for kind, wanted in asked.items() if wanted)
    if lockstep and kinds:
        raise UsageError(
            f"--lockstep sends RGB and semantic frames only, not {', '.join(kinds)}: leave those flags out"
        )
    source = ToytownSource()
    source.open(
        {
            "seed": seed,
            "preset": preset,
            "traffic": traffic,
            "size": parse_size(size),
            "cameras": (*_names(cameras, mount), *(mount or ())),
            "rate": rate,
            "step": step,
            "frames": frames,
            "first": first,
            "kinds": kinds,
            "backend": backend,
        }
    )
    link = Link(address, photoreal if lockstep else None, wait, timeout, curve_keys, insecure)

    def ready(bound: str) -> None:
        rest = f", in lockstep with {photoreal}" if lockstep else f" (sim-bridge {topic_flags(source.cameras)})"
        _say(f"session {source.session} on {bound}{rest}")

    with stop_on_signals(source) as stop:
        Drive(source, link, stop).run(ready)
    _say(f"published {source.published} ticks")


def _names(cameras: str, mounts: Sequence[str] | None) -> list[str]:
    """The cameras asked for by name; none of them where only own ones are."""
    names = [name.strip() for name in cameras.split(",") if name.strip()]
    return [] if mounts and names == ["camera"] else names


def _say(sentence: str) -> None:
    typer.echo(f"toytown: {sentence}", err=True)


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write the recording.")],
    frames: Annotated[int, typer.Option(min=1, help="How many ticks.")] = 100,
    size: SizeOption = "512x256",
    looks: Annotated[str, typer.Option(metavar="LOOKS", help="cg, photo or both: cg,photo.")] = "cg,photo",
    instance: Annotated[bool, typer.Option("--instance", help="Write instance ids.")] = False,
    depth: Annotated[bool, typer.Option("--depth", help="Write planar depth.")] = False,
    flow: Annotated[bool, typer.Option("--flow", help="Write optical flow to STEP seconds later.")] = False,
    cameras: CamerasOption = "camera",
    mount: MountOption = None,
    preset: PresetOption = "noon",
    seed: SeedOption = 0,
    traffic: TrafficOption = Traffic.NORMAL,
    step: Annotated[
        float, typer.Option(min=0.001, max=60, metavar="SECONDS", help="Simulator time from tick to tick.")
    ] = DEFAULT_STEP,
    scatter: Annotated[
        bool, typer.Option("--scatter", help="Every tick at a random time of its own, for training sets.")
    ] = False,
    first: Annotated[int, typer.Option(min=0, help="Number of the first tick.")] = 0,
    backend: BackendOption = Backend.EMBREEX,
) -> None:
    """Write a recording: CG and photo look, class ids, instances, depth, optical flow, poses.

    docs/recordings.md has the layout; replay, translate and sheet read it. The same command goes on where an
    interrupted one stopped.
    """
    from plugins.toytown.run.recorder import Recorder, Wanted
    from plugins.toytown.run.simulator import Simulator

    wanted = Wanted(_looks(looks), instance, depth, flow)
    mounts = parse_mounts((*_names(cameras, mount), *(mount or ())))
    setup = Setup(seed, preset_named(preset), traffic, check_size(parse_size(size)), mounts, step, scatter, backend)
    recorder = Recorder(Simulator(setup), folder, wanted)
    start = said = time.monotonic()
    try:
        for done, number in enumerate(recorder.record(frames, first), start=1):
            now = time.monotonic()
            if now - said > PROGRESS_SECONDS:
                said = now
                _say(f"{done} of {frames} ticks, at number {number}, {done / (now - start):.1f} a second")
    finally:
        recorder.close()
    _say(f"wrote {frames} ticks of {len(mounts)} camera{'s' if len(mounts) > 1 else ''} to {folder}")


def _looks(text: str) -> tuple[Look, ...]:
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= set(Look):
        raise UsageError(f"--looks {text!r} is not known: give {', '.join(Look)} or both")
    return tuple(dict.fromkeys(Look(name) for name in names))
