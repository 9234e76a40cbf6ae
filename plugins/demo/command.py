"""``sim-bridge demo``: watch a street become photoreal, without CARLA and without a GPU."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from plugins.demo.simulator import SimulatorProcess
from plugins.toytown.run.command import PresetOption, SeedOption, SizeOption, TrafficOption
from plugins.toytown.run.options import check_size
from plugins.toytown.town.traffic import Traffic
from plugins.toytown.view.presets import preset_named
from sim_bridge.errors import SimBridgeError
from sim_bridge.live.bridge import Bridge, run_until_signalled
from sim_bridge.load_settings import load_settings
from sim_bridge.settings import BridgeSettings, parse_size
from sim_bridge.translators.load import load_translator
from sim_bridge.translators.threads import halve_cores

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)

CAMERA: Final = "camera"
BUNDLE: Final = "toytown-enhance"
"""What the demo shows unless told otherwise; docs/toytown.md says why."""
RATE: Final = 20.0
AHEAD: Final = 2
"""Ticks that the simulator makes before their answers: one in the network, one that waits for it. More would be dropped
by the bridge, at the cost of frames: both share the cores."""
PAGE: Final = 8008
_LOOK_SECONDS: Final = 0.05


@app.command()
def demo(
    page: Annotated[int, typer.Option(min=0, max=65535, help="Port of the live page; 0 takes a free one.")] = PAGE,
    bundle: Annotated[str, typer.Option(help="The network; sim-bridge bundles lists the shipped ones.")] = BUNDLE,
    style_seed: Annotated[int, typer.Option(min=0, help="Which photoreal version of the town.")] = 0,
    size: SizeOption = "512x256",
    seed: SeedOption = 0,
    preset: PresetOption = "noon",
    traffic: TrafficOption = Traffic.NORMAL,
    rate: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Ticks per second, at most as many as the network takes.")
    ] = RATE,
    output: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where photoreal frames are published; port * takes a free one.")
    ] = "tcp://127.0.0.1:*",
    headless: Annotated[
        bool, typer.Option("--headless", help="No page: write a film, a contact sheet and statistics, then end.")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="With --headless: how many photoreal frames.")] = 100,
    out: Annotated[Path, typer.Option(metavar="DIR", help="With --headless: where to write.")] = Path("out"),
) -> None:
    """Run simulator, bridge and live page together.

    One Ctrl-C ends all three. With --headless the page is left out, and demo.mp4, demo.png and demo.json are written
    into --out.
    """
    began = time.monotonic()
    halve_cores()
    options = {
        "seed": seed,
        "preset": preset_named(preset).name,
        "traffic": traffic,
        "size": check_size(parse_size(size)),
        "rate": rate,
        "ahead": AHEAD,
    }
    with tempfile.TemporaryDirectory(prefix="sim-bridge-") as folder:
        # A file instead of a port: nothing else can be in its place.
        flags = {"topics": (CAMERA,), "input": f"ipc://{folder}/simulator", "output": output, "bundle": bundle}
        shown = {} if headless else {"page": page}
        settings = load_settings({**flags, **shown, "style_seed": style_seed, "size": parse_size(size)}, config=None)
        raise typer.Exit(_run(settings, options, began, (out, frames) if headless else None))


def _run(settings: BridgeSettings, options: dict[str, object], began: float, film: tuple[Path, int] | None) -> int:
    failures: list[SimBridgeError] = []
    with Bridge(settings, lambda: load_translator(settings)) as bridge:

        def wanted() -> bool:
            return bridge.state != "stopping"

        def fail(error: SimBridgeError) -> None:
            failures.append(error)
            bridge.stop(drain=False)

        with (
            SimulatorProcess(
                settings.input,
                options,
                wanted=wanted,
                on_failure=fail,
                on_change=lambda ended: bridge.report_simulator(ended=ended),
            ) as simulator,
            _reported(bridge, simulator, began) as first,
        ):
            bridge.follow(simulator.tell)
            bridge.tap.open(simulator)
            if film is None:
                with _page(bridge):
                    code = run_until_signalled(bridge)
            else:
                code = _film(bridge, *film, first, failures)
    if failures:
        raise failures[0]
    return code


def _page(bridge: Bridge) -> AbstractContextManager[object]:
    from sim_bridge.page.server import Page

    page = Page(bridge)
    _say(f"open {page.address}   (Ctrl-C ends)")
    return page


def _film(bridge: Bridge, folder: Path, frames: int, first: list[float], failures: Sequence[SimBridgeError]) -> int:
    from plugins.demo.film import Film

    with Film(bridge, folder, frames, done=bridge.stop) as film:
        code = run_until_signalled(bridge)
    if film.error is not None:
        raise film.error
    if failures:
        return code
    statistics = film.write_statistics(first[0] if first else None)
    _say(f"{film.written} frames, {statistics['frames_per_s']} a second: {folder / 'demo.mp4'}, .png, .json")
    return code if film.written == frames else 1


@contextmanager
def _reported(bridge: Bridge, simulator: SimulatorProcess, began: float) -> Iterator[list[float]]:
    """Says what the demo waits for until the first photoreal frame; gives the seconds that it took, once known."""
    first: list[float] = []
    ended = threading.Event()

    def report() -> None:
        _say("building the town and loading the network ...")
        steps = [
            ("the town is built", simulator.ready.is_set),
            ("the network is loaded", lambda: bridge.wait_until_ready(0)),
            ("first photoreal frame", lambda: bridge.outputs.of(CAMERA).published > 0),
        ]
        while steps and not ended.wait(_LOOK_SECONDS):
            for step in [step for step in steps if step[1]()]:
                steps.remove(step)
                _say(f"{step[0]} after {time.monotonic() - began:.1f} s")
        if not steps:
            first.append(time.monotonic() - began)

    reporter = threading.Thread(target=report, name="demo-report", daemon=True)
    reporter.start()
    try:
        yield first
    finally:
        ended.set()
        reporter.join()


def _say(sentence: str) -> None:
    typer.echo(f"demo: {sentence}", err=True)
