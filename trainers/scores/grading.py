"""Fits a grade file: the cheapest rival of a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sim_bridge.pixels.grade import fit
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.batches.unpaired import RenderSet
from trainers.data.open import open_data
from trainers.recipes.schema import DataRecipe

MEASURED: Final = 100
"""Photographs, and renders of each recording."""


def fit_grade(recipe: DataRecipe, root: Path, renders: Sequence[Path], out: Path) -> None:
    """Writes the grade that brings recordings to the training photographs of a recipe, as ``grade:FILE`` reads it.

    Raises:
        SimBridgeError: Photographs or recordings are wrong.
    """
    data = open_data(recipe, root, "train")
    sets = [RenderSet(folder, data.classes) for folder in renders]
    for held in sets:
        held.read((1, 1))
    photographs = (data[i] for i in spread_evenly(range(len(data)), MEASURED))
    graded = fit(
        [render for held in sets for render in spread_evenly(held.renders, MEASURED)],
        [(p.rgb, p.labels) for p in photographs],
        len(data.classes),
    )
    said = {"classes": list(data.classes), "licence": data.licence, "data": data.description, **graded.to_dict()}
    out.write_text(json.dumps(said) + "\n", encoding="utf-8")
