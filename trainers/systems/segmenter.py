"""Segmentation networks: perceptual features, and judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.bundles.published import WeightsError
from models.nets.efficientnet_lite import VERSIONS
from models.nets.segmenter import (
    SEGMENTERS,
    LiteSegmenter,
    PSPNetSegmenter,
    Segmenter,
    backbone_file,
    load_backbone,
)
from sim_bridge.errors import UsageError
from sim_bridge.frames import ByteArray
from trainers.batches.held import SampleSource
from trainers.data.photograph import VOID, Photograph
from trainers.recipes.segmenter import SegmenterRecipe
from trainers.systems.base import MicroBatch, Player, System, Term
from trainers.systems.segmentation import IGNORE_RULE, load_segmenter, predict, score


class SegmenterSystem(System[SegmenterRecipe]):
    """Cross entropy, rare classes weighing more. See :class:`System`.

    Raises:
        UsageError: The recipe's backbone has no published weights here.
    """

    Recipe = SegmenterRecipe
    several_processes: ClassVar[bool] = False
    bundles_at_end: ClassVar[bool] = True
    makes_pictures: ClassVar[bool] = False
    class_weights: Tensor

    def __init__(self, recipe: SegmenterRecipe, classes: Sequence[str], device: torch.device) -> None:
        super().__init__(recipe, classes, device)
        self.network = self.build(recipe, classes)
        try:
            if isinstance(self.network, PSPNetSegmenter):
                assert recipe.backbone is not None
                self.network.fill_backbone(load_backbone(recipe.backbone, recipe.backbone_weights))
            elif isinstance(self.network, LiteSegmenter):
                self.network.fill_backbone()
        except WeightsError as e:
            raise UsageError(f"recipe {recipe.name!r}: {e}") from e
        self.to_device(self.network)
        self.networks = {"network": self.network}
        self.players = (Player("network", self.network, "lr", recipe.clip),)

    def begin(self, samples: Sequence[SampleSource]) -> None:
        """Rare classes weigh more (ENet's rule, 1 / log(1.1 + frequency)), the void class nothing."""
        counts = sum(np.bincount(s.labels.ravel(), minlength=len(self.classes)) for s in samples)
        weights = 1 / np.log(1.1 + counts / np.sum(counts))
        weights[self.classes.index(VOID)] = 0
        self.class_weights = torch.from_numpy(weights).float().to(self.device)

    def forward(self, micro: MicroBatch, stage: Any) -> Tensor:
        """Logits."""
        with self.autocast():
            logits: Tensor = self.network(micro.batch.x)
        return logits.float()

    def losses(self, player: str, made: Tensor, micro: MicroBatch, stage: Any) -> list[Term]:
        """The weighted mean over the pixels; 0 where all are void."""
        labels = micro.batch.s.long()
        by_pixel = F.cross_entropy(made, labels, self.class_weights, reduction="none")
        return [Term("loss", by_pixel.sum() / self.class_weights[labels].sum().clamp_min(1e-6))]

    # Pictures

    @classmethod
    def build(cls, recipe: SegmenterRecipe, classes: Sequence[str]) -> Segmenter:
        """Its backbone has random weights."""
        try:
            own = {} if recipe.backbone is None else {"backbone": recipe.backbone}
            return SEGMENTERS[recipe.arch](len(classes), recipe.width, **own)
        except WeightsError as e:
            raise UsageError(f"recipe {recipe.name!r}: {e}") from e

    @classmethod
    def load(cls, bundle: Path, recipe: SegmenterRecipe, classes: Sequence[str]) -> Segmenter:
        """As the scores load it."""
        return load_segmenter(str(bundle))

    @classmethod
    def pictures(cls, network: Segmenter, photographs: Sequence[Photograph], version: int = 0) -> list[ByteArray]:
        """The classes of the photographs' pixels, each in a colour of its own."""
        colours = np.random.default_rng(0).integers(30, 226, (256, 3), np.uint8)
        return [colours[ids] for ids in predict(network, [p.rgb for p in photographs])]

    @classmethod
    def score(cls, network: Segmenter, photographs: Sequence[Photograph], classes: Sequence[str]) -> dict[str, Any]:
        """On the photographs' labels."""
        predicted, void = predict(network, [p.rgb for p in photographs]), classes.index(VOID)
        result = score(predicted, [p.labels for p in photographs], len(classes), void)
        return {
            "val_pixel_accuracy": round(result.pixel_accuracy, 4),
            "val_mean_iou": round(result.mean_iou, 4),
            "val_iou": result.by_name(classes),
            "val_ignored": round(result.ignored, 4),
            "ignore_rule": IGNORE_RULE.format(void=VOID),
        }

    @classmethod
    def card(cls, network: Segmenter, recipe: SegmenterRecipe, classes: Sequence[str]) -> dict[str, Any]:
        """Of a backbone, what it was trained on."""
        said = {"arch": recipe.arch, "args": network.args}
        if recipe.backbone is None:
            return said
        if isinstance(network, LiteSegmenter):
            file = VERSIONS[recipe.backbone].file
        else:
            file = backbone_file(recipe.backbone, recipe.backbone_weights).name
        return said | {"data": f"backbone trained on ImageNet, {file}"}


SYSTEM = SegmenterSystem
