"""An enhancer: renders become photograph-like, against photographs of other scenes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import luma_of, to_device
from models.losses.adversarial import HingeGAN, LeastSquaresGAN
from models.nets.discriminator import PatchDiscriminator
from models.nets.efficientnet_lite import EfficientNetLite
from models.nets.enhance import CAMERA, DETAIL, STRIDE, EnhanceNetwork
from models.nets.projected import ProjectedDiscriminator
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.batches.held import SampleSource
from trainers.batches.make import Batch
from trainers.batches.unpaired import LookSet, RenderSet, Unpaired, merging
from trainers.data.open import open_data
from trainers.data.photograph import Photograph
from trainers.recipes.enhance import EnhanceRecipe, EnhanceStage
from trainers.systems.base import MicroBatch, Paint, Player, System, Term
from trainers.systems.grades import FITTED, LabelledPicture, fit_grade

MEASURED: Final = 32
"""Photographs that the scales of features are measured on."""
SOFT: Final = 1.1
"""Values beyond it are judged as this."""
LEAK: Final = 0.02
"""Of the difference beyond, so that gradients come back."""
KEEP: Final = 0.6
"""Of classes that the recipe does not name; above it fine detail is kept, too."""
CHANGES: Final = (0.35, 0.2)
"""Largest change of contrast (a share) and of light that the discriminators must see past."""
BORDER: Final = 16
"""Pixels beside the border of a crop of which nothing is asked when it moves."""


class Critic(nn.Module):
    """Both discriminators. They see luma alone, because the network changes nothing else.

    Renders get the photographs' grain before they are seen, else the network lifts faint texture in its place. The
    pictures that users see have none: it is new in every frame.

    Args:
        channels: Of the frozen network's maps.
        classes: How many.
        looks: How many; both are given a picture's.
        width: Channels of the patch discriminator.

    Attributes:
        grain: Its standard deviation by look, on the scale -1..1.
        measured: Whether all that begins a training was measured.
    """

    grain: Tensor
    measured: Tensor

    def __init__(self, channels: Sequence[int], classes: int, looks: int, width: int) -> None:
        super().__init__()
        self.projected = ProjectedDiscriminator(channels, classes, looks)
        self.patch = PatchDiscriminator(classes, width, planes=looks)
        self.register_buffer("grain", torch.zeros(looks))
        self.register_buffer("measured", torch.zeros((), dtype=torch.bool))


@dataclass
class Forward:
    """What one forward pass made; pictures are ``(N, 3, H, W)`` in -1..1.

    Attributes:
        s, t: Labels of renders and photographs, merged as they are judged.
        graded: Renders in the grade of the look.
        gains: Of their detail, before the bound.
        fake: The pictures made of them.
        keep: How much of the content is kept, ``(N, 1, H, W)``.
        same, identity: Photographs and what the network makes of them.
        moved: Of the first render, cut a few pixels further: the picture made, and the same pixels of ``fake``.
        looks: One-hot ``(N, looks)``.
        seen: Luma with contrast and light changed, in three channels: of pictures made and of photographs.
        features: Of ``seen``'s first, of the graded renders changed alike, and of ``seen``'s second.
    """

    s: Tensor
    t: Tensor
    graded: Tensor
    gains: Tensor
    fake: Tensor
    keep: Tensor
    same: Tensor
    identity: Tensor
    moved: tuple[Tensor, Tensor]
    looks: Tensor
    seen: tuple[Tensor, Tensor]
    features: tuple[list[Tensor], list[Tensor], list[Tensor]]


class Enhance(System[EnhanceRecipe]):
    """Unpaired training. See :class:`System`.

    Raises:
        UsageError: There are no renders, or a class or recording is not there.
    """

    Recipe = EnhanceRecipe
    arch = "enhance"

    def __init__(self, recipe: EnhanceRecipe, classes: Sequence[str], device: torch.device) -> None:
        super().__init__(recipe, classes, device)
        if not recipe.renders:
            raise UsageError(f"recipe {recipe.name!r} needs renders: give --renders RECORDING, once a recording")
        looks = 1 + len(recipe.looks)
        self.network = self.build(recipe, classes)
        self.to_device(self.network)
        self.seen = EfficientNetLite("lite0")
        self.to_device(self.seen)
        self.critic = Critic(self.seen.channels, len(classes), looks, recipe.patch_width)
        self.to_device(self.critic)
        self.networks = {"network": self.network, "critic": self.critic}
        self.players = (
            Player("d", self.critic, "lr_discriminator"),
            Player("g", self.network, "lr", recipe.clip),
        )
        self.unpaired = Unpaired(
            [RenderSet(folder, classes) for folder in recipe.renders],
            [_look_set(recipe, i, classes) for i in range(len(recipe.looks))],
            recipe.data.crop,
            recipe.render_scale,
            recipe.seed,
        )
        self.merged = merging(classes, recipe.judged_as)
        self._merged = torch.from_numpy(self.merged).to(device)
        self._keep = torch.tensor([recipe.keep.get(name, KEEP) for name in classes], device=device)
        factors = [recipe.simulators.get(held.simulator, 1.0) for held in self.unpaired.renders]
        self._factors = torch.tensor(factors, device=device)
        self.changes_rng = torch.Generator().manual_seed(recipe.seed)

    def begin(self, samples: Sequence[SampleSource]) -> None:
        """Reads the renders; fits the looks' grades and measures features once, which the checkpoint keeps."""
        self._read()
        self.network.detail.copy_(
            bounds(self.recipe.detail, self.classes)
        )  # those of a checkpoint may be another recipe's
        if self.critic.measured:
            return
        own = [samples[i] for i in spread_evenly(range(len(samples)), FITTED)]
        self._fit([own, *(self._pictures(look) for look in self.unpaired.looks)])
        w, h = self.recipe.data.crop
        shown = torch.cat([tiles(sample.rgb, h, w) for sample in own[:MEASURED]])[: 2 * MEASURED].to(self.device)
        with self.autocast(), torch.no_grad():
            self.critic.projected.measure(self._features(_grey(shown)))
        self.critic.measured.fill_(True)

    @staticmethod
    def _pictures(look: LookSet) -> list[LabelledPicture]:
        shown = (look.data[i] for i in spread_evenly(range(len(look.data)), FITTED))
        return [LabelledPicture(p.rgb, look.table[p.labels]) for p in shown]

    def _fit(self, sets: Sequence[Sequence[Any]]) -> None:
        """The grade and the grain of each look, from its photographs."""
        renders = [spread_evenly(held.renders, FITTED) for held in self.unpaired.renders]
        held = [self.recipe.keep.get(name, KEEP) >= 1 for name in self.classes]
        for number, photographs in enumerate(sets):
            found = fit_grade(renders, photographs, held)
            self.network.grades[number] = torch.from_numpy(found.grades)
            self.critic.grain[number] = found.grain / 127.5

    def _read(self) -> None:
        least = min(1.0, self.recipe.render_scale[0])
        for held in self.unpaired.renders:
            w, h = self.recipe.data.crop
            held.read((math.ceil(w / least), math.ceil(h / least)))

    def shown(self, photographs: Sequence[Photograph]) -> list[Photograph]:
        """Photographs beside the render that is most like them in layout, of a few, both cut to one size."""
        self._read()
        renders = [r for held in self.unpaired.renders for r in spread_evenly(held.renders, 8)]
        return [_beside(p, renders, self.merged) for p in photographs]

    def draw(self, count: int) -> dict[str, Tensor]:
        """Counterparts, photographs of further looks, changes of contrast and light, a move, and a sensor's grain."""
        drawn = dict(self.unpaired.draw(count)._asdict())
        rng = self.changes_rng
        changed = (torch.rand(count, 2, 1, generator=rng) < self.recipe.tone_share).float()
        drawn["tone"] = changed * (torch.rand(count, 2, 2, generator=rng) * 2 - 1) * torch.tensor(CHANGES)
        drawn["move"] = torch.randint(0, STRIDE, (count, 2), generator=rng)
        w, h = self.recipe.data.crop
        drawn["grain"] = torch.randn(count, 1, h, w, generator=rng)
        return drawn

    def prepare(self, batch: Batch, drawn: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Finds the photographs' counterparts by the labels; ``by`` is the move of the first, in pixels."""
        look, place, move = (drawn[name] for name in ("look", "place", "move"))
        labels = torch.where(look[:, None, None] > 0, drawn["photo_labels"], batch.s)
        found = self.unpaired.match(labels.numpy(), place.numpy(), self.merged)
        made = {"photo_labels": labels, "by": move[0].tolist(), "source": torch.from_numpy(found.source)}
        renders = {"render": torch.from_numpy(found.rgb), "render_labels": torch.from_numpy(found.labels)}
        return {name: drawn[name] for name in drawn.keys() - {"place", "move"}} | made | renders

    def forward(self, micro: MicroBatch, stage: EnhanceStage) -> Forward:
        """Translates the photographs' counterparts, and takes all features."""
        drawn = {n: to_device(v, self.device) for n, v in micro.drawn.items() if isinstance(v, Tensor)}
        look, labels, photo_labels = drawn["look"], drawn["render_labels"], drawn["photo_labels"]
        x, further = _picture(drawn["render"]), _picture(drawn["photo"])
        y = torch.where(look[:, None, None, None] > 0, further, micro.batch.x)
        y = y.contiguous(memory_format=torch.channels_last)
        keep = self._keep[labels.long()][:, None] * self._factors[drawn["source"]].view(-1, 1, 1, 1)
        s, t = (self._merged[ids.long()] for ids in (labels, photo_labels))
        looks = F.one_hot(look, self.network.looks).float()
        style = torch.cat([looks, looks.new_zeros(len(looks), len(CAMERA))], 1)
        count = max(1, len(y) // 4)
        with torch.no_grad():
            toned, bands = self.network.graded(x, labels, style)
            graded = self.network.detailed(toned, labels, torch.zeros_like(bands), bands)
        with self.autocast():
            gains = self.network.find_gains(toned, labels, style)
            same = y[:count], photo_labels[:count]
            identity = self.network.detailed(*same, self.network.find_gains(*same, style[:count]))
        fake = self.network.detailed(toned, labels, gains, bands)
        moved = self._moved((toned, labels, bands), style, fake, micro.drawn["by"])
        judged = softly_clamped(fake)
        tone, grain = drawn["tone"], drawn["grain"] * self.critic.grain[look].view(-1, 1, 1, 1)
        seen = changed(_grey(judged) + grain, tone[:, 0]), changed(_grey(y), tone[:, 1])
        with self.autocast():
            with torch.no_grad():
                of_render, of_real = self._features(changed(_grey(graded) + grain, tone[:, 0])), self._features(seen[1])
            features = self._features(seen[0]), of_render, of_real
        return Forward(s, t, graded, gains, fake, keep, y[:count], identity, moved, looks, seen, features)

    def _moved(
        self, shown: tuple[Tensor, Tensor, Tensor], style: Tensor, fake: Tensor, move: list[int]
    ) -> tuple[Tensor, Tensor]:
        """The same pixels of the first render made twice, seen at other places of the network's strides."""
        toned, labels, bands = shown
        h, w = (side - STRIDE for side in toned.shape[2:])
        rows, columns = (slice(at, at + side) for at, side in zip(move, (h, w), strict=True))
        with self.autocast():
            cut = toned[:1, :, rows, columns], labels[:1, rows, columns].contiguous()
            gains = self.network.find_gains(*cut, style[:1])
        again = self.network.detailed(*cut, gains, bands[:1, :, rows, columns])
        border = min(BORDER, h // 4, w // 4)
        inner = (slice(None), slice(None), slice(border, h - border), slice(border, w - border))
        return again[inner], fake[:1, :, rows, columns][inner]

    def _features(self, picture: Tensor) -> list[Tensor]:
        return self.seen.features(picture.contiguous(memory_format=torch.channels_last))

    def losses(self, player: str, made: Forward, micro: MicroBatch, stage: EnhanceStage) -> list[Term]:
        """Both discriminators' losses; or what the network is held to."""
        if player == "d":
            return self._critic_terms(made, stage)
        return [*self._adversarial_terms(made, stage), *self._held_terms(made, stage)]

    def _critic_terms(self, made: Forward, stage: EnhanceStage) -> list[Term]:
        (fake, real), (of_fake, _, of_real), w = made.seen, made.features, stage.weights
        terms, hinge, squares = [], HingeGAN(), LeastSquaresGAN()
        with self.autocast():
            if w.projected:
                on_real = self.critic.projected(of_real, made.t, made.looks)
                on_fake = self.critic.projected([f.detach() for f in of_fake], made.s, made.looks)
                heads = [
                    hinge.discriminator(r.float(), f.float()).mean() for r, f in zip(on_real, on_fake, strict=True)
                ]
                terms.append(Term("d", torch.stack(heads).mean()))
            if w.patch:
                r, f = self._patches(made.t, real, made.looks), self._patches(made.s, fake.detach(), made.looks)
                terms.append(Term("d_patch", squares.discriminator(r, f).mean()))
        return terms

    def _patches(self, labels: Tensor, picture: Tensor, looks: Tensor) -> Tensor:
        """Scores of the patch discriminator, which sees the look as planes."""
        planes = looks[:, :, None, None].expand(-1, -1, *picture.shape[2:])
        (judgement,) = self.critic.patch(labels, picture, planes)
        scores: Tensor = judgement.patches.float()
        return scores

    def _adversarial_terms(self, made: Forward, stage: EnhanceStage) -> list[Term]:
        w, terms, hinge, squares = stage.weights, list[Term](), HingeGAN(), LeastSquaresGAN()
        with self.autocast():
            if w.projected:
                heads = self.critic.projected(made.features[0], made.s, made.looks)
                terms.append(
                    Term("g", torch.stack([hinge.generator(h.float()).mean() for h in heads]).mean(), w.projected)
                )
            if w.patch:
                scores = self._patches(made.s, made.seen[0], made.looks)
                terms.append(Term("g_patch", squares.generator(scores).mean(), w.patch))
        return terms

    def _held_terms(self, made: Forward, stage: EnhanceStage) -> list[Term]:
        w, fake = stage.weights, made.fake
        light = _blocks(luma_of(fake), 32) - _blocks(luma_of(made.graded), 32)
        again, before = made.moved
        return [
            Term("content", self._content(made), w.content),
            Term("identity", (made.identity - made.same).abs().mean(), w.identity),
            Term("light", light.abs().mean(), w.light),
            Term("gains", made.gains.pow(2).mean(), w.gains),
            Term("steady", (again - before).abs().mean(), w.steady),
            Term("range", (fake - fake.clamp(-SOFT, SOFT)).abs().mean(), w.range),
        ]

    def _content(self, made: Forward) -> Tensor:
        """Difference of features, by depth and by class; fine detail is held of classes above :data:`KEEP` alone."""
        total = made.fake.new_zeros(())
        of_fake, of_render, _ = made.features
        for i, depth in enumerate(self.recipe.content_depths):
            if not depth:
                continue
            fake, render = of_fake[i].float(), of_render[i].float()
            keep = F.adaptive_avg_pool2d(made.keep, (render.shape[-2], render.shape[-1]))
            if i < 2:
                keep = keep * (keep > KEEP)
            difference = ((fake - render).abs().mean(1, keepdim=True) * keep).mean()
            total = total + depth * difference / render.abs().mean()
        return total

    def state(self) -> dict[str, Any]:
        """Of both random generators."""
        return {"unpaired": dict(self.unpaired.rng.bit_generator.state), "changes": self.changes_rng.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`state`."""
        self.unpaired.rng.bit_generator.state = state["unpaired"]
        self.changes_rng.set_state(state["changes"])

    # Pictures

    @classmethod
    def build(cls, recipe: EnhanceRecipe, classes: Sequence[str]) -> EnhanceNetwork:
        """With the looks' names and the classes' bounds."""
        looks = [recipe.look, *(look.name for look in recipe.looks)]
        network = EnhanceNetwork(recipe.tier, len(classes), looks)
        network.detail.copy_(bounds(recipe.detail, classes))
        return network

    @classmethod
    def pictures(cls, network: EnhanceNetwork, photographs: Sequence[Photograph], version: int = 0) -> list[ByteArray]:
        """Of renders, their translation; of photographs, nearly themselves. A version is a style seed."""
        return [enhanced(network, p.shown_rgb, p.labels, version) for p in photographs]

    @classmethod
    def variants(cls, network: EnhanceNetwork) -> Mapping[str, Paint]:
        """Further looks, by name."""

        def paint(look: int, network: EnhanceNetwork, photographs: Sequence[Photograph]) -> list[ByteArray]:
            return [enhanced(network, p.shown_rgb, p.labels, look=look) for p in photographs]

        return {name: partial(paint, i) for i, name in enumerate(network.look_names) if i}

    @classmethod
    def card(cls, network: EnhanceNetwork, recipe: EnhanceRecipe, classes: Sequence[str]) -> dict[str, Any]:
        """With the renders' names, and data and licences of further looks."""
        others = [open_data(look.data, look.root, "train") for look in recipe.looks]
        data = [
            *(other.description for other in others),
            f"renders {', '.join(dict.fromkeys(p.name for p in recipe.renders))}",
        ]
        licences = [other.licence for other in others]
        return {"arch": cls.arch, "args": network.args, "data": "; ".join(data), "licences": licences}


SYSTEM = Enhance


def enhanced(network: EnhanceNetwork, rgb: ByteArray, labels: ByteArray, seed: int = 0, look: int = 0) -> ByteArray:
    """A picture of one render, uint8 ``(H, W, 3)``."""
    picture, ids = (torch.from_numpy(np.ascontiguousarray(a))[None].to(network.device) for a in (rgb, labels))
    style = network.style(look, seed)[None].to(network.device)
    made: ByteArray = network.translate(picture, ids, style)[0].cpu().numpy()
    return made


def changed(picture: Tensor, change: Tensor) -> Tensor:
    """Contrast and light changed by ``(N, 2)``, 0 for none."""
    contrast, light = change[:, :, None, None, None].unbind(1)
    mean = picture.mean((1, 2, 3), keepdim=True)
    return (picture - mean) * (1 + contrast) + mean + light


def _picture(rgb: Tensor) -> Tensor:
    """uint8 ``(N, H, W, 3)`` to ``(N, 3, H, W)`` in -1..1, channels-last."""
    return (rgb.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _grey(picture: Tensor) -> Tensor:
    """Luma in three channels."""
    return luma_of(picture).expand(-1, 3, -1, -1)


def bounds(detail: Mapping[str, float], classes: Sequence[str]) -> Tensor:
    """What :attr:`EnhanceNetwork.detail` holds, of largest factors by class."""
    return torch.tensor([detail.get(name, DETAIL) for name in classes]).log()


def softly_clamped(picture: Tensor) -> Tensor:
    """Within what pixels can have, nearly; beyond it a small share of the gradient comes back."""
    inside = picture.clamp(-SOFT, SOFT)
    return inside + LEAK * (picture - picture.detach())


def _look_set(recipe: EnhanceRecipe, number: int, classes: Sequence[str]) -> LookSet:
    look = recipe.looks[number]
    data = open_data(look.data, look.root, "train")
    return LookSet.of(data, look.data.model_copy(update={"crop": recipe.data.crop}), look.share, classes)


def tiles(rgb: ByteArray, height: int, width: int) -> Tensor:
    """Windows of a picture beside each other, ``(N, 3, H, W)`` in -1..1."""
    windows = [
        rgb[y : y + height, x : x + width]
        for y in range(0, rgb.shape[0] - height + 1, height)
        for x in range(0, rgb.shape[1] - width + 1, width)
    ]
    return torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _beside(photograph: Photograph, renders: Sequence[Any], same: ByteArray) -> Photograph:
    """The photograph with the render that is most like it, both cut to what they share."""

    def cut(render: Any) -> tuple[ByteArray, ByteArray, Photograph]:
        h, w = (min(a, b) // 16 * 16 for a, b in zip(photograph.labels.shape, render.labels.shape, strict=True))
        top, other = (photograph.labels.shape[0] - h) // 2, (render.labels.shape[0] - h) // 2
        return render.rgb[other : other + h, :w], render.labels[other : other + h, :w], photograph.cut(top, 0, h, w)

    cuts = [cut(render) for render in renders]
    rgb, labels, shown = max(cuts, key=lambda c: float((same[c[1]] == same[c[2].labels]).mean()))
    return shown._replace(render=np.ascontiguousarray(rgb), labels=np.ascontiguousarray(labels))


def _blocks(planes: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(planes, side)
