"""The photo twin of a view: four samples a pixel of the same geometry."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from plugins.toytown.looks.photo.film import develop
from plugins.toytown.looks.photo.fronts import FrontPainter
from plugins.toytown.looks.photo.light import Lighting
from plugins.toytown.looks.photo.noise import Textures
from plugins.toytown.looks.photo.surface import Painter, bare_skin
from plugins.toytown.town.surfaces import FloatArray
from plugins.toytown.view.scene import Scene
from plugins.toytown.view.view import View

SAMPLES: Final = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Where in its pixel each sample lies; around the middle, where the labels are taken."""
FIREFLY: Final = 14.0
"""No single sample is brighter: it would shine through the mean."""
_TEXTURE_STREAM: Final = 2
_SAMPLE_STREAM: Final = 3


class PhotoLook:
    """Draws views in the photo look; everything follows from the town's seed, the camera and the time.

    Args:
        scene: The town and its weather.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        light = scene.preset.photo
        textures = Textures(scene.town.seed * 8 + _TEXTURE_STREAM)
        self._painter = Painter(textures, light.lamps)
        self._fronts = FrontPainter(textures, light.lit_windows)
        self._lighting = Lighting(textures, scene.preset, scene.town.lamps)

    def render(self, view: View) -> npt.NDArray[np.uint8]:
        """The photo twin of a view, uint8 ``(H, W, 3)`` RGB."""
        rng = self._random(view)
        light = self.radiance(view, rng)
        return develop(light, self._scene.preset.photo.exposure, rng)

    def radiance(self, view: View, rng: np.random.Generator | None = None) -> FloatArray:
        """Linear radiance before the camera, float32 ``(H, W, 3)``."""
        rng = rng or self._random(view)
        total = np.zeros((len(view.depth), 3), np.float32)
        for dx, dy in SAMPLES:
            sample = View.trace(view.scene, view.moving, view.lens, view.pose, (dx, dy))
            total += np.minimum(self._sample(sample, rng, (4 * dy * 0.75, 4 * dx * 0.75)), FIREFLY)
        return np.asarray(total / len(SAMPLES), np.float32).reshape(*view.shape, 3)

    def _random(self, view: View) -> np.random.Generator:
        """Noise of this image alone: other frames and cameras have their own, and the order of rendering is nothing."""
        place = view.pose.astype(np.float64).view(np.uint64).ravel()
        milliseconds = round(view.time * 1000) % 2**32
        return np.random.default_rng([self._scene.town.seed, _SAMPLE_STREAM, milliseconds, *place.tolist()])

    def _sample(self, view: View, rng: np.random.Generator, disc: tuple[float, float]) -> FloatArray:
        skin = bare_skin(view)
        for paint in (self._painter.road, self._painter.pavement, self._painter.grass, self._painter.foliage):
            paint(view, skin)
        self._fronts.paint(view, skin)
        self._painter.finishes(view, skin)
        return self._lighting.radiance(view, skin, rng, disc)
