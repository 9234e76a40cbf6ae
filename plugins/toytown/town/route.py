"""Closed paths with a smooth heading, driven with a period."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.mesh import rounded

_TABLE_SECONDS: Final = 0.05
_BRAKING_METRES: Final = 12.0
_TURN: Final = 0.01
"""Curvature, 1/m, from which a vehicle takes a turn slowly."""

DoubleArray = npt.NDArray[np.float64]


class Stand(NamedTuple):
    """Where a vehicle is: metres, and its heading in radians from the x axis."""

    x: float
    y: float
    yaw: float


class Rectangle(NamedTuple):
    """A rectangle with round corners, metres."""

    low: tuple[float, float]
    high: tuple[float, float]
    radius: float


class Route:
    """A rectangle driven round for ever, slower in its corners.

    Args:
        shape: The path.
        clockwise: Which way.
        speed: Metres per second.
        turn_speed: The same in corners.
        step: Metres between the points of the path.
        smooth: Width of the smoothing of its corners, in steps.

    Attributes:
        period: Seconds for one round.
    """

    def __init__(
        self,
        shape: Rectangle,
        *,
        clockwise: bool,
        speed: float,
        turn_speed: float | None = None,
        step: float = 0.1,
        smooth: int = 25,
    ) -> None:
        points = np.array(rounded(*shape, steps=24))
        path = _smoothed(points[::-1] if clockwise else points, step, smooth)
        ahead = np.roll(path, -1, 0) - path
        length = np.r_[0, np.cumsum(np.hypot(*ahead.T))]
        yaw = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))
        round_turn = np.round((yaw[-1] - yaw[0]) / (2 * np.pi)) * 2 * np.pi
        path, yaw = np.r_[path, path[:1]], np.r_[yaw, yaw[0] + round_turn]
        curved = np.abs(np.gradient(yaw, length)) > _TURN
        speeds = _eased(np.where(curved, turn_speed or speed, speed), round(_BRAKING_METRES / step))
        times = np.r_[0, np.cumsum(np.diff(length) / speeds[:-1])]
        self.period = float(times[-1])
        self._steps = int(self.period / _TABLE_SECONDS) + 1
        at = np.linspace(0, self.period, self._steps + 1)
        columns = [np.interp(at, times, column) for column in (path[:, 0], path[:, 1], yaw)]
        # Plain numbers: a look-up of one place is several times faster than in an array.
        self._table: list[list[float]] = np.stack(columns, 1).tolist()

    def at(self, time: float) -> Stand:
        """Where one is after ``time`` seconds, which may be negative."""
        place = time % self.period / self.period * self._steps
        index = min(int(place), self._steps - 1)
        part = place - index
        a, b = self._table[index], self._table[index + 1]
        return Stand(*(p + part * (q - p) for p, q in zip(a, b, strict=True)))


def _smoothed(points: DoubleArray, step: float, smooth: int) -> DoubleArray:
    """The closed path through ``points`` ``(n, 2)`` at equal steps, its corners eased by a Gaussian."""
    closed = np.r_[points, points[:1]]
    length = np.r_[0, np.cumsum(np.hypot(*np.diff(closed, axis=0).T))]
    at = np.arange(0, length[-1], step)
    reach = 4 * smooth
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / smooth) ** 2)
    kernel /= kernel.sum()
    columns = [np.interp(at, length, closed[:, k]) for k in (0, 1)]
    return np.stack([np.convolve(np.r_[c[-reach:], c, c[:reach]], kernel, "valid") for c in columns], 1)


def _eased(speeds: DoubleArray, reach: int) -> DoubleArray:
    """Speeds averaged over ``reach`` steps before and behind: nobody brakes at once."""
    reach = min(reach, len(speeds) - 1)
    window = np.ones(2 * reach + 1) / (2 * reach + 1)
    return np.asarray(np.convolve(np.r_[speeds[-reach:], speeds, speeds[:reach]], window, "valid"), np.float64)
