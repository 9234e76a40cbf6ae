"""Batches of single frames are, bit for bit, those that shipped bundles were trained on."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.batches.test_workers import draw, sampler
from tests.trainers.recipe_files import changed_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "order": ({}, "83a5c8f152a0a81b", "793f934126105de0"),
    "number": ({"memory": "stream"}, "b7438cd3832beeb6", "67dc84da93043322"),
    "workers": ({"workers": 1}, "b7438cd3832beeb6", "67dc84da93043322"),
    "scaled": ({"scale": [1.0, 1.5]}, "de52c4f477466d1b", "bb32e9cc2cf1d0dd"),
    "scaled by number": ({"scale": [1.0, 1.5], "memory": "stream"}, "a61938701c733545", "29e48cecfce1786f"),
    "resized": ({"resize": [128, 96], "crop": [64, 64]}, "923f3912bf65c90c", "dc6c46333f523c2e"),
    "colour": ({"colour": {"gain": 0.2, "shift": 9}}, "10a4949e9319bc9b", "34020ba01dc247db"),
    "no flip": ({"flip": False}, "f4a73b214838969e", "1962516912658ce6"),
    "road lines": ({"road_lines": True}, "8ae00f8f8a86e469", "6949be30e4f4e2e1"),
    "odd": ({"share": "odd"}, "a4f8f962e41ace43", "8b6a766306db8c86"),
}
"""By name: keys of ``data``, and the digests of three batches with degraded and with whole edges."""


def digest(recipe: Path, root: Path, **data: Any) -> str:
    """Of the six tensors that a batch of single frames always had, and of the losses' window."""
    found = hashlib.sha256()
    for batch, window in draw(sampler(recipe, root, **data), 3):
        for tensor in list(batch)[:6]:
            found.update(str(tuple(tensor.shape)).encode())
            found.update(tensor.contiguous().numpy().tobytes())
        found.update(repr(window).encode())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("name", CASES)
def test_batches_of_single_frames_did_not_change(recipe: Path, camvid: Path, name: str) -> None:
    data, degraded, whole = CASES[name]
    without = changed_recipe(recipe, {"edge_augmentation": None})
    assert (digest(recipe, camvid, **data), digest(without, camvid, **data)) == (degraded, whole)
