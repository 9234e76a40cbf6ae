"""S-Flow GAN on photographs: eq. 1 to 7 in the three phases of section 3.2. Symbols are the paper's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.bundles.files import Card, load_bundle
from models.hints import chroma_limits, draw_variations, vary_hints
from models.losses.adversarial import ADVERSARIAL
from models.losses.edge import EdgeLoss, FusedEdgeLoss
from models.losses.matching import FeatureMatching
from models.losses.pixel import Chroma, Pixel, Tone
from models.nets.discriminator import Judgement, build_discriminator
from models.nets.dned import fuse_sides
from models.nets.sflow import SFlowNetwork, edges_to_pixels, pad_to_stride, to_pixels
from models.style import draw_weights, style_offsets
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.batches.degrade import degrade
from trainers.batches.held import SampleSource
from trainers.batches.sample import prepare
from trainers.data.photograph import VOID, Photograph
from trainers.recipes.schema import EdgeAugmentation
from trainers.recipes.sflow import SFlowRecipe, SFlowStage
from trainers.recipes.sflow_parts import parts
from trainers.systems.base import MicroBatch, Paint, Player, System, Term
from trainers.systems.perceptual import load_perceptual
from trainers.systems.relight import LIGHT_AXES, relight

_log = logging.getLogger(__name__)

MEASURED: Final = 200
"""Upper bound on the photographs whose chroma is measured."""


class Judged(NamedTuple):
    """What D was shown in its own turn, and what it said of the photographs.

    Attributes:
        condition: What D sees beside labels and picture; None for the paper's D(s, x).
        on_real: D_1..D_k of the photographs.
    """

    condition: Tensor | None
    on_real: list[Judgement]


class Forward:
    """What DNED and G made of a batch.

    Attributes:
        fake: G(s, e), RGB ``(N, 3, H, W)`` in -1..1.
        target: What it should look like: the photograph, or the photograph re-lit.
        edge_map: The map that G saw, ``(N, P, H, W)``, detached.
        sides: d_0..d_5, logits.
        fused: The ensemble under the learned weights, which learn by it; logits.
        judged: D's turn, for G's.
    """

    def __init__(self, fake: Tensor, target: Tensor, edge_map: Tensor, sides: list[Tensor], fused: Tensor) -> None:
        self.fake, self.target, self.edge_map, self.sides, self.fused = fake, target, edge_map, sides, fused
        self.judged: Judged | None = None


class SFlow(System[SFlowRecipe]):
    """See :class:`System`.

    Raises:
        UsageError: The recipe asks for hints of classes that the data set does not have, or its perceptual network
            cannot be had.
    """

    Recipe = SFlowRecipe
    arch: ClassVar[str] = "sflow"

    def __init__(self, recipe: SFlowRecipe, classes: Sequence[str], device: torch.device) -> None:
        super().__init__(recipe, classes, device)
        self.network = _build(recipe, classes)
        self.to_device(self.network)
        self.discriminator = build_discriminator(recipe.discriminator, len(classes), recipe.edge.planes)
        self.to_device(self.discriminator)
        self.networks = {"network": self.network, "discriminator": self.discriminator}
        self.players = (
            Player("d", self.discriminator, "lr_discriminator"),
            Player("g", self.network, "lr", recipe.clip),
        )
        self.style_rng = torch.Generator().manual_seed(recipe.seed)
        self.L_GAN, self.L_FM = ADVERSARIAL[recipe.adversarial](), FeatureMatching()
        self.L_DNED, self.L_fused = EdgeLoss(recipe.dned_side_weights), FusedEdgeLoss()
        self.L_pixel, self.L_chroma, self.L_tone = Pixel(), Chroma(), Tone()
        self.L_percep = load_perceptual(recipe, device)
        self.light_axes = LIGHT_AXES.to(device)

    def begin(self, samples: Sequence[SampleSource]) -> None:
        """Limits hints to the photographs' chroma; measured once, the checkpoint and the bundle keep it."""
        limits = self.network.chroma_limits
        if limits is None or limits.any():
            return
        chosen = spread_evenly(range(len(samples)), MEASURED)
        _log.info("measuring how colourful %d photographs are, class by class", len(chosen))
        pictures = ((torch.from_numpy(s.rgb), torch.from_numpy(s.labels)) for s in (samples[i] for i in chosen))
        limits.copy_(chroma_limits(pictures, len(self.classes)))

    def draw(self, count: int) -> dict[str, Tensor]:
        """Ensemble weights ``(count, 6)`` and, with hints, their variations ``(count, 3)``."""
        recipe, hints = self.recipe, self.recipe.extensions.hints
        logits, share = self.network.dned.ensemble_logits.detach(), recipe.style_learned_share
        drawn = {"weights": draw_weights(logits, count, recipe.style_spread, share, self.style_rng)}
        if hints is not None:
            drawn["variations"] = draw_variations(count, hints.jitter, hints.dropout, self.style_rng)
        return drawn

    def forward(self, micro: MicroBatch, stage: SFlowStage) -> Forward:
        """Runs DNED and G as the stage's phase says."""
        recipe, batch, weights = self.recipe, micro.batch, micro.drawn["weights"]
        dned, target = self.network.dned, batch.x
        with self.autocast():
            sides = dned.sides(batch.e_degraded)
            fused = fuse_sides([d.detach() for d in sides], dned.learned_weights().expand(len(batch.s), -1))
            style = self.network.style_vector(weights)
            if recipe.extensions.style_relight:
                offsets = style_offsets(weights, dned.ensemble_logits)
                target = relight(target, offsets, recipe.style_spread, self.light_axes)
            sees = stage.generator_sees
            edge_map = batch.e if sees == "laplacian" else torch.sigmoid(fuse_sides(sides, weights))
            if sees == "dned_detached":
                edge_map = edge_map.detach()
            hints = self.network.hints_of(batch.hint_rgb, batch.s)
            if hints is not None:
                hints = vary_hints(hints, micro.drawn["variations"])
            fake = self.network.generator(batch.s, edge_map, style, hints)
        return Forward(fake.float(), target, edge_map.detach().float(), sides, fused)

    def losses(self, player: str, made: Forward, micro: MicroBatch, stage: SFlowStage) -> list[Term]:
        """Eq. 7 for G and DNED, eq. 3 for D."""
        if player == "g":
            return [*self._edge_terms(made, micro, stage), *self._picture_terms(made, micro, stage)]
        if not stage.weights.gan:
            return []
        s, x, fake = self._windowed(made, micro)
        condition = self._condition(made, micro)
        with self.autocast():
            on_real, on_fake = (self.discriminator(s, picture, condition) for picture in (x, fake.detach()))
        made.judged = Judged(condition, on_real)
        pairs = zip(on_real, on_fake, strict=True)
        L_D = [self.L_GAN.discriminator(r.patches.float(), f.patches.float()).mean() for r, f in pairs]
        return [Term("d", torch.stack(L_D).sum())]

    def _edge_terms(self, made: Forward, micro: MicroBatch, stage: SFlowStage) -> list[Term]:
        """lambda_3 L_DNED, eq. 4 and 7, and the loss of the ensemble's weights."""
        e, w = micro.batch.e, stage.weights
        return [
            Term("dned", self.L_DNED(made.sides, e), w.dned),
            Term("fused", self.L_fused(made.fused, e).mean(), w.dned_fused),
        ]

    def _picture_terms(self, made: Forward, micro: MicroBatch, stage: SFlowStage) -> list[Term]:
        """The other terms of eq. 7; L_GAN and L_FM are sums over D_1..D_k."""
        w = stage.weights
        terms = [
            Term("pixel", self.L_pixel(made.target, made.fake).mean(), w.pixel),
            Term("chroma", self.L_chroma(made.target, made.fake).mean(), w.chroma),
            Term("tone", self.L_tone(made.target, made.fake).mean(), w.tone),
        ]
        s, x, fake = self._windowed(made, micro)
        if w.perceptual and self.L_percep is not None:
            with self.autocast():
                terms.append(Term("perceptual", self.L_percep(x, fake).mean(), w.perceptual))
        if made.judged is not None:
            condition, on_real = made.judged
            with self.autocast():
                on_fake = self.discriminator(s, fake, condition)
            L_G = [self.L_GAN.generator(f.patches.float()).mean() for f in on_fake]
            L_FM = [self.L_FM(r.features, f.features).mean() for r, f in zip(on_real, on_fake, strict=True)]
            terms += [
                Term("g", torch.stack(L_G).sum(), w.gan),
                Term("fm", torch.stack(L_FM).sum(), w.feature_matching),
            ]
        return terms

    def _windowed(self, made: Forward, micro: MicroBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Labels, target and picture as the losses' networks see them."""
        rows, columns = micro.window
        s, x = micro.batch.s[:, rows, columns], made.target[..., rows, columns]
        return s, x, made.fake[..., rows, columns].contiguous(memory_format=torch.channels_last)

    def _condition(self, made: Forward, micro: MicroBatch) -> Tensor | None:
        """What D sees beside labels and picture, where the recipe says so; None for the paper's D(s, x).

        The map that G saw, by which it tells crisp edges from smeared ones, and where instances end.
        """
        (rows, columns), settings = micro.window, self.recipe.discriminator
        planes = [made.edge_map] * settings.sees_edges + [micro.batch.borders] * settings.sees_instance_edges
        return torch.cat([p[..., rows, columns] for p in planes], 1) if planes else None

    def state(self) -> dict[str, Any]:
        """Of the random generator of styles."""
        return {"style_rng": self.style_rng.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`state`."""
        self.style_rng.set_state(state["style_rng"])

    def started_from(self, card: Card) -> None:
        """Says where edges differ, and forgets the other photographs' chroma."""
        if card.edge != self.recipe.edge.as_dict():
            _log.warning("the bundle was trained with the edge settings %s, the recipe has others", card.edge)
        if self.network.chroma_limits is not None:
            self.network.chroma_limits.zero_()

    # Pictures

    @classmethod
    def build(cls, recipe: SFlowRecipe, classes: Sequence[str]) -> SFlowNetwork:
        """With the recipe's style seeds, which training does not use: it draws with the whole spread."""
        options = recipe.extensions
        return _build(recipe, classes, style_reach=options.style_reach, style_centre=options.style_centre)

    @classmethod
    def load(cls, bundle: Path, recipe: SFlowRecipe, classes: Sequence[str]) -> SFlowNetwork:
        """As the bridge loads it."""
        return load_bundle(bundle).sflow

    @classmethod
    def pictures(cls, network: SFlowNetwork, photographs: Sequence[Photograph], version: int = 0) -> list[ByteArray]:
        """Made from labels and edges; a version is a style seed."""
        return generate(network, photographs, version)

    @classmethod
    def variants(cls, network: SFlowNetwork) -> Mapping[str, Paint]:
        """Hints come from the very picture to be made where there are no renders: so also without."""
        return {"without_hints": partial(generate, hints=False)} if network.takes_hints else {}

    @classmethod
    def harder(cls, recipe: SFlowRecipe) -> Mapping[str, Paint]:
        """Edges degraded as a render's could be, which is where DNED is needed."""
        return {"degraded": partial(generate, degradation=recipe.edge_augmentation or EdgeAugmentation())}

    @classmethod
    @torch.inference_mode()
    def maps(cls, network: SFlowNetwork, rgb: ByteArray, labels: ByteArray) -> dict[str, ByteArray]:
        """E, and DNED's learned ensemble of E (E itself where DNED is not used)."""
        picture, ids = (torch.from_numpy(a)[None].to(network.device) for a in (rgb, labels))
        _, padded = pad_to_stride(ids, network.operator(picture).to(network.dtype))
        h, w = labels.shape
        both = {"operator": padded, "dned": network.edges_shown(padded)}
        return {name: edges_to_pixels(planes[:, :, :h, :w])[0].cpu().numpy() for name, planes in both.items()}

    @classmethod
    def sheet(cls, network: SFlowNetwork, photograph: Photograph) -> dict[str, ByteArray]:
        """Edge maps, and pictures from E(x), with another style seed, and from the ensemble."""
        operator, ensemble = cls.maps(network, photograph.shown_rgb, photograph.labels).values()
        return {
            "E(x)": np.repeat(operator[..., None], 3, 2),
            "DNED's ensemble": np.repeat(ensemble[..., None], 3, 2),
            "picture from E(x)": _from_laplacian(network, photograph),
            "style seed 1": generate(network, [photograph], 1)[0],
            "picture": generate(network, [photograph])[0],
        }

    @classmethod
    def parts(cls, recipe: SFlowRecipe) -> dict[str, SFlowRecipe]:
        """See :mod:`trainers.recipes.sflow_parts`."""
        return parts(recipe)

    @classmethod
    def card(cls, network: SFlowNetwork, recipe: SFlowRecipe, classes: Sequence[str]) -> dict[str, Any]:
        """With edge operator and learned ensemble."""
        ensemble = [round(v, 4) for v in network.dned.learned_weights().tolist()]
        return {"arch": cls.arch, "args": network.args, "edge": recipe.edge.as_dict(), "ensemble": ensemble}


SYSTEM = SFlow


def _build(recipe: SFlowRecipe, classes: Sequence[str], **style_seeds: Sequence[float]) -> SFlowNetwork:
    options, hinted = recipe.extensions, tuple[int, ...]()
    if options.hints is not None:
        wanted = [c for c in classes if c != VOID] if options.hints.classes == "all" else options.hints.classes
        if unknown := [name for name in wanted if name not in classes]:
            known, named = ", ".join(classes), ", ".join(unknown)
            raise UsageError(f"recipe {recipe.name!r} wants colour hints of {named}: the data set has {known}")
        hinted = tuple(classes.index(name) for name in wanted)
    return SFlowNetwork(
        recipe.tier,
        len(classes),
        recipe.edge,
        style_spread=recipe.style_spread,
        style_input=options.style_input,
        hint_classes=hinted,
        uses_dned=recipe.uses_dned,
        half_chroma=options.half_chroma,
        keep_hues=options.hints is not None and options.hints.keep_hues,
        **style_seeds,
    )


def generate(
    network: SFlowNetwork,
    photographs: Sequence[Photograph],
    style_seed: int = 0,
    *,
    hints: bool = True,
    degradation: EdgeAugmentation | None = None,
) -> list[ByteArray]:
    """Pictures uint8 ``(H, W, 3)`` RGB made from the labels and edges of photographs.

    Args:
        network: What makes them.
        photographs: From what.
        style_seed: Which version.
        hints: Give colour hints, where the network takes them.
        degradation: Degrade the edge maps first, the same for every network; None leaves them whole.
    """
    weights = network.style_weights(style_seed)[None].to(network.device)
    out = []
    for index, photograph in enumerate(photographs):
        rgb, labels = _inputs(network, photograph)
        edges = network.operator(rgb) if degradation is None else _degraded(network, photograph, degradation, index)
        picture, _ = network.translate_edges(edges, labels, weights, rgb if hints else None)
        out.append(picture[0].cpu().numpy())
    return out


def _inputs(network: SFlowNetwork, photograph: Photograph) -> tuple[Tensor, Tensor]:
    """The picture that gives the edges and the labels, a batch of one on the network's device."""
    rgb, labels = torch.from_numpy(photograph.shown_rgb)[None], torch.from_numpy(photograph.labels)[None]
    return rgb.to(network.device), labels.to(network.device)


def _degraded(network: SFlowNetwork, photograph: Photograph, settings: EdgeAugmentation, seed: int) -> Tensor:
    rng, classes = np.random.default_rng(seed), len(network.hinted)
    planes = degrade(prepare(photograph, network.operator), settings, classes, rng)
    return torch.from_numpy(planes)[None].to(network.device)


@torch.inference_mode()
def _from_laplacian(network: SFlowNetwork, photograph: Photograph) -> ByteArray:
    """As :func:`generate`, but G sees E(x) itself (phase 1). Sides must be multiples of 32."""
    rgb, labels = _inputs(network, photograph)
    edges, hints = network.operator(rgb).to(network.dtype), network.hints_of_pixels(rgb, labels)
    picture: ByteArray = to_pixels(network.generator(labels, edges, hints=hints))[0].cpu().numpy()
    return picture
