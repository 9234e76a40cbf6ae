"""The command line: ``sim-bridge`` runs the bridge, subcommands do the rest.

Exit codes: 0 all went well, 1 something failed, 2 the user's mistake (a flag, a setting, a path), 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from sim_bridge import __version__
from sim_bridge.errors import MissingExtraError, SimBridgeError, TranslatorError, UsageError
from sim_bridge.options import (
    LABELS_HELP,
    RGB_HELP,
    SEMANTIC_HELP,
    BundleOption,
    CameraOption,
    ConfigOption,
    CurveKeysOption,
    DeviceOption,
    InputOption,
    InsecureOption,
    LabelsAsOption,
    LabelsOption,
    OutputOption,
    PairOption,
    PrecisionOption,
    RgbOption,
    SeedOption,
    SemanticOption,
    SizeOption,
    StrictOption,
    TaxonomyOption,
    TopicOption,
    is_strict,
    refuse_unused_flags,
    setting_option,
    settings_of,
)
from sim_bridge.plugin_commands import PluginGroup
from sim_bridge.process.drive import ANSWER_SECONDS, Link
from sim_bridge.process.logs import configure_logging
from sim_bridge.recordings.read import open_recording
from sim_bridge.settings import BridgeSettings
from sim_bridge.source_options import parse_options
from sim_bridge.translators.threads import share_cores
from sim_bridge.wire.addresses import SIMULATOR_ADDRESS

INTERRUPTED: Final = 130
_BENCH_SIZE: Final = (512, 256)

_EXTRAS: Final = {
    "torch": ("torch", "engine"),
    "cv2": ("opencv-python-headless", "engine"),
    "safetensors": ("safetensors", "engine"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "starlette": ("starlette", "page"),
    "uvicorn": ("uvicorn", "page"),
    "wsproto": ("wsproto", "page"),
}
"""Import name of each optional dependency: the package that has it and the extra that installs it."""
_NEEDS: Final = {"demo": "demo", "toytown": "toytown", "carla": "carla,engine"}
"""Extras of the commands that need more than one of these packages."""


app = typer.Typer(
    cls=PluginGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def bridge(
    context: typer.Context,
    topic: TopicOption = None,
    input: InputOption = None,
    output: OutputOption = None,
    bundle: BundleOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    mode: Annotated[str | None, setting_option("mode")] = None,
    size: SizeOption = None,
    style_seed: SeedOption = None,
    style: Annotated[list[str] | None, setting_option("style")] = None,
    on_error: Annotated[str | None, setting_option("on_error")] = None,
    batch_wait: Annotated[float | None, setting_option("batch_wait")] = None,
    taxonomy: TaxonomyOption = None,
    pair_window: Annotated[int | None, setting_option("pair_window")] = None,
    receive_hwm: Annotated[int | None, setting_option("receive_hwm")] = None,
    max_pixels: Annotated[int | None, setting_option("max_pixels")] = None,
    send_buffer_mib: Annotated[int | None, setting_option("send_buffer_mib")] = None,
    drain_timeout: Annotated[float | None, setting_option("drain_timeout")] = None,
    curve_keys: CurveKeysOption = None,
    insecure: InsecureOption = None,
    status_interval: Annotated[float | None, setting_option("status_interval")] = None,
    page: Annotated[int | None, setting_option("page")] = None,
    page_host: Annotated[str | None, setting_option("page_host")] = None,
    page_token: Annotated[str | None, setting_option("page_token")] = None,
    log_level: Annotated[str | None, setting_option("log_level")] = None,
    config: ConfigOption = None,
    strict: StrictOption = False,
    show_config: Annotated[bool, typer.Option("--show-config", help="Print the resolved settings as YAML.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; anywhere on the line.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Make a simulator's camera photoreal, live.

    Without a subcommand the bridge runs: it subscribes to the RGB and semantic images that a simulator publishes,
    and publishes photoreal ones under the same frame numbers. With --page it can be watched and controlled in a
    browser. The first Ctrl-C finishes what is in flight, the
    second one does not wait.

    Exit codes: 0 all went well, 1 something failed, 2 a flag, setting or path cannot be used, 130 interrupted.
    """
    if version:
        typer.echo(f"sim-bridge {__version__}")
        raise typer.Exit
    configure_logging("info")  # a plugin's command has no settings of ours to take the level from
    if context.invoked_subcommand is not None and not show_config:
        refuse_unused_flags(context, context.invoked_subcommand)
    if show_config or context.invoked_subcommand is None:
        settings = settings_of(context)
        if show_config:
            typer.echo(settings.to_yaml(), nl=False)
            raise typer.Exit
        raise typer.Exit(_run_bridge(settings, strict=strict))


def _run_bridge(settings: BridgeSettings, *, strict: bool) -> int:
    from sim_bridge.live.bridge import Bridge, run_until_signalled
    from sim_bridge.translators.load import load_translator

    with Bridge(settings, lambda: load_translator(settings)) as running:
        if settings.page is None:
            code = run_until_signalled(running)
        else:
            from sim_bridge.page.server import Page

            with Page(running):
                code = run_until_signalled(running)
    suspicious = any(running.outputs.of(camera).suspicions for camera in settings.topics)
    return code or int(strict and suspicious)


@app.command()
def run(
    context: typer.Context,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="The source's own options; values are YAML.")
    ] = None,
    source: Annotated[str, typer.Option(metavar="NAME", help="Which simulator; sim-bridge doctor lists them.")] = "",
    mode: Annotated[str | None, setting_option("mode")] = None,
    publish: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help=f"Where to publish; port * is a free one. [default: {SIMULATOR_ADDRESS}]"),
    ] = None,
    output: Annotated[str | None, setting_option("output", "--photoreal")] = None,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for a subscriber first.")
    ] = 0.0,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="In lockstep, how long a tick may take.")
    ] = ANSWER_SECONDS,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many ticks.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Run it in a child process; restart that when it dies.")] = False,
    orders: Annotated[
        bool, typer.Option("--orders", help="Obey pause, resume and step from stdin; its end ends the run.")
    ] = False,
    curve_keys: CurveKeysOption = None,
    insecure: InsecureOption = None,
    config: ConfigOption = None,
) -> None:
    """Run a simulator: publish its frames.

    In lockstep it makes tick N+1 when the photoreal frames of tick N are there. Exit code 1 when nobody subscribes
    within --wait.
    """
    settings = settings_of(context)
    from sim_bridge.tools.run_source import run_kept, run_source

    lockstep = settings.mode == "lockstep"
    safety = (settings.curve_keys, settings.insecure)
    link = Link(publish or settings.input, settings.output if lockstep else None, wait, timeout, *safety)
    runs = run_kept if keep else run_source
    runs(source, parse_options(options or ()), link, frames, sys.stdin if orders else None)


@app.command()
def translate(
    context: typer.Context,
    # Not Annotated: a required argument after a list must look like one with a default.
    sources: list[Path] = typer.Argument(
        ..., metavar="SRC...", help="Recordings, or other folders with --rgb and --semantic."
    ),
    destination: Path = typer.Argument(..., metavar="DST", help="Folder to write; goes on where a run stopped."),
    rgb: RgbOption = None,
    semantic: SemanticOption = None,
    labels: LabelsOption = None,
    labels_as: LabelsAsOption = None,
    camera: CameraOption = None,
    pair: PairOption = None,
    strict: StrictOption = False,
    image_format: Annotated[
        Literal["png", "jpg"], typer.Option("--format", help="File type of the photoreal images.")
    ] = "png",
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Name files as SRC's pictures are, not by frame numbers.")
    ] = False,
    bundle: BundleOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    size: SizeOption = None,
    style_seed: SeedOption = None,
    style_seeds: Annotated[
        str | None, typer.Option(metavar="SEEDS", help="Several style seeds in one job, like 0,1,2.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Translate recorded folders, labels kept.

    DST becomes a recording of photoreal images, with SRC's semantic, instance, depth and flow files copied unchanged
    and a manifest that has frame number, model id and style seed of every image. Whatever --size the network works at,
    the images have the size of the input. Several SRC or seeds get a folder each in DST.

    Stopped in between, the same command goes on where it was. A frame that cannot be read is reported and left out,
    and the exit code is 1.
    """
    settings = settings_of(context)
    options = {"rgb": rgb, "semantic": semantic, "labels": labels, "camera": camera}
    recordings = [open_recording(source, **options, pairing=pair) for source in sources]
    from sim_bridge.recordings.jobs import plan, seeds_of
    from sim_bridge.recordings.translate import Job, translate_all
    from sim_bridge.translators.load import load_translator

    def say(line: str) -> None:
        typer.echo(f"translate: {line}", err=True)

    for note in (note for recording in recordings for note in recording.notes):
        say(note)
    tasks = plan(recordings, destination, seeds_of(style_seeds, style_seed, settings.style_seed))
    job = Job(settings.bundle, settings.size, settings.style_seed, labels, image_format, keep_names, labels_as)
    try:
        whole = translate_all(tasks, load_translator(settings), job, say, strict=is_strict(context))
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        raise typer.Exit(INTERRUPTED) from None
    if not whole:
        raise typer.Exit(1)


@app.command()
def sheet(
    context: typer.Context,
    sources: Annotated[
        list[Path] | None, typer.Argument(metavar="SRC", help="Recordings, or other folders with --rgb and so on.")
    ] = None,
    # Not Annotated: a required argument after an optional one must look like one with a default.
    out: Path = typer.Argument(..., metavar="OUT", help="File to write, .png or .jpg."),
    live: Annotated[
        bool, typer.Option("--live", help="Take the frames from a running bridge (--input and --output say where).")
    ] = False,
    rows: Annotated[int, typer.Option(min=1, max=64, help="Frames per source.")] = 3,
    width: Annotated[int, typer.Option(min=64, max=4096, help="Width of each image on the sheet, in pixels.")] = 480,
    rgb: Annotated[list[str] | None, typer.Option(metavar="GLOB", help=RGB_HELP + " Once, or once per SRC.")] = None,
    semantic: Annotated[list[str] | None, typer.Option(metavar="GLOB", help=SEMANTIC_HELP)] = None,
    labels: Annotated[list[str] | None, typer.Option(metavar="NAME|FILE", help=LABELS_HELP)] = None,
    labels_as: LabelsAsOption = None,
    strict: StrictOption = False,
    pair: PairOption = None,
    timeout: Annotated[float, typer.Option(min=0, help="With --live: seconds to wait for a frame.")] = 30.0,
    topic: TopicOption = None,
    taxonomy: TaxonomyOption = None,
    input: InputOption = None,
    output: OutputOption = None,
    curve_keys: CurveKeysOption = None,
    insecure: InsecureOption = None,
    bundle: BundleOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    size: SizeOption = None,
    style_seed: SeedOption = None,
    config: ConfigOption = None,
) -> None:
    """Draw CG, labels, edges, photoreal side by side.

    Takes frames from recorded folders, spread evenly over each, or with --live from a running bridge. Several folders
    of other layouts take --rgb, --semantic and --labels once for all, or once per folder in the same order.
    """
    settings = settings_of(context)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"the sheet {str(out)!r} must be an image file: let its name end in .png or .jpg")
    if live == bool(sources):
        raise UsageError("a sheet is made either of folders or of a running bridge: give SRC folders, or --live")
    from sim_bridge.recordings.sheet import contact_sheet, write_sheet
    from sim_bridge.recordings.sheet_rows import live_rows, open_sources, recorded_rows

    if live:
        made = live_rows(settings, count=rows, timeout=timeout)
    else:
        recordings = open_sources(sources or [], rgb or [], semantic or [], labels or [], pair)
        for note in (note for recording, _ in recordings for note in recording.notes):
            typer.echo(f"sheet: {note}", err=True)
        made = recorded_rows(recordings, settings, count=rows, labels_as=labels_as)
    for problem in made.problems:
        typer.echo(f"sheet: {problem}", err=True)
    write_sheet(out, contact_sheet(made.rows, width=width, title=made.title))
    typer.echo(f"sheet: {len(made.rows)} {'row' if len(made.rows) == 1 else 'rows'} written to {out}", err=True)
    if made.problems or (made.suspicions and is_strict(context)):
        raise typer.Exit(1)


@app.command()
def bench(
    context: typer.Context,
    size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Size of frames and network. [default: 512x256]"),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="How many frames.")] = 500,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Frames per second of the simulator. [default: as fast as it goes]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON alone on stdout instead of a table.")] = False,
    bundle: BundleOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    config: ConfigOption = None,
) -> None:
    """Measure frames/s and latency per stage.

    A publisher in a second process feeds a bridge in this one over loopback tcp.
    """
    settings = settings_of(context)
    from sim_bridge.tools.bench import run_bench

    result = run_bench(
        size=settings.size or _BENCH_SIZE,
        frames=frames,
        bundle=settings.bundle,
        device=settings.device,
        precision=settings.precision,
        mode="full" if rate is None else "paced",
        rate=rate,
    )
    typer.echo(json.dumps(result.to_json(), indent=2) if as_json else result.to_table())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def doctor(
    context: typer.Context,
    topic: TopicOption = None,
    input: InputOption = None,
    output: OutputOption = None,
    curve_keys: CurveKeysOption = None,
    insecure: InsecureOption = None,
    bundle: BundleOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    config: ConfigOption = None,
) -> None:
    """Check the installation and the settings.

    Versions, devices, bundle hash, taxonomies against the bundle, ports, write rights. Exit code 1 when a check fails.
    Plugins add flags for simulators that run: --carla HOST:PORT.
    """
    from sim_bridge.tools.doctor import asked_examinations, run_doctor

    examinations = asked_examinations(context.args)
    checks = run_doctor(settings_of(context), examinations)
    width = max(len(check.name) for check in checks)
    for check in checks:
        typer.echo(f"{'ok  ' if check.ok else 'FAIL'} {check.name:<{width}}  {check.detail}")
        if not check.ok and check.advice:
            typer.echo(f"     {'':<{width}}  -> {check.advice}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def bundles() -> None:
    """List the bundles that are installed.

    Those that translate can be given as --bundle; segmenters score results and serve trainings.
    """
    from models.bundles.card import TRANSLATORS, BundleError, read_card, shipped_bundles

    typer.echo(
        f"{'name':<20} {'model id':<13} {'network':<20} {'translates':<11} {'classes':<8} licence of the weights"
    )
    for name, path in shipped_bundles().items():
        try:
            card = read_card(path)
        except BundleError as error:
            raise TranslatorError(str(error)) from error
        network = f"{card.arch} {card.args.get('tier', '')}"
        use = "yes" if card.arch in TRANSLATORS else "no"
        typer.echo(
            f"{name:<20} {card.sha256[:12]:<13} {network:<20} {use:<11} {len(card.classes):<8} {card.licence_weights}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    An error is one sentence on stderr, with ``--debug`` after its traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    share_cores()
    try:
        app(args=[word for word in words if word != "--debug"], prog_name="sim-bridge")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except MissingExtraError as error:
        return _fail(error, str(_whole(error, words)), error.exit_code, debug)
    except SimBridgeError as error:
        return _fail(error, str(error), error.exit_code, debug)
    except ModuleNotFoundError as error:
        package, extra = _EXTRAS.get((error.name or "").partition(".")[0], (None, ""))
        if package is None:
            return _fail(error, f"the module {error.name!r} is missing: install what brings it", 1, debug)
        missing = _whole(MissingExtraError(package, extra, "this command"), words)
        return _fail(error, str(missing), missing.exit_code, debug)
    # The last line of defence: a bug ends in a sentence as well, and says how to see where it is.
    except Exception as error:  # noqa: BLE001
        return _fail(error, f"a bug: {type(error).__name__}: {error} (--debug shows where; please report it)", 1, debug)
    return 0


def _whole(error: MissingExtraError, words: Sequence[str]) -> MissingExtraError:
    """Names all that the command needs, not one package after the other."""
    command = next((word for word in words if not word.startswith("-")), "")
    if command not in _NEEDS:
        return error
    return MissingExtraError(error.package, _NEEDS[command], f"sim-bridge {command}")


def _fail(error: BaseException, sentence: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    typer.echo(f"sim-bridge: {sentence}", err=True)
    logging.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
