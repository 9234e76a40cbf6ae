"""An image training from the data set's folder on: everything that can be wrong is found before the first step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from models.edges import LaplacianEdges
from trainers.batches.held import load, open_samples
from trainers.batches.sampler import refuse_small_pictures
from trainers.data.open import open_data
from trainers.loop.board import Board
from trainers.loop.processes import Group
from trainers.loop.run_folder import RunFolder
from trainers.loop.sheets import SampleSheet
from trainers.recipes.schema import ImageRecipe
from trainers.scores.evaluate import validation_photographs
from trainers.systems.sflow import ImageTrainer

_log = logging.getLogger(__name__)


def train_image(
    recipe: ImageRecipe,
    root: Path,
    folder: RunFolder,
    group: Group,
    command: str,
    *,
    start: Path | None = None,
    tensorboard: bool = False,
    recipe_changed: bool = False,
) -> bool:
    """Trains on a data set, from its beginning or from the run's checkpoint.

    Args:
        recipe: What to do.
        root: The data set's folder.
        folder: The run's.
        group: The processes that train together.
        command: For the run's history, which the bundle's card tells.
        start: The bundle to begin with.
        tensorboard: Whether to write for it.
        recipe_changed: Whether a run that goes on may do so with another recipe, or other data.

    Returns:
        Whether the end was reached.

    Raises:
        SimBridgeError: The run cannot be begun or gone on with, or the training cannot go on.
    """
    data = open_data(recipe.data, root, "train", instances=recipe.discriminator.sees_instance_edges)
    val = open_data(recipe.data, root, "val")
    samples = open_samples(data, LaplacianEdges(recipe.edge), recipe.data)
    # What fails at once comes before the photographs, which take minutes to read.
    trainer = ImageTrainer(recipe, samples, data.classes, folder, group)
    if not folder.take_up(trainer, recipe, data, may_differ=recipe_changed):
        if folder.save_recipe(recipe, trainer.step, may_differ=recipe_changed):  # of its keys, some are export's alone
            folder.save_command(command)
        return True
    if start is not None:
        trainer.start_from(start)
    load(samples)
    refuse_small_pictures(samples, recipe.data)
    sheet = None
    if group.is_first:
        sheet = SampleSheet(folder.samples, validation_photographs(val, max(1, len(val) // 5)), trainer.scores)
    folder.save_recipe(recipe, trainer.step, may_differ=recipe_changed)
    folder.save_command(command)
    with _board(folder.path, trainer.step, wanted=tensorboard and group.is_first) as board:
        reached_end = trainer.train(sheet, board)
    if not reached_end and group.is_first:
        _log.warning("stopped and saved at step %d: go on with --resume", trainer.step)
    return reached_end


@contextmanager
def _board(folder: Path, step: int, *, wanted: bool) -> Iterator[Board | None]:
    if not wanted:
        yield None
        return
    with closing(Board(folder, step)) as board:
        yield board
