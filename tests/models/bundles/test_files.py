"""Bundles: what is written is read back, and everything that can be wrong with one is one sentence."""

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.bundles.files import (
    CARD,
    TRAINING,
    WEIGHTS,
    BundleError,
    Card,
    load_bundle,
    load_tensors,
    read_card,
    save_bundle,
    sha256_of,
    shipped_bundles,
)
from models.edges import EdgeSettings
from models.nets.sflow import SFlowNetwork

EDGE = EdgeSettings(threshold=0.11, blur=1.5, contrast_window=31, signed=True)


def card(network: SFlowNetwork) -> Card:
    return Card(
        arch="sflow", args=network.args, classes=[f"class {i}" for i in range(5)], size=[64, 32], edge=EDGE.as_dict(),
        data="none", command="none", steps=0, licence_weights="CC0-1.0", licence_data="none",
    )  # fmt: skip


@pytest.fixture
def network() -> SFlowNetwork:
    torch.manual_seed(1)
    return SFlowNetwork("lite", 5, EDGE, style_spread=1.25).eval()


@pytest.fixture
def bundle(tmp_path: Path, network: SFlowNetwork) -> Path:
    save_bundle(tmp_path / "mine", network, card(network), {"discriminator.w": torch.ones(2)})
    return tmp_path / "mine"


def rewrite_card(bundle: Path, **changes: object) -> None:
    raw = json.loads((bundle / CARD).read_text())
    raw |= changes
    (bundle / CARD).write_text(json.dumps({k: v for k, v in raw.items() if v is not ...}))


def rewrite_weights(bundle: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, bundle / WEIGHTS)
    rewrite_card(bundle, sha256=sha256_of(bundle / WEIGHTS))


def test_round_trip(bundle: Path, network: SFlowNetwork) -> None:
    loaded = load_bundle(bundle)
    assert loaded.name == "mine" and loaded.model_id == sha256_of(bundle / WEIGHTS)[:12]
    assert loaded.sflow.operator.settings == EDGE and loaded.sflow.style_spread == 1.25
    assert not loaded.network.training
    assert load_file(bundle / TRAINING)["discriminator.w"].dtype == torch.float16
    labels, rgb = torch.randint(0, 5, (1, 64, 64), dtype=torch.uint8), torch.randint(0, 256, (1, 64, 64, 3)).byte()
    stored, exact = loaded.sflow.translate(rgb, labels)[0], network.translate(rgb, labels)[0]
    # Weights are stored as fp16: a grey level at most
    assert (stored.int() - exact.int()).abs().max() <= 1


def test_flipped_byte_is_found_before_anything_is_read(bundle: Path) -> None:
    raw = bytearray((bundle / WEIGHTS).read_bytes())
    raw[len(raw) // 2] ^= 1
    (bundle / WEIGHTS).write_bytes(raw)
    with pytest.raises(BundleError, match="damaged or changed"):
        load_bundle(bundle)


def test_missing_unknown_and_misshapen_tensors_are_named(bundle: Path) -> None:
    tensors = load_file(bundle / WEIGHTS)
    gone = tensors.pop("generator.head.weight")
    rewrite_weights(bundle, tensors)
    with pytest.raises(BundleError, match=r"lack the tensor 'generator\.head\.weight' \(1 missing\)"):
        load_bundle(bundle)
    rewrite_weights(bundle, tensors | {"generator.head.weight": gone, "extra": torch.ones(1)})
    with pytest.raises(BundleError, match="unknown tensor 'extra'"):
        load_bundle(bundle)
    rewrite_weights(bundle, tensors | {"generator.head.weight": gone[:1].contiguous()})
    with pytest.raises(BundleError, match=r"'generator\.head\.weight' is \(1, 32, 3, 3\)"):
        load_bundle(bundle)


class Bomb:
    """Unpickling it would make a file: the test looks for it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("unpickled"),))  # type: ignore[return-value]


def test_a_pickle_in_place_of_safetensors_is_refused_unread(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle)
    (bundle / WEIGHTS).write_bytes(pickle.dumps(Bomb()))
    rewrite_card(bundle, sha256=sha256_of(bundle / WEIGHTS))
    with pytest.raises(BundleError, match="never pickle"):
        load_bundle(bundle)
    assert not Path("unpickled").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "stylegan"}, "architecture 'stylegan', known are sflow"),
        ({"format": 2}, "is of format 2"),
        ({"classes": ...}, "lacks classes"),
        ({"surprise": 1}, "unknown keys surprise"),
        ({"args": {"tier": "huge", "classes": 5}}, "does not describe a 'sflow' network"),
        ({"args": {"colour": "red", "classes": 5}}, "does not describe a 'sflow' network"),
        ({"edge": {"kernel": 9}}, "does not describe a 'sflow' network"),
        ({"sha256": "0" * 64}, "damaged or changed"),
        ({"sha256": 5}, "sha256 is 5, it must be a str"),
        ({"licence_weights": None}, "licence_weights is None, it must be a str"),
        ({"arch": ["sflow"]}, "it must be a str"),
        ({"classes": 7}, "classes is 7, it must be a list"),
        ({"classes": [1, 1, 1, 1, 1]}, "the class 1 is not a name"),
        ({"steps": True}, "steps is True, it must be a int"),
        ({"edge": {"blur": float("inf")}}, "Infinity is no JSON number"),
        ({"classes": ["a"] * 6}, "names 6 classes for a network of 5"),
        ({"args": {"tier": "lite", "classes": 5, "style_spread": "wide"}}, "does not describe a 'sflow' network"),
        (
            {"args": {"tier": "lite", "classes": 5, "style_spread": True}},
            "style_spread is True, it must be a finite number",
        ),
        ({"args": {"tier": "lite", "classes": 5, "style_reach": [1, "far"]}}, "must be a list of finite numbers"),
        ({"args": {"tier": "lite", "classes": 5, "hint_classes": [1.5]}}, "must be a list of whole numbers"),
        ({"args": {"tier": "lite", "classes": 5.0}}, "classes is 5.0, it must be a whole number"),
        ({"args": {"tier": "lite", "classes": 5, "keep_hues": 1}}, "keep_hues is 1, it must be true or false"),
        ({"arch": "unet-segmenter", "args": {"classes": 5, "width": 4.5}}, "width is 4.5, it must be a whole number"),
        ({"edge": {"contrast_window": 31.0}}, "contrast_window is 31.0, it must be a whole number"),
        ({"edge": {"threshold": 10**400}}, "does not describe a 'sflow' network"),
        ({"edge": {"blur": 1e9}}, "blur is 1000000000.0, it must be from 0 to 64"),
        ({"recipe": {"data": 5}}, "recipe.data is 5, it must be a dict"),
        ({"normalisation": "rgb / 255"}, "normalisation is 'rgb / 255', known is"),
    ],
)
def test_wrong_cards_are_one_sentence(bundle: Path, changes: dict[str, object], message: str) -> None:
    rewrite_card(bundle, **changes)
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "null", ""])
def test_cards_that_are_no_json_object(bundle: Path, text: str) -> None:
    (bundle / CARD).write_text(text)
    with pytest.raises(BundleError, match=r"not .*JSON"):
        read_card(bundle)


def test_a_card_nested_without_end_is_refused(bundle: Path) -> None:
    (bundle / CARD).write_text("[" * 200_000)
    with pytest.raises(BundleError, match="is not JSON"):
        read_card(bundle)


def test_a_save_that_fails_leaves_the_old_bundle_as_it_was(
    bundle: Path, network: SFlowNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}

    def full(*_: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr("models.bundles.files.sha256_of", full)
    with pytest.raises(OSError, match="no space left"):
        save_bundle(bundle, network, card(network))
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before
    assert [file.name for file in bundle.parent.iterdir()] == ["mine"], "nothing is left beside it"


def test_a_replacement_that_fails_half_way_puts_the_old_bundle_back(
    bundle: Path, network: SFlowNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    rename = Path.rename

    def fail_for_the_new_one(source: Path, target: Path) -> Path:
        if source.name == bundle.name and target == bundle:
            assert not bundle.exists(), "the old one has already left"
            raise OSError("the disk is gone")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="the disk is gone"):
        save_bundle(bundle, network, card(network))
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before
    assert [file.name for file in bundle.parent.iterdir()] == ["mine"], "nothing is left beside it"


def test_a_number_too_large_for_a_float_is_refused(bundle: Path) -> None:
    text = (bundle / CARD).read_text().replace('"threshold": 0.11', '"threshold": 1e999')
    (bundle / CARD).write_text(text)
    with pytest.raises(BundleError, match="threshold is inf, it must be a finite number"):
        load_bundle(bundle)


def test_a_bundle_is_replaced_whole_and_keeps_its_licence(bundle: Path, network: SFlowNetwork) -> None:
    (bundle / "LICENSE").write_text("CC0")
    save_bundle(bundle, network, card(network))
    assert sorted(file.name for file in bundle.iterdir()) == ["LICENSE", CARD, WEIGHTS], "no stale training weights"
    assert load_bundle(bundle).name == "mine"


def test_missing_files(bundle: Path, tmp_path: Path) -> None:
    (bundle / WEIGHTS).unlink()
    with pytest.raises(BundleError, match="are missing"):
        load_bundle(bundle)
    with pytest.raises(BundleError, match=r"neither a folder with a card.json nor one of the shipped ones"):
        load_bundle(tmp_path / "nowhere")


def test_every_shipped_bundle_loads_is_small_and_names_its_licence() -> None:
    assert shipped_bundles()
    for name, path in shipped_bundles().items():
        loaded = load_bundle(name)
        assert loaded.path == path
        assert loaded.card.licence_weights and loaded.card.licence_data and loaded.card.command
        for file in path.iterdir():
            assert file.stat().st_size <= 12_000_000, file


def test_a_segmenter_is_not_taken_for_a_translator() -> None:
    with pytest.raises(BundleError, match="no translator"):
        _ = load_bundle("camvid-judge").sflow


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(bundle: Path, number: float) -> None:
    tensors = load_tensors(bundle / WEIGHTS)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] = number
    rewrite_weights(bundle, tensors)
    with pytest.raises(BundleError, match=f"tensor '{name}' holds values that are no finite numbers"):
        load_bundle(bundle)
