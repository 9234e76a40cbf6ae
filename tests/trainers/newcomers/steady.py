"""An objective on pairs of frames: what S-Flow makes of two consecutive frames differs little."""

from __future__ import annotations

from typing import Any

from trainers.recipes.schema import Weight
from trainers.recipes.sflow import SFlowRecipe
from trainers.systems.base import MicroBatch, Term
from trainers.systems.sflow import Forward, SFlow


class SteadyRecipe(SFlowRecipe):
    """Of all keys, one is new."""

    steady: Weight = 1.0


class Steady(SFlow):
    Recipe = SteadyRecipe
    recipe: SteadyRecipe

    def losses(self, player: str, made: Forward, micro: MicroBatch, stage: Any) -> list[Term]:
        terms = super().losses(player, made, micro, stage)
        if player == "g":
            frames = micro.batch.by_clip(made.fake)
            terms.append(Term("steady", (frames[:, 1:] - frames[:, :-1]).abs().mean(), self.recipe.steady))
        return terms
