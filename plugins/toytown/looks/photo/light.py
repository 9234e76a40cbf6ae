"""Light on the surfaces of a view: sun, sky, lamps, reflections, haze. Linear radiance comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from plugins.toytown.looks.photo.noise import Noise, Textures
from plugins.toytown.looks.photo.surface import MIRROR, Skin
from plugins.toytown.town.plan import BLOCKS, PITCH
from plugins.toytown.town.surfaces import BoolArray, FloatArray, Material, rgb
from plugins.toytown.view.presets import PhotoLight, Preset
from plugins.toytown.view.raycast import MISS
from plugins.toytown.view.vectors import along
from plugins.toytown.view.view import Pixels, View

AMBIENT_RAYS: Final = 2
"""Per pixel and sample; an edge-stopping blur makes them look like many."""
AMBIENT_REACH: Final = 5.0
"""What stands nearer than this darkens the sky's light, metres."""
ACTOR_REACH: Final = 60.0
"""Actors darken what is no farther from the camera than this, metres."""
LEAST_GLOSS: Final = 0.1
LAMP_COLOR: Final = (0.95, 0.66, 0.33)
LAMP_HEIGHT: Final = 6.4
LAMP_METRES: Final = 1.0
"""Side of one element of the map of lamp light."""


@dataclass(frozen=True, slots=True)
class Hit:
    """The pixels that see something, in the order of ``pixels`` ``(n,)``.

    Attributes:
        pixels: Which they are.
        points: World coordinates ``(n, 3)``.
        origins: The same, a little off the surface, for further rays.
        flat: Geometric normals, turned to the camera.
        normals: Normals with the surface's roughness.
        rays: Directions from the camera.
        leaf: Whether it is foliage, which light shines through.
    """

    pixels: Pixels
    points: FloatArray
    origins: FloatArray
    flat: FloatArray
    normals: FloatArray
    rays: FloatArray
    leaf: BoolArray


class Sky:
    """Radiance of the sky: gradient, glow around the sun, clouds on a plane overhead."""

    def __init__(self, textures: Textures, preset: Preset) -> None:
        self._noise = textures.at
        self._light = preset.photo
        self._sun = preset.sun_direction

    def radiance(self, directions: FloatArray) -> FloatArray:
        """Radiance from directions ``(n, 3)`` of any length, float32 ``(n, 3)``."""
        light = self._light
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        up = np.maximum(unit[:, 2], 0)
        share = (np.clip(up * 1.6, 0, 1) ** 0.55)[:, None]
        color = (1 - share) * rgb(light.horizon) + share * rgb(light.zenith)
        toward = np.maximum(along(unit, self._sun), 0)[:, None]
        color = color + toward**8 * rgb(light.glow) + toward**400 * rgb(light.disc)
        distance = 1 / (up + 0.08)
        x, y = unit[:, 0] * distance, unit[:, 1] * distance
        cloud = self._noise(Noise.CLOUD, x + 3, y, 26.0) + 0.35 * self._noise(Noise.BROAD, x, y + 5, 9.0)
        threshold = 1.8 - 4.9 * light.cover
        amount = (np.clip((cloud - threshold) / 1.5, 0, 1) * np.clip(up * 9, 0, 1))[:, None]
        thick = rgb(light.cloud) * (1 - 0.3 * np.clip(cloud - threshold - 0.8, 0, 1))[:, None]
        return np.asarray(color * (1 - amount) + amount * thick, np.float32)


class LampMap:
    """Light of the street lamps on the street, by place; what stands between is not asked."""

    def __init__(self, lamps: npt.NDArray[np.float64]) -> None:
        side = int((BLOCKS * PITCH + 40) / LAMP_METRES)
        along = -20 + (np.arange(side) + 0.5) * LAMP_METRES
        self._side = side
        self._map = np.zeros((side, side), np.float32)
        for x, y in lamps:
            near = [np.flatnonzero(np.abs(along - v) < 40) for v in (y, x)]
            squared = (along[near[0]] - y)[:, None] ** 2 + (along[near[1]] - x)[None] ** 2 + LAMP_HEIGHT**2
            self._map[np.ix_(*near)] += (LAMP_HEIGHT**3 / squared**1.5).astype(np.float32)

    def at(self, points: FloatArray) -> FloatArray:
        """Light at world points ``(n, 3)``, 1 below a lamp, float32 ``(n,)``."""
        columns, rows = (np.clip((points[:, k] + 20) / LAMP_METRES, 0, self._side - 1).astype(int) for k in (0, 1))
        return np.asarray(self._map[rows, columns])


class Lighting:
    """Lights the surfaces of views.

    Args:
        textures: For the clouds.
        preset: The weather.
        lamps: Places of the street lamps, ``(n, 2)``, metres.
    """

    def __init__(self, textures: Textures, preset: Preset, lamps: npt.NDArray[np.float64]) -> None:
        self._light: PhotoLight = preset.photo
        self._sun = preset.sun_direction
        self._sky = Sky(textures, preset)
        self._lamps = LampMap(lamps)

    def radiance(self, view: View, skin: Skin, rng: np.random.Generator, disc: tuple[float, float]) -> FloatArray:
        """What each pixel's ray brings to the camera.

        Args:
            view: What is seen.
            skin: Its surfaces.
            rng: For the rays that are drawn.
            disc: The point of the sun's disc that this sample's shadows come from, -1 to 1.

        Returns:
            Linear radiance, float32 ``(N, 3)``.
        """
        hit = _hit(view, skin)
        lambert, visible = self._sunlight(view, hit, rng, disc)
        sky = _smooth(view, hit, self._ambient(view, hit, rng))
        light, albedo = self._light, skin.albedo[hit.pixels]
        up = 0.55 + 0.45 * hit.normals[:, 2]
        received = (lambert * visible)[:, None] * rgb(light.sun) + 0.05 * rgb(light.sky)
        received += (sky * up)[:, None] * rgb(light.sky)
        received += (sky * (1 - up) * 0.55)[:, None] * rgb(light.bounce)
        if light.lamps > 0.5:
            lit = self._lamps.at(hit.points) * (0.45 + 0.55 * np.maximum(hit.normals[:, 2], 0)) * sky
            received += light.lamps * lit[:, None] * rgb(LAMP_COLOR)
        color = albedo * received
        self._reflect(view, hit, skin, color, visible, rng)
        color += albedo * skin.glow[hit.pixels, None] * 4
        clear = np.exp(-view.depth[hit.pixels] / light.haze_metres)[:, None]
        out = np.empty((len(view.depth), 3), np.float32)
        out[hit.pixels] = color * clear + (1 - clear) * rgb(light.haze)
        out[view.sky] = self._sky.radiance(view.directions[view.sky])
        return out

    def _sunlight(
        self, view: View, hit: Hit, rng: np.random.Generator, disc: tuple[float, float]
    ) -> tuple[FloatArray, FloatArray]:
        """How squarely the sun falls in, and whether it does: one fixed point of its disc, with a little jitter."""
        lambert = along(hit.normals, self._sun)
        lambert = np.where(hit.leaf, 0.25 + 0.55 * np.abs(lambert), np.maximum(lambert, 0))
        visible = np.zeros(len(lambert), np.float32)
        if max(self._light.sun) == 0:
            return np.asarray(lambert, np.float32), visible
        asked = np.flatnonzero((lambert > 0) & ((along(hit.flat, self._sun) > 0) | hit.leaf))
        spread = np.array([disc[0], disc[1], 0]) * self._light.sun_spread
        toward = (self._sun + spread + rng.normal(0, 0.004, (len(asked), 3))).astype(np.float32)
        visible[asked] = ~_blocked(view, hit, asked, toward, np.inf)
        return np.asarray(lambert, np.float32), visible

    def _ambient(self, view: View, hit: Hit, rng: np.random.Generator) -> FloatArray:
        """Share of the sky that each point sees, by a few random rays, ``(n,)``."""
        everything = np.arange(len(hit.pixels))
        seen = np.zeros(len(everything), np.float32)
        for _ in range(AMBIENT_RAYS):
            ray = rng.standard_normal((len(everything), 3), np.float32)
            ray /= np.linalg.norm(ray, axis=1, keepdims=True)
            near = _blocked(view, hit, everything, hit.flat * np.float32(1.02) + ray, AMBIENT_REACH)
            seen += np.where(near, np.float32(0.32), np.float32(1))
        return np.asarray(seen / AMBIENT_RAYS, np.float32)

    def _reflect(
        self, view: View, hit: Hit, skin: Skin, color: FloatArray, visible: FloatArray, rng: np.random.Generator
    ) -> None:
        """Mirrors the street in glass, paint and polished asphalt; adds the sun's glint. Writes into ``color``."""
        gloss = skin.gloss[hit.pixels]
        shiny = np.flatnonzero(gloss > LEAST_GLOSS)
        if not len(shiny):
            return
        gloss = gloss[shiny]
        sharp = gloss > MIRROR
        ray = hit.rays[shiny] / np.linalg.norm(hit.rays[shiny], axis=1, keepdims=True)
        rough = np.where(sharp, np.float32(0.004), np.float32(0.12))[:, None]
        normal = hit.normals[shiny] + rng.standard_normal((len(shiny), 3), np.float32) * rough
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        cosine = np.clip(-np.einsum("nk,nk->n", ray, normal), 0, 1)
        mirrored = np.asarray(ray + 2 * cosine[:, None] * normal, np.float32)
        share = 0.04 + 0.96 * (1 - cosine) ** 5
        share = (np.where(sharp, np.maximum(share, 0.09), share * 0.6) * gloss)[:, None]
        glint = np.maximum(along(mirrored, self._sun), 0) ** 260 * visible[shiny] * 8 * sharp
        light = self._seen_in_mirror(view, hit, shiny, mirrored) + glint[:, None] * rgb(self._light.sun) / 3
        color[shiny] = color[shiny] * (1 - share) + share * light

    def _seen_in_mirror(self, view: View, hit: Hit, shiny: Pixels, mirrored: FloatArray) -> FloatArray:
        """Radiance along mirrored rays: the sky, or flatly lit houses and street; actors are left out."""
        light, tables = self._light, view.scene.tables
        seen = self._sky.radiance(mirrored)
        found = view.scene.caster.cast(hit.origins[shiny], mirrored).triangle
        solid = found != MISS
        normal = tables.normal.take(found[solid], 0)
        facing = np.abs(np.einsum("nk,nk->n", normal, np.broadcast_to(self._sun, normal.shape)))[:, None]
        received = rgb(light.sun) * 0.3 * facing + rgb(light.sky) * 0.8
        if light.lamps > 0.5:
            received = received + 0.12 * light.lamps * rgb(LAMP_COLOR)
        seen[solid] = tables.albedo.take(found[solid], 0) * 0.7 * received
        return seen


def _hit(view: View, skin: Skin) -> Hit:
    pixels = np.flatnonzero(~view.sky)
    rays = view.directions.take(pixels, 0)
    flat = view.gather("normal").take(pixels, 0)
    flat = np.where((np.einsum("nk,nk->n", flat, rays) > 0)[:, None], -flat, flat)
    points = view.points(pixels)
    origins = points + flat * (0.01 + 0.0008 * view.depth[pixels, None])
    leaf = view.materials.take(pixels) == Material.FOLIAGE
    return Hit(pixels, points, origins.astype(np.float32), flat, skin.normal.take(pixels, 0), rays, leaf)


def _blocked(view: View, hit: Hit, asked: npt.NDArray[Any], directions: FloatArray, reach: float) -> BoolArray:
    """Whether rays from those points meet anything, the static town or an actor, within a reach in metres or so."""
    origins = hit.origins.take(asked, 0)
    blocked = view.scene.caster.blocked(origins, directions, reach)
    if view.moving.caster is not None:
        near = np.flatnonzero(~blocked & (view.depth[hit.pixels[asked]] < ACTOR_REACH))
        blocked[near] = view.moving.caster.blocked(origins.take(near, 0), directions.take(near, 0), reach)
    return blocked


def _smooth(view: View, hit: Hit, values: FloatArray) -> FloatArray:
    """Blurs values ``(n,)`` of the hit pixels over surfaces, not over their edges (a-trous)."""
    value = _image(view, hit, values)
    normal, near = _image(view, hit, hit.flat), _image(view, hit, np.float32(1) / view.depth[hit.pixels])
    height, width = view.shape
    for step in (1, 2, 4):
        padded = [cv2.copyMakeBorder(plane, *(step,) * 4, cv2.BORDER_REFLECT) for plane in (value, normal, near)]
        total, weights = value.copy(), np.ones_like(value)
        for dy in (0, step, 2 * step):
            for dx in (0, step, 2 * step):
                if dx == dy == step:
                    continue
                window = (slice(dy, dy + height), slice(dx, dx + width))
                weight = np.maximum(np.einsum("hwk,hwk->hw", normal, padded[1][window]), 0) ** 4
                weight = weight * (np.abs(padded[2][window] - near) < 0.06 * near + 1e-6)
                total += weight * padded[0][window]
                weights += weight
        value = total / weights
    return np.asarray(value.ravel()[hit.pixels])


def _image(view: View, hit: Hit, values: FloatArray) -> FloatArray:
    """Values of the hit pixels as an image, zero elsewhere."""
    out = np.zeros((len(view.depth), *values.shape[1:]), np.float32)
    out[hit.pixels] = values
    return out.reshape(*view.shape, *values.shape[1:])
