"""Image training of S-Flow GAN: eq. 1 to 7 in the three phases of section 3.2.

One flat loop. ONE discriminator is kept through all stages and resumes: a fresh one teaches nothing for its first
thousand steps.

A step is drawn whole (samples, style, window) and then trained on in parts: batch after batch where gradients are
accumulated, and each process its share. The gradients are averaged by hand, not by ``DistributedDataParallel``: its
hooks want one forward pass per backward pass through a module's ``forward``, while a step here calls DNED by its sides
and D three times with and without gradients, and leaves out other weights in every phase. One sum over all gradients
at the end of a step is exact for any of this, and takes less time than a step's smallest layer costs.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from models.bundles.files import TRAINING, BundleNotFoundError, find_bundle, load_bundle, load_tensors, read_card
from models.bundles.published import WeightsError
from models.hints import chroma_limits, draw_variations, vary_hints
from models.losses.perceptual import (
    ADVERSARIAL,
    Chroma,
    EdgeLoss,
    FeatureMatching,
    FusedEdgeLoss,
    Perceptual,
    Pixel,
    Tone,
)
from models.nets.discriminator import build_discriminator
from models.nets.dned import fuse_sides
from models.nets.features import PIX2PIXHD_WEIGHTS, FeatureNetwork, VGG19Features
from models.nets.sflow import SFlowNetwork
from models.style import draw_weights, style_offsets
from sim_bridge.errors import UsageError
from sim_bridge.process.signals import on_signals
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.batches.held import SampleSource
from trainers.batches.make import Batch
from trainers.batches.workers import make_sampler
from trainers.data.photograph import VOID
from trainers.loop.board import Board
from trainers.loop.device import peak_memory, pick_device
from trainers.loop.guard import ADVICE, bad_weight, find_cause, first_bad_value, gradients, total_norm
from trainers.loop.processes import Group
from trainers.loop.report import Collector, Progress, TrainingError, check_finite
from trainers.loop.run_folder import RunFolder, first_reason
from trainers.loop.sheets import SampleSheet
from trainers.recipes.schema import ImageRecipe, Stage
from trainers.scores.segmentation import load_segmenter
from trainers.systems.relight import relight

_log = logging.getLogger(__name__)

MEASURED: Final = 200
"""Of how many photographs at most the chroma is measured."""
SAME: Final = 1e-6
"""Processes have the same weights when their norms differ by no larger share."""


def load_perceptual(recipe: ImageRecipe, device: torch.device) -> Perceptual | None:
    """The perceptual loss of a recipe; random weights are refused by there being no way to ask for them.

    Raises:
        UsageError: A stage weighs it, and no network is named, or its weights cannot be had or do not fit.
    """
    if not any(s.weights.perceptual for s in recipe.stages):
        return None
    network = _perceptual_network(recipe).to(device).to(memory_format=torch.channels_last)
    slice_weights = PIX2PIXHD_WEIGHTS if recipe.perceptual_slices == "pix2pixhd" else ()
    if slice_weights:
        with torch.no_grad():
            slices = len(network.features(torch.zeros(1, 3, 32, 32, device=device)))
        if slices != len(slice_weights):
            raise UsageError(
                f"perceptual_slices is 'pix2pixhd', which is for {len(slice_weights)} slices, and the network has"
                f" {slices}: take 'equal'"
            )
    return Perceptual(
        network, blur=recipe.perceptual_blur, normalise=recipe.perceptual_normalise, slice_weights=slice_weights
    )


def _perceptual_network(recipe: ImageRecipe) -> FeatureNetwork:
    if recipe.perceptual == "vgg19":
        try:
            return VGG19Features(recipe.perceptual_weights)
        except WeightsError as e:
            raise UsageError(f"recipe {recipe.name!r}: {e}") from e
    if recipe.perceptual_bundle is None:
        raise UsageError(
            f"recipe {recipe.name!r} weighs 'perceptual' but names no 'perceptual_bundle': {_train_features(recipe)}"
        )
    try:
        if not read_card(find_bundle(recipe.perceptual_bundle)).steps:
            raise UsageError(
                f"perceptual_bundle of recipe {recipe.name!r} is {recipe.perceptual_bundle!r}, whose card says that it"
                f" was trained for 0 steps: {_train_features(recipe)}"
            )
        return load_segmenter(recipe.perceptual_bundle)
    except BundleNotFoundError as e:
        raise UsageError(
            f"perceptual_bundle of recipe {recipe.name!r} is {recipe.perceptual_bundle!r}, and there is no such bundle:"
            f" {_train_features(recipe)}"
        ) from e


_FEATURES: Final = {"recordings": "toytown_features"}
"""Recipe of the segmenter whose features train, by kind of data; of the other kinds ``KIND_features``."""


def _train_features(recipe: ImageRecipe) -> str:
    """What to do where there are no perceptual features."""
    named = Path(recipe.perceptual_bundle or "")
    run = named.parent if named.name == "bundle" else Path("runs/features")
    features = _FEATURES.get(recipe.data.kind, f"{recipe.data.kind}_features")
    return (
        f"train one by `python trainers/run.py segmenter --recipe {features} --root DATA --run {run}` and name"
        f" {run / 'bundle'}, or set perceptual to vgg19"
    )


def build_network(recipe: ImageRecipe, classes: Sequence[str], *, with_seeds: bool = False) -> SFlowNetwork:
    """The untrained network of a recipe.

    Args:
        recipe: What it shall be.
        classes: Class names by id.
        with_seeds: Whether style seeds draw as the recipe says; training draws with the whole spread.

    Raises:
        UsageError: The recipe asks for hints of classes that the data set does not have.
    """
    hint_classes: Sequence[int] = ()
    if recipe.hints is not None:
        wanted = [c for c in classes if c != VOID] if recipe.hints.classes == "all" else recipe.hints.classes
        if unknown := [name for name in wanted if name not in classes]:
            known, named = ", ".join(classes), ", ".join(unknown)
            raise UsageError(f"recipe {recipe.name!r} wants colour hints of {named}: the data set has {known}")
        hint_classes = [classes.index(name) for name in wanted]
    return SFlowNetwork(
        recipe.tier,
        len(classes),
        recipe.edge,
        style_spread=recipe.style_spread,
        style_input=recipe.style_input,
        style_reach=recipe.style_reach if with_seeds else (),
        style_centre=recipe.style_centre if with_seeds else (),
        hint_classes=hint_classes,
        uses_dned=recipe.uses_dned,
        half_chroma=recipe.half_chroma,
        keep_hues=recipe.hints is not None and recipe.hints.keep_hues,
    )


class Part(NamedTuple):
    """What one forward and backward pass of a step works on.

    Attributes:
        batch: The samples.
        weights: Their drawn ensemble weights ``(N, 6)``.
        window: Rows and columns that the losses' networks see.
        variations: What is done to the colour hints, ``(N, 3)``; None where the recipe has none.
    """

    batch: Batch
    weights: Tensor
    window: tuple[slice, slice]
    variations: Tensor | None


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
        group: The processes that train together; None for this one alone.

    Raises:
        UsageError: The processes cannot share a batch evenly.
    """

    def __init__(
        self,
        recipe: ImageRecipe,
        samples: Sequence[SampleSource],
        classes: Sequence[str],
        folder: RunFolder,
        group: Group | None = None,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.samples, self.classes, self.folder = recipe, samples, tuple(classes), folder
        self.group = Group() if group is None else group
        if recipe.batch % self.group.size:
            raise UsageError(
                f"batch of recipe {recipe.name!r} is {recipe.batch}, which {self.group.size} processes cannot share"
                f" evenly: give a multiple of {self.group.size}, it is the batch of all together"
            )
        self.device = pick_device()
        network = build_network(recipe, classes)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        discriminator = build_discriminator(recipe.discriminator, len(classes), recipe.edge.planes)
        self.discriminator = discriminator.to(self.device).to(memory_format=torch.channels_last)
        self.optimiser_g = torch.optim.Adam(self.network.parameters(), recipe.stages[0].lr, betas=recipe.betas)
        self.optimiser_d = torch.optim.Adam(self.discriminator.parameters(), 1e-4, betas=recipe.betas)
        self.sampler = make_sampler(samples, recipe, len(classes), self.group.rank, self.group.size)
        self.style_rng = torch.Generator().manual_seed(recipe.seed)
        self.step = 0
        self.average_steps = 0
        """Steps in the averaged weights, those of a bundle it began with included."""
        self.collector = Collector()
        self.scores = Collector()
        """What sample sheets are scored; apart, for only the first process makes sheets."""
        self.L_GAN, self.L_FM = ADVERSARIAL[recipe.adversarial](), FeatureMatching()
        self.L_DNED, self.L_fused = EdgeLoss(recipe.dned_side_weights), FusedEdgeLoss()
        self.L_pixel, self.L_chroma, self.L_tone = Pixel(), Chroma(), Tone()
        self.L_percep = load_perceptual(recipe, self.device)
        self._stopping = False

    # State

    def state(self) -> dict[str, Any]:
        """All that a resumed training needs to go on as if it had not stopped."""
        return {
            "step": self.step,
            "average_steps": self.average_steps,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimiser_g": self.optimiser_g.state_dict(),
            "optimiser_d": self.optimiser_d.state_dict(),
            "sampler": self.sampler.state(),
            "style_rng": self.style_rng.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a checkpoint; see :class:`~trainers.loop.run_folder.Resumable`."""
        for name in ("network", "average", "discriminator", "optimiser_g", "optimiser_d"):
            getattr(self, name).load_state_dict(state[name])
        self.sampler.restore(state["sampler"])
        self.style_rng.set_state(state["style_rng"])
        self.step = state["step"]
        self.average_steps = state.get("average_steps", self.step)  # older checkpoints do not tell

    def start_from(self, bundle: Path) -> None:
        """Takes up the networks of a bundle with its ``training.safetensors``, as step 0 of a training of its own.

        Raises:
            UsageError: It has no such file, other networks than the recipe's, or other classes than the data.
        """
        if (arch := read_card(bundle).arch) != "sflow":
            raise UsageError(f"{bundle} holds a {arch!r}, no translator: give --from a bundle of arch 'sflow'")
        if not (bundle / TRAINING).is_file():
            raise UsageError(
                f"{bundle} has no {TRAINING}, from which a training begins: give --from a bundle as export wrote it"
            )
        tensors = load_tensors(bundle / TRAINING)
        try:
            for name in ("network", "discriminator"):
                part = {k.removeprefix(f"{name}."): v.float() for k, v in tensors.items() if k.startswith(f"{name}.")}
                getattr(self, name).load_state_dict(part)
        except RuntimeError as e:
            raise UsageError(
                f"{bundle / TRAINING} is not of recipe {self.recipe.name!r} ({first_reason(e)}): begin with one of the"
                " same networks"
            ) from e
        begun = load_bundle(bundle)
        if begun.card.classes != list(self.classes):
            raise UsageError(
                f"{bundle} knows the classes {', '.join(begun.card.classes)}, and the data have"
                f" {', '.join(self.classes)}: begin with a bundle of the same classes"
            )
        if begun.card.edge != self.recipe.edge.as_dict():
            _log.warning("%s was trained with the edge settings %s, the recipe has others", bundle, begun.card.edge)
        self.average.load_state_dict(begun.network.state_dict())
        if self.network.chroma_limits is not None:
            self.network.chroma_limits.zero_()  # these photographs have colours of their own
        self.average_steps = begun.card.steps

    # The loop

    def train(self, sheet: SampleSheet | None = None, board: Board | None = None) -> bool:
        """Trains to the recipe's end; SIGTERM and Ctrl-C to any process save and stop all.

        Args:
            sheet: Where sample sheets are wanted; on the first process.
            board: Where TensorBoard is wanted; likewise.

        Returns:
            Whether the end was reached.

        Raises:
            TrainingError: A loss, gradient or weight is no number any more; the last checkpoint is kept.
            LostProcessError: Another process failed.
        """
        recipe, stopping, progress = self.recipe, self.group.any(self._stopping), self._progress(board)
        self._measure_chroma()
        with on_signals(self.stop), closing(self.sampler):
            while self.step < recipe.steps and not stopping:
                stage = recipe.stage_at(self.step)
                self.train_step(stage)
                self.step += 1
                # Maintenance: save, sample, report. A sheet that cannot be made must lose no steps: save first.
                last, stopping = self.step == recipe.steps, self.group.any(self._stopping)
                samples = last or self.step % recipe.sample_every == 0
                save = last or stopping or samples or self.step % recipe.checkpoint_every == 0
                if save:
                    self._save()
                if samples:
                    self._sample(sheet, board)
                    stopping = self.group.any(self._stopping)
                if save or self.step % recipe.report_every == 0:
                    self._report(stage, progress)
        return self.step >= recipe.steps

    def _measure_chroma(self) -> None:
        """Lets hints be no more colourful than the photographs; once, the checkpoint and the bundle keep it."""
        limits = self.network.chroma_limits
        if limits is None or limits.any():
            return
        chosen = spread_evenly(range(len(self.samples)), MEASURED)
        _log.info("measuring how colourful %d photographs are, class by class", len(chosen))
        samples = (self.samples[i] for i in chosen)
        pictures = ((torch.from_numpy(s.rgb), torch.from_numpy(s.labels)) for s in samples)
        limits.copy_(chroma_limits(pictures, len(self.classes)))
        assert self.average.chroma_limits is not None
        self.average.chroma_limits.copy_(limits)

    def train_step(self, stage: Stage) -> None:
        """One step of G, DNED and D.

        Raises:
            TrainingError: A loss or gradient is not finite; no weight was touched.
        """
        self._set_learning_rates(stage)
        parts = self._draw_parts()
        self.optimiser_g.zero_grad(set_to_none=True)
        self.optimiser_d.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for part in parts:
            drawn = self._render(part, stage)
            loss = self._edge_terms(stage, drawn, part.batch.e) + self._picture_terms(stage, part, drawn)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self._finish_gradients(stage, parts, total)
        # Update G and DNED, then D: both losses were taken from the same two networks.
        self.optimiser_g.step()
        if stage.weights.gan:
            self.optimiser_d.step()
        self._update_average()

    def _draw_parts(self) -> list[Part]:
        """Draws the next step, the same on every process, and cuts this one's share of it into batches."""
        recipe = self.recipe
        own, window = self.sampler.draw(), self.sampler.judge_window(*recipe.data.crop[::-1])
        logits, share = self.network.dned.ensemble_logits.detach(), recipe.style_learned_share
        weights = draw_weights(logits, recipe.step_batch, recipe.style_spread, share, self.style_rng)
        hints, varied = recipe.hints, None
        if hints is not None:
            varied = draw_variations(recipe.step_batch, hints.jitter, hints.dropout, self.style_rng)
        mine = self.group.share(recipe.step_batch)
        weights, varied = weights[mine], None if varied is None else varied[mine]
        size = recipe.batch // self.group.size
        parts = [slice(i, i + size) for i in range(0, len(weights), size)]
        return [
            Part(own.part(k).to(self.device), weights[k], window, None if varied is None else varied[k]) for k in parts
        ]

    def _finish_gradients(self, stage: Stage, parts: Sequence[Part], loss: Tensor) -> None:
        """Means over parts and processes, checked and clipped; the loss goes with them, so that all decide alike."""
        of_g, of_d = gradients(self.network), gradients(self.discriminator)
        self.group.average([*of_g, *of_d, loss], len(parts))
        norm = total_norm(of_g)
        if not torch.isfinite(norm + total_norm(of_d) + loss):
            raise TrainingError(self._explain(stage, parts))
        nn.utils.clip_grads_with_norm_(self.network.parameters(), self.recipe.clip, norm)
        self.collector.add(gradient=norm)

    def _explain(self, stage: Stage, parts: Sequence[Part]) -> str:
        """Where the step in hand stopped being numbers, by the first process that has such a loss."""
        modules = {"network": self.network, "discriminator": self.discriminator}

        def forward() -> None:
            for part in parts:
                drawn = self._render(part, stage)
                if stage.weights.gan:
                    self.discriminator(part.batch.s, drawn.fake, self._condition(drawn.e, part.batch.borders))

        losses = self.collector.latest(len(parts))
        loss = first_bad_value(losses)
        what = "all losses are finite but a gradient is not" if loss is None else f"the loss {loss!r} is {losses[loss]}"
        samples = {f"{name} {i}": t for i, part in enumerate(parts) for name, t in part.batch._asdict().items()}
        where = find_cause(modules, samples, forward)
        sentence = f"{what} at step {self.step + 1}; {where}: {ADVICE}"
        by_loss = self.group.first_sentence(sentence if loss is not None else None, "loss")
        return by_loss or self.group.first_sentence(sentence, "gradient") or sentence

    # Maintenance

    def stop(self) -> None:
        """Lets the step in progress finish, then saves and stops."""
        self._stopping = True

    def _sample(self, sheet: SampleSheet | None, board: Board | None) -> None:
        if sheet is None:
            return
        path = sheet.write(self.average, self.step)
        if board is not None:
            board.sheet(self.step, path)

    def _progress(self, board: Board | None) -> Progress | None:
        """What reports go through, on the process that writes."""
        if not self.folder.writes:
            return None
        return Progress(self.folder.path, self.recipe.steps, self.step, self.recipe.step_batch, board=board)

    def _report(self, stage: Stage, progress: Progress | None) -> None:
        means = self.group.mean(self.collector.collect() | {"wait": self.sampler.wait_share()}) | self.scores.collect()
        check_finite(means, self.step)
        if progress is not None:
            rates = {f"lr_{n}": o.param_groups[0]["lr"] for n, o in (("g", self.optimiser_g), ("d", self.optimiser_d))}
            progress.report(self.step, stage.name, means | rates | {"memory_gb": peak_memory(self.device)})

    def _save(self) -> None:
        """Writes the checkpoint, of weights that are numbers and the same on every process.

        Raises:
            TrainingError: They are not.
        """
        modules = {"network": self.network, "average": self.average, "discriminator": self.discriminator}
        norm = float(total_norm([p.detach() for m in modules.values() for p in m.parameters()]))
        if not math.isfinite(norm):
            raise TrainingError(f"the weight {bad_weight(modules)} is not finite after step {self.step}: {ADVICE}")
        if (apart := self.group.spread(norm)) > SAME * norm:
            raise TrainingError(
                f"the weights' norm {norm:.6g} differs by {apart:.2g} between processes after step {self.step}: start"
                " all from the same code, data and checkpoint"
            )
        self.folder.save(self.state())

    # The losses

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")

    def _render(self, part: Part, stage: Stage) -> Drawn:
        """Runs DNED and G as the stage's phase says."""
        recipe, batch, weights, x = self.recipe, part.batch, part.weights, part.batch.x
        dned = self.network.dned
        with self._autocast():
            sides = dned.sides(batch.e_degraded)
            fused = fuse_sides([d.detach() for d in sides], dned.learned_weights().expand(len(batch.s), -1))
            style = self.network.style_vector(weights)
            if recipe.style_relight:
                x = relight(x, style_offsets(weights, dned.ensemble_logits), recipe.style_spread)
            seen = batch.e if stage.edges == "laplacian" else torch.sigmoid(fuse_sides(sides, weights))
            if stage.edges == "dned_detached":
                seen = seen.detach()
            image = self.network.generator(batch.s, seen, style, self._hints(part))
        return Drawn(image.float(), x, seen.detach().float(), sides, fused)

    def _hints(self, part: Part) -> Tensor | None:
        """Colour hints of the pictures that are seen, as the recipe varies them."""
        hints = self.network.hints_of(part.batch.hint_rgb, part.batch.s)
        return None if hints is None or part.variations is None else vary_hints(hints, part.variations)

    def _edge_terms(self, stage: Stage, drawn: Drawn, e: Tensor) -> Tensor:
        """lambda_3 L_DNED, eq. 4 and 7, and the loss of the ensemble's weights."""
        L_DNED, L_fused = self.L_DNED(drawn.sides, e), self.L_fused(drawn.fused, e)
        self.collector.add(dned=L_DNED, fused=L_fused)
        return stage.weights.dned * L_DNED + stage.weights.dned_fused * L_fused

    def _picture_terms(self, stage: Stage, part: Part, drawn: Drawn) -> Tensor:
        """The other terms of eq. 7; D's gradients are left in D."""
        w = stage.weights
        L_pixel, L_tone = self.L_pixel(drawn.x, drawn.fake), self.L_tone(drawn.x, drawn.fake)
        L_chroma = self.L_chroma(drawn.x, drawn.fake)
        self.collector.add(pixel=L_pixel, chroma=L_chroma, tone=L_tone)
        total = w.pixel * L_pixel + w.chroma * L_chroma + w.tone * L_tone
        rows, columns = part.window
        s, x, e = part.batch.s[:, rows, columns], drawn.x[..., rows, columns], drawn.e[..., rows, columns]
        fake = drawn.fake[..., rows, columns].contiguous(memory_format=torch.channels_last)
        if w.perceptual and self.L_percep is not None:
            with self._autocast():
                L_percep = self.L_percep(x, fake)
            self.collector.add(perceptual=L_percep)
            total = total + w.perceptual * L_percep
        if w.gan:
            condition = self._condition(e, part.batch.borders[..., rows, columns])
            total = total + self._adversarial_terms(stage, s, x, fake, condition)
        return total

    def _condition(self, e: Tensor, borders: Tensor) -> Tensor | None:
        """What D sees beside labels and picture, where the recipe says so; None for the paper's D(s, x).

        The map that G saw, by which it tells crisp edges from smeared ones, and where instances end.
        """
        settings = self.recipe.discriminator
        seen = [e] * settings.sees_edges + [borders] * settings.sees_instance_edges
        return torch.cat(seen, 1) if seen else None

    def _adversarial_terms(self, stage: Stage, s: Tensor, x: Tensor, fake: Tensor, condition: Tensor | None) -> Tensor:
        """L_GAN and lambda_1 L_FM for G, summed over D_1..D_k; runs D's backward pass on the way (eq. 1, 3, 5, 7)."""
        D = self.discriminator
        with self._autocast():
            on_real, on_fake = D(s, x, condition), D(s, fake.detach(), condition)
        pairs = zip(on_real, on_fake, strict=True)
        L_D = torch.stack([self.L_GAN.discriminator(r.patches.float(), f.patches.float()) for r, f in pairs]).sum()
        L_D.backward()  # type: ignore[no-untyped-call]
        D.requires_grad_(False)
        with self._autocast():
            judged = D(s, fake, condition)
        D.requires_grad_(True)
        L_G = torch.stack([self.L_GAN.generator(f.patches.float()) for f in judged]).sum()
        L_FM = torch.stack([self.L_FM(r.features, f.features) for r, f in zip(on_real, judged, strict=True)]).sum()
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
        keep = min(self.recipe.ema, 1 - 1 / (1 + self.average_steps / 4))
        self.average_steps += 1
        ours: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - keep)
