"""Scores a translation network on validation photographs: is it sharp, free of the grid, and still read by a judge?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.nets.sflow import SFlowNetwork, edges_to_pixels, to_pixels
from sim_bridge.frames import ByteArray
from trainers.batches.degrade import EdgeAugmentation, degrade
from trainers.batches.sample import prepare
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
from trainers.scores.segmentation import Judge, deep_features, predict, score


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of generated pictures; those of the photographs themselves stand beside them.

    Attributes:
        pictures: How many photographs.
        style_seed: Which version was generated; None of untranslated renders.
        psnr: dB, mean of the pictures.
        ssim: Structural similarity, mean of the pictures.
        sharpness: Share of the photographs' (mean absolute Laplacian).
        chroma_detail: Likewise of the chroma; what is above 1 is colour noise.
        pxy: Checkerboard amplitude of period 2, grey levels.
        photograph_pxy: The photographs' own.
        judge_accuracy: Pixel accuracy of the judge on the generated pictures; None without a judge.
        photograph_judge_accuracy: On the photographs.
        judge_ratio: The first over the second; None where that is 0.
        judge_mean_iou: Mean IoU of the judge on the generated pictures.
        photograph_judge_mean_iou: On the photographs.
        judge_iou: IoU by class, of the classes that occur.
        photograph_judge_iou: On the photographs.
        frechet: Fréchet distance of the judge's deep features, see :func:`~trainers.scores.metrics.frechet_distance`.
        photograph_frechet: Of the first half of the photographs to the second, other places of the same drive: a
            scale, no floor.
    """

    pictures: int
    style_seed: int | None
    psnr: float
    ssim: float
    sharpness: float
    chroma_detail: float
    pxy: float
    photograph_pxy: float
    judge_accuracy: float | None = None
    photograph_judge_accuracy: float | None = None
    judge_ratio: float | None = None
    judge_mean_iou: float | None = None
    photograph_judge_mean_iou: float | None = None
    judge_iou: dict[str, float] | None = None
    photograph_judge_iou: dict[str, float] | None = None
    frechet: float | None = None
    photograph_frechet: float | None = None

    def rounded(self) -> dict[str, Any]:
        """As plain values with four digits, for a card or a table."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def validation_photographs(data: DataSet, every: int) -> list[Photograph]:
    """Every ``every``-th photograph, cropped around its middle row to a height that is a multiple of 32."""
    return [p.crop_to_stride() for p in data[::every]]


def _inputs(network: SFlowNetwork, photograph: Photograph) -> tuple[Tensor, Tensor]:
    """The picture whose edges are seen and the labels, as a batch on the network's device."""
    rgb, labels = torch.from_numpy(photograph.shown_rgb)[None], torch.from_numpy(photograph.labels)[None]
    return rgb.to(network.device), labels.to(network.device)


def generate(
    network: SFlowNetwork,
    photographs: Sequence[Photograph],
    style_seed: int = 0,
    *,
    hints: bool = True,
    degradation: EdgeAugmentation | None = None,
) -> list[ByteArray]:
    """Pictures made from the labels and edges of photographs, uint8 ``(H, W, 3)`` RGB.

    Args:
        network: What makes them.
        photographs: From what.
        style_seed: Which version.
        hints: Give colour hints, where the network takes them. Of photographs without renders they come from the very
            picture that is to be made.
        degradation: Degrade the edge maps first, as training does; the same for every network. None leaves them whole.
    """
    weights = network.style_weights(style_seed)[None].to(network.device)
    out = []
    for index, photograph in enumerate(photographs):
        rgb, labels = _inputs(network, photograph)
        edges = network.operator(rgb) if degradation is None else _degraded(network, photograph, degradation, index)
        picture, _ = network.translate_edges(edges, labels, weights, rgb if hints else None)
        out.append(picture[0].cpu().numpy())
    return out


def _degraded(network: SFlowNetwork, photograph: Photograph, settings: EdgeAugmentation, seed: int) -> Tensor:
    rng, classes = np.random.default_rng(seed), len(network.hinted)
    planes = degrade(prepare(photograph, network.operator), settings, classes, rng)
    return torch.from_numpy(planes)[None].to(network.device)


@torch.inference_mode()
def generate_plain(network: SFlowNetwork, photographs: Sequence[Photograph]) -> list[ByteArray]:
    """As :func:`generate`, but the generator sees E(x) itself (phase 1). Sizes must be multiples of 32."""
    out = []
    for photograph in photographs:
        rgb, labels = _inputs(network, photograph)
        edges, hints = network.operator(rgb).to(network.dtype), network.hints_of_pixels(rgb, labels)
        out.append(to_pixels(network.generator(labels, edges, hints=hints))[0].cpu().numpy())
    return out


@torch.inference_mode()
def edge_maps(network: SFlowNetwork, photograph: Photograph) -> tuple[ByteArray, ByteArray]:
    """E of the picture that is seen and what the generator sees of it (DNED's ensemble), uint8 ``(H, W)``."""
    e = network.operator(_inputs(network, photograph)[0]).to(network.dtype)
    return edges_to_pixels(e)[0].cpu().numpy(), edges_to_pixels(network.edges_shown(e))[0].cpu().numpy()


def evaluate(
    photographs: Sequence[Photograph],
    generated: Sequence[ByteArray],
    style_seed: int | None,
    judge: Judge | None,
    classes: Sequence[str],
) -> Evaluation:
    """Scores generated pictures against the photographs whose labels and edges they were made from.

    Args:
        photographs: What the pictures were made from.
        generated: The pictures, uint8 ``(H, W, 3)`` RGB, or the renders themselves.
        style_seed: Which version; None of renders.
        judge: What reads them; None leaves its scores out.
        classes: The data set's class names by id.
    """
    real = [p.rgb for p in photographs]
    base = Evaluation(
        pictures=len(real),
        style_seed=style_seed,
        psnr=_mean(psnr, generated, real),
        ssim=_mean(ssim, generated, real),
        sharpness=relative_sharpness(generated, real),
        chroma_detail=relative_chroma_detail(generated, real),
        pxy=grid_amplitude(generated)[2],
        photograph_pxy=grid_amplitude(real)[2],
    )
    if judge is None:
        return base
    judge.network.to(pick_device())
    labels = judge.labels_of([p.labels for p in photographs], classes)
    ours, oracle = (score(predict(judge.network, p), labels, len(judge.classes), judge.void) for p in (generated, real))
    seen, wanted = deep_features(judge.network, generated), [deep_features(judge.network, [p]) for p in real]
    halves = [np.concatenate(half) for half in (wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]) if half]
    return replace(
        base,
        judge_accuracy=ours.pixel_accuracy,
        photograph_judge_accuracy=oracle.pixel_accuracy,
        judge_ratio=ours.pixel_accuracy / oracle.pixel_accuracy if oracle.pixel_accuracy else None,
        judge_mean_iou=ours.mean_iou,
        photograph_judge_mean_iou=oracle.mean_iou,
        judge_iou=ours.by_name(judge.classes),
        photograph_judge_iou=oracle.by_name(judge.classes),
        frechet=frechet_distance(seen, np.concatenate(wanted)),
        photograph_frechet=frechet_distance(*halves) if len(halves) == 2 else None,
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def _mean(
    metric: Callable[[ByteArray, ByteArray], float], pictures: Sequence[ByteArray], real: Sequence[ByteArray]
) -> float:
    return float(np.mean([metric(p, r) for p, r in zip(pictures, real, strict=True)]))


def style_differences(by_seed: dict[int, list[ByteArray]]) -> float:
    """Smallest mean difference between the pictures of any two style seeds, grey levels."""
    seeds = sorted(by_seed)
    return min(mean_difference(by_seed[a], by_seed[b]) for i, a in enumerate(seeds) for b in seeds[i + 1 :])
