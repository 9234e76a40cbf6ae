"""The town's plan: a square grid of streets, and the marks on the road. Metres."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

PITCH: Final = 90.0
"""From street to street."""
BLOCKS: Final = 5
"""Blocks along each side; one more row around them is park."""
LANE: Final = 3.5
"""Half of the road that is driven on; beyond it cars park, up to the kerb."""
KERB: Final = 5.7
"""From the centre line to the kerb."""
FRONT: Final = 9.2
"""From the centre line to the houses."""
PAVEMENT_HEIGHT: Final = 0.14
LOOP_X: Final = (1, 3)
LOOP_Y: Final = (1, 2)
"""Streets that the ego vehicle drives round, by their number."""
PARKS: Final = frozenset({(2, 1), (0, 2), (3, 3), (1, 0)})
TRAM_ROW: Final = LOOP_Y[1]
TRAM_Y: Final = TRAM_ROW * PITCH + 11.4
"""The tram runs on a bed of its own along the north side of that street."""
TRAM_SETBACK: Final = 4.6
"""By how much the houses behind the tram stand back."""

TILE_METRES: Final = 0.05
"""Side of one element of the tile of road marks."""
ASPHALT: Final = 0
PARKING: Final = 1
LINE: Final = 2
MANHOLE: Final = 3


def in_sight(i: int, j: int) -> bool:
    """Whether a block borders on the ego vehicle's loop: only those are furnished."""
    return LOOP_X[0] - 1 <= i <= LOOP_X[1] and LOOP_Y[0] - 1 <= j <= LOOP_Y[1]


def is_edge(i: int, j: int) -> bool:
    """Whether a block belongs to the ring of parks around the town."""
    return min(i, j) < 0 or max(i, j) >= BLOCKS


def road_marks() -> npt.NDArray[np.uint8]:
    """What lies on one period of the road plane, uint8 codes ``(n, n)`` by y and x; (0, 0) is a crossing."""
    tile = _Tile()
    crossing = KERB + 4.5  # half of a crossing with its zebras
    bay = (LANE + KERB) / 2
    for side in (-1, 1):
        tile.both(crossing, side * bay - 1.1, PITCH - crossing, side * bay + 1.1, PARKING)
        tile.both(crossing, side * LANE - 0.06, PITCH - crossing, side * LANE + 0.06, LINE)
    for x in np.arange(crossing + 2, PITCH - crossing - 3, 6.0):
        tile.both(x, -0.07, x + 3, 0.07, LINE)
    for x in (crossing, PITCH - crossing - 12):
        tile.both(x, -0.07, x + 12, 0.07, LINE)
    for y in np.arange(-KERB + 0.4, KERB - 0.3, 1.0):
        for x in (KERB + 0.6, PITCH - KERB - 3.6):
            tile.both(x, y, x + 3, y + 0.5, LINE)
    _stop_lines(tile)
    for x in np.arange(crossing + 6, PITCH - crossing, 6.2):
        for side in (-1, 1):
            tile.both(x - 0.04, side * bay - 1.1, x + 0.04, side * bay + 1.1, LINE)
    for x, y in ((20.0, 1.4), (52.0, -2.1), (70.0, 2.2)):
        tile.disc(x, y, 0.3, MANHOLE)
        tile.disc(y, x, 0.3, MANHOLE)
    return tile.codes


def _stop_lines(tile: _Tile) -> None:
    """One before each crossing, on the right-hand lane."""
    near, far = KERB + 4.2, KERB + 4.6
    tile.rectangle(near, 0, far, LANE, LINE)
    tile.rectangle(PITCH - far, -LANE, PITCH - near, 0, LINE)
    tile.rectangle(-LANE, near, 0, far, LINE)
    tile.rectangle(0, PITCH - far, LANE, PITCH - near, LINE)


class _Tile:
    """The codes of one period, drawn in metres; what leaves it comes in at the other side."""

    def __init__(self) -> None:
        self._side = round(PITCH / TILE_METRES)
        self.codes = np.zeros((self._side, self._side), np.uint8)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, code: int) -> None:
        columns = np.arange(round(x0 / TILE_METRES), round(x1 / TILE_METRES)) % self._side
        rows = np.arange(round(y0 / TILE_METRES), round(y1 / TILE_METRES)) % self._side
        self.codes[np.ix_(rows, columns)] = code

    def both(self, x0: float, y0: float, x1: float, y1: float, code: int) -> None:
        """The same on the street along x and on the one along y."""
        self.rectangle(x0, y0, x1, y1, code)
        self.rectangle(y0, x0, y1, x1, code)

    def disc(self, x: float, y: float, radius: float, code: int) -> None:
        along = (np.arange(self._side) + 0.5) * TILE_METRES
        self.codes[(along - x % PITCH) ** 2 + ((along - y % PITCH) ** 2)[:, None] < radius**2] = code
