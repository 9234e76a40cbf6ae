"""The data set that a recipe names."""

from __future__ import annotations

from pathlib import Path

from trainers.camvid import CamVid
from trainers.data import DataSet
from trainers.recipe import DataRecipe
from trainers.recordings import Recordings


def open_data(recipe: DataRecipe, root: Path, split: str) -> DataSet:
    """Opens a split; of the validation split the whole, whatever share of the frames trains.

    Raises:
        UsageError: The folder does not hold what the recipe says.
    """
    training = split == "train"
    share = recipe.share if training else "all"
    if recipe.kind == "recordings":
        return Recordings(root, split, renders=recipe.edges == "render", share=share)
    return CamVid(root, split, recipe.exclude if training else (), share, road_lines=recipe.road_lines)
