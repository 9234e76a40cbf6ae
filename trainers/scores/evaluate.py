"""Scores pictures against the photographs with the same labels: a list of metrics, each one function."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from trainers.data.dataset import DataSet
from trainers.data.photograph import Photograph
from trainers.loop.device import pick_device
from trainers.scores.metrics import (
    frechet_distance,
    grid_amplitude,
    mean_difference,
    psnr,
    relative_chroma_detail,
    relative_sharpness,
    ssim,
)
from trainers.systems.segmentation import Judge, deep_features, predict, score

GROUP: Final = "sim_bridge.metrics"
"""Entry points of installed metrics."""


@dataclass(frozen=True)
class Pictures:
    """A set of pictures to score."""

    made: Sequence[ByteArray]  # uint8 (H, W, 3) RGB each; may be the photographs themselves
    photographs: Sequence[Photograph]  # what they were made from and should look like, same order
    classes: Sequence[str]  # the data set's class names by id
    judge: Judge | None  # reads them; None without a judge
    real: RealFeatures  # of the photographs, computed once for all sets

    @property
    def wanted(self) -> list[ByteArray]:
        """The photographs' pixels."""
        return [p.rgb for p in self.photographs]

    @property
    def are_photographs(self) -> bool:
        """Whether the photographs themselves are scored: likeness to themselves says nothing."""
        return all(made is p.rgb for made, p in zip(self.made, self.photographs, strict=True))


class RealFeatures:
    """The judge's view of the photographs; computed when first asked for."""

    def __init__(self, photographs: Sequence[Photograph], classes: Sequence[str], judge: Judge | None) -> None:
        self._photographs, self._classes, self._judge = photographs, classes, judge

    @cached_property
    def labels(self) -> list[ByteArray]:
        """The photographs' labels in the judge's classes."""
        assert self._judge is not None
        return self._judge.labels_of([p.labels for p in self._photographs], self._classes)

    @cached_property
    def deep(self) -> list[npt.NDArray[np.float32]]:
        """Deep features, by photograph."""
        assert self._judge is not None
        return [deep_features(self._judge.network, [p.rgb]) for p in self._photographs]


Metric = Callable[[Pictures], Mapping[str, Any]]
"""Scores a set of pictures: numbers by name, or numbers by class by name. An empty mapping scores nothing."""


def _likeness(pictures: Pictures) -> Mapping[str, Any]:
    """Psnr (dB) and ssim: means of the pictures; sharpness and chroma_detail: shares of the photographs'."""
    if pictures.are_photographs:
        return {}
    made, wanted = pictures.made, pictures.wanted
    pairs = list(zip(made, wanted, strict=True))
    return {
        "psnr": float(np.mean([psnr(m, w) for m, w in pairs])),
        "ssim": float(np.mean([ssim(m, w) for m, w in pairs])),
        "sharpness": relative_sharpness(made, wanted),
        "chroma_detail": relative_chroma_detail(made, wanted),
    }


def _grid(pictures: Pictures) -> Mapping[str, Any]:
    """pxy: checkerboard amplitude of period 2, grey levels."""
    return {"pxy": grid_amplitude(pictures.made)[2]}


def _judged(pictures: Pictures) -> Mapping[str, Any]:
    """judge_accuracy, judge_mean_iou and judge_iou by class: what the judge reads in the pictures."""
    judge = pictures.judge
    if judge is None:
        return dict.fromkeys(("judge_accuracy", "judge_mean_iou", "judge_iou"))
    found = score(predict(judge.network, pictures.made), pictures.real.labels, len(judge.classes), judge.void)
    return {
        "judge_accuracy": found.pixel_accuracy,
        "judge_mean_iou": found.mean_iou,
        "judge_iou": found.by_name(judge.classes),
    }


def _frechet(pictures: Pictures) -> Mapping[str, Any]:
    """frechet: distance of the judge's deep features from the photographs'.

    Of the photographs: of their first half to the second, other places of the same drive: a scale, no floor.
    """
    if pictures.judge is None:
        return {"frechet": None}
    wanted = pictures.real.deep
    if not pictures.are_photographs:
        made = deep_features(pictures.judge.network, pictures.made)
        return {"frechet": frechet_distance(made, np.concatenate(wanted))}
    middle = len(wanted) // 2
    if not middle:
        return {"frechet": None}
    return {"frechet": frechet_distance(np.concatenate(wanted[:middle]), np.concatenate(wanted[middle:]))}


METRICS: Final[Mapping[str, Metric]] = {"likeness": _likeness, "grid": _grid, "judge": _judged, "frechet": _frechet}


def find_metrics(names: Sequence[str]) -> dict[str, Metric]:
    """Metrics of one's own, ``MODULE:FUNCTION`` or an entry point of ``sim_bridge.metrics``; UsageError if unknown."""
    return {name: _find_metric(name) for name in names}


def _find_metric(name: str) -> Metric:
    module, colon, function = name.rpartition(":")
    try:
        if colon:
            found = getattr(importlib.import_module(module), function, None)
        else:
            found = next((entry.load() for entry in entry_points(group=GROUP, name=name)), None)
    except ImportError as e:
        raise UsageError(f"--metric {name}: {e}: install the module, or add its folder to PYTHONPATH") from e
    if not callable(found):
        raise UsageError(f"--metric {name}: there is no such function: give MODULE:FUNCTION of one that takes Pictures")
    metric: Metric = found
    return metric


class Scorer:
    """Scores sets of pictures against the same photographs; what is the photographs' own is computed once."""

    def __init__(
        self,
        photographs: Sequence[Photograph],
        classes: Sequence[str],
        judge: Judge | None = None,
        extra: Mapping[str, Metric] | None = None,
    ) -> None:
        self.photographs, self._classes, self._judge = photographs, classes, judge
        self._metrics = {**METRICS, **(extra or {})}
        self._real = RealFeatures(photographs, classes, judge)
        if judge is not None:
            judge.network.to(pick_device())

    @cached_property
    def of_photographs(self) -> dict[str, Any]:
        """The photographs' own scores."""
        return self._measure([p.rgb for p in self.photographs])

    def score(self, pictures: Sequence[ByteArray], style_seed: int | None = 0) -> dict[str, Any]:
        """Scores by name, those of the photographs as ``photograph_NAME`` beside them.

        Pictures are uint8 ``(H, W, 3)`` RGB, or the renders themselves, which have no style seed.
        """
        made, own = self._measure(pictures), self.of_photographs
        ours, theirs = made["judge_accuracy"], own["judge_accuracy"]
        scores = {"pictures": len(pictures), "style_seed": style_seed, **made}
        scores["judge_ratio"] = ours / theirs if theirs else None
        return scores | {f"photograph_{name}": value for name, value in own.items()}

    def _measure(self, made: Sequence[ByteArray]) -> dict[str, Any]:
        pictures = Pictures(made, self.photographs, self._classes, self._judge, self._real)
        scores: dict[str, Any] = {}
        for metric in self._metrics.values():
            scores |= metric(pictures)
        return scores


def rounded(value: Any) -> Any:
    """As plain values with four digits, for a card or a table."""
    if isinstance(value, Mapping):
        return {name: rounded(part) for name, part in value.items()}
    return round(float(value), 4) if isinstance(value, float | np.floating) else value


def validation_photographs(data: DataSet, every: int) -> list[Photograph]:
    """Every ``every``-th photograph, cropped around its middle row to a height that is a multiple of 32."""
    return [p.crop_to_stride() for p in data[::every]]


def style_differences(by_seed: Mapping[int, Sequence[ByteArray]]) -> float:
    """Smallest mean difference between the pictures of any two style seeds, grey levels."""
    seeds = sorted(by_seed)
    return min(mean_difference(by_seed[a], by_seed[b]) for i, a in enumerate(seeds) for b in seeds[i + 1 :])
