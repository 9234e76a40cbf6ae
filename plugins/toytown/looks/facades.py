"""Where on a house's front a pixel looks: both looks draw windows from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from plugins.toytown.town.surfaces import BoolArray, FloatArray, Material
from plugins.toytown.view.view import Pixels, View


class FacadeView(NamedTuple):
    """The pixels that see a facade, all ``(n,)``.

    Attributes:
        pixels: Which they are.
        house: The house's number.
        facade: float32 ``(n, 8)``, fields of :class:`~plugins.toytown.town.buildings.Facade`.
        u: Metres along the wall, anchored at the house.
        z: Metres above the street.
        upper: Whether it is above the ground floor.
        column: Which column of windows.
        row: Which floor, counted from the first upper one.
        across: Place within the column, -0.5 to 0.5.
        up: Place within the floor, -0.5 to 0.5.
    """

    pixels: Pixels
    house: npt.NDArray[np.uint16]
    facade: FloatArray
    u: FloatArray
    z: FloatArray
    upper: BoolArray
    column: FloatArray
    row: FloatArray
    across: FloatArray
    up: FloatArray


def facade_view(view: View) -> FacadeView:
    """What a view shows of facades."""
    pixels = np.flatnonzero(view.materials == Material.FACADE)
    rows = view.rows.take(pixels)  # houses never move
    house = view.scene.tables.house.take(rows)
    facade = view.scene.facades.take(house, 0)
    x, y, z = view.points(pixels).T
    along_y = np.abs(view.scene.tables.normal[:, 0].take(rows)) > 0.5
    u = np.where(along_y, y - facade[:, 7], x - facade[:, 6])
    across, up = u / facade[:, 0], (z - facade[:, 2]) / facade[:, 1]
    column, row = np.floor(across), np.floor(up)
    upper = z > facade[:, 2]
    return FacadeView(pixels, house, facade, u, z, upper, column, row, across - column - 0.5, up - row - 0.5)
