"""Trainings on two processes, started as ``torchrun`` would start them, from a server that has imported torch once."""

import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from models.edges import LaplacianEdges
from sim_bridge.errors import SimBridgeError, UsageError
from tests.trainers.recipe_files import merged
from trainers.batches.make import Batch
from trainers.batches.sample import load_all
from trainers.data.camvid import CamVid
from trainers.loop.loop import train
from trainers.loop.processes import Group, joined
from trainers.loop.run_folder import RunFolder
from trainers.loop.training import Training
from trainers.recipes.read import load_recipe
from trainers.recipes.sflow import SFlowRecipe
from trainers.systems.base import MicroBatch

SIZE = 2
Accident = Callable[[Training], None]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__])


def make_trainer(
    recipe: Path, camvid: Path, run: Path, *, resume: bool = False, group: Group | None = None, **overrides: object
) -> Training:
    resolved = load_recipe(SFlowRecipe, str(recipe), merged(recipe, overrides))
    data = CamVid(camvid, "train")
    folder = RunFolder(run, resume=resume, writes=group is None or group.is_first)
    made = Training(resolved, load_all(data, LaplacianEdges(resolved.edge)), data.classes, folder, group)
    if resume:
        made.restore(folder.load())
    folder.save_recipe(resolved)
    return made


def before_step(run: Training, step: int, call: Callable[[], None]) -> None:
    """Has it called when that step (from 1) begins."""
    draw = run.draw

    def call_then_draw() -> list[MicroBatch]:
        if run.step == step - 1:
            call()
        return draw()

    run.draw = call_then_draw  # type: ignore[method-assign]


def terminate(_run: Training) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def freeze(_run: Training) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def vanish(_run: Training) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(_run: Training) -> None:
    raise UsageError("street_7.png cannot be read")


def trip(_run: Training) -> None:
    raise ZeroDivisionError("by nothing")


def spoil_the_batch(run: Training) -> None:
    draw = run.sampler.draw

    def draw_spoilt() -> Batch:
        batch = draw()
        batch.x[0, 0, 0, 0] = float("nan")
        return batch

    run.sampler.draw = draw_spoilt  # type: ignore[method-assign]


def train_one(rank: int, port: int, run: Path, accident: Accident | None, arguments: dict[str, Any]) -> None:
    """What each process does; its outcome goes into ``outcome-RANK.json`` beside the run."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(SIZE),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    outcome: dict[str, Any] = {}
    try:
        with joined(timedelta(seconds=20)) as group:
            made = make_trainer(run=run, group=group, **arguments)
            if accident is not None and rank == 1:
                before_step(made, 3, lambda: accident(made))
            outcome |= {"reached_end": train(made), "step": made.step}
    except (SimBridgeError, ZeroDivisionError) as e:
        outcome |= {"error": type(e).__name__, "sentence": str(e)}
    run.with_name(f"{run.name}-outcome-{rank}.json").write_text(json.dumps(outcome))


def train_on_two(run: Path, accident: Accident | None = None, **arguments: Any) -> list[dict[str, Any]]:
    """Trains; ``accident`` befalls process 1 when step 3 begins. Outcomes by process, empty for one that left none."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = [SERVER.Process(target=train_one, args=(rank, port, run, accident, arguments)) for rank in range(SIZE)]
    for process in started:
        process.start()
    try:
        for rank, process in enumerate(started):
            process.join(120)
            assert not process.is_alive(), f"process {rank} hangs"
            if accident is freeze:
                started[1].kill()
    finally:
        for process in started:
            process.kill()
    files = [run.with_name(f"{run.name}-outcome-{rank}.json") for rank in range(SIZE)]
    return [json.loads(f.read_text()) if f.exists() else {} for f in files]
