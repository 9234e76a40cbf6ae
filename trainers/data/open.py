"""The data set that a recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from sim_bridge.pixels.labels import LabelMap
from sim_bridge.recordings.labels import LabelReader
from trainers.data.camvid import CamVid
from trainers.data.cityscapes import Cityscapes
from trainers.data.clips import FrameFiles, Video
from trainers.data.dataset import DataSet
from trainers.data.photograph import Inspection
from trainers.data.problems import EmptySplitError, Problem
from trainers.data.recordings import Recordings
from trainers.data.synthia import Synthia
from trainers.recipes.schema import DataRecipe


class Resized(DataSet):
    """A data set at another size, as the live bridge resizes: pictures by area, labels to the nearest pixel centre."""

    def __init__(self, data: DataSet, size: tuple[int, int]) -> None:
        self._data, self._size = data, size
        self.classes, self.problems = data.classes, data.problems
        self.licence, self.credit = data.licence, data.credit
        self.description = f"{data.description}, at {size[0]}x{size[1]}"

    def __len__(self) -> int:
        return len(self._data)

    @cached_property
    def readers(self) -> dict[LabelMap, LabelReader]:
        """Those of the data set."""
        return self._data.readers

    def frame(self, index: int) -> FrameFiles:
        """The files of one sample."""
        return self._data.frame(index)

    def videos(self) -> Sequence[Video]:
        """Those of the data set."""
        return self._data.videos()

    def inspect_frame(self, frame: FrameFiles, *, flow: bool = False) -> Inspection:
        """Reads a frame and resizes it."""
        photograph, problems = self._data.inspect_frame(frame, flow=flow)
        return Inspection(None if photograph is None else photograph.resized(self._size), problems)


def open_data(recipe: DataRecipe, root: Path, split: str, *, instances: bool = False, strict: bool = True) -> DataSet:
    """Opens a split, ``train`` or ``val``; of ``val`` the whole, whatever share of the frames trains.

    Cityscapes has ``instances``. ``strict`` raises problems of the listing, a UsageError, instead of keeping them.
    """
    data = _open(recipe, root, split, instances, strict)
    if recipe.resize is not None:
        data = Resized(data, recipe.resize)
    if recipe.frames > 1:
        _choose_clips(data, recipe, root / split, may_have_none=split != "train", strict=strict)
    return data


def _choose_clips(data: DataSet, recipe: DataRecipe, folder: Path, *, may_have_none: bool, strict: bool) -> None:
    """Makes clips the samples of a set; a set that only validates may be without."""
    try:
        data.clips = tuple(data.cut_clips(recipe.frames, recipe.frame_step, recipe.labels))
    except EmptySplitError as error:
        if may_have_none:
            return
        data.problems = (*data.problems, Problem(folder, error))
        if strict:
            data.refuse_problems()


def _open(recipe: DataRecipe, root: Path, split: str, instances: bool, strict: bool) -> DataSet:
    share, exclude = (recipe.share, recipe.exclude) if split == "train" else ("all", ())
    match recipe.kind:
        case "recordings":
            renders = recipe.edges_from == "render"
            return Recordings(root, split, renders=renders, exclude=exclude, share=share, strict=strict)
        case "cityscapes":
            return Cityscapes(root, split, exclude, share, instances=instances, strict=strict)
        case "synthia":
            return Synthia(
                root,
                split,
                exclude,
                share,
                val_share=recipe.val_share,
                val_sequences=recipe.val_sequences,
                views=recipe.views,
                strict=strict,
            )
        case "camvid":
            return CamVid(root, split, exclude, share, road_lines=recipe.road_lines, strict=strict)
