"""Which frozen network the perceptual loss of a recipe looks through."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from models.bundles.files import BundleNotFoundError, find_bundle, read_card
from models.bundles.published import WeightsError
from models.losses.perceptual import Perceptual
from models.nets.features import PIX2PIXHD_WEIGHTS, FeatureNetwork, VGG19Features
from sim_bridge.errors import UsageError
from trainers.recipes.sflow import SFlowRecipe
from trainers.systems.segmentation import load_segmenter

_FEATURES: Final = {"recordings": "toytown_features"}
"""Recipe of the segmenter whose features train, by kind of data; for other kinds ``KIND_features``."""


def load_perceptual(recipe: SFlowRecipe, device: torch.device) -> Perceptual | None:
    """The perceptual loss of a recipe, or None where no stage weighs it. Random weights cannot be asked for.

    Raises:
        UsageError: No network is named, or its weights cannot be had or do not fit.
    """
    if not any(s.weights.perceptual for s in recipe.stages):
        return None
    network = _network(recipe).to(device).to(memory_format=torch.channels_last)
    options = recipe.extensions
    slice_weights = PIX2PIXHD_WEIGHTS if options.perceptual_slices == "pix2pixhd" else ()
    if slice_weights:
        with torch.no_grad():
            slices = len(network.features(torch.zeros(1, 3, 32, 32, device=device)))
        if slices != len(slice_weights):
            raise UsageError(
                f"perceptual_slices is 'pix2pixhd', which is for {len(slice_weights)} slices, and the network has"
                f" {slices}: take 'equal'"
            )
    loss = Perceptual(
        network, blur=options.perceptual_blur, normalise=options.perceptual_normalise, slice_weights=slice_weights
    )
    return loss.to(device)


def _network(recipe: SFlowRecipe) -> FeatureNetwork:
    if recipe.perceptual == "vgg19":
        try:
            return VGG19Features(recipe.perceptual_weights)
        except WeightsError as e:
            raise UsageError(f"recipe {recipe.name!r}: {e}") from e
    named = recipe.perceptual_bundle
    if named is None:
        raise UsageError(
            f"recipe {recipe.name!r} weighs 'perceptual' but names no 'perceptual_bundle': {_train_features(recipe)}"
        )
    about = f"perceptual_bundle of recipe {recipe.name!r} is {named!r}"
    try:
        if not read_card(find_bundle(named)).steps:
            raise UsageError(f"{about}, whose card says that it was trained for 0 steps: {_train_features(recipe)}")
        return load_segmenter(named)
    except BundleNotFoundError as e:
        raise UsageError(f"{about}, and there is no such bundle: {_train_features(recipe)}") from e


def _train_features(recipe: SFlowRecipe) -> str:
    """What to do without perceptual features."""
    named = Path(recipe.perceptual_bundle or "")
    run = named.parent if named.name == "bundle" else Path("runs/features")
    features = _FEATURES.get(recipe.data.kind, f"{recipe.data.kind}_features")
    return (
        f"train one by `python trainers/run.py train --recipe {features} --root DATA --run {run}` and name"
        f" {run / 'bundle'}, or set perceptual to vgg19"
    )
