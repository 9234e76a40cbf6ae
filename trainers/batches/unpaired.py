"""Unpaired drawing: crops of renders that show what crops of photographs show, and photographs of further looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.labels import LabelMap, canonical_name, fallback_chain
from sim_bridge.pixels.preprocess import fit_ids, fit_rgb
from sim_bridge.recordings.captures import label_reader, read_capture, recording_taxonomy
from sim_bridge.recordings.read import Recording
from trainers.batches.draw import draw_place
from trainers.data.dataset import DataSet
from trainers.data.photograph import VOID
from trainers.recipes.schema import DataRecipe

FRAMES: Final = 4
"""Frames among which a photograph's counterpart is looked for."""
PLACES: Final = 16
"""Windows in each."""
EVERY: Final = 4
"""Layouts are compared at every 4th pixel of every 4th row."""


class Render(NamedTuple):
    """RGB ``(H, W, 3)`` and labels ``(H, W)``, uint8."""

    rgb: ByteArray
    labels: ByteArray


class RenderSet:
    """A recording in the classes of the photographs; :meth:`read` fills :attr:`renders`.

    Attributes:
        simulator: The name of its taxonomy up to the first hyphen.

    Raises:
        SimBridgeError: It is no recording, or its labels have no taxonomy.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        recording = Recording.open(folder)
        source = recording_taxonomy(recording, None)
        self._labels = label_reader(recording, source)
        self._map = LabelMap.build(source, classes)
        self._frames = [frame for camera in recording.cameras() for frame in recording.frames(camera)]
        if not self._frames:
            raise UsageError(f"the recording {folder} has no frames: record some, or leave it out of --renders")
        self.folder, self.simulator = folder, source.name.partition("-")[0]
        self.licence = recording.info.licence or "unknown"
        self.renders: list[Render] = []

    def read(self, smallest: tuple[int, int]) -> None:
        """Reads all frames, once; each must be at least ``(width, height)``.

        Raises:
            SimBridgeError: A file is wrong, or a render smaller than that.
        """
        if self.renders:
            return
        for frame in self._frames:
            capture = read_capture(frame, self._labels)
            assert capture.ids is not None
            if capture.size[0] < smallest[0] or capture.size[1] < smallest[1]:
                raise UsageError(
                    f"a render of {self.folder} is {capture.size[0]}x{capture.size[1]}, and crops need"
                    f" {smallest[0]}x{smallest[1]}: lower data.crop, or raise render_scale"
                )
            self.renders.append(Render(capture.rgb, self._map.apply(capture.ids).labels))
        self._labels.finish()


class LookSet(NamedTuple):
    """Photographs of a further look, the share of the samples that shows it, and its ids in the network's classes."""

    data: DataSet
    recipe: DataRecipe
    share: float
    table: ByteArray

    @classmethod
    def of(cls, data: DataSet, recipe: DataRecipe, share: float, classes: Sequence[str]) -> LookSet:
        """Classes are found by name and fallback."""
        return cls(data, recipe, share, translation(data.classes, classes))


class Drawn(NamedTuple):
    """What was drawn for a step, a row a sample; places are shares of what there is, 0 to below 1."""

    look: Tensor  # int64 (N,), 0 is the first
    photo: Tensor  # uint8 (N, H, W, 3), zeros for the first look
    photo_labels: Tensor  # uint8 (N, H, W)
    place: Tensor  # float64 (N, 3 + FRAMES + 2 FRAMES PLACES)


class Unpaired:
    """Draws in order from one generator, whose state a checkpoint keeps.

    Args:
        renders: Read before :meth:`match`.
        looks: Further looks.
        crop: Width and height.
        scale: Smallest and largest factor of renders.
        seed: Of the generator.
    """

    def __init__(
        self,
        renders: Sequence[RenderSet],
        looks: Sequence[LookSet],
        crop: tuple[int, int],
        scale: tuple[float, float],
        seed: int,
    ) -> None:
        self.renders, self.looks, self._crop, self._scale = tuple(renders), tuple(looks), crop, scale
        self.rng = np.random.default_rng((seed, 1))

    def draw(self, count: int) -> Drawn:
        """Photographs of further looks, and where counterparts are looked for."""
        w, h = self._crop
        photo, labels = np.zeros((count, h, w, 3), np.uint8), np.zeros((count, h, w), np.uint8)
        places = self.rng.random((count, 3 + FRAMES * (1 + 2 * PLACES)))
        ends = np.cumsum([look.share for look in self.looks])
        chosen = np.searchsorted(ends, self.rng.random(count), side="right")
        number = np.where(chosen < len(ends), chosen + 1, 0)
        for i in np.flatnonzero(number):
            photo[i], labels[i] = self._photograph(self.looks[number[i] - 1])
        return Drawn(*(torch.from_numpy(a) for a in (number.astype(np.int64), photo, labels, places)))

    def _photograph(self, look: LookSet) -> Render:
        photograph = look.data[int(self.rng.integers(len(look.data)))]
        place = draw_place(photograph.labels.shape, look.recipe, self.rng)
        w, h = self._crop
        cut = photograph.scaled(place.scale).cut(place.top, place.left, h, w)
        step = -1 if place.flip else 1
        return Render(cut.rgb[:, ::step], look.table[cut.labels][:, ::step])

    def match(self, labels: ByteArray, places: npt.NDArray[np.float64], same: ByteArray) -> Matched:
        """Of every sample the window among those drawn whose layout is most like the photograph's.

        Args:
            labels: Of photographs, ``(N, H, W)``.
            places: :attr:`Drawn.place`.
            same: Table of ids ``(256,)``: classes that are compared as one.
        """
        found = [
            self._match(same[one][::EVERY, ::EVERY], place, same) for one, place in zip(labels, places, strict=True)
        ]
        pictures, ids, agree, source = zip(*found, strict=True)
        return Matched(np.stack(pictures), np.stack(ids), np.array(agree, np.float32), np.array(source))

    def _match(
        self, wanted: ByteArray, drawn: npt.NDArray[np.float64], same: ByteArray
    ) -> tuple[ByteArray, ByteArray, float, int]:
        source = _index(drawn[0], len(self.renders))
        renders, step = self.renders[source].renders, -1 if drawn[2] < 0.5 else 1
        low, high = self._scale
        factor = low * (high / low) ** drawn[1]
        best, at = -1.0, (0, 0, 0)
        w, h = self._crop
        places = drawn[3 + FRAMES :].reshape(FRAMES, PLACES, 2)
        for share, windows in zip(drawn[3 : 3 + FRAMES], places, strict=True):
            number = _index(share, len(renders))
            ids = same[_scaled_ids(renders[number].labels, factor)]
            for y, x in windows:
                top, left = _index(y, ids.shape[0] - h + 1), _index(x, ids.shape[1] - w + 1)
                window = ids[top : top + h, left : left + w][:, ::step][::EVERY, ::EVERY]
                if (agree := float((window == wanted).mean())) > best:
                    best, at = agree, (number, top, left)
        number, top, left = at
        rows, columns = slice(top, top + h), slice(left, left + w)
        rgb, ids = _scaled_rgb(renders[number].rgb, factor), _scaled_ids(renders[number].labels, factor)
        return rgb[rows, columns][:, ::step], ids[rows, columns][:, ::step], best, source


class Matched(NamedTuple):
    """Counterparts of photographs.

    Attributes:
        rgb: uint8 ``(N, H, W, 3)``.
        labels: uint8 ``(N, H, W)``.
        agree: Share of pixels of the same class ``(N,)``.
        source: Which recording ``(N,)``.
    """

    rgb: ByteArray
    labels: ByteArray
    agree: npt.NDArray[np.float32]
    source: npt.NDArray[np.int64]


def translation(ours: Sequence[str], theirs: Sequence[str]) -> ByteArray:
    """Table ``(256,)`` from ids of one list of classes to another's, by name, then fallback, then ``unlabeled``."""
    places = {canonical_name(name): i for i, name in reversed([*enumerate(theirs)])}
    table = np.full(256, theirs.index(VOID), np.uint8)
    for number, name in enumerate(ours):
        chain = (canonical_name(name), *fallback_chain(name))
        table[number] = next((places[other] for other in chain if other in places), table[number])
    return table


def merging(classes: Sequence[str], judged_as: Mapping[str, str]) -> ByteArray:
    """Table ``(256,)`` that merges classes.

    Raises:
        UsageError: There is no such class.
    """
    table = np.arange(256, dtype=np.uint8)
    for name, other in judged_as.items():
        if other not in classes:
            raise UsageError(
                f"judged_as names the class {other!r}, the data have {', '.join(classes)}: name one of them"
            )
        if name in classes:
            table[classes.index(name)] = classes.index(other)
    return table


def _index(share: float, count: int) -> int:
    return min(count - 1, int(share * count))


def _scaled_ids(ids: ByteArray, factor: float) -> ByteArray:
    return ids if factor == 1 else fit_ids(ids, _size(ids, factor))


def _scaled_rgb(rgb: ByteArray, factor: float) -> ByteArray:
    return rgb if factor == 1 else fit_rgb(rgb, _size(rgb, factor))


def _size(picture: ByteArray, factor: float) -> tuple[int, int]:
    return round(picture.shape[1] * factor), round(picture.shape[0] * factor)
