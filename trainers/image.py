"""Image training of S-Flow GAN: eq. 1 to 7 in the three phases of section 3.2.

One flat loop. ONE discriminator is kept through all stages and resumes: a fresh one teaches nothing for its first
thousand steps.
"""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.bundle import TRAINING, load_bundle, load_tensors
from models.discriminator import PatchDiscriminator
from models.dned import fuse_sides
from models.losses import ADVERSARIAL, EdgeLoss, FeatureMatching, FusedEdgeLoss, Perceptual, Pixel, Tone
from models.network import SFlowNetwork
from models.style import draw_weights, style_offsets
from sim_bridge.errors import UsageError
from trainers.device import pick_device
from trainers.loading import Croppable
from trainers.recipe import ImageRecipe, Stage
from trainers.relight import relight
from trainers.report import Collector, Progress, check_finite
from trainers.run_folder import RunFolder
from trainers.sampling import Batch
from trainers.segmentation import load_segmenter
from trainers.sheets import SampleSheet
from trainers.streaming import make_sampler


def load_perceptual(recipe: ImageRecipe, device: torch.device) -> Perceptual | None:
    """The perceptual loss of a recipe; random weights are refused by there being no way to ask for them.

    Raises:
        UsageError: A stage weighs it and no bundle is named, or the bundle holds no segmenter.
    """
    if not any(s.weights.perceptual for s in recipe.stages):
        return None
    if recipe.perceptual_bundle is None:
        raise UsageError(
            f"recipe {recipe.name!r} weighs 'perceptual' but names no 'perceptual_bundle': train one with"
            " `run.py segmenter --recipe camvid_features` and name its folder"
        )
    network = load_segmenter(recipe.perceptual_bundle).to(device).to(memory_format=torch.channels_last)
    return Perceptual(network, blur=recipe.perceptual_blur, normalise=recipe.perceptual_normalise)


class Drawn(NamedTuple):
    """What DNED and G made of a batch.

    Attributes:
        fake: G(s, e), RGB ``(N, 3, H, W)`` in -1..1.
        x: What it should look like; the photograph, or the photograph re-lit.
        e: The map that G saw, ``(N, P, H, W)``, detached.
        sides: d_0..d_5, logits.
        fused: The ensemble under the learned weights, by which these are learned; logits.
    """

    fake: Tensor
    x: Tensor
    e: Tensor
    sides: list[Tensor]
    fused: Tensor


class ImageTrainer:
    """Everything a training holds; :meth:`train` runs it.

    Args:
        recipe: What to do.
        samples: The photographs.
        classes: Class names by id.
        folder: Where checkpoints and statistics go.
    """

    def __init__(
        self, recipe: ImageRecipe, samples: Sequence[Croppable], classes: Sequence[str], folder: RunFolder
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.classes, self.folder = recipe, tuple(classes), folder
        self.device = pick_device()
        network = SFlowNetwork(recipe.tier, len(classes), recipe.edge, recipe.style_spread, recipe.style_input)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        planes = recipe.edge.planes if recipe.discriminator_sees_edges else 0
        discriminator = PatchDiscriminator(len(classes), recipe.discriminator_width, planes)
        self.discriminator = discriminator.to(self.device).to(memory_format=torch.channels_last)
        self.optimiser_g = torch.optim.Adam(self.network.parameters(), recipe.stages[0].lr, betas=recipe.betas)
        self.optimiser_d = torch.optim.Adam(self.discriminator.parameters(), 1e-4, betas=recipe.betas)
        self.sampler = make_sampler(samples, recipe, len(classes))
        self.style_rng = torch.Generator().manual_seed(recipe.seed)
        self.step = 0
        self.collector = Collector()
        self.L_GAN, self.L_FM, self.L_pixel = ADVERSARIAL[recipe.adversarial](), FeatureMatching(), Pixel()
        self.L_DNED, self.L_fused, self.L_tone = EdgeLoss(), FusedEdgeLoss(), Tone()
        self.L_percep = load_perceptual(recipe, self.device)
        self._stop = False

    # State

    def state(self) -> dict[str, Any]:
        """All that a resumed training needs to go on as if it had not stopped."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimiser_g": self.optimiser_g.state_dict(),
            "optimiser_d": self.optimiser_d.state_dict(),
            "sampler": self.sampler.state(),
            "style_rng": self.style_rng.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a checkpoint.

        Raises:
            UsageError: It is of other networks than the recipe's.
        """
        try:
            for name in ("network", "average", "discriminator", "optimiser_g", "optimiser_d"):
                getattr(self, name).load_state_dict(state[name])
        except (RuntimeError, ValueError) as e:
            raise UsageError(
                f"checkpoint {self.folder.checkpoint} is not of recipe {self.recipe.name!r} ({e}): give its own"
            ) from e
        self.sampler.restore(state["sampler"])
        self.style_rng.set_state(state["style_rng"])
        self.step = state["step"]

    def start_from(self, bundle: Path) -> None:
        """Takes up the networks of a bundle with its ``training.safetensors``, as step 0 of a training of its own.

        Raises:
            UsageError: It has no such file, or other networks than the recipe's.
        """
        tensors = load_tensors(bundle / TRAINING)
        try:
            for name in ("network", "discriminator"):
                part = {k.removeprefix(f"{name}."): v.float() for k, v in tensors.items() if k.startswith(f"{name}.")}
                getattr(self, name).load_state_dict(part)
        except RuntimeError as e:
            raise UsageError(f"{bundle / TRAINING} is not of recipe {self.recipe.name!r} ({e}): give its own") from e
        self.average.load_state_dict(load_bundle(bundle).network.state_dict())

    # The loop

    def train(self, sheet: SampleSheet | None = None) -> bool:
        """Trains to the recipe's end; SIGTERM and Ctrl-C save and stop.

        Returns:
            Whether the end was reached.

        Raises:
            TrainingError: A loss is no number any more; the last checkpoint is kept.
        """
        recipe, progress = self.recipe, Progress(self.folder.path, self.recipe.steps, self.step)
        with self._signals(), closing(self.sampler):
            while self.step < recipe.steps and not self._stop:
                stage = recipe.stage_at(self.step)
                self.train_step(stage)
                self.step += 1
                # Maintenance: sample, report, save. Nothing is saved that was not looked at first.
                save = self.step == recipe.steps or self.step % recipe.checkpoint_every == 0
                if sheet is not None and (self.step == recipe.steps or self.step % recipe.sample_every == 0):
                    sheet.write(self.average, self.step)
                if save or self._stop or self.step % recipe.report_every == 0:
                    means = self.collector.collect() | {"wait": self.sampler.wait_share()}
                    check_finite(means, self.step)
                    progress.report(self.step, stage.name, means)
                if save or self._stop:
                    self.folder.save(self.state())
        return self.step >= recipe.steps

    def train_step(self, stage: Stage) -> None:
        """One step of G, DNED and D on one batch."""
        self._set_learning_rates(stage)
        batch = self.sampler.draw().to(self.device)
        drawn = self._render(batch, stage)
        loss = self._edge_terms(stage, drawn, batch.e) + self._picture_terms(stage, batch.s, drawn)
        # Update G and DNED, then D: both losses were taken from the same two networks.
        self.optimiser_g.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser_g.step()
        if stage.weights.gan:
            self.optimiser_d.step()
        self._update_average()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def _render(self, batch: Batch, stage: Stage) -> Drawn:
        """Runs DNED and G as the stage's phase says."""
        recipe, x = self.recipe, batch.x
        dned = self.network.dned
        with self._autocast():
            sides = dned.sides(batch.e_degraded)
            fused = fuse_sides([d.detach() for d in sides], dned.learned_weights().expand(len(batch.s), -1))
            logits, spread = dned.ensemble_logits.detach(), recipe.style_spread
            weights = draw_weights(logits, len(batch.s), spread, recipe.style_learned_share, self.style_rng)
            style = self.network.style_vector(weights)
            if recipe.style_relight:
                x = relight(x, style_offsets(weights, logits), spread)
            seen = batch.e if stage.edges == "laplacian" else torch.sigmoid(fuse_sides(sides, weights))
            if stage.edges == "dned_detached":
                seen = seen.detach()
            image = self.network.generator(batch.s, seen, style)
        return Drawn(image.float(), x, seen.detach().float(), sides, fused)

    def _edge_terms(self, stage: Stage, drawn: Drawn, e: Tensor) -> Tensor:
        """lambda_3 L_DNED, eq. 4 and 7, and the loss of the ensemble's weights."""
        L_DNED, L_fused = self.L_DNED(drawn.sides, e), self.L_fused(drawn.fused, e)
        self.collector.add(dned=L_DNED, fused=L_fused)
        return stage.weights.dned * L_DNED + stage.weights.dned_fused * L_fused

    def _picture_terms(self, stage: Stage, s: Tensor, drawn: Drawn) -> Tensor:
        """The other terms of eq. 7; D's gradients are left in D."""
        w = stage.weights
        L_pixel, L_tone = self.L_pixel(drawn.x, drawn.fake), self.L_tone(drawn.x, drawn.fake)
        self.collector.add(pixel=L_pixel, tone=L_tone)
        total = w.pixel * L_pixel + w.tone * L_tone
        rows, columns = self.sampler.judge_window(*s.shape[1:])
        s, x, e = s[:, rows, columns], drawn.x[..., rows, columns], drawn.e[..., rows, columns]
        fake = drawn.fake[..., rows, columns].contiguous(memory_format=torch.channels_last)
        if w.perceptual and self.L_percep is not None:
            with self._autocast():
                L_percep = self.L_percep(x, fake)
            self.collector.add(perceptual=L_percep)
            total = total + w.perceptual * L_percep
        if w.gan:
            total = total + self._adversarial_terms(stage, s, x, fake, e)
        return total

    def _adversarial_terms(self, stage: Stage, s: Tensor, x: Tensor, fake: Tensor, e: Tensor) -> Tensor:
        """L_GAN and lambda_1 L_FM for G; runs D's backward pass on the way (eq. 1, 3, 5).

        A discriminator that sees ``e``, the map that G saw, tells crisp edges from smeared ones.
        """
        D = self.discriminator
        condition = e if D.planes else None
        self.optimiser_d.zero_grad(set_to_none=True)
        with self._autocast():
            on_real, on_fake = D(s, x, condition), D(s, fake.detach(), condition)
        L_D = self.L_GAN.discriminator(on_real.patches.float(), on_fake.patches.float())
        L_D.backward()  # type: ignore[no-untyped-call]
        D.requires_grad_(False)
        with self._autocast():
            judged = D(s, fake, condition)
        D.requires_grad_(True)
        L_G, L_FM = self.L_GAN.generator(judged.patches.float()), self.L_FM(on_real.features, judged.features)
        self.collector.add(d=L_D, g=L_G, fm=L_FM)
        return stage.weights.gan * L_G + stage.weights.feature_matching * L_FM

    def _set_learning_rates(self, stage: Stage) -> None:
        done = self.step / self.recipe.steps
        fall = (1 - done) / (1 - self.recipe.decay_from) if self.recipe.decay_from < 1 else 1.0
        factor = min(1.0, (self.step + 1) / max(1, self.recipe.warmup)) * max(self.recipe.decay_to, min(1.0, fall))
        for optimiser, rate in ((self.optimiser_g, stage.lr), (self.optimiser_d, stage.lr_discriminator)):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor

    @torch.no_grad()
    def _update_average(self) -> None:
        """EMA of the weights, with a short memory at the start."""
        keep = min(self.recipe.ema, 1 - 1 / (1 + self.step / 4))
        ours: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - keep)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Lets the step in progress finish, then saves and stops."""

        def stop(_signal: int, _frame: FrameType | None) -> None:
            self._stop = True

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
