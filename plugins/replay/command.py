"""``sim-bridge replay``: publish a recorded folder as if a simulator were running."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from plugins.replay.faults import Delivery, FaultInjector, Faults
from plugins.replay.source import DEFAULT_RATE, ReplaySource
from sim_bridge.errors import UsageError
from sim_bridge.frames import Frame
from sim_bridge.options import (
    CameraOption,
    LabelsAsOption,
    LabelsOption,
    PairOption,
    RgbOption,
    SemanticOption,
    StrictOption,
)
from sim_bridge.process.drive import Link, topic_flags
from sim_bridge.process.stop import stop_on_signals
from sim_bridge.sources import topics_of
from sim_bridge.wire.addresses import SIMULATOR_ADDRESS

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)


@app.command()
def replay(
    folder: Annotated[
        Path, typer.Argument(metavar="SRC", help="A recording, or any folder with --rgb and --semantic.")
    ],
    rgb: RgbOption = None,
    semantic: SemanticOption = None,
    labels: LabelsOption = None,
    labels_as: LabelsAsOption = None,
    camera: CameraOption = None,
    pair: PairOption = None,
    rate: Annotated[
        float,
        typer.Option(min=0, help="Frames per second; 0 sends as fast as the subscribers take them and loses nothing."),
    ] = DEFAULT_RATE,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end; every pass is a new session.")] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    address: Annotated[str, typer.Option(help="Where to publish (this side binds).")] = SIMULATOR_ADDRESS,
    wait: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="How long to wait for a subscriber first. [default: for ever]"),
    ] = None,
    drop: Annotated[float, typer.Option(min=0, max=1, help="Fault: probability that a message is lost.")] = 0.0,
    duplicate: Annotated[float, typer.Option(min=0, max=1, help="Fault: probability that it comes twice.")] = 0.0,
    reorder: Annotated[int, typer.Option(min=0, max=1000, help="Fault: messages come up to N frames late.")] = 0,
    delay: Annotated[
        float,
        typer.Option(min=0, max=60_000, metavar="MS", help="Fault: messages come up to MS late, in order."),
    ] = 0.0,
    strict: StrictOption = False,
    seed: Annotated[int, typer.Option(help="Seed of the faults: the same seed gives the same faults.")] = 0,
    curve_keys: Annotated[
        Path | None, typer.Option(help="Folder with CURVE keys, for addresses off this machine.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow an unencrypted address off this machine.")
    ] = False,
) -> None:
    """Publish a recorded folder as if a simulator were running.

    The RGB and the semantic image of every frame go out under the frame number they were recorded with.
    Palette images and raw label ids are both understood. Exit code 1 when a frame could not be read.
    """
    if delay and not rate:
        raise UsageError(f"--delay {delay:g} needs a --rate above 0: without one no message is due at any time")
    source = ReplaySource()
    source.open(
        {
            "folder": folder,
            "rgb": rgb,
            "semantic": semantic,
            "labels": labels,
            "labels_as": labels_as,
            "camera": camera,
            "pair": pair,
            "rate": rate,
            "loop": loop,
            "frames": frames,
        }
    )
    for note in source.notes:
        _say(note)
    injector = FaultInjector(Faults(drop, duplicate, reorder, delay / 1000, seed))
    link = Link(address, wait=wait, curve_keys=curve_keys, insecure=insecure)
    with stop_on_signals(source) as stop, link.open_publisher(lossless=rate == 0) as publisher:
        if wait != 0:
            flags = topic_flags(source.cameras)
            _say(f"{source.ticks} frames ready on {publisher.address}, waiting for a subscriber (sim-bridge {flags})")
            link.wait_for_subscriber(publisher, topics_of(source), stop)
            if stop.is_set():
                raise typer.Exit(0)
        messages = send(
            injector.deliveries(source.scheduled()),
            lambda frame: publisher.publish(frame, copy=False, stop=stop),
            stop,
        )
    _report(messages, source, injector.counts)
    if source.problems or (strict and source.suspicions):
        raise typer.Exit(1)


def send(
    deliveries: Iterable[Delivery],
    publish: Callable[[Frame], bool],
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Publishes every message when it is due.

    Args:
        deliveries: The messages by rising time.
        publish: Sends one; False when it was stopped.
        stop: Ends it when set.
        clock: Seconds.

    Returns:
        How many messages went out.
    """
    messages, start = 0, clock()
    for due, frame in deliveries:
        left = start + due - clock()
        if (stop.wait(left) if left > 0 else stop.is_set()) or not publish(frame):
            break
        messages += 1
    return messages


def _report(messages: int, source: ReplaySource, faults: Counter[str]) -> None:
    passes = "1 pass" if source.passes == 1 else f"{source.passes} passes"
    injected = ", ".join(f"{count} {name}" for name, count in faults.items() if count)
    on_purpose = f" ({injected} on purpose)" if injected else ""
    _say(f"published {messages} messages of {source.published} frames in {passes}{on_purpose}")
    if source.problems:
        frames_left_out = "1 frame was" if len(source.problems) == 1 else f"{len(source.problems)} frames were"
        _say(f"{frames_left_out} left out, see above")


def _say(sentence: str) -> None:
    typer.echo(f"replay: {sentence}", err=True)
