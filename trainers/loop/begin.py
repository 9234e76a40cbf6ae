"""A training from the data set's folder on: whatever can be wrong is found before the first step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from models.bundles.files import CARD, read_card
from models.edges import LaplacianEdges
from sim_bridge.pixels.labels import Reading
from trainers.batches.held import load, open_samples
from trainers.batches.sampler import refuse_small_pictures
from trainers.data.dataset import DataSet
from trainers.data.open import open_data
from trainers.loop.board import Board
from trainers.loop.device import warn_of_slow_precision
from trainers.loop.loop import train
from trainers.loop.processes import Group
from trainers.loop.run_folder import RunFolder
from trainers.loop.sheets import SampleSheet
from trainers.loop.training import Training
from trainers.recipes.schema import Recipe
from trainers.scores.evaluate import validation_photographs
from trainers.scores.export import write_bundle
from trainers.systems import find_system

_log = logging.getLogger(__name__)


def begin(
    recipe: Recipe,
    root: Path,
    folder: RunFolder,
    command: str,
    group: Group | None = None,
    *,
    start: Path | None = None,
    tensorboard: bool = False,
    recipe_changed: bool = False,
    announce: Callable[[], None] = lambda: None,
) -> bool:
    """Trains on a data set, from the beginning or from the run's checkpoint.

    Args:
        recipe: What to do.
        root: The data set's folder.
        folder: The run's.
        command: For the run's history, which the bundle's card repeats.
        group: The processes that train together; None for this one alone.
        start: The bundle to begin with.
        tensorboard: Whether to write for it.
        recipe_changed: Whether a run that goes on may do so with another recipe, or other data.
        announce: Called when everything was found right, before the recipe is saved.

    Returns:
        Whether the end was reached. A system that writes its bundle at the end has then done so.

    Raises:
        SimBridgeError: The run cannot begin or go on.
    """
    group = Group() if group is None else group
    system = find_system(recipe.system).system
    data = open_data(recipe.data, root, "train", instances=recipe.needs_instances)
    val = open_data(recipe.data, root, "val")
    samples = open_samples(data, LaplacianEdges(recipe.edge_settings), recipe.data)
    _say_readings(data)
    # What fails at once comes before the photographs, which take minutes to read.
    run = Training(recipe, samples, data.classes, folder, group)
    steps_left = folder.restore(run, recipe, data, may_differ=recipe_changed)
    bundle = folder.path / "bundle"
    if not steps_left and (not system.bundles_at_end or (bundle / CARD).is_file()):
        if folder.save_recipe(recipe, run.step, may_differ=recipe_changed):  # some of its keys are export's alone
            folder.save_command(command)
        return True
    if start is not None:
        run.start_from(start)
    if group.is_first:
        warn_of_slow_precision(recipe.precision, run.device)
    load(samples)
    refuse_small_pictures(samples, recipe.data)
    shown = validation_photographs(val, 1 if system.bundles_at_end else max(1, len(val) // 5)) if group.is_first else []
    announce()
    folder.save_recipe(recipe, run.step, may_differ=recipe_changed)
    folder.save_command(command)
    rows = run.system.shown(shown[:: max(1, len(shown) // 5)])
    sheet = SampleSheet(system, folder.samples, rows, val.classes, run.scores) if shown else None
    with _board(folder.path, run.step, wanted=tensorboard and group.is_first) as board:
        reached_end = train(run, sheet, board)
    if not reached_end and group.is_first:
        _log.warning("stopped and saved at step %d: go on with --resume", run.step)
    if reached_end and system.bundles_at_end and group.is_first:
        scores = system.score(run.average.eval().cpu(), shown, val.classes)
        write_bundle(folder, recipe, run.state(), bundle, data, scores)
        _log.info("step %d is in the bundle %s", read_card(bundle).steps, bundle)
    return reached_end


def _say_readings(data: DataSet) -> None:
    """Says how the first photograph's labels are read, if not as plain ids; once for all processes that read data."""
    data.inspect(0)
    for reader in data.readers.values():
        for reading in reader.readings:
            if reading is not Reading.IDS:
                _log.info("labels of %s are read as %s of %s", reader.name, reading, reader.source.name)


@contextmanager
def _board(folder: Path, step: int, *, wanted: bool) -> Iterator[Board | None]:
    if not wanted:
        yield None
        return
    with closing(Board(folder, step)) as board:
        yield board
