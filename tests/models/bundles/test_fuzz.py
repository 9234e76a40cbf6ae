"""A bundle's files of any content load, or are one sentence."""

import copy
import json
import os
import random
import struct
from pathlib import Path
from typing import Any

from models.bundles.files import CARD, WEIGHTS, ZOO, BundleError, load_bundle, load_tensors

INPUTS = int(os.environ.get("SIM_BRIDGE_FUZZ", "2000"))
CARDS = INPUTS // 4  # each that loads builds a network
HEADERS = INPUTS - CARDS
SOURCE = ZOO / "camvid-lite"
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308, -1e308, 5e-324, "", "a", "\0", "\ud800",
    "x" * 1000, [], [1], [None], [[]], ["a", 1], {}, {"a": 1}, {"": {}}, float("nan"), float("inf"),
)  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something can be put in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(*at, key) for key, _ in items]
    return found + [place for key, inner in items for place in places(inner, (*at, key))]


def changed(value: dict[str, Any], draw: random.Random) -> str:
    """The JSON of a value with something else in it, or not quite JSON."""
    made = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        *way, last = draw.choice(places(made))
        inner = made
        for key in way:
            inner = inner[key]
        if draw.random() < 0.1:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(draw.choice(ODD))
        if not places(made):
            break
    text = json.dumps(made)
    if draw.random() < 0.1:
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice(("", "[" * 50_000, "\0", '"', "1e999", "}")) + text[at + draw.randrange(3) :]
    return text


def attempt(load: Any, *arguments: Any) -> bool:
    """Whether it loads; any error but one sentence fails the test."""
    try:
        load(*arguments)
    except BundleError as error:
        assert "\n" not in str(error).strip()
        return False
    return True


def test_cards_of_any_content(tmp_path: Path) -> None:
    card, draw = json.loads((SOURCE / CARD).read_text()), random.Random(0)
    (tmp_path / WEIGHTS).symlink_to(SOURCE / WEIGHTS)
    refused = 0
    for _ in range(CARDS):
        (tmp_path / CARD).write_text(changed(card, draw))
        refused += not attempt(load_bundle, tmp_path)
    assert refused > CARDS / 4


def test_headers_of_weights_of_any_content(tmp_path: Path) -> None:
    raw, draw, file = (SOURCE / WEIGHTS).read_bytes(), random.Random(0), tmp_path / WEIGHTS
    size = struct.unpack("<Q", raw[:8])[0]
    header = dict(list(json.loads(raw[8 : 8 + size]).items())[:4])
    end = max(entry["data_offsets"][1] for entry in header.values() if "data_offsets" in entry)
    refused = 0
    for _ in range(HEADERS):
        text = changed(header, draw).encode("utf-8", "replace")
        told = draw.choice((len(text), len(text), len(text), 0, len(text) - 1, 2**63, 2**64 - 1))
        file.write_bytes(struct.pack("<Q", told) + text + raw[8 + size : 8 + size + min(end, 4096)])
        refused += not attempt(load_tensors, file)
    assert refused > HEADERS / 4
