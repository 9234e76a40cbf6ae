"""Ablations: what each part of a recipe is worth, by training without it from the same start.

Every variant is a training of its own, with the same seed. A part that only weighs in the losses leaves first weights,
crops and styles what they are; one that changes a network's shape or what is drawn does not (docs/training.md).
``other_seed`` is the whole recipe with another seed: a difference that is not larger than this one is chance.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from sim_bridge.errors import SimBridgeError, UsageError
from sim_bridge.process.signals import on_signals
from sim_bridge.recordings.sheet import SheetRow, contact_sheet, write_sheet
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.data.dataset import DataSet
from trainers.data.open import open_data
from trainers.loop.device import pick_device
from trainers.loop.run_folder import CHECKPOINT, RunFolder
from trainers.recipes.read import dump_recipe, load_recipe
from trainers.recipes.schema import DataRecipe, Recipe, Stage
from trainers.scores.evaluate import Scorer, rounded, validation_photographs
from trainers.scores.export import TrainedRun
from trainers.systems import find_system
from trainers.systems.segmentation import Judge

_log = logging.getLogger(__name__)

FULL: Final = "full"
PHOTOGRAPHS: Final = "photographs"
RESULTS: Final = "ablation.json"
SHEET: Final = "ablation.png"
COLUMNS: Final = ("judge_mean_iou", "judge_accuracy", "frechet", "sharpness", "chroma_detail", "pxy", "psnr", "ssim")
"""Scores of the table, of :class:`~trainers.scores.evaluate.Evaluation`."""
DEGRADED: Final = "degraded"
"""Scores with edges degraded as a render's could be, which is where DNED is needed: a mapping beside the others."""
DEGRADED_COLUMNS: Final = ("judge_mean_iou", "frechet")
_SHEET_ROWS: Final = 4


def variants(recipe: Recipe, steps: int) -> dict[str, Recipe]:
    """The recipe, shortened to ``steps`` by its stages' shares, and what it becomes without each part that it has.

    First the paper's parts, then what goes beyond it; and edges of a second, coarser scale, and another seed.
    UsageError where there are fewer steps than stages.
    """
    if steps < len(recipe.stages):
        raise UsageError(f"--steps is {steps}, and recipe {recipe.name!r} has {len(recipe.stages)} stages: give more")
    full = recipe.model_copy(update={"stages": _shortened(recipe.stages, steps)})
    without = find_system(recipe.system).system.parts(full)
    without["other_seed"] = full.model_copy(update={"seed": full.seed + 1})
    return {FULL: full} | {name: variant for name, variant in without.items() if variant != full}


def choose(known: Mapping[str, Recipe], only: str) -> dict[str, Recipe]:
    """The variants named in a list with commas, all where it is empty; UsageError where one is unknown."""
    names = [name.strip() for name in only.split(",")] if only else list(known)
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--only names {', '.join(unknown)}: the variants of this recipe are {', '.join(known)}")
    return {name: known[name] for name in names}


def run_ablation(
    chosen: Mapping[str, Recipe],
    root: Path,
    folder: Path,
    judge: str | None,
    *,
    together: int = 1,
    threads: int = 0,
    every: int = 1,
) -> dict[str, dict[str, Any]]:
    """Trains and scores variants by name; what is done already is kept, what was stopped goes on.

    Runs ``together`` trainings at a time of ``threads`` CPU threads each (0 leaves it to torch), and scores every n-th
    validation photograph. Returns the scores by variant, and the photographs' own as :data:`PHOTOGRAPHS`.
    SimBridgeError names the log of a failed training; UsageError where the folder holds other recipes' variants.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, recipe in chosen.items():
        _keep_recipe(folder / f"{name}.yaml", recipe)
    first = next(iter(chosen.values()))
    # Before hours of training: it may be missing.
    opened = None if judge is None else Judge.load(judge, first.feature_bundle)
    _train_all(chosen, root, folder, together, threads)
    scores = _score_all(chosen, root, folder, opened, every)
    if (folder / RESULTS).is_file():  # of variants that were not asked for this time
        earlier = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        same = {k: row for k, row in earlier.items() if row.get("pictures") == scores[next(iter(chosen))]["pictures"]}
        scores = {**same, **scores, PHOTOGRAPHS: scores.pop(PHOTOGRAPHS)}  # the last row
    (folder / RESULTS).write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return scores


def table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The scores as a Markdown table, one variant a row."""
    flat = {name: _flat(row) for name, row in scores.items()}
    wanted = [*COLUMNS, *(f"{DEGRADED}: {c}" for c in DEGRADED_COLUMNS)]
    columns = [c for c in wanted if any(row.get(c) is not None for row in flat.values())]
    head = ["variant", *columns]
    rows = [[name, *(_cell(row.get(c)) for c in columns)] for name, row in flat.items()]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, **{f"{DEGRADED}: {name}": value for name, value in row.get(DEGRADED, {}).items()}}


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


# Variants


def _shortened(stages: Sequence[Stage], steps: int) -> tuple[Stage, ...]:
    """Stages of the same shares, each of one step at least, ``steps`` in all."""
    total, done, out = sum(s.steps for s in stages), 0, []
    passed = 0
    for index, stage in enumerate(stages):
        passed += stage.steps
        after = len(stages) - index - 1
        end = min(max(round(steps * passed / total), done + 1), steps - after)
        out.append(stage.model_copy(update={"steps": end - done}))
        done = end
    return tuple(out)


# Trainings


def _keep_recipe(file: Path, recipe: Recipe) -> None:
    if file.is_file() and load_recipe(Recipe, str(file)) != recipe:
        raise UsageError(
            f"{file} holds another recipe than this ablation's {file.stem!r}: give another --run, or the same --steps"
        )
    file.write_text(dump_recipe(recipe), encoding="utf-8")


def _train_all(chosen: Mapping[str, Recipe], root: Path, folder: Path, together: int, threads: int) -> None:
    trainings = _Trainings(root, folder, threads)
    with on_signals(trainings.stop), ThreadPoolExecutor(together) as pool:
        for future in [pool.submit(trainings.run, name, recipe.steps) for name, recipe in chosen.items()]:
            future.result()
    if trainings.stopping:
        raise SimBridgeError(f"the ablation in {folder} was stopped, its trainings are saved: give the command again")


class _Trainings:
    """Child processes that train, ended together."""

    def __init__(self, root: Path, folder: Path, threads: int) -> None:
        self._root, self._folder, self._threads = root, folder, threads
        self._running: set[subprocess.Popen[bytes]] = set()
        self.stopping = False

    def run(self, name: str, steps: int) -> None:
        """Trains a variant from its last checkpoint to its end."""
        run, log = self._folder / name, self._folder / f"{name}.log"
        begun = _steps_done(run)
        if self.stopping or begun >= steps:
            return
        _log.info("%s trains from step %d to %d: see %s", name, begun, steps, log)
        with log.open("ab") as output:
            process = subprocess.Popen(self._command(name, resume=begun > 0), stdout=output, stderr=output)
        self._running.add(process)
        if self.stopping:  # meanwhile
            process.terminate()
        code = process.wait()
        self._running.discard(process)
        if not self.stopping and (code or _steps_done(run) < steps):
            self.stop()
            raise SimBridgeError(f"the training of {name!r} ended early, with exit code {code}: see the end of {log}")

    def stop(self) -> None:
        """Tells all to save and end; no other begins."""
        self.stopping = True
        for process in self._running.copy():
            process.terminate()

    def _command(self, name: str, *, resume: bool) -> list[str]:
        program = str(Path(__file__).parents[1] / "run.py")
        options = {"--recipe": self._folder / f"{name}.yaml", "--root": self._root, "--run": self._folder / name}
        words = [str(word) for pair in options.items() for word in pair]
        return [sys.executable, program, "train", *words, "--threads", str(self._threads), *["--resume"] * resume]


def _steps_done(run: Path) -> int:
    """Steps of a run's checkpoint, 0 where there is none."""
    if not (run / CHECKPOINT).is_file():
        return 0
    return int(RunFolder(run, resume=True).load()["step"])


# Scores


def _score_all(
    chosen: Mapping[str, Recipe], root: Path, folder: Path, judge: Judge | None, every: int
) -> dict[str, dict[str, Any]]:
    first = next(iter(chosen.values()))
    rows: list[SheetRow] = []
    scores: dict[str, dict[str, Any]] = {}
    sets: dict[DataRecipe, tuple[DataSet, Scorer]] = {}
    for name, recipe in chosen.items():
        if recipe.data not in sets:  # the same pictures for all, but perhaps without a class
            opened = open_data(recipe.data, root, "val")
            sets[recipe.data] = opened, Scorer(validation_photographs(opened, every), opened.classes, judge)
        data, scorer = sets[recipe.data]
        photographs = scorer.photographs
        rows = rows or [SheetRow(p.name, {PHOTOGRAPHS: p.rgb}) for p in photographs]
        trained = TrainedRun.load(folder / name)
        network = trained.network(data.classes).to(pick_device())
        pictures = trained.system.pictures(network, photographs)
        scores[name] = rounded(scorer.score(pictures))
        for harder, paint in trained.system.harder(first).items():
            scores[name][harder] = rounded(scorer.score(paint(network, photographs)))
        rows = [SheetRow(r.caption, {**r.images, name: g}) for r, g in zip(rows, pictures, strict=True)]
    scores[PHOTOGRAPHS] = _own_scores(scores[next(iter(chosen))])
    columns = (*chosen, PHOTOGRAPHS)
    write_sheet(folder / SHEET, contact_sheet(spread_evenly(rows, _SHEET_ROWS), columns, title="Ablation"))
    return scores


def _own_scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """The photographs' own, for comparison; likeness to themselves says nothing."""
    return {c: row[f"photograph_{c}"] for c in COLUMNS if f"photograph_{c}" in row}
