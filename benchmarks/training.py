"""Times S-Flow's image training, case by case: ``python benchmarks/training.py [--json FILE]``.

Samples are made up, of the right shape: their content changes neither speed nor memory. A step is one of the last
stage of the recipe ``camvid_lite`` (phase 3, all losses, the losses' networks on the whole crop), bf16. Every case
runs in a process of its own. The machine should be idle: the load average is written beside the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from models.edges import LaplacianEdges
from sim_bridge.settings import parse_size
from trainers.batches.make import Batch
from trainers.batches.sample import Sample, prepare
from trainers.data.camvid import CAMVID_CLASSES
from trainers.data.photograph import Photograph
from trainers.loop.device import peak_memory
from trainers.loop.loop import train
from trainers.loop.run_folder import RunFolder
from trainers.loop.training import Training
from trainers.recipes.read import set_keys
from trainers.recipes.sflow import SFlowRecipe

WAIT_SHARE = 0.05
"""Largest share of a step that a promised case may stand waiting."""
MARGIN = 1.25
"""Sides of a made-up photograph over those of its crops."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained.

    Attributes:
        tier: Of the generator.
        size: Width and height of a crop.
        batch: Crops a step.
    """

    tier: str
    size: tuple[int, int]
    batch: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """Reads ``lite:512x256:4``."""
        tier, size, batch = text.split(":")
        return cls(tier, parse_size(size), int(batch))

    def __str__(self) -> str:
        return f"{self.tier}:{self.size[0]}x{self.size[1]}:{self.batch}"


CASES = (
    Case("lite", (256, 128), 4),
    Case("lite", (512, 256), 4),
    Case("base", (512, 256), 1),
    Case("full", (768, 384), 1),
)
MEMORY_GB = {"lite:512x256:4": 8.0}
"""What a case may take at most, by its name."""


def made_up_samples(recipe: SFlowRecipe, count: int = 8) -> list[Sample]:
    """Blocks of classes with noise on them, larger than a crop."""
    rng, operator = np.random.default_rng(0), LaplacianEdges(recipe.edge)
    width, height = (int(side * MARGIN) for side in recipe.data.crop)
    colours = rng.integers(30, 220, (len(CAMVID_CLASSES), 3))
    samples = []
    for number in range(count):
        blocks = rng.integers(0, len(CAMVID_CLASSES), (height // 32 + 1, width // 32 + 1)).astype(np.uint8)
        labels = np.ascontiguousarray(blocks.repeat(32, 0).repeat(32, 1)[:height, :width])
        rgb = np.clip(colours[labels] + rng.normal(0, 10, (height, width, 3)), 0, 255).astype(np.uint8)
        samples.append(prepare(Photograph(f"{number}", rgb, labels), operator))
    return samples


def timed(run: Training) -> tuple[list[float], list[float]]:
    """Trains to the end: when every step began and the last one ended, and how long each waited for its samples."""
    begun: list[float] = []
    waits: list[float] = []
    draw = run.sampler.draw

    def now() -> float:
        if run.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed_draw() -> Batch:
        begun.append(now())
        batch = draw()
        waits.append(time.perf_counter() - begun[-1])
        return batch

    run.sampler.draw = timed_draw  # type: ignore[method-assign]
    run.save = run.report = lambda *_: begun.append(now())  # type: ignore[method-assign,assignment]
    train(run)
    return begun[: len(waits) + 1], waits


def measure(case: Case, steps: int) -> dict[str, object]:
    """Figures of a case, in this process."""
    width, height = case.size
    recipe = set_keys(
        SFlowRecipe,
        "camvid_lite",
        [f"tier={case.tier}", f"batch={case.batch}", f"data={{kind: camvid, crop: [{width}, {height}]}}",
         "extensions.loss_window=null"],
    )  # fmt: skip
    last = recipe.stages[-1].model_copy(update={"steps": steps + 1})
    recipe = recipe.model_copy(update={"stages": (last,)})
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        run = Training(recipe, made_up_samples(recipe), CAMVID_CLASSES, RunFolder(Path(folder), resume=False))
        begun, waits = timed(run)
    waits = waits[1:]  # the first step allocates
    times = [after - before for before, after in pairwise(begun[1:])]
    return {
        "case": str(case),
        "images_per_s": round(case.batch * steps / sum(times), 3),
        "step_ms": {f"p{p}": round(1000 * float(np.percentile(times, p)), 1) for p in (50, 95)},
        "wait_share": round(sum(waits) / sum(times), 4),
        "memory_gb": round(peak_memory(run.device), 2),
        "steps": steps,
        "device": torch.cuda.get_device_name() if run.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
    }


def measure_apart(case: Case, steps: int, threads: int) -> dict[str, object]:
    """Figures of a case, from a process that did nothing else."""
    command = [sys.executable, __file__, "--one", str(case), "--steps", str(steps), "--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, object] = json.loads(done.stdout)
    return figures


def broken_limits(results: list[dict[str, object]]) -> list[str]:
    """A sentence for every case that takes more memory than it may, or waits longer for its samples."""
    waiting = [
        f"training {r['case']} waited {100 * float(str(r['wait_share'])):.1f} % of the time for its samples, promised"
        f" is at most {100 * WAIT_SHARE:g} %"
        for r in results
        if str(r["case"]) in MEMORY_GB and float(str(r["wait_share"])) > WAIT_SHARE
    ]
    return waiting + [
        f"training {r['case']} took {r['memory_gb']} GB, promised is at most {MEMORY_GB[str(r['case'])]:g} GB"
        for r in results
        if float(str(r["memory_gb"])) > MEMORY_GB.get(str(r["case"]), float("inf"))
    ]


HEAD = f"{'case':<18} {'images/s':>9} {'step ms p50':>12} {'p95':>9} {'waiting':>8} {'memory GB':>10}  load average"


def as_row(figures: dict[str, object]) -> str:
    """A case's figures as a line below :data:`HEAD`."""
    step, load = figures["step_ms"], figures["load_average"]
    assert isinstance(step, dict) and isinstance(load, list)
    return (
        f"{figures['case']:<18} {figures['images_per_s']:>9.2f} {step['p50']:>12.0f} {step['p95']:>9.0f}"
        f" {100 * figures['wait_share']:>7.1f}% {figures['memory_gb']:>10.2f}  {load[0]} to {load[1]}"
    )


def main() -> int:
    """Measures and prints; 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", type=Case.parse, default=list(CASES), help="tier:WIDTHxHEIGHT:batch")
    parser.add_argument("--steps", type=int, default=10, help="how many are timed, after one that is not")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--one", type=Case.parse, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        if asked.threads:
            torch.set_num_threads(asked.threads)
        sys.stdout.write(json.dumps(measure(asked.one, asked.steps)) + "\n")
        return 0
    sys.stdout.write(HEAD + "\n")
    results = []
    for case in asked.cases:
        results.append(measure_apart(case, asked.steps, asked.threads))
        sys.stdout.write(as_row(results[-1]) + "\n")
        sys.stdout.flush()
    broken = broken_limits(results)
    device = f"{results[0]['device']}, {results[0]['threads']} threads of {os.cpu_count()} cores"
    sys.stdout.write("\n".join([device, *broken]) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
