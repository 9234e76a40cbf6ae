"""What a training holds: a system, its optimisers, average and sampler; saved and restored exactly."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from models.bundles.files import TRAINING, load_tensors, read_card
from sim_bridge.errors import UsageError
from trainers.batches.held import SampleSource
from trainers.batches.workers import make_sampler
from trainers.errors import TrainingError
from trainers.loop.board import Board
from trainers.loop.device import peak_memory, pick_device
from trainers.loop.guard import ADVICE, bad_weight, find_cause, first_bad_value, total_norm
from trainers.loop.processes import Group
from trainers.loop.report import Collector, Progress, check_finite
from trainers.loop.run_folder import RunFolder, first_reason
from trainers.loop.sheets import SampleSheet
from trainers.recipes.schema import Recipe, Stage
from trainers.systems import find_system
from trainers.systems.base import MicroBatch, System, Term

_log = logging.getLogger(__name__)

SAME: Final = 1e-6
"""Largest relative difference between the weights' norms of processes that hold the same weights."""


class Training:
    """Everything a training holds; :func:`trainers.loop.loop.train` runs it.

    Args:
        recipe: What to do.
        samples: The photographs.
        classes: Class names by id.
        folder: Where checkpoints and statistics go.
        group: The processes that train together; None for this one alone.

    Raises:
        UsageError: The processes cannot share a batch evenly, or the system cannot be built.
    """

    def __init__(
        self,
        recipe: Recipe,
        samples: Sequence[SampleSource],
        classes: Sequence[str],
        folder: RunFolder,
        group: Group | None = None,
    ) -> None:
        kind = find_system(recipe.system).system
        self.group = Group() if group is None else group
        _refuse_processes(recipe, kind, self.group.size)
        torch.manual_seed(recipe.seed)
        self.recipe, self.samples, self.classes, self.folder = recipe, samples, tuple(classes), folder
        self.device = pick_device()
        self.system: System[Any] = kind(recipe, classes, self.device)
        self.network = self.system.networks["network"]
        self.average = self.network if not recipe.ema else copy.deepcopy(self.network).eval().requires_grad_(False)
        self.average_steps = 0
        """Steps in the averaged weights, with those of a bundle to start from."""
        self.optimisers = {p.name: _optimiser(recipe, p.module) for p in self.system.players}
        self.sampler = make_sampler(samples, recipe.as_drawn(), len(classes), self.group.rank, self.group.size)
        self.step = 0
        self.collector = Collector()
        self.scores = Collector()
        """Scores of sample sheets; apart, because only the first process makes sheets."""
        self.stopping = False

    def stop(self) -> None:
        """Lets the step in progress finish, then saves and stops."""
        self.stopping = True

    # State

    def state(self) -> dict[str, Any]:
        """All that a resumed training needs to go on as if it had not stopped."""
        return {
            "step": self.step,
            "average_steps": self.average_steps,
            "networks": {name: network.state_dict() for name, network in self.system.networks.items()},
            "average": self.average.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "sampler": self.sampler.state(),
            "system": self.system.state(),
            "random": _random_state(self.device),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where :meth:`state` was taken."""
        for name, network in self.system.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.average.load_state_dict(state["average"])
        self.sampler.restore(state["sampler"])
        self.system.restore(state["system"])
        _restore_random(state["random"], self.device)
        self.step, self.average_steps = state["step"], state["average_steps"]

    def start_from(self, bundle: Path) -> None:
        """Begins with the networks of a bundle that has its ``training.safetensors``.

        Raises:
            UsageError: It has no such file, other networks than the recipe's, or other classes than the data.
        """
        card, said = read_card(bundle), self.system.card(self.network, self.recipe, self.classes)
        if card.arch != said["arch"]:
            raise UsageError(f"{bundle} holds a {card.arch!r}: give --from a bundle of arch {said['arch']!r}")
        if not (bundle / TRAINING).is_file():
            raise UsageError(
                f"{bundle} has no {TRAINING}, from which a training begins: give --from a bundle as export wrote it"
            )
        if card.classes != list(self.classes):
            raise UsageError(
                f"{bundle} knows the classes {', '.join(card.classes)}, and the data have"
                f" {', '.join(self.classes)}: begin with a bundle of the same classes"
            )
        tensors = load_tensors(bundle / TRAINING)
        try:
            for name, network in self.system.networks.items():
                network.load_state_dict(_part(tensors, f"{name}."))
            self.average.load_state_dict(self.system.load(bundle, self.recipe, self.classes).state_dict())
        except RuntimeError as e:
            raise UsageError(
                f"{bundle / TRAINING} is not of recipe {self.recipe.name!r} ({first_reason(e)}): begin with one of the"
                " same networks"
            ) from e
        self.system.started_from(card)
        self.average_steps = card.steps

    # A step

    def set_rates(self, stage: Stage) -> None:
        """Sets every optimiser's learning rate for the step."""
        factor = self.recipe.rate_factor(self.step)
        for player in self.system.players:
            for parameters in self.optimisers[player.name].param_groups:
                parameters["lr"] = getattr(stage, player.rate) * factor

    def draw(self) -> list[MicroBatch]:
        """Draws the next step, the same on every process, and cuts this one's share of it into micro-batches."""
        recipe, group = self.recipe, self.group
        own, window = self.sampler.draw(), self.sampler.loss_window(*recipe.data.crop[::-1])
        share = group.share(recipe.step_batch)
        drawn = {name: values[share] for name, values in self.system.draw(recipe.step_batch).items()}
        size = recipe.batch // group.size
        parts = [slice(i, i + size) for i in range(0, size * recipe.accumulate, size)]
        made = []
        for k in parts:
            batch = own.part(k)
            prepared = self.system.prepare(batch, {n: batch.per_frame(v[k]) for n, v in drawn.items()})
            made.append(MicroBatch(batch.to(self.device), window, prepared))
        return made

    def note(self, terms: Iterable[Term]) -> None:
        """Notes losses for the next report."""
        self.collector.add(**{term.name: term.value for term in terms})

    @torch.no_grad()
    def update_average(self) -> None:
        """EMA of the weights, with a short memory at the start; buffers are copied."""
        if self.average is self.network:
            return
        keep = min(self.recipe.ema, 1 - 1 / (1 + self.average_steps / 4))
        ours, theirs = ([*module.parameters()] for module in (self.average, self.network))
        get_ema_multi_avg_fn(keep)(ours, theirs, self.average_steps)  # type: ignore[no-untyped-call]
        for our, their in zip(self.average.buffers(), self.network.buffers(), strict=True):
            our.copy_(their)
        self.average_steps += 1

    def explain(self, stage: Stage, micro_batches: Sequence[MicroBatch]) -> str:
        """Where the step stopped being finite, by the first process that has such a loss."""
        system = self.system

        def forward() -> None:
            for micro in micro_batches:
                made = system.forward(micro, stage)
                for player in system.players:
                    system.losses(player.name, made, micro, stage)

        losses = self.collector.latest(len(micro_batches))
        loss = first_bad_value(losses)
        what = "all losses are finite but a gradient is not" if loss is None else f"the loss {loss!r} is {losses[loss]}"
        # A flow is NaN where nothing is seen again.
        samples = {
            f"{n} {i}": t for i, m in enumerate(micro_batches) for n, t in m.batch._asdict().items() if n != "flow"
        }
        where = find_cause(system.networks, samples, forward)
        sentence = f"{what} at step {self.step + 1}; {where}: {ADVICE}"
        by_loss = self.group.first_sentence(sentence if loss is not None else None, "loss")
        return by_loss or self.group.first_sentence(sentence, "gradient") or sentence

    # Maintenance

    def progress(self, board: Board | None) -> Progress | None:
        """Receives reports, on the process that writes."""
        if not self.folder.writes:
            return None
        return Progress(self.folder.path, self.recipe.steps, self.step, self.recipe.step_batch, board=board)

    def sample(self, sheet: SampleSheet | None, board: Board | None) -> None:
        """Writes a sheet; what it draws at random is not taken from the training."""
        if sheet is None:
            return
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), evaluating(self.average):
            path = sheet.write(self.average, self.step)
        if board is not None:
            board.sheet(self.step, path)

    def report(self, stage: Stage, progress: Progress | None) -> None:
        """Means since the last report."""
        means = self.group.mean(self.collector.collect() | {"wait": self.sampler.wait_share()}) | self.scores.collect()
        check_finite(means, self.step)
        if progress is not None:
            rates = {f"lr_{name}": o.param_groups[0]["lr"] for name, o in self.optimisers.items()}
            progress.report(self.step, stage.name, means | rates | {"memory_gb": peak_memory(self.device)})

    def save(self) -> None:
        """Writes the checkpoint, of weights that are finite and the same on every process.

        Raises:
            TrainingError: They are not.
        """
        modules = {**self.system.networks, "average": self.average}
        norm = float(total_norm([p.detach() for m in modules.values() for p in m.parameters()]))
        if not math.isfinite(norm):
            raise TrainingError(f"the weight {bad_weight(modules)} is not finite after step {self.step}: {ADVICE}")
        if (apart := self.group.spread(norm)) > SAME * norm:
            raise TrainingError(
                f"the weights' norm {norm:.6g} differs by {apart:.2g} between processes after step {self.step}: start"
                " all from the same code, data and checkpoint"
            )
        self.folder.save(self.state())


@contextmanager
def constant(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Keeps gradients out of modules' weights."""
    frozen = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode for a while."""
    was = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was)


def _refuse_processes(recipe: Recipe, kind: type[System[Any]], size: int) -> None:
    if size > 1 and not kind.several_processes:
        raise UsageError(
            f"recipe {recipe.name!r} trains a {recipe.system}, which runs on one process: start it with python, not"
            " torchrun"
        )
    if recipe.batch % size:
        raise UsageError(
            f"batch of recipe {recipe.name!r} is {recipe.batch}, which {size} processes cannot share"
            f" evenly: give a multiple of {size}, it is the batch of all together"
        )


def _optimiser(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    kind: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
    return kind(module.parameters(), recipe.stages[0].lr, betas=recipe.betas, weight_decay=recipe.weight_decay)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """A module's tensors, without their prefix."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """Of torch's own generators, by which dropout draws."""
    cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def _restore_random(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
