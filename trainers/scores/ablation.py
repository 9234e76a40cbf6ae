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
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from models.edges import EdgeSettings
from sim_bridge.errors import SimBridgeError, UsageError
from sim_bridge.process.signals import on_signals
from sim_bridge.recordings.sheet import SheetRow, contact_sheet, write_sheet
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.batches.degrade import EdgeAugmentation
from trainers.data.camvid import ROAD_LINE
from trainers.data.dataset import DataSet
from trainers.data.open import open_data
from trainers.data.photograph import Photograph
from trainers.loop.device import pick_device
from trainers.loop.run_folder import CHECKPOINT, RunFolder
from trainers.recipes.schema import DataRecipe, ImageRecipe, LossWeights, Stage, dump_recipe, load_recipe
from trainers.scores.evaluate import evaluate, generate, validation_photographs
from trainers.scores.export import TrainedRun
from trainers.scores.segmentation import Judge

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


def variants(recipe: ImageRecipe, steps: int) -> dict[str, ImageRecipe]:
    """The recipe, shortened, and what it becomes without each of its parts; parts that it has not are left out.

    First the paper's parts, then what goes beyond it; and edges of a second, coarser scale, and another seed.

    Args:
        recipe: The whole.
        steps: Steps of each variant; the stages keep their shares.

    Raises:
        UsageError: Fewer steps than the recipe has stages.
    """
    if steps < len(recipe.stages):
        raise UsageError(f"--steps is {steps}, and recipe {recipe.name!r} has {len(recipe.stages)} stages: give more")
    full = _with_stages(recipe, _shortened(recipe.stages, steps))
    without: dict[str, ImageRecipe] = {
        "no_dned": _with_stages(full, [_without(s, "dned", "dned_fused", edges="laplacian") for s in full.stages]),
        "no_feature_matching": _with_stages(full, [_without(s, "feature_matching") for s in full.stages]),
        "no_perceptual": _with_stages(full, [_without(s, "perceptual") for s in full.stages]),
        "no_phase_2": _with_stages(full, _without_phase_2(full.stages)),
        **_without_extensions(full),
        "one_edge_sign": full.model_copy(update={"edge": replace(full.edge, signed=False)}),
        "two_edge_scales": full.model_copy(update={"edge": _with_coarse_edges(full.edge)}),
        "other_seed": full.model_copy(update={"seed": full.seed + 1}),
    }
    return {FULL: full} | {name: variant for name, variant in without.items() if variant != full}


def choose(known: Mapping[str, ImageRecipe], only: str) -> dict[str, ImageRecipe]:
    """The variants named in a list with commas; all where it is empty.

    Raises:
        UsageError: There is no such variant of this recipe.
    """
    names = [name.strip() for name in only.split(",")] if only else list(known)
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--only names {', '.join(unknown)}: the variants of this recipe are {', '.join(known)}")
    return {name: known[name] for name in names}


def run_ablation(
    chosen: Mapping[str, ImageRecipe],
    root: Path,
    folder: Path,
    judge: str | None,
    *,
    together: int = 1,
    threads: int = 0,
    every: int = 1,
) -> dict[str, dict[str, Any]]:
    """Trains and scores variants; what is done already is kept, what was stopped goes on.

    Args:
        chosen: Recipes by name.
        root: The data set's folder.
        folder: One run's folder a variant, and the results.
        judge: Bundle of the segmenter that judges.
        together: Trainings at a time.
        threads: CPU threads of each; 0 leaves it to torch.
        every: Score every n-th validation photograph.

    Returns:
        The scores by variant, and those of the photographs themselves as :data:`PHOTOGRAPHS`.

    Raises:
        SimBridgeError: A training failed; the message names its log.
        UsageError: The folder holds other recipes' variants.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, recipe in chosen.items():
        _keep_recipe(folder / f"{name}.yaml", recipe)
    first = next(iter(chosen.values()))
    # Before hours of training: it may be missing.
    opened = None if judge is None else Judge.load(judge, first.perceptual_bundle)
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


def _with_stages(recipe: ImageRecipe, stages: Sequence[Stage]) -> ImageRecipe:
    plain = recipe.model_dump(mode="json") | {"stages": [s.model_dump(mode="json") for s in stages]}
    return ImageRecipe.model_validate(plain)


def _shortened(stages: Sequence[Stage], steps: int) -> list[Stage]:
    """Stages of the same shares, each of one step at least, ``steps`` in all."""
    total, done, out = sum(s.steps for s in stages), 0, []
    passed = 0
    for index, stage in enumerate(stages):
        passed += stage.steps
        after = len(stages) - index - 1
        end = min(max(round(steps * passed / total), done + 1), steps - after)
        out.append(stage.model_copy(update={"steps": end - done}))
        done = end
    return out


def _without_extensions(full: ImageRecipe) -> dict[str, ImageRecipe]:
    """What goes beyond the paper, each left out alone."""
    without: dict[str, dict[str, Any]] = {
        "no_edge_augmentation": {"edge_augmentation": None},
        "no_road_lines": {"data": full.data.model_copy(update={"road_lines": False})},
        "no_hints": {"hints": None},
        "d_sees_no_edges": {"discriminator": replace(full.discriminator, sees_edges=False)},
        "whole_chroma": {"half_chroma": False},
    }
    if full.hints is not None:
        without["no_kept_hues"] = {"hints": full.hints.model_copy(update={"keep_hues": False})}
        if full.data.road_lines and full.hints.classes != "all":
            kept = tuple(name for name in full.hints.classes if name != ROAD_LINE)
            without["no_road_lines"]["hints"] = full.hints.model_copy(update={"classes": kept}) if kept else None
    return {name: full.model_copy(update=changes) for name, changes in without.items()}


def _with_coarse_edges(edge: EdgeSettings) -> EdgeSettings:
    return replace(edge, coarse_blur=edge.coarse_blur or 2.5 * edge.blur)


def _without(stage: Stage, *losses: str, edges: str | None = None) -> Stage:
    weights = LossWeights.model_validate(stage.weights.model_dump() | dict.fromkeys(losses, 0.0))
    return stage.model_copy(update={"weights": weights, "edges": edges or stage.edges})


def _without_phase_2(stages: Sequence[Stage]) -> list[Stage]:
    """From phase 1 to phase 3 at once, which gets phase 2's steps; as it is where there is no phase 3."""
    kept, owed = [], 0
    for stage in stages:
        if stage.edges == "dned_detached":
            owed += stage.steps
        elif stage.edges == "dned":
            kept.append(stage.model_copy(update={"steps": stage.steps + owed}))
            owed = 0
        else:
            kept.append(stage)
    return list(stages) if owed else kept


# Trainings


def _keep_recipe(file: Path, recipe: ImageRecipe) -> None:
    if file.is_file() and load_recipe(ImageRecipe, str(file)) != recipe:
        raise UsageError(
            f"{file} holds another recipe than this ablation's {file.stem!r}: give another --run, or the same --steps"
        )
    file.write_text(dump_recipe(recipe), encoding="utf-8")


def _train_all(chosen: Mapping[str, ImageRecipe], root: Path, folder: Path, together: int, threads: int) -> None:
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
        """Trains a variant from where it stands to its end."""
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
        return [sys.executable, program, "image", *words, "--threads", str(self._threads), *["--resume"] * resume]


def _steps_done(run: Path) -> int:
    """Steps of a run's checkpoint, 0 where there is none."""
    if not (run / CHECKPOINT).is_file():
        return 0
    return int(RunFolder(run, resume=True).load()["step"])


# Scores


def _score_all(
    chosen: Mapping[str, ImageRecipe], root: Path, folder: Path, judge: Judge | None, every: int
) -> dict[str, dict[str, Any]]:
    first = next(iter(chosen.values()))
    rows: list[SheetRow] = []
    scores: dict[str, dict[str, Any]] = {}
    sets: dict[DataRecipe, tuple[DataSet, list[Photograph]]] = {}
    for name, recipe in chosen.items():
        if recipe.data not in sets:  # the same pictures for all, but perhaps without a class
            opened = open_data(recipe.data, root, "val")
            sets[recipe.data] = opened, validation_photographs(opened, every)
        data, photographs = sets[recipe.data]
        rows = rows or [SheetRow(p.name, {PHOTOGRAPHS: p.rgb}) for p in photographs]
        network = TrainedRun.load(folder / name).network(data.classes).to(pick_device())
        pictures = generate(network, photographs)
        scores[name] = evaluate(photographs, pictures, 0, judge, data.classes).rounded()
        harder = generate(network, photographs, degradation=first.edge_augmentation or EdgeAugmentation())
        scores[name][DEGRADED] = evaluate(photographs, harder, 0, judge, data.classes).rounded()
        rows = [SheetRow(r.caption, {**r.images, name: g}) for r, g in zip(rows, pictures, strict=True)]
    scores[PHOTOGRAPHS] = _own_scores(scores[next(iter(chosen))])
    columns = (*chosen, PHOTOGRAPHS)
    write_sheet(folder / SHEET, contact_sheet(spread_evenly(rows, _SHEET_ROWS), columns, title="Ablation"))
    return scores


def _own_scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """The photographs' own, which stand beside those of any variant; likeness to themselves says nothing."""
    return {c: row[f"photograph_{c}"] for c in COLUMNS if f"photograph_{c}" in row}
