"""Trains and scores networks: ``python trainers/run.py train|evaluate|look|grade|... --help``."""

from __future__ import annotations

import io
import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

if __package__ in (None, ""):  # run as a script: the project's root, not trainers/, is where imports start
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from sim_bridge.errors import MissingExtraError, SimBridgeError, UsageError

try:
    import cv2  # noqa: F401
    import torch
    import typer
except ModuleNotFoundError as error:
    sys.stderr.write(f"error: {MissingExtraError(error.name or 'torch', 'train', 'training')}\n")
    sys.exit(2)

from models.bundles.files import CARD, BundleError, find_bundle, read_card
from trainers.loop.processes import joined, launched
from trainers.loop.run_folder import RunFolder
from trainers.recipes.read import dump_recipe, load_recipe, set_keys
from trainers.recipes.schema import Recipe
from trainers.recipes.sflow import SFlowRecipe

_HELP: Final = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, context_settings=_HELP)

data_app = typer.Typer(no_args_is_help=True)
app.add_typer(data_app, name="data")


@app.callback()
def _trainers(context: typer.Context) -> None:
    """Train and score the networks."""
    if context.invoked_subcommand not in ("train", "image", "segmenter") and launched() > 1:
        raise UsageError(f"{context.invoked_subcommand!r} runs on one process: start it with python, not torchrun")


RecipeName = Annotated[str, typer.Option("--recipe", help="A recipe's name or path.")]
Root = Annotated[Path | None, typer.Option(help="The data set's folder; needed but for --dry-run.")]
Run = Annotated[Path | None, typer.Option(help="Folder of the run, needed but for --dry-run; made, never overwritten.")]
DataRoot = Annotated[Path, typer.Option("--root", help="The data set's folder.")]
TrainedRun = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")]
Readers = Annotated[int, typer.Option(min=0, help="Threads that read; 0 for one a core, at most 8.")]
BundleIn = Annotated[str, typer.Option(help="A bundle's folder, or the name of a shipped one.")]
BundleOut = Annotated[Path, typer.Option(help="Folder of the bundle to write.")]
Judge = Annotated[str | None, typer.Option(help="Bundle of the segmenter that judges; never one that trained.")]
Seeds = Annotated[str, typer.Option(help="Style seeds, separated by commas.")]
Every = Annotated[int, typer.Option(min=1, help="Take every n-th validation photograph.")]
Edges = Annotated[
    Literal["render", "photograph"] | None,
    typer.Option(help="Whose edges the network sees, of recordings with both; otherwise as it was trained."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")]
RecipeChanged = Annotated[
    bool, typer.Option("--recipe-changed", help="With --resume: another recipe than the run's; the old one is kept.")
]
StartFrom = Annotated[
    str | None, typer.Option("--from", help="Begin with the networks of a bundle that has its training.safetensors.")
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write curves and sample sheets for TensorBoard.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the bundle that is in the folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit code 1 also where something may be wrong.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a key of the recipe, like stages.0.lr=1e-4; repeatable."),
]
Renders = Annotated[
    list[Path] | None,
    typer.Option("--renders", metavar="RECORDING", help="Renders that enhance learns from; repeatable."),
]
GradedRenders = Annotated[
    list[Path], typer.Option("--renders", metavar="RECORDING", help="Renders to be graded; repeatable.")
]
ScoredRenders = Annotated[
    list[Path] | None,
    typer.Option("--renders", metavar="RECORDING", help="Score what becomes of these renders; repeatable."),
]
Look = Annotated[
    str | None, typer.Option(help="With --renders: one of the bundle's looks, whose photographs --root holds.")
]
OutFile = Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", metavar="MODULE:FUNCTION", help="A metric of your own; repeatable.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")]


def _command() -> str:
    """The command as it was typed, for the run's history."""
    return shlex.join(["python", "trainers/run.py", *sys.argv[1:]])


def _parse_seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as e:
        raise UsageError(f"--seeds is {text!r}: give whole numbers separated by commas, like 0,1,2") from e
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds is {text!r}, which names a seed twice: give each once")
    return seeds


def _given(path: Path | None, option: str) -> Path:
    if path is None:
        raise UsageError(f"{option} is missing: give it, only --dry-run goes without")
    return path


def _set_threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)


@app.command()
def train(
    recipe: RecipeName,
    root: Root = None,
    run: Run = None,
    renders: Renders = None,
    changes: Set = None,
    start: StartFrom = None,
    resume: Resume = False,
    recipe_changed: RecipeChanged = False,
    threads: Threads = 0,
    dry_run: DryRun = False,
    tensorboard: TensorBoard = False,
) -> None:
    """Train the system that a recipe names; on several GPUs under torchrun."""
    from trainers.loop.begin import begin
    from trainers.loop.board import summary_writer

    if resume and start is not None:
        raise UsageError("--from begins a run and --resume goes on with one: leave out one of them")
    if recipe_changed and not resume:
        raise UsageError("--recipe-changed is for --resume: a new run has only one recipe, leave it out")
    given = [f"renders={json.dumps([str(folder.absolute()) for folder in renders])}"] if renders else []
    resolved = set_keys(Recipe, recipe, [*given, *(changes or [])])
    with joined() as group:

        def announce() -> None:
            if group.is_first:
                print(dump_recipe(resolved), end="", flush=True)

        if dry_run:
            announce()
            return
        data, path = _given(root, "--root"), _given(run, "--run")
        _set_threads(threads)
        if tensorboard:
            summary_writer()  # where it is missing, before there is a folder
        bundle = None if start is None else find_bundle(start)
        folder = RunFolder(path, resume=resume, writes=group.is_first)
        with folder.locked():
            begin(
                resolved, data, folder, _command(), group,
                start=bundle, tensorboard=tensorboard, recipe_changed=recipe_changed, announce=announce,
            )  # fmt: skip
        if (made := path / "bundle" / CARD).is_file() and group.is_first:
            print(json.dumps(read_card(made.parent).metrics, indent=2), flush=True)


app.command("image", help="Train: the same as train.")(train)
app.command("segmenter", help="Train: the same as train.")(train)


@app.command()
def export(
    run: TrainedRun,
    root: DataRoot,
    bundle: BundleOut,
    judge: Judge = None,
    every: Every = 5,
    replace: Replace = False,
    threads: Threads = 0,
) -> None:
    """Write a run's averaged network as a bundle, scored on validation photographs; prints the scores as JSON."""
    from trainers.scores.export import export_run

    _set_threads(threads)
    card = export_run(run, root, bundle, judge, replace=replace, every=every)
    print(json.dumps(card.metrics, indent=2), flush=True)
    logging.info("step %d is in the bundle %s: use it by sim-bridge --bundle %s", card.steps, bundle, bundle)


@app.command()
def evaluate(
    bundle: BundleIn,
    root: DataRoot,
    judge: Judge = None,
    seeds: Seeds = "0",
    every: Every = 5,
    edges: Edges = None,
    metric: Metrics = None,
    renders: ScoredRenders = None,
    look: Look = None,
    threads: Threads = 0,
) -> None:
    """Score a bundle on validation photographs, or on renders beside them; prints JSON."""
    from trainers.scores.export import score_bundle
    from trainers.scores.on_renders import score_on_renders

    _set_threads(threads)
    if renders:
        print(json.dumps(score_on_renders(bundle, root, renders, judge, every, look), indent=2))
        return
    scores = score_bundle(bundle, root, judge, _parse_seeds(seeds), every, edges, metric or [])
    print(json.dumps(scores, indent=2))


@app.command()
def ablation(
    recipe: RecipeName,
    root: Root = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the runs and results; given again, it goes on.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each variant.")] = 3000,
    only: Annotated[str, typer.Option(help="Variants, separated by commas; empty for all.")] = "",
    judge: Judge = None,
    every: Annotated[int, typer.Option(min=1, help="Score every n-th validation photograph.")] = 1,
    together: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
    threads: Threads = 0,
    dry_run: DryRun = False,
) -> None:
    """Train a recipe without each of its parts, from one start and seed; prints a table."""
    from trainers.scores.ablation import choose, run_ablation, table, variants

    chosen = choose(variants(load_recipe(Recipe, recipe), steps), only)
    if dry_run:
        print("\n".join(f"# {name}\n{dump_recipe(variant)}" for name, variant in chosen.items()))
        return
    data, folder = _given(root, "--root"), _given(run, "--run")
    print(table(run_ablation(chosen, data, folder, judge, together=together, threads=threads, every=every)))


@app.command()
def grade(recipe: RecipeName, root: DataRoot, renders: GradedRenders, out: OutFile) -> None:
    """Fit a colour grade of renders on photographs; use it by sim-bridge --bundle grade:FILE."""
    from trainers.scores.grading import fit_grade

    fit_grade(load_recipe(Recipe, recipe).data, root, renders, out)


@app.command()
def look(
    made: Annotated[Path, typer.Argument(metavar="RUN|BUNDLE", help="What makes the pictures.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.png", help="The sheet to write.")],
    data: Annotated[Path, typer.Option(help="Folder of recordings: captures, toytown, photographs.")],
    root: Annotated[Path | None, typer.Option(help="Of a run: the data set's folder.")] = None,
    threads: Threads = 0,
) -> None:
    """Write a sheet of fixed crops at 1:1, the render on the left of each."""
    from trainers.scores.look import write_look

    _set_threads(threads)
    write_look(made, out, data, root)


@app.command()
def edges(
    sources: Annotated[list[Path], typer.Argument(metavar="SRC", help="Recordings, or other folders with --rgb ...")],
    bundle: BundleIn,
    root: DataRoot,
    rgb: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="RGB images of other folders.")] = None,
    semantic: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Their label images.")] = None,
    labels: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Their taxonomy.")] = None,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size at which the bridge runs.")] = "512x256",
    frames: Annotated[int, typer.Option(min=1, help="Frames of each folder.")] = 12,
    every: Every = 5,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw pictures and maps.")] = None,
) -> None:
    """Compare the edges of renders with those of photographs, before and after DNED; prints JSON."""
    from sim_bridge.recordings.sheet_rows import open_sources
    from sim_bridge.settings import parse_size
    from trainers.scores.edge_gap import study_folders

    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)  # before minutes of computing: it may not be possible
    opened = open_sources(sources, rgb or [], semantic or [], labels or [])
    print(json.dumps(study_folders(bundle, root, every, opened, frames, parse_size(size), sheet), indent=2))


@data_app.callback()
def _data() -> None:
    """Look at a data set."""


@data_app.command()
def check(
    recipe: RecipeName, root: DataRoot, threads: Readers = 0, as_json: AsJson = False, strict: Strict = False
) -> None:
    """Read all of a data set and name all that is wrong; exit code 1 if anything is."""
    from trainers.data.check import check_data, describe

    resolved = load_recipe(Recipe, recipe)
    reports = check_data(resolved.data, root, threads, instances=resolved.needs_instances)
    splits = {report.split: report.as_dict() for report in reports}
    print(json.dumps({"splits": splits}, indent=2) if as_json else describe(reports))
    if any(report.problems or (strict and report.suspicions) for report in reports):
        raise typer.Exit(1)


@data_app.command("edges")
def data_edges(
    recipe: RecipeName,
    root: DataRoot,
    density: Annotated[float, typer.Option(min=0.001, max=0.9, help="Share of the pixels that shall be edges.")] = 0.2,
    photographs: Annotated[int, typer.Option(min=1, help="How many training photographs are measured.")] = 50,
) -> None:
    """Find the edge threshold that makes a share of a data set's pixels edges; prints JSON."""
    from trainers.data.open import open_data
    from trainers.scores.edge_threshold import calibrate

    resolved = load_recipe(SFlowRecipe, recipe)
    data = open_data(resolved.data, root, "train")
    print(json.dumps(calibrate(data, resolved.edge, density, photographs).rounded(), indent=2))


def main() -> None:
    """Entry point: one sentence for a user's mistake, exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text in any encoding
    try:
        app()
    except (SimBridgeError, BundleError) as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(getattr(e, "exit_code", 2))
    except torch.OutOfMemoryError as e:
        reason = str(e).strip().partition("\n")[0]
        print(
            f"error: the GPU's memory is full ({reason}): lower batch, raising accumulate by as much, or data.crop, or"
            " leave the GPU to others with CUDA_VISIBLE_DEVICES=",
            file=sys.stderr,
        )
        sys.exit(1)
    except OSError as e:  # the disk or its rights, where nothing nearer has more to say
        place = f"{e.filename} cannot be used" if e.filename else "a file cannot be read or written"
        print(f"error: {place} ({e.strerror or e}): check the path, its rights and the disk", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
