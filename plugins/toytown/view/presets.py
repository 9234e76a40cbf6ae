"""Weather and light: the few numbers that both looks are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from plugins.toytown.town.surfaces import Color, FloatArray
from sim_bridge.errors import UsageError

Byte3 = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class CgLight:
    """Light of the CG look; colours of light multiply albedo, colours of the sky are bytes.

    Attributes:
        ambient: From all sides.
        overhead: More of it on what faces up.
        sun: On what faces the sun.
        shadow: What is left of the ground's colour in the sun's shadow; 1 casts none.
        haze: What the distance fades into.
        haze_metres: Distance at which 63 % has faded.
        horizon: The sky at the horizon.
        zenith: The sky overhead.
    """

    ambient: Color
    overhead: float
    sun: Color
    shadow: float
    haze: Byte3
    haze_metres: float
    horizon: Byte3
    zenith: Byte3


@dataclass(frozen=True, slots=True)
class PhotoLight:
    """Light of the photo look, linear; 1 is a white surface in clear sky light.

    Attributes:
        sun: Irradiance of the sun on what faces it.
        sun_spread: Radius of the sun's disc as seen by shadows: their softness.
        sky: Irradiance of the whole sky.
        bounce: Light that comes back from the street.
        haze: What the distance fades into.
        haze_metres: Distance at which 63 % has faded.
        horizon: Radiance of the sky at the horizon.
        zenith: Radiance of the sky overhead.
        glow: Radiance around the sun.
        disc: Radiance of the sun itself.
        cloud: Radiance of a cloud.
        cover: Share of the sky that is cloud, about.
        lamps: Strength of street lamps and of vehicles' lights.
        lit_windows: Share of the windows with light behind them.
        exposure: Factor from radiance to the film. Fixed: a sequence has no flicker from exposure.
    """

    sun: Color
    sun_spread: float
    sky: Color
    bounce: Color
    haze: Color
    haze_metres: float
    horizon: Color
    zenith: Color
    glow: Color
    disc: Color
    cloud: Color
    cover: float
    lamps: float
    lit_windows: float
    exposure: float


@dataclass(frozen=True, slots=True)
class Preset:
    """One weather.

    Attributes:
        name: How it is asked for.
        sun: Direction to the sun, azimuth from the x axis and elevation, degrees.
        cg: Light of the CG look.
        photo: Light of the photo look.
    """

    name: str
    sun: tuple[float, float]
    cg: CgLight
    photo: PhotoLight

    @property
    def sun_direction(self) -> FloatArray:
        """Unit vector to the sun, float32 ``(3,)``."""
        azimuth, elevation = np.radians(self.sun)
        flat = np.cos(elevation)
        return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], np.float32)


NOON: Final = Preset(
    "noon",
    (234.0, 48.0),
    CgLight(
        (0.52, 0.52, 0.52), 0.13, (0.62, 0.62, 0.62), 0.62, (200, 215, 228), 420.0, (200, 215, 228), (110, 160, 215)
    ),
    PhotoLight(
        sun=(3.3, 2.85, 2.25),
        sun_spread=0.05,
        sky=(0.48, 0.64, 0.98),
        bounce=(0.5, 0.45, 0.38),
        haze=(0.80, 0.87, 0.95),
        haze_metres=520.0,
        horizon=(0.86, 0.93, 1.0),
        zenith=(0.17, 0.33, 0.70),
        glow=(0.5, 0.4, 0.25),
        disc=(30.0, 26.0, 20.0),
        cloud=(1.15, 1.14, 1.13),
        cover=0.35,
        lamps=0.15,
        lit_windows=0.03,
        exposure=1.1,
    ),
)
OVERCAST: Final = Preset(
    "overcast",
    (234.0, 50.0),
    CgLight(
        (0.62, 0.63, 0.65), 0.22, (0.06, 0.06, 0.06), 1.0, (196, 200, 204), 300.0, (205, 208, 211), (176, 182, 189)
    ),
    PhotoLight(
        sun=(0.06, 0.06, 0.06),
        sun_spread=0.3,
        sky=(1.12, 1.17, 1.25),
        bounce=(0.42, 0.42, 0.41),
        haze=(0.80, 0.82, 0.85),
        haze_metres=330.0,
        horizon=(0.94, 0.96, 0.98),
        zenith=(0.78, 0.82, 0.88),
        glow=(0.12, 0.12, 0.12),
        disc=(0.0, 0.0, 0.0),
        cloud=(0.98, 0.99, 1.01),
        cover=0.9,
        lamps=0.3,
        lit_windows=0.08,
        exposure=1.35,
    ),
)
LOW_SUN: Final = Preset(
    "low-sun",
    (205.0, 13.0),
    CgLight(
        (0.42, 0.44, 0.50), 0.08, (0.86, 0.63, 0.36), 0.58, (232, 208, 176), 340.0, (243, 213, 170), (112, 148, 196)
    ),
    PhotoLight(
        sun=(3.4, 2.2, 1.05),
        sun_spread=0.035,
        sky=(0.40, 0.50, 0.74),
        bounce=(0.5, 0.38, 0.26),
        haze=(1.05, 0.86, 0.62),
        haze_metres=380.0,
        horizon=(1.15, 0.90, 0.60),
        zenith=(0.22, 0.35, 0.62),
        glow=(1.1, 0.66, 0.26),
        disc=(34.0, 22.0, 10.0),
        cloud=(1.25, 1.0, 0.78),
        cover=0.35,
        lamps=0.3,
        lit_windows=0.06,
        exposure=1.75,
    ),
)
DUSK: Final = Preset(
    "dusk",
    (190.0, 2.0),
    CgLight((0.20, 0.22, 0.30), 0.05, (0.05, 0.03, 0.02), 1.0, (92, 88, 112), 260.0, (176, 126, 110), (42, 52, 92)),
    PhotoLight(
        sun=(0.0, 0.0, 0.0),
        sun_spread=0.05,
        sky=(0.11, 0.14, 0.24),
        bounce=(0.06, 0.06, 0.08),
        haze=(0.17, 0.15, 0.19),
        haze_metres=320.0,
        horizon=(0.52, 0.31, 0.22),
        zenith=(0.05, 0.08, 0.19),
        glow=(0.5, 0.22, 0.08),
        disc=(0.0, 0.0, 0.0),
        cloud=(0.20, 0.15, 0.19),
        cover=0.4,
        lamps=1.0,
        lit_windows=0.38,
        exposure=1.35,
    ),
)
PRESETS: Final = {preset.name: preset for preset in (NOON, OVERCAST, LOW_SUN, DUSK)}


def preset_named(name: str) -> Preset:
    """The preset of that name. Raises UsageError: there is none."""
    if name not in PRESETS:
        raise UsageError(f"the preset {name!r} is unknown: use one of {', '.join(PRESETS)}")
    return PRESETS[name]
