"""Labels: every taxonomy whole, every fallback as measured, every stray named, every real capture read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sim_bridge.errors import LabelError
from sim_bridge.pixels.images import read_image
from sim_bridge.pixels.labels import (
    STRAY_ID,
    LabelMap,
    Via,
    canonical_name,
    fallback_chain,
    ids_from_carla_raw,
    ids_from_image,
    ids_from_palette,
    taxonomy,
    taxonomy_names,
)

Bytes = npt.NDArray[np.uint8]

CAMVID = tuple(taxonomy("camvid").ids[number] for number in range(12))
CITYSCAPES_TRAIN = (*(taxonomy("cityscapes-train").ids[number] for number in range(19)), "unlabeled")


def table(pairs: dict[int, int]) -> list[int]:
    return [pairs.get(number, 11) for number in range(256)]


# The maps that the training study measured with; ids of the taxonomy to CamVid's.
MEASURED = {
    "carla-0.9.14": table(
        {1: 3, 2: 4, 3: 1, 4: 1, 5: 7, 6: 2, 7: 6, 8: 6, 9: 5, 10: 5, 11: 0, 12: 9, 13: 10, 14: 8, 15: 8, 16: 8}
        | {17: 8, 18: 10, 19: 10, 20: 11, 21: 11, 22: 11, 23: 11, 24: 3, 25: 4, 26: 1, 27: 3, 28: 7}
    ),
    "carla-0.9.10": table(
        {1: 1, 2: 7, 3: 11, 4: 9, 5: 2, 6: 3, 7: 3, 8: 4, 9: 5, 10: 8, 11: 1, 12: 6, 13: 0, 14: 4, 15: 1, 16: 3}
        | {17: 7, 18: 6, 19: 11, 20: 11, 21: 11, 22: 5}
    ),
    "carla-0.9.0": table({0: 0, 1: 1, 2: 7, 4: 9, 5: 2, 6: 3, 7: 3, 8: 4, 9: 5, 10: 8, 11: 1, 12: 6}),
    "cityscapes": table(
        {23: 0, 11: 1, 12: 1, 15: 1, 16: 1, 17: 2, 18: 2, 7: 3, 9: 3, 10: 3, 6: 4, 8: 4, 21: 5, 22: 5, 19: 6, 20: 6}
        | {13: 7, 14: 7, 26: 8, 27: 8, 28: 8, 29: 8, 30: 8, 31: 8, 24: 9, 25: 10, 32: 10, 33: 10}
    ),
    "camvid": table({number: number for number in range(12)}),
}


def test_all_taxonomies_are_there() -> None:
    expected = {"carla-0.9.14", "carla-0.9.10", "carla-0.9.0", "cityscapes", "cityscapes-train", "synthia", "camvid"}
    assert set(taxonomy_names()) == expected | {"synthia-seqs", "toytown"}


@pytest.mark.parametrize("name", taxonomy_names())
def test_tables_are_whole(name: str) -> None:
    source = taxonomy(name)
    assert source.name == name
    assert source.ids.keys() == source.palette.keys()
    assert all(0 <= number <= 255 for number in source.ids)
    assert len(set(source.ids.values())) == len(source.ids)
    assert all(len(color) == 3 and all(0 <= value <= 255 for value in color) for color in source.palette.values())
    for own, canonical in source.aliases.items():
        assert canonical_name(own) == canonical
    for canonical in source.ids.values():
        assert canonical_name(canonical) == canonical
        assert canonical == "unlabeled" or fallback_chain(canonical) or canonical in {"sky", "car"} | UNPLACED


UNPLACED = {"static", "dynamic", "water", "ego vehicle", "rectification border", "out of roi"}


def test_fallbacks_lead_to_known_classes_and_never_to_themselves() -> None:
    known = {name for source in taxonomy_names() for name in taxonomy(source).ids.values()}
    for name in known:
        chain = fallback_chain(name)
        assert name not in chain
        assert len(set(chain)) == len(chain)
        assert set(chain) <= known


def test_cityscapes_and_carla_share_names_and_colours() -> None:
    carla, train, full = taxonomy("carla-0.9.14"), taxonomy("cityscapes-train"), taxonomy("cityscapes")
    by_name = {name: number for number, name in full.ids.items()}
    for number in range(19):
        assert carla.ids[number + 1] == train.ids[number]
        assert carla.palette[number + 1] == train.palette[number] == full.palette[by_name[train.ids[number]]]


def test_toytown_is_cityscapes_and_road_lines() -> None:
    assert taxonomy("toytown").ids == {**taxonomy("cityscapes").ids, 34: "road line"}


@pytest.mark.parametrize("name", MEASURED)
def test_camvid_map_is_the_measured_one(name: str) -> None:
    built = LabelMap.build(taxonomy(name), CAMVID)
    assert built.table.tolist() == MEASURED[name]


def test_report_says_where_each_class_went_and_how() -> None:
    report = {line.source: line for line in LabelMap.build(taxonomy("carla-0.9.14"), CAMVID).report}
    assert len(report) == 29
    assert report["building"][2:] == ("building", Via.NAME)
    assert report["rider"] == (13, "rider", "bicyclist", Via.FALLBACK)
    assert report["water"][2:] == ("unlabeled", Via.UNLABELED)


def test_camvid_reads_as_cityscapes() -> None:
    built = LabelMap.build(taxonomy("camvid"), CITYSCAPES_TRAIN)
    went = {line.source: line.target for line in built.report}
    assert went.pop("bicyclist") == "rider"
    assert all(source == target for source, target in went.items())


def test_targets_may_use_other_names_and_come_in_any_order() -> None:
    built = LabelMap.build(taxonomy("cityscapes"), ("Void", "Pavement", "tree", "traffic-sign", "Vehicle"))
    assert built.table[[8, 21, 22, 19, 20, 26, 28, 0, 200]].tolist() == [1, 2, 2, 3, 3, 4, 4, 0, 0]
    assert dict(zip(("sidewalk", "car"), (built.report[8].target, built.report[26].target), strict=True)) == {
        "sidewalk": "Pavement",
        "car": "Vehicle",
    }


def test_a_target_without_unlabeled_must_say_who_takes_the_rest() -> None:
    classes = CITYSCAPES_TRAIN[:-1]
    with pytest.raises(LabelError, match="add 'unlabeled'"):
        LabelMap.build(taxonomy("carla-0.9.14"), classes)
    built = LabelMap.build(taxonomy("carla-0.9.14"), classes, unlabeled="building")
    assert built.table[[0, 20, 23, 255]].tolist() == [2, 2, 2, 2]
    with pytest.raises(LabelError, match="limit is 256"):
        LabelMap.build(taxonomy("camvid"), [f"class {number}" for number in range(257)])


def test_target_names_nobody_knows_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    LabelMap.build(taxonomy("camvid"), ("unlabeled", "sidewlk"))
    assert "sidewlk" in caplog.text


@given(
    st.sampled_from(taxonomy_names()),
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)),
)
def test_apply_is_the_table_or_an_error(name: str, ids: Bytes) -> None:
    built = LabelMap.build(taxonomy(name), CAMVID)
    strays = int((~np.isin(ids, list(taxonomy(name).ids))).sum())
    if strays > 0.001 * ids.size:
        with pytest.raises(LabelError, match=name):
            built.apply(ids)
    else:
        labels, stray = built.apply(ids)
        assert stray == strays
        assert np.array_equal(labels, built.table[ids])


def test_apply_takes_views_and_leaves_its_input_alone() -> None:
    built = LabelMap.build(taxonomy("cityscapes"), CAMVID)
    whole = np.random.default_rng(0).integers(0, 34, (40, 60), dtype=np.uint8)
    whole.flags.writeable = False
    for ids in (whole, whole[::2, 1::3], whole.T, np.asfortranarray(whole)):
        labels, _ = built.apply(ids)
        assert np.array_equal(labels, built.table[ids])
        labels[0, 0] = 3  # the result is the caller's own


def test_stray_ids_up_to_a_thousandth_are_counted() -> None:
    built = LabelMap.build(taxonomy("carla-0.9.14"), CAMVID)
    ids = np.full((100, 100), 11, np.uint8)
    ids[0, :10] = 99
    labels, stray = built.apply(ids)
    assert stray == 10
    assert (labels[0, :10] == 11).all()
    assert (labels[1:] == 0).all()
    ids[1, 0] = 98
    with pytest.raises(
        LabelError, match=r"class id 99 .*'carla-0.9.14' \(ids 0-28\).* 0\.10 %.* 0\.11 %.*limit is 0\.1%"
    ):
        built.apply(ids)


@pytest.mark.parametrize(
    "ids",
    [np.zeros((4, 4), np.uint16), np.zeros((4, 4, 1), np.uint8), np.zeros((0, 4), np.uint8), np.zeros(4, np.uint8)],
)
def test_apply_refuses_what_is_no_image_of_ids(ids: Bytes) -> None:
    with pytest.raises(LabelError, match=r"must be uint8 \(H, W\)"):
        LabelMap.build(taxonomy("camvid"), CAMVID).apply(ids)


def test_unknown_taxonomy_lists_the_known() -> None:
    with pytest.raises(LabelError, match=r"'carla' is unknown.*carla-0\.9\.14.*toytown"):
        taxonomy("carla")
    for name in ("../labels", "fallbacks", "", "carla-0.9.14.yaml"):
        with pytest.raises(LabelError, match="unknown"):
            taxonomy(name)


@pytest.mark.parametrize("name", taxonomy_names())
def test_every_colour_reads_back_as_its_class_or_the_lowest_of_its_twins(name: str) -> None:
    source = taxonomy(name)
    numbers = sorted(source.ids)
    rgb = np.array([[source.palette[number] for number in numbers]], np.uint8)
    for number, back in zip(numbers, ids_from_palette(rgb, source)[0].tolist(), strict=True):
        twins = [other for other in numbers if source.palette[other] == source.palette[number]]
        assert back == twins[0]


def test_carla_palettes_tell_all_classes_apart() -> None:
    for name in ("carla-0.9.14", "carla-0.9.10", "carla-0.9.0", "camvid"):
        colors = taxonomy(name).palette.values()
        assert len(set(colors)) == len(colors)


def test_stray_colours_name_colour_share_and_the_taxonomy_that_fits() -> None:
    rgb = np.full((100, 100, 3), (128, 64, 128), np.uint8)
    rgb[:40] = (145, 170, 100)  # terrain of 0.9.10 only
    assert (ids_from_palette(rgb, taxonomy("carla-0.9.10"))[:40] == 22).all()
    with pytest.raises(
        LabelError, match=r"colour \(145, 170, 100\).*'carla-0.9.14'.*40\.00 %.*'carla-0.9.10' fits best"
    ):
        ids_from_palette(rgb, taxonomy("carla-0.9.14"))
    with pytest.raises(LabelError, match="no known taxonomy fits"):
        ids_from_palette(np.full((9, 9, 3), 7, np.uint8), taxonomy("carla-0.9.14"))


def test_a_few_stray_colours_become_stray_ids() -> None:
    rgb = np.full((100, 100, 3), (128, 64, 128), np.uint8)
    rgb[5, :10] = (1, 2, 3)
    ids = ids_from_palette(rgb, taxonomy("carla-0.9.14"))
    assert (ids == STRAY_ID).sum() == 10
    assert LabelMap.build(taxonomy("carla-0.9.14"), CAMVID).apply(ids).stray == 10


def test_carla_raw_buffers() -> None:
    ids = np.random.default_rng(1).integers(0, 29, (8, 9), dtype=np.uint8)
    live = np.zeros((8, 9, 4), np.uint8)
    live[..., 2], live[..., 3] = ids, 255
    assert np.array_equal(ids_from_carla_raw(live, "bgra"), ids)
    assert np.array_equal(ids_from_carla_raw(live[..., 2::-1], "rgb"), ids)
    assert np.array_equal(ids_from_image(live, taxonomy("carla-0.9.14")), ids)
    for bad in (ids, live[..., :2], live.astype(np.uint16)):
        with pytest.raises(LabelError, match="raw semantic image"):
            ids_from_carla_raw(bad, "bgra")  # type: ignore[arg-type]


def test_label_images_are_read_whichever_way_they_hold_ids() -> None:
    source = taxonomy("synthia")
    ids = np.random.default_rng(2).integers(0, 23, (8, 9), dtype=np.uint8)
    assert np.array_equal(ids_from_image(ids, source), ids)
    assert np.array_equal(ids_from_image(ids[..., None], source), ids)
    assert np.array_equal(ids_from_image(ids.astype(np.uint16), source), ids)
    stored = np.zeros((8, 9, 3), np.uint16)  # OpenCV's order: the file's first channel comes last
    stored[..., 2], stored[..., 1] = ids, 4000
    assert np.array_equal(ids_from_image(stored, source), ids)
    palette = np.array([source.palette[number] for number in range(23)], np.uint8)
    colors = palette[np.where(ids == 22, 21, ids)][..., ::-1]
    assert np.array_equal(ids_from_image(colors, source), np.where(ids == 22, 21, ids))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.full((4, 4), 26001, np.uint16), "the value 26001"),
        (np.full((4, 4, 3), 300, np.uint16), "the value 300"),
        (np.zeros((4, 4, 2), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((4, 4), np.float32), "8 or 16 bits"),
        (np.zeros(4, np.uint8), "1, 3 or 4 channels"),
    ],
)
def test_images_that_hold_no_ids(image: npt.NDArray[np.generic], sentence: str) -> None:
    with pytest.raises(LabelError, match=sentence):
        ids_from_image(image, taxonomy("cityscapes"))


DATA = os.environ.get("SIM_BRIDGE_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="SIM_BRIDGE_DATA does not name the folder with the captures")

CAPTURES = [
    ("carla/carla_0.9.15_carlascapes/*_5026200_labelIds.png", "carla-0.9.14", 1, {3: 0.386, 1: 0.317, 9: 0.079}),
    ("carla/carla_0.9.15_carlascapes/*_5026200_color.png", "carla-0.9.14", 1, {3: 0.386, 1: 0.317, 9: 0.079}),
    ("carla/carla_0.9.12_*/sem/*.png", "carla-0.9.10", 5, {9: 0.153, 13: 0.320, 1: 0.176, 22: 0.208}),
    ("carla/carla_0.9.6_*/sem*.png", "carla-0.9.0", 1, {0: 0.216, 1: 0.213, 7: 0.223, 10: 0.108}),
    ("carla/carla_0.9.5_*/sem/*.png", "carla-0.9.0", 3, {0: 0.238, 10: 0.399}),
    ("carla/carla_0.8.2_*/*_seg.png", "carla-0.9.0", 1, {0: 0.429, 10: 0.254}),
    ("cityscapes/gtFine/*/*/*_labelIds.png", "cityscapes", 9, {7: 0.3}),
    ("camvid/valannot/*9.png", "camvid", 10, {3: 0.3}),
]


@needs_data
@pytest.mark.parametrize(("pattern", "name", "count", "shares"), CAPTURES, ids=[case[0] for case in CAPTURES])
def test_real_captures(pattern: str, name: str, count: int, shares: dict[int, float]) -> None:
    paths = sorted(Path(DATA or "").glob(pattern))
    assert len(paths) >= count
    for path in paths:
        ids = ids_from_image(read_image(path), taxonomy(name))
        labels, stray = LabelMap.build(taxonomy(name), CAMVID).apply(ids)
        assert stray == 0
        assert labels.shape == ids.shape
        found = np.bincount(ids.ravel(), minlength=256) / ids.size
        for number, share in shares.items():
            assert found[number] == pytest.approx(share, abs=0.005 if "carla" in pattern else 0.3), (path.name, number)


@needs_data
def test_palette_and_ids_of_one_frame_are_the_same() -> None:
    folder = Path(DATA or "") / "carla/carla_0.9.15_carlascapes"
    source = taxonomy("carla-0.9.14")
    patterns = ("*_5026200_color.png", "*_5026200_labelIds.png")
    colors, ids = (read_image(next(folder.glob(pattern))) for pattern in patterns)
    assert np.array_equal(ids_from_image(colors, source), ids)
    instances = read_image(next(folder.glob("*_5026200_instance.png")))
    tags = ids_from_carla_raw(instances.astype(np.uint8, copy=False), "bgra")
    assert (tags == ids).mean() == pytest.approx(0.981, abs=0.001)  # CARLA tags 2 % differently in its instance image


@needs_data
@pytest.mark.parametrize(
    ("pattern", "wrong", "right"),
    [
        ("carla/carla_0.9.15_carlascapes/*_color.png", "carla-0.9.10", "carla-0.9.14"),
        ("carla/carla_0.9.12_*/sem/000007*.png", "carla-0.9.14", "carla-0.9.10"),
        ("carla/carla_0.9.5_*/sem/*0.png", "carla-0.9.10", "carla-0.9.0"),
    ],
)
def test_the_wrong_generation_is_refused_and_the_right_one_named(pattern: str, wrong: str, right: str) -> None:
    image = read_image(next(Path(DATA or "").glob(pattern)))
    with pytest.raises(LabelError, match=f"taxonomy '{wrong}'.*'{right}' fits best"):
        ids_from_image(image, taxonomy(wrong))
