"""What an S-Flow recipe becomes without each of its parts: the paper's first, then the extensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from models.edges import EdgeSettings
from trainers.data.camvid import ROAD_LINE
from trainers.recipes.sflow import LossWeights, SFlowRecipe, SFlowStage


def parts(full: SFlowRecipe) -> dict[str, SFlowRecipe]:
    """Recipes by name; one that equals ``full`` lacks a part that ``full`` has not."""
    return {
        "no_dned": _with_stages(full, [_without(s, "dned", "dned_fused", sees="laplacian") for s in full.stages]),
        "no_feature_matching": _with_stages(full, [_without(s, "feature_matching") for s in full.stages]),
        "no_perceptual": _with_stages(full, [_without(s, "perceptual") for s in full.stages]),
        "no_phase_2": _with_stages(full, _without_phase_2(full.stages)),
        **_without_extensions(full),
        "one_edge_sign": full.model_copy(update={"edge": replace(full.edge, signed=False)}),
        "two_edge_scales": full.model_copy(update={"edge": _with_coarse_edges(full.edge)}),
    }


def _with_stages(recipe: SFlowRecipe, stages: Sequence[SFlowStage]) -> SFlowRecipe:
    plain = recipe.model_dump(mode="json") | {"stages": [s.model_dump(mode="json") for s in stages]}
    return SFlowRecipe.model_validate(plain)


def _without_extensions(full: SFlowRecipe) -> dict[str, SFlowRecipe]:
    def extended(**changes: Any) -> dict[str, Any]:
        return {"extensions": full.extensions.model_copy(update=changes)}

    hints = full.extensions.hints
    without: dict[str, dict[str, Any]] = {
        "no_edge_augmentation": extended(edge_augmentation=None),
        "no_road_lines": {"data": full.data.model_copy(update={"road_lines": False})},
        "no_hints": extended(hints=None),
        "d_sees_no_edges": {"discriminator": replace(full.discriminator, sees_edges=False)},
        "whole_chroma": extended(half_chroma=False),
    }
    if hints is not None:
        without["no_kept_hues"] = extended(hints=hints.model_copy(update={"keep_hues": False}))
        if full.data.road_lines and hints.classes != "all":
            kept = tuple(name for name in hints.classes if name != ROAD_LINE)
            without["no_road_lines"] |= extended(hints=hints.model_copy(update={"classes": kept}) if kept else None)
    return {name: full.model_copy(update=changes) for name, changes in without.items()}


def _with_coarse_edges(edge: EdgeSettings) -> EdgeSettings:
    return replace(edge, coarse_blur=edge.coarse_blur or 2.5 * edge.blur)


def _without(stage: SFlowStage, *losses: str, sees: str | None = None) -> SFlowStage:
    weights = LossWeights.model_validate(stage.weights.model_dump() | dict.fromkeys(losses, 0.0))
    return stage.model_copy(update={"weights": weights, "generator_sees": sees or stage.generator_sees})


def _without_phase_2(stages: Sequence[SFlowStage]) -> list[SFlowStage]:
    """From phase 1 to phase 3 at once, which gets phase 2's steps; unchanged without a phase 3."""
    kept, owed = [], 0
    for stage in stages:
        if stage.generator_sees == "dned_detached":
            owed += stage.steps
        elif stage.generator_sees == "dned":
            kept.append(stage.model_copy(update={"steps": stage.steps + owed}))
            owed = 0
        else:
            kept.append(stage)
    return list(stages) if owed else kept
