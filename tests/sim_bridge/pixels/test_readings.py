"""Readings of label images: the container decides, then the taxonomy, never how the pixels happen to fall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sim_bridge.errors import ImageError, LabelError, UsageError
from sim_bridge.pixels.images import read_labels
from sim_bridge.pixels.one_class import lone_class
from sim_bridge.pixels.readings import Reading, StoredLabels, fitting, ids_from_image, ids_from_palette, read_stored
from sim_bridge.pixels.taxonomy import taxonomy, taxonomy_names
from sim_bridge.recordings.labels import LabelReader
from tests.sim_bridge.label_files import (
    VOC,
    Bytes,
    chunk,
    coloured,
    colours,
    grey,
    jpeg,
    optimised,
    png,
    raw,
    with_alpha,
    with_palette,
)

CITYSCAPES = taxonomy("cityscapes")


def image(*shares: int, size: tuple[int, int] = (40, 50)) -> Bytes:
    """Equal stripes of these ids."""
    ids = np.full(size, shares[0], np.uint8)
    for place, number in enumerate(shares):
        ids[place * size[0] // len(shares) :] = number
    return ids


def read(tmp_path: Path, data: bytes, name: str = "cityscapes", wanted: Reading | None = None) -> tuple[Reading, Bytes]:
    (tmp_path / "a.png").write_bytes(data)
    return read_stored(read_labels(tmp_path / "a.png"), taxonomy(name), wanted)


def test_a_palette_gives_its_indices_and_its_colours(tmp_path: Path) -> None:
    for bits in (1, 2, 4, 8):
        indices = (np.arange(13 * 17).reshape(13, 17) % 2**bits).astype(np.uint8)
        (tmp_path / "a.png").write_bytes(with_palette(indices, VOC[: 2**bits], bits))
        stored = read_labels(tmp_path / "a.png")
        assert stored.palette is not None
        assert np.array_equal(stored.pixels, indices) and np.array_equal(stored.palette, VOC[: 2**bits])


def test_transparency_says_nothing(tmp_path: Path) -> None:
    ids = image(7, 8, 11)
    assert np.array_equal(read(tmp_path, with_alpha(ids))[1], ids)
    for color, rows, transparent in ((0, ids, b"\0\7"), (3, ids, bytes(8))):
        more = [chunk(b"PLTE", VOC.tobytes())] if color == 3 else []
        data = png(rows, color, *more, chunk(b"tRNS", transparent))
        assert np.array_equal(read(tmp_path, data)[1], ids)


@pytest.mark.parametrize(("name", "black"), [("cityscapes-train", 255), ("camvid", 11), ("cityscapes", 0)])
def test_an_all_black_colour_image_is_the_palettes_black(tmp_path: Path, name: str, black: int) -> None:
    assert (read(tmp_path, colours(image(black), name), name)[1] == black).all()
    assert (ids_from_image(np.zeros((9, 9, 3), np.uint8), taxonomy(name)) == black).all()


def test_riders_alone_are_no_raw_ids(tmp_path: Path) -> None:
    for name, rider in (("cityscapes", 24), ("cityscapes", 25), ("cityscapes-train", 12)):
        ids = image(rider, 0 if name == "cityscapes" else 255)
        assert np.array_equal(read(tmp_path, colours(ids, name), name)[1], ids)


def test_nearly_black_ids_in_colour_are_ids(tmp_path: Path) -> None:
    ids = image(0, size=(100, 100))
    ids[0, :5] = 13
    assert np.array_equal(read(tmp_path, png(np.dstack([ids] * 3), 2), "cityscapes-train")[1], ids)


def test_ids_of_grey_palettes_are_the_grey_values(tmp_path: Path) -> None:
    ids = image(7, 8, 11, 21)
    assert read(tmp_path, optimised(np.dstack([ids] * 3)))[0] is Reading.IDS
    shown = with_palette(image(3, 4, 5), np.repeat(np.arange(0, 250, 40, dtype=np.uint8)[:, None], 3, 1))
    reading, back = read(tmp_path, shown)  # greys made to be seen are no ids
    assert reading is Reading.INDICES and np.array_equal(back, image(3, 4, 5))


def test_a_few_blended_colours_do_not_turn_colours_into_indices(tmp_path: Path) -> None:
    ids = image(7, 8, 11, size=(100, 100))
    picture = coloured(ids, "cityscapes")
    picture[0, :3] = (9, 9, 9)
    reading, back = read(tmp_path, optimised(picture))
    assert reading is Reading.COLOURS and (back == ids).sum() == back.size - 3


def test_the_reading_asked_for_decides_or_is_refused(tmp_path: Path) -> None:
    data = optimised(coloured(image(7, 8, 11), "cityscapes"))
    assert np.unique(read(tmp_path, data, wanted=Reading.COLOURS)[1]).tolist() == [7, 8, 11]
    assert np.unique(read(tmp_path, data, wanted=Reading.INDICES)[1]).tolist() == [0, 1, 2]
    assert np.array_equal(read(tmp_path, grey(image(7)), wanted=Reading.INDICES)[1], image(7))
    for stored, wanted, sentence in (
        (data, Reading.RAW, "it is a PNG with a palette"),
        (data, Reading.IDS, "not grey"),
        (grey(image(7)), Reading.COLOURS, "without a palette"),
        (raw(image(7, 8)), Reading.IDS, "not alike"),
        (colours(image(7, 8), "cityscapes"), Reading.RAW, "not zero"),
        (colours(image(7, 8), "cityscapes"), Reading.INDICES, "without a palette"),
        (with_palette(image(77), VOC), Reading.INDICES, "no ids of the taxonomy"),
        (with_palette(image(7), VOC[:3]), Reading.COLOURS, "3 colours, but index 7"),
    ):
        with pytest.raises(LabelError, match=f"cannot be read as {wanted}: .*{sentence}"):
            read(tmp_path, stored, wanted=wanted)
    assert [Reading.named(reading.flag) for reading in Reading] == list(Reading)
    with pytest.raises(UsageError, match="use one of ids, palette-colours, palette-indices, carla-raw"):
        Reading.named("colors")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (with_palette(image(77, 78), VOC), r"colour .* is not in the palette.*palette indices are no ids .* either"),
        (with_palette(image(77, 78), VOC[:3]), "index 78 is used, and its palette indices are no ids"),
        (png(np.dstack([image(77, 7)] * 3), 2), "class id 77 is not in the taxonomy 'cityscapes'"),
        (raw(image(77, 7)), "class id 77 is not in the taxonomy 'cityscapes'"),
        (with_palette(image(1, 77), np.zeros((9, 3))), "9 colours, but index 77"),
    ],
)
def test_what_no_reading_fits_is_refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(LabelError, match=sentence):
        read(tmp_path, data)


def test_advice_never_names_a_taxonomy_that_fits_no_better() -> None:
    picture = coloured(image(7, 8, 11, 21), "cityscapes")
    blended = picture.copy()
    blended[:12] = (picture[:12].astype(int) + np.arange(600).reshape(12, 50, 1) % 90).clip(0, 255)
    half = picture.copy()
    half[:18] = (1, 2, 3)
    for rgb, sentence in (
        (blended, "borders are blended: save labels as PNG, with no antialiasing, no smooth scaling"),
        (half, "no known taxonomy fits better"),
        (np.full((9, 9, 3), 7, np.uint8) + np.uint8([1, 0, 0]), "no known taxonomy fits"),
    ):
        with pytest.raises(LabelError, match=sentence) as caught:
            ids_from_image(rgb[..., ::-1], CITYSCAPES)
        assert "fits best" not in str(caught.value)


def write_all(folder: Path, *files: bytes) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return paths


def test_where_one_file_leaves_two_readings_the_others_decide(tmp_path: Path) -> None:
    # VOC's colour of 23 is Cityscapes' road; 8 and 11 have colours that are none of Cityscapes'.
    full_voc = [with_palette(image(23), VOC[:24]), with_palette(image(23, 8, 11), VOC[:24])]
    files = write_all(tmp_path, *full_voc)
    reader = LabelReader(CITYSCAPES, files)
    assert [np.unique(reader.read(file)).tolist() for file in files] == [[23], [8, 11, 23]]
    assert reader.readings == (Reading.INDICES,) and not reader.suspicions
    black = [png(np.dstack([image(number)] * 3), 2) for number in (0, 5)]
    files = write_all(tmp_path, *black)
    reader = LabelReader(taxonomy("cityscapes-train"), files)
    assert [np.unique(reader.read(file)).tolist() for file in files] == [[0], [5]]


def test_a_source_of_two_readings_is_suspicious_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    two = [colours(image(7, 8), "cityscapes"), raw(image(7, 8))]
    files = write_all(tmp_path, *two, *two)
    reader = LabelReader(CITYSCAPES, files, name="drive")
    with caplog.at_level("INFO"):
        for file in files:
            assert np.array_equal(reader.read(file), image(7, 8))
    (sentence,) = reader.suspicions
    assert sentence.startswith("labels of drive are read as palette colours, but") and "--labels-as" in sentence
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert caplog.messages[0] == "labels of drive are read as palette colours of cityscapes"


def test_a_source_of_one_class_is_suspicious(tmp_path: Path) -> None:
    lone = image(7, size=(100, 100))
    lone[0, :5] = 8
    files = write_all(tmp_path, grey(lone), grey(lone), grey(image(7, 8)))
    reader = LabelReader(CITYSCAPES, files, name="drive")
    for file in files[:2]:
        reader.read(file)
    assert not reader.suspicions
    reader.finish()
    assert reader.suspicions == [
        "2 label images of drive hold id 7 (road) alone: check that they are labels, and their taxonomy"
    ]
    for file in files:
        reader.read(file)
    reader.finish()
    assert len(reader.suspicions) == 1


def test_one_class_alone() -> None:
    ids = image(7, size=(100, 100))
    assert lone_class(ids) == 7
    ids[0, :10] = 8
    assert lone_class(ids) is None
    ids[0] = 7
    ids[50, 50] = 8
    assert lone_class(ids) == 7
    assert lone_class(np.zeros((1, 1), np.uint8)) == 0
    assert lone_class(image(7, 8)) is None


def test_files_that_hold_nothing_say_so(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for data, sentence in ((b"", "is empty"), (pointer, "run git lfs pull")):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(ImageError, match=sentence):
            read_labels(tmp_path / "a.png")


def test_a_jpeg_is_refused_whatever_its_name(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="labels must not be JPEG: it changes ids at every border"):
        read(tmp_path, jpeg(image(7, 8)))


def test_a_png_whose_palette_is_missing_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="its palette is missing"):
        read(tmp_path, png(image(7), 3))


@given(st.sampled_from(taxonomy_names()), st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_ids_come_back_from_every_container(name: str, seed: int, classes: int) -> None:
    source, rng = taxonomy(name), np.random.default_rng(seed)
    known = np.array(sorted(source.ids), np.uint8)
    ids = rng.choice(rng.choice(known, min(classes, len(known)), replace=False), (12, 16)).astype(np.uint8)
    assume(len(np.unique(ids)) > 1)
    zeros = np.zeros_like(ids)
    for pixels in (
        ids,
        ids.astype(np.uint16),
        np.dstack([ids] * 3),
        np.dstack([ids] * 4),
        np.dstack([zeros, zeros, ids]),
    ):
        assert np.array_equal(ids_from_image(pixels, source), ids)
    for palette in (np.zeros((256, 3), np.uint8), np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)):
        assert np.array_equal(read_stored(StoredLabels(ids, palette), source)[1], ids)
    colour = coloured(ids, name)
    lowest = ids_from_palette(colour, source)  # of classes that share a colour
    assert np.array_equal(ids_from_image(colour[..., ::-1], source), lowest)


def test_every_reading_that_fits_is_listed_best_first() -> None:
    ids = image(0, 1, 3)
    stored = StoredLabels(ids, coloured(np.arange(12, dtype=np.uint8)[None], "camvid")[0])
    assert list(fitting(stored, taxonomy("camvid"))) == [Reading.COLOURS, Reading.INDICES]
    assert list(fitting(StoredLabels(ids, VOC), taxonomy("camvid"))) == [Reading.INDICES, Reading.COLOURS]
