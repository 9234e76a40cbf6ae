"""How edge maps of renders differ from those of photographs, before and after DNED.

At run time the edges come from a simulator's picture, in training from photographs. What the generator can make of a
render depends on how far apart the two are: as many edges, as thick, as often in specks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from sim_bridge.pixels.images import write_png
from sim_bridge.pixels.labels import LabelMap, Taxonomy
from sim_bridge.pixels.preprocess import fit_labels, fit_rgb
from sim_bridge.recordings.captures import label_reader, read_capture
from sim_bridge.recordings.labels import LabelReader
from sim_bridge.recordings.read import RecordedFrame, Recording
from sim_bridge.recordings.sheet_rows import spread_evenly
from trainers.data.open import open_data
from trainers.scores.evaluate import validation_photographs
from trainers.scores.export import OpenedBundle

SPECK_PIXELS: Final = 8
"""Connected edge pixels fewer than this are a speck."""
LEAST_SHARE: Final = 0.005
"""Classes with fewer of a set's pixels than this are not compared."""
SHEET_WIDTH: Final = 480
"""Width of each picture on a sheet, pixels."""
_HALF: Final = 128


class Scene(NamedTuple):
    """A picture and its labels: uint8 ``(H, W, 3)`` RGB, uint8 ``(H, W)`` ids of the network's classes."""

    rgb: ByteArray
    labels: ByteArray


@dataclass(frozen=True)
class EdgeStatistics:
    """Edge maps of a set of pictures; an edge pixel is one where any plane is at least one half."""

    density: float  # share of edge pixels
    thickness: float  # pixels: mean over edge pixels of the shorter of the horizontal and the vertical run
    specks: float  # share of edge pixels in connected pieces of fewer than SPECK_PIXELS
    by_class: dict[str, float]  # density within each class that has at least LEAST_SHARE of the pixels

    def gap(self, other: EdgeStatistics) -> float:
        """Mean over the classes of both of |log2 of the ratio of their densities|; 0 is equal, 1 a factor of 2."""
        shared = [name for name in self.by_class if other.by_class.get(name) and self.by_class[name]]
        if not shared:
            return float("nan")
        return float(np.mean([abs(np.log2(self.by_class[n] / other.by_class[n])) for n in shared]))

    def rounded(self) -> dict[str, Any]:
        """As plain values with three digits."""
        by_class = {name: round(value, 3) for name, value in self.by_class.items()}
        return {
            "density": round(self.density, 3),
            "thickness": round(self.thickness, 2),
            "specks": round(self.specks, 3),
            "by_class": by_class,
        }


class Maps(NamedTuple):
    """Edge maps of one picture, uint8 ``(H, W)``, 255 = edge: of the operator, and DNED's ensemble of it."""

    operator: ByteArray
    dned: ByteArray


MapsOf = Callable[[Scene], Maps]
"""A network's edge maps of a picture."""


def statistics(maps: Iterable[ByteArray], labels: Iterable[ByteArray], classes: Sequence[str]) -> EdgeStatistics:
    """Measures edge maps (an edge from 128 on) and labels, uint8 ``(H, W)`` each, together."""
    pixels, edges = np.zeros(len(classes), np.int64), np.zeros(len(classes), np.int64)
    runs, specks = 0.0, 0
    for picture, ids in zip(maps, labels, strict=True):
        mask = picture >= _HALF
        pixels += np.bincount(ids.ravel(), minlength=len(classes))
        edges += np.bincount(ids[mask], minlength=len(classes))
        runs += float(np.minimum(_runs(mask), _runs(mask.T).T)[mask].sum())
        specks += _speck_pixels(mask)
    compared = pixels >= LEAST_SHARE * pixels.sum()
    total = max(1, int(edges.sum()))
    return EdgeStatistics(
        density=float(edges.sum() / max(1, pixels.sum())),
        thickness=runs / total,
        specks=specks / total,
        by_class={name: float(edges[i] / pixels[i]) for i, name in enumerate(classes) if compared[i] and pixels[i]},
    )


def _runs(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Length of the horizontal run that each set pixel belongs to, int32 ``(H, W)``; 0 elsewhere."""
    out = np.zeros(mask.shape, np.int32)
    padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    lengths = np.nonzero(change == -1)[1] - np.nonzero(change == 1)[1]
    out[mask] = np.repeat(lengths, lengths)  # runs and set pixels are both in reading order
    return out


def _speck_pixels(mask: npt.NDArray[np.bool_]) -> int:
    _, _, found, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    sizes = found[1:, cv2.CC_STAT_AREA]  # the first one is what is no edge
    return int(sizes[sizes < SPECK_PIXELS].sum())


def render_scenes(
    frames: Sequence[RecordedFrame], reader: LabelReader, classes: Sequence[str], size: tuple[int, int] | None
) -> Iterator[Scene]:
    """A simulator's frames as the bridge gives them to a network: ``size`` (width, height), the network's classes.

    ImageError where a file is missing or cannot be decoded; LabelError where ids are outside the taxonomy, or the
    network lacks a class for one.
    """
    table = LabelMap.build(reader.source, classes)
    for frame in frames:
        capture = read_capture(frame, reader)
        assert capture.ids is not None  # a taxonomy was given
        labels = table.apply(fit_labels(capture.ids, size)).labels
        yield Scene(np.ascontiguousarray(fit_rgb(capture.rgb, size)), np.asarray(labels))


@dataclass(frozen=True)
class EdgeGap:
    """Edge maps of one set of renders beside those of the photographs."""

    before: EdgeStatistics  # of the operator's maps
    after: EdgeStatistics  # of DNED's
    photographs: EdgeStatistics  # of the operator's maps of photographs
    photographs_after: EdgeStatistics  # of DNED's maps of photographs, which train G; ``after`` is compared to it

    def rounded(self) -> dict[str, Any]:
        """As plain values with three digits."""
        return {
            "operator": self.before.rounded(),
            "dned": self.after.rounded(),
            "gap_operator": round(self.before.gap(self.photographs), 3),
            "gap_dned": round(self.after.gap(self.photographs_after), 3),
        }


class EdgeStudy:
    """Compares renders with ``photographs`` through one network, by its operator's maps and DNED's."""

    def __init__(self, maps_of: MapsOf, classes: Sequence[str], photographs: Sequence[Scene]) -> None:
        self._maps_of, self._classes = maps_of, classes
        self.photographs, self.photographs_dned = self._measure(photographs)

    def compare(self, renders: Sequence[Scene]) -> EdgeGap:
        """The gap between renders and the photographs."""
        return EdgeGap(*self._measure(renders), self.photographs, self.photographs_dned)

    def draw(self, scenes: Sequence[Scene], width: int) -> ByteArray:
        """Rows of picture, E and DNED's ensemble, uint8 ``(H, 3 * width, 3)`` RGB."""
        rows = []
        for scene in scenes:
            maps = [np.repeat(m[..., None], 3, 2) for m in self._maps_of(scene)]
            height = round(scene.rgb.shape[0] * width / scene.rgb.shape[1])
            rows.append(np.hstack([fit_rgb(picture, (width, height)) for picture in (scene.rgb, *maps)]))
        return np.vstack(rows)

    def _measure(self, scenes: Sequence[Scene]) -> tuple[EdgeStatistics, EdgeStatistics]:
        maps, labels = [self._maps_of(scene) for scene in scenes], [scene.labels for scene in scenes]
        of_operator, of_dned = zip(*maps, strict=True)
        return statistics(of_operator, labels, self._classes), statistics(of_dned, labels, self._classes)


def maps_of(bundle: OpenedBundle) -> MapsOf:
    """The edge maps that a bundle's network sees and makes; UsageError where it has none."""

    def maps(scene: Scene) -> Maps:
        found = bundle.system.maps(bundle.network, scene.rgb, scene.labels)
        if not found:
            raise UsageError(f"a {bundle.card.arch!r} makes no edge maps: give a bundle of arch 'sflow'")
        return Maps(**found)

    return maps


def study_folders(
    bundle_name: str,
    root: Path,
    every: int,
    sources: Sequence[tuple[Recording, Taxonomy]],
    count: int,
    size: tuple[int, int],
    sheet: Path | None,
) -> dict[str, Any]:
    """Compares folders of renders with the validation photographs of the data that a bundle was trained with.

    Takes every n-th photograph and ``count`` frames of each folder, spread evenly, at the bridge's ``size`` (width,
    height). Draws some pictures and their maps to ``sheet``, if any. Returns statistics by set, plain values.
    """
    bundle = OpenedBundle.load(bundle_name)
    trained = bundle.data.model_copy(update={"edges_from": "photograph"})
    photographs = [Scene(p.rgb, p.labels) for p in validation_photographs(open_data(trained, root, "val"), every)]
    study = EdgeStudy(maps_of(bundle), bundle.card.classes, photographs)
    result: dict[str, Any] = {
        "photographs": {"operator": study.photographs.rounded(), "dned": study.photographs_dned.rounded()}
    }
    drawn = [study.draw(photographs[:: max(1, len(photographs) // 2)][:2], SHEET_WIDTH)]
    for recording, source in sources:
        frames = [frame for camera in recording.cameras() for frame in recording.frames(camera)]
        scenes = list(
            render_scenes(spread_evenly(frames, count), label_reader(recording, source), bundle.card.classes, size)
        )
        result[recording.root.resolve().name] = study.compare(scenes).rounded()
        drawn.append(study.draw(scenes[:: max(1, len(scenes) // 2)][:2], SHEET_WIDTH))
    if sheet is not None:
        write_png(sheet, np.ascontiguousarray(np.vstack(drawn)[..., ::-1]))
    return result
