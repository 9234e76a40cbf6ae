"""An enhancer: renders become photograph-like, against photographs of other scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import chroma_of, luma_of
from models.losses.adversarial import HingeGAN, LeastSquaresGAN
from models.nets.discriminator import PatchDiscriminator
from models.nets.efficientnet_lite import EfficientNetLite
from models.nets.enhance import EnhanceNetwork
from models.nets.projected import ProjectedDiscriminator
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.batches.held import SampleSource
from trainers.batches.unpaired import Drawn, LookSet, RenderSet, Unpaired, merging
from trainers.data.open import open_data
from trainers.data.photograph import Photograph
from trainers.recipes.enhance import EnhanceRecipe, EnhanceStage
from trainers.systems.base import MicroBatch, Player, System, Term

CAMERA: Final = 4
"""Numbers of a picture's camera: light, contrast, colourfulness, warmth."""
LIGHT_SPREAD: Final = 0.3
"""Standard deviation of a look's light, in those of photographs."""
MEASURED: Final = 32
"""Photographs that the scales are measured on."""
SOFT: Final = 1.1
"""Values beyond it are judged as this."""
LEAK: Final = 0.02
"""Of the difference beyond, so that gradients come back."""
KEEP: Final = 0.6
"""Of classes that the recipe does not name; above it fine detail is kept, too."""
LIGHT_FREE: Final = 0.15


class Critic(nn.Module):
    """Both discriminators, and the looks' mean cameras, by which a picture's is told them.

    Args:
        channels: Of the frozen network's maps.
        classes: How many.
        looks: How many.
        width: Channels of the patch discriminator.
    """

    camera_mean: Tensor
    camera_spread: Tensor

    def __init__(self, channels: Sequence[int], classes: int, looks: int, width: int) -> None:
        super().__init__()
        self.projected = ProjectedDiscriminator(channels, classes, looks + CAMERA)
        self.patch = PatchDiscriminator(classes, width)
        self.register_buffer("camera_mean", torch.zeros(looks, CAMERA))
        self.register_buffer("camera_spread", torch.zeros(looks, CAMERA))

    @property
    def measured(self) -> bool:
        """Whether the scales are those of photographs."""
        return bool(self.camera_spread.any())

    def camera(self, picture: Tensor, look: Tensor) -> Tensor:
        """Light, contrast, colourfulness and warmth ``(N, 4)`` in a look's standard deviations, -2.5 to 2.5."""
        spread = self.camera_spread[look].clamp_min(1e-3)
        return ((camera_of(picture) - self.camera_mean[look]) / spread).clamp(-2.5, 2.5)


def camera_of(picture: Tensor) -> Tensor:
    """Mean luma, its spread, mean chroma and red above blue, ``(N, 4)``, of RGB ``(N, 3, H, W)``."""
    luma, (cb, cr) = luma_of(picture), chroma_of(picture)
    parts = luma.mean((1, 2, 3)), luma.std((1, 2, 3)), (cb**2 + cr**2).sqrt().mean((1, 2, 3)), (cr - cb).mean((1, 2, 3))
    return torch.stack(parts, 1)


@dataclass
class Forward:
    """What one forward pass made.

    Attributes:
        x, s: Renders and their labels, merged as they are judged.
        y, t: Photographs and theirs.
        fake, judged: The pictures, and as the discriminators may see them.
        keep: How much of the content is kept, ``(N, 1, H, W)``.
        same, identity: Photographs and what the network makes of them.
        fake_style, real_style: What is told the discriminators.
        toned: ``judged`` with light and colour changed, and the photographs so.
        features: Of the toned pictures made, of the renders changed alike, and of the toned photographs.
    """

    x: Tensor
    s: Tensor
    y: Tensor
    t: Tensor
    fake: Tensor
    judged: Tensor
    keep: Tensor
    same: Tensor
    identity: Tensor
    fake_style: Tensor
    real_style: Tensor
    toned: tuple[Tensor, Tensor]
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
        self.noise_rng = torch.Generator().manual_seed(recipe.seed)

    def begin(self, samples: Sequence[SampleSource]) -> None:
        """Reads the renders; measures the photographs' features and cameras once, which the checkpoint keeps."""
        self._read()
        w, h = self.recipe.data.crop
        if self.critic.measured:
            return
        own = [s.rgb for s in (samples[i] for i in spread_evenly(range(len(samples)), MEASURED))]
        others = [
            [look.data[i].rgb for i in spread_evenly(range(len(look.data)), MEASURED)] for look in self.unpaired.looks
        ]
        for number, pictures in enumerate([own, *others]):
            tiles = torch.cat([_tiles(rgb, h, w) for rgb in pictures]).to(self.device)
            cameras = camera_of(tiles)
            self.critic.camera_mean[number] = cameras.mean(0)
            self.critic.camera_spread[number] = cameras.std(0).clamp_min(1e-2)
            if number == 0:
                with self.autocast(), torch.no_grad():
                    self.critic.projected.measure(self._features(tiles[: 2 * MEASURED]))

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
        """Counterparts, photographs of further looks, noise, and changes of light and colour."""
        w, h = self.recipe.data.crop
        drawn = dict(self.unpaired.draw(count)._asdict())
        rng = self.noise_rng
        drawn["noise"] = torch.randn(count, 1, h, w, generator=rng)
        drawn["light"] = torch.randn(count, generator=rng).clamp(-2, 2)
        changed = (torch.rand(2, count, 1, generator=rng) < self.recipe.tone_share).float()
        change = changed * (torch.rand(2, count, 3, generator=rng) * 2 - 1) * torch.tensor([0.35, 0.4, 0.2])
        drawn["tone"] = change.permute(1, 0, 2).contiguous()  # (count, render or photograph, contrast, colour, light)
        return drawn

    def forward(self, micro: MicroBatch, stage: EnhanceStage) -> Forward:
        """Finds the photographs' counterparts, translates them, and takes all features."""
        drawn = Drawn(*(micro.drawn[name] for name in Drawn._fields))
        y, photo_labels, look = self._photographs(micro, drawn)
        x, labels, keep = self._renders(photo_labels, drawn)
        s, t = (self._merged[ids.long()] for ids in (labels, photo_labels))
        looks = F.one_hot(look, 1 + len(self.recipe.looks)).float()
        light, camera = micro.drawn["light"].to(self.device)[:, None], self.critic.camera(y, look)
        wanted = torch.cat([looks, light, camera[:, 1:]], 1)
        scene_light = self.critic.camera(x, look)[:, :1] + LIGHT_SPREAD * light
        told = torch.cat([looks, scene_light, camera[:, 1:]], 1)
        noise, count = micro.drawn["noise"].to(self.device), max(1, len(y) // 4)
        with self.autocast():
            fake = self.network(x, labels, wanted, 1.0, noise).float()
            own = torch.cat([looks, torch.zeros_like(light), camera[:, 1:]], 1)[:count]
            identity = self.network(y[:count], photo_labels[:count], own, 1.0, noise[:count]).float()
        judged = fake.clamp(-SOFT, SOFT)
        judged = judged + LEAK * (fake - fake.detach())
        tone = micro.drawn["tone"].to(self.device)
        toned = changed(judged, tone[:, 0]), changed(y, tone[:, 1])
        with self.autocast():
            with torch.no_grad():
                of_x, of_y = self._features(changed(x, tone[:, 0])), self._features(toned[1])
            features = self._features(toned[0]), of_x, of_y
        return Forward(x, s, y, t, fake, judged, keep, y[:count], identity, told, torch.cat([looks, camera], 1),
                       toned, features)  # fmt: skip

    def _photographs(self, micro: MicroBatch, drawn: Drawn) -> tuple[Tensor, Tensor, Tensor]:
        """Photographs, labels and looks, those of further looks in place of the first's."""
        look = drawn.look.to(self.device)
        other = look > 0
        photo = drawn.photo.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        y = torch.where(other[:, None, None, None], photo, micro.batch.x)
        labels = torch.where(other[:, None, None], drawn.photo_labels.to(self.device), micro.batch.s)
        return y.contiguous(memory_format=torch.channels_last), labels, look

    def _renders(self, photo_labels: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor, Tensor]:
        """Renders, labels, and how much of their content is kept."""
        found = self.unpaired.match(photo_labels.cpu().numpy(), drawn.place.numpy(), self.merged)
        x = torch.from_numpy(found.rgb).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        labels = torch.from_numpy(found.labels).to(self.device)
        factor = self._factors[torch.from_numpy(found.source).to(self.device)].view(-1, 1, 1, 1)
        return x.contiguous(memory_format=torch.channels_last), labels, self._keep[labels.long()][:, None] * factor

    def _features(self, picture: Tensor) -> list[Tensor]:
        return self.seen.features(picture.contiguous(memory_format=torch.channels_last))

    @cached_property
    def _merged(self) -> Tensor:
        return torch.from_numpy(self.merged).to(self.device)

    @cached_property
    def _keep(self) -> Tensor:
        return torch.tensor([self.recipe.keep.get(name, KEEP) for name in self.classes], device=self.device)

    @cached_property
    def _factors(self) -> Tensor:
        """Of the recordings."""
        factors = [self.recipe.simulators.get(held.simulator, 1.0) for held in self.unpaired.renders]
        return torch.tensor(factors, device=self.device)

    def losses(self, player: str, made: Forward, micro: MicroBatch, stage: EnhanceStage) -> list[Term]:
        """Both discriminators' losses; or what the network is held to."""
        if player == "d":
            return self._critic_terms(made, stage)
        return [*self._adversarial_terms(made, stage), *self._held_terms(made, stage)]

    def _critic_terms(self, made: Forward, stage: EnhanceStage) -> list[Term]:
        (fake, real), (of_fake, _, of_real), w = made.toned, made.features, stage.weights
        terms, hinge, squares = [], HingeGAN(), LeastSquaresGAN()
        with self.autocast():
            if w.projected:
                on_real = self.critic.projected(of_real, made.t, made.real_style)
                on_fake = self.critic.projected([f.detach() for f in of_fake], made.s, made.fake_style)
                heads = [
                    hinge.discriminator(r.float(), f.float()).mean() for r, f in zip(on_real, on_fake, strict=True)
                ]
                terms.append(Term("d", torch.stack(heads).mean()))
            if w.patch:
                (r,), (f,) = self.critic.patch(made.t, real), self.critic.patch(made.s, fake.detach())
                terms.append(Term("d_patch", squares.discriminator(r.patches.float(), f.patches.float()).mean()))
        return terms

    def _adversarial_terms(self, made: Forward, stage: EnhanceStage) -> list[Term]:
        w, terms, hinge, squares = stage.weights, list[Term](), HingeGAN(), LeastSquaresGAN()
        with self.autocast():
            if w.projected:
                heads = self.critic.projected(made.features[0], made.s, made.fake_style)
                terms.append(
                    Term("g", torch.stack([hinge.generator(h.float()).mean() for h in heads]).mean(), w.projected)
                )
            if w.patch:
                (on_fake,) = self.critic.patch(made.s, made.toned[0])
                terms.append(Term("g_patch", squares.generator(on_fake.patches.float()).mean(), w.patch))
        return terms

    def _held_terms(self, made: Forward, stage: EnhanceStage) -> list[Term]:
        w, x, fake = stage.weights, made.x, made.fake
        tone = _blocks(_centred(fake), 32) - _blocks(_centred(x), 32)
        light = (fake.mean((1, 2, 3)) - x.mean((1, 2, 3))).abs()
        colours = (_blocks(torch.cat(chroma_of(picture), 1), 8) for picture in (fake, x))
        hue = next(colours) - next(colours)
        return [
            Term("content", self._content(made), w.content),
            Term("identity", (made.identity - made.same).abs().mean(), w.identity),
            Term("tone", tone.abs().mean(), w.tone),
            Term("light", F.relu(light - LIGHT_FREE).mean(), w.light),
            Term("hue", (hue - hue.mean((2, 3), True)).abs().mean(), w.hue),
            Term("range", (fake - fake.clamp(-SOFT, SOFT)).abs().mean(), w.range),
        ]

    def _content(self, made: Forward) -> Tensor:
        """Difference of features, by depth and by class; fine detail is held of classes above :data:`KEEP` alone."""
        total = made.x.new_zeros(())
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
        return {"unpaired": dict(self.unpaired.rng.bit_generator.state), "noise": self.noise_rng.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """See :meth:`state`."""
        self.unpaired.rng.bit_generator.state = state["unpaired"]
        self.noise_rng.set_state(state["noise"])

    # Pictures

    @classmethod
    def build(cls, recipe: EnhanceRecipe, classes: Sequence[str]) -> EnhanceNetwork:
        """With the looks' names."""
        return EnhanceNetwork(recipe.tier, len(classes), [recipe.look, *(look.name for look in recipe.looks)], CAMERA)

    @classmethod
    def pictures(cls, network: EnhanceNetwork, photographs: Sequence[Photograph], version: int = 0) -> list[ByteArray]:
        """Of renders, their translation; of photographs, nearly themselves. A version is a style seed."""
        return [enhanced(network, p.shown_rgb, p.labels, version) for p in photographs]

    @classmethod
    def card(cls, network: EnhanceNetwork, recipe: EnhanceRecipe, classes: Sequence[str]) -> dict[str, Any]:
        """With the renders' names, and data and licences of further looks."""
        others = [open_data(look.data, look.root, "train") for look in recipe.looks]
        data = [*(other.description for other in others), f"renders {', '.join(p.name for p in recipe.renders)}"]
        licences = [other.licence for other in others]
        return {"arch": cls.arch, "args": network.args, "data": "; ".join(data), "licences": licences}


SYSTEM = Enhance


def enhanced(network: EnhanceNetwork, rgb: ByteArray, labels: ByteArray, seed: int = 0, look: int = 0) -> ByteArray:
    """A picture of one render, uint8 ``(H, W, 3)``; the seed also draws the noise."""
    picture, ids = (torch.from_numpy(np.ascontiguousarray(a))[None].to(network.device) for a in (rgb, labels))
    style = network.style(look, seed)[None].to(network.device)
    noise = network.draw_noise(labels.shape[0], labels.shape[1], seed).to(network.device)
    made: ByteArray = network.translate(picture, ids, style, noise=noise)[0].cpu().numpy()
    return made


def changed(picture: Tensor, change: Tensor) -> Tensor:
    """Contrast, colourfulness and light changed by ``(N, 3)``, 0 for none."""
    contrast, colour, light = change[:, :, None, None, None].unbind(1)
    grey = picture.mean(1, keepdim=True)
    picture = grey + (picture - grey) * (1 + colour)
    mean = picture.mean((1, 2, 3), keepdim=True)
    return (picture - mean) * (1 + contrast) + mean + light


def _look_set(recipe: EnhanceRecipe, number: int, classes: Sequence[str]) -> LookSet:
    look = recipe.looks[number]
    data = open_data(look.data, look.root, "train")
    return LookSet.of(data, look.data.model_copy(update={"crop": recipe.data.crop}), look.share, classes)


def _tiles(rgb: ByteArray, height: int, width: int) -> Tensor:
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


def _centred(picture: Tensor) -> Tensor:
    return picture - picture.mean((1, 2, 3), keepdim=True)


def _blocks(planes: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(planes, side)
