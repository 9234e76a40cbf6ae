"""The training loop: one flat function for any system.

Gradients are averaged by hand, not by ``DistributedDataParallel``. Its hooks want one forward pass per backward pass
through a module's ``forward``, while a system calls parts of its networks, and a discriminator several times with and
without gradients. One sum over all gradients at the end of a step is exact for any of this.
"""

from __future__ import annotations

from contextlib import closing

import torch
from torch.nn.utils import clip_grads_with_norm_

from sim_bridge.process.signals import on_signals
from trainers.errors import TrainingError
from trainers.loop.board import Board
from trainers.loop.guard import gradients, total_norm
from trainers.loop.report import LOSS
from trainers.loop.sheets import SampleSheet
from trainers.loop.training import Training, constant
from trainers.systems.base import Term


def train(run: Training, sheet: SampleSheet | None = None, board: Board | None = None) -> bool:
    """Trains to the recipe's end; SIGTERM and Ctrl-C to any process save and stop all.

    Args:
        run: What is trained.
        sheet: Writes sample sheets, on the first process.
        board: Writes for TensorBoard, on the first process.

    Returns:
        Whether the end was reached.

    Raises:
        TrainingError: A loss, gradient or weight is not finite; the last checkpoint is kept.
        LostProcessError: Another process failed.
    """
    recipe, system, group = run.recipe, run.system, run.group
    progress, stopping = run.progress(board), group.any(run.stopping)
    system.begin(run.samples)
    with on_signals(run.stop), closing(run.sampler):
        while run.step < recipe.steps and not stopping:
            # Find the stage of the schedule, and with it the learning rates.
            stage = recipe.stage_at(run.step)
            run.set_rates(stage)

            # Draw the whole step, the same on every process; keep this one's share, in micro-batches.
            micro_batches = run.draw()

            # Every player learns from the same pictures, before any of them steps: D first, on detached fakes, then
            # G, to which D's weights are constants.
            for optimiser in run.optimisers.values():
                optimiser.zero_grad(set_to_none=True)
            total = torch.zeros((), device=run.device)
            for micro in micro_batches:
                made, noted, losses = system.forward(micro, stage), list[Term](), dict[str, torch.Tensor]()
                for player in system.players:
                    with constant(other.module for other in system.players if other is not player):
                        terms = system.losses(player.name, made, micro, stage)
                        if terms:
                            loss = torch.stack([term.weight * term.value for term in terms]).sum()
                            loss.backward()  # type: ignore[no-untyped-call]
                            total += loss.detach()
                            losses[f"{LOSS}{player.name}"] = loss
                    noted = [*terms, *noted]
                run.note(noted)
                run.collector.add(**losses)

            # Guard: average over micro-batches and processes, and let nothing that is not finite reach a weight. The
            # loss goes with the gradients, so that all processes decide alike.
            of_player = {player.name: gradients(player.module) for player in system.players}
            group.average([*(g for each in of_player.values() for g in each), total], len(micro_batches))
            norms = {name: total_norm(each) for name, each in of_player.items()}
            if not torch.isfinite(sum(norms.values(), total)):
                raise TrainingError(run.explain(stage, micro_batches))

            # Step: D, then G, then the average that follows the exported network.
            for player in system.players:
                if player.clip is not None:
                    clip_grads_with_norm_(player.module.parameters(), player.clip, norms[player.name])
                run.optimisers[player.name].step()
            run.collector.add(gradient=norms[system.players[-1].name])
            run.update_average()
            run.step += 1

            # Maintenance: save, sample, report. A sheet that fails must lose no steps, so save first.
            last, stopping = run.step == recipe.steps, group.any(run.stopping)
            samples = last or run.step % recipe.sample_every == 0
            save = last or stopping or samples or run.step % recipe.checkpoint_every == 0
            if save:
                run.save()
            if samples:
                run.sample(sheet, board)
                stopping = group.any(run.stopping)
            if save or run.step % recipe.report_every == 0:
                run.report(stage, progress)
    return run.step >= recipe.steps
