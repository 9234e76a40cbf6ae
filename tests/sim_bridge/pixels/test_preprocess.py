"""From the wire to the network's input and back: sizes, labels, encodings, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

cv2 = pytest.importorskip("cv2")

from sim_bridge.errors import ImageError, LabelError, SizeMismatchError  # noqa: E402
from sim_bridge.frames import Encoding, Frame, Kind, PixelArray  # noqa: E402
from sim_bridge.pixels.labels import LabelMap, taxonomy  # noqa: E402
from sim_bridge.pixels.preprocess import Preprocessor, fit_labels, fit_pair, fit_rgb, postprocess  # noqa: E402

ByteArray = npt.NDArray[np.uint8]
CAMVID = (
    *("sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign"),
    *("fence", "car", "person", "bicyclist", "unlabeled"),
)


def picture(width: int = 32, height: int = 24) -> ByteArray:
    """Smooth enough for JPEG, different in every channel."""
    y, x = np.mgrid[:height, :width]
    planes = (x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height))
    return np.stack(planes, 2).astype(np.uint8)


def frame(pixels: PixelArray, encoding: Encoding, kind: Kind = Kind.RGB, size: tuple[int, int] | None = None) -> Frame:
    height, width = pixels.shape[:2] if size is None else size[::-1]
    pixels.flags.writeable = False  # as they come from a socket
    labels = "carla-0.9.14" if kind is Kind.SEMANTIC else None
    return Frame("camera", kind, 7, 0.35, "s", encoding, width, height, pixels, sent=1, labels=labels)


def encoded(rgb: ByteArray, encoding: Encoding) -> Frame:
    """The frame a simulator would send of this picture; made with OpenCV alone."""
    size = (rgb.shape[1], rgb.shape[0])
    match encoding:
        case Encoding.RGB8:
            return frame(rgb.copy(), encoding)
        case Encoding.BGR8:
            return frame(rgb[..., ::-1].copy(), encoding)
        case Encoding.BGRA8:
            return frame(np.concatenate([rgb[..., ::-1], np.full((*rgb.shape[:2], 1), 9, np.uint8)], 2), encoding)
        case _:
            done, data = cv2.imencode(f".{encoding.value}", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
            assert done
            return frame(data.reshape(-1), encoding, size=size)


def semantic(ids: ByteArray) -> Frame:
    return frame(ids.copy(), Encoding.MONO8, Kind.SEMANTIC)


def road(width: int = 32, height: int = 24) -> Frame:
    return semantic(np.full((height, width), 1, np.uint8))


@pytest.mark.parametrize("encoding", [Encoding.RGB8, Encoding.BGR8, Encoding.BGRA8, Encoding.PNG, Encoding.JPEG])
def test_every_encoding_gives_the_same_picture_and_goes_back(encoding: Encoding) -> None:
    rgb = picture()
    source = encoded(rgb, encoding)
    prepared = Preprocessor(CAMVID, None).prepare(source, road())
    tolerance = 8 if encoding is Encoding.JPEG else 0
    np.testing.assert_allclose(prepared.rgb.astype(int), rgb.astype(int), atol=tolerance)

    back = postprocess(rgb, source)
    assert back.dtype == np.uint8 and back.flags.c_contiguous
    again = replace(source, pixels=back)
    second = Preprocessor((), None).prepare(again, road())
    np.testing.assert_allclose(second.rgb.astype(int), rgb.astype(int), atol=tolerance)
    if encoding is Encoding.BGRA8:
        assert back.shape == (24, 32, 4) and (np.asarray(back)[..., 3] == 255).all()


def test_rgb8_is_not_copied_either_way() -> None:
    source = encoded(picture(), Encoding.RGB8)
    assert np.shares_memory(Preprocessor((), None).prepare(source, road()).rgb, source.pixels)
    rgb = picture()
    assert postprocess(rgb, source) is rgb


def test_labels_are_the_bundles_classes() -> None:
    ids = np.tile(np.array([1, 11, 14, 24], np.uint8), (24, 8))  # road, sky, car, road line in carla-0.9.14
    prepared = Preprocessor(CAMVID, None).prepare(encoded(picture(), Encoding.BGRA8), semantic(ids))
    assert [CAMVID[i] for i in prepared.labels[0, :4]] == ["road", "sky", "car", "road"]
    assert (prepared.stray, prepared.width, prepared.height) == (0, 32, 24)


def test_stray_ids_are_counted_up_to_a_thousandth() -> None:
    ids = np.full((100, 100), 1, np.uint8)
    ids[0, :10] = 200
    source = encoded(picture(100, 100), Encoding.RGB8)
    prepared = Preprocessor(CAMVID, None).prepare(source, semantic(ids))
    assert prepared.stray == 10 and (prepared.labels[0, :10] == CAMVID.index("unlabeled")).all()
    ids[0, 10] = 200
    with pytest.raises(LabelError, match="200"):
        Preprocessor(CAMVID, None).prepare(source, semantic(ids))


def test_a_translator_without_classes_costs_no_label_decoding() -> None:
    broken = frame(np.zeros(3, np.uint8), Encoding.PNG, Kind.SEMANTIC, size=(32, 24))
    prepared = Preprocessor((), (16, 12)).prepare(encoded(picture(), Encoding.BGR8), broken)
    assert prepared.labels.shape == (12, 16) and not prepared.labels.any()


def test_different_sizes_are_a_mismatch_before_anything_is_decoded() -> None:
    broken = frame(np.zeros(3, np.uint8), Encoding.JPEG, size=(800, 600))
    with pytest.raises(SizeMismatchError, match=r"800x600 .* 1280x720"):
        Preprocessor(CAMVID, (512, 256)).prepare(broken, road(1280, 720))
    with pytest.raises(SizeMismatchError, match=r"8x4 .* 4x8"):
        fit_pair(np.zeros((4, 8, 3), np.uint8), np.zeros((8, 4), np.uint8), None)


def test_a_semantic_frame_must_name_its_taxonomy() -> None:
    nameless = replace(road(), labels=None)
    with pytest.raises(LabelError, match=r"frame 7 of camera 'camera' names no taxonomy"):
        Preprocessor(CAMVID, None).prepare(encoded(picture(), Encoding.RGB8), nameless)
    with pytest.raises(LabelError, match=r"carla-0.9.14"):
        Preprocessor(CAMVID, None).prepare(encoded(picture(), Encoding.RGB8), replace(road(), labels="carla-9"))


def test_the_taxonomy_may_change_within_a_stream() -> None:
    source = encoded(picture(), Encoding.RGB8)
    preprocessor = Preprocessor(CAMVID, None)
    first = preprocessor.prepare(source, road())
    second = preprocessor.prepare(source, replace(road(), labels="camvid"))
    assert CAMVID[first.labels[0, 0]] == "road"
    assert CAMVID[second.labels[0, 0]] == "building"
    assert preprocessor.label_map("camvid") is preprocessor.label_map("camvid")


def test_shrinking_takes_the_mean_of_the_area() -> None:
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (48, 96, 3), np.uint8)
    small = fit_rgb(rgb, (32, 16))
    mean = rgb.reshape(16, 3, 32, 3, 3).mean((1, 3))
    assert np.abs(small - mean).max() <= 0.51


def test_enlarging_adds_no_value_that_was_not_between_its_neighbours() -> None:
    step = np.zeros((8, 8, 3), np.uint8)
    step[:, 4:] = 100
    large = fit_rgb(step, (32, 8))
    assert large.shape == (8, 32, 3) and large.max() == 100 and (np.diff(large[0, :, 0].astype(int)) >= 0).all()


def test_labels_take_the_pixel_at_the_cells_centre() -> None:
    ids = np.arange(9, dtype=np.uint8).reshape(1, 9).repeat(9, 0)
    np.testing.assert_array_equal(fit_labels(ids, (3, 3))[0], [1, 4, 7])


@pytest.mark.parametrize("size", [(7, 5), (33, 11), (64, 48), (1, 1)])
def test_labels_never_blend(size: tuple[int, int]) -> None:
    ids = np.where(np.random.default_rng(2).random((24, 32)) < 0.5, 3, 200).astype(np.uint8)
    small = fit_labels(ids, size)
    assert small.shape == size[::-1] and set(np.unique(small)) <= {3, 200}


def test_labels_stay_aligned_with_the_picture() -> None:
    """A picture whose grey value is the label: after shrinking both, the label is from the area of the mean."""
    ids = (np.mgrid[:120, :160][1]).astype(np.uint8)
    rgb, labels = fit_pair(np.repeat(ids[..., None], 3, 2), ids, (50, 30))
    error = rgb[..., 0].astype(int) - labels
    assert np.abs(error).max() <= 2 and abs(error.mean()) < 0.5


def test_the_pairs_own_size_is_no_resize() -> None:
    rgb, ids = picture(), np.zeros((24, 32), np.uint8)
    same_rgb, same_ids = fit_pair(rgb, ids, (32, 24))
    assert same_rgb is rgb and same_ids is ids


def test_an_encoding_that_holds_no_colour_is_refused() -> None:
    with pytest.raises(ImageError, match=r"'mono8'.*bgra8"):
        postprocess(picture(), frame(np.zeros((24, 32), np.uint8), Encoding.MONO8))


def test_the_streams_way_is_the_functions_way() -> None:
    """What Preprocessor does is fit_pair and LabelMap.apply, which training calls, bit for bit."""
    rng = np.random.default_rng(4)
    rgb = rng.integers(0, 256, (90, 160, 3), np.uint8)
    ids = rng.integers(0, 25, (90, 160), np.uint8)
    size = (64, 48)
    prepared = Preprocessor(CAMVID, size).prepare(encoded(rgb, Encoding.BGRA8), semantic(ids))
    fitted, fitted_ids = fit_pair(rgb, ids, size)
    np.testing.assert_array_equal(prepared.rgb, fitted)
    expected = LabelMap.build(taxonomy("carla-0.9.14"), CAMVID).apply(fitted_ids).labels
    np.testing.assert_array_equal(prepared.labels, expected)
