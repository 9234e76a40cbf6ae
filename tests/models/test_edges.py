"""The edge operator equals OpenCV's, for every setting, and does not depend on batch or threads."""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.edges import EdgeSettings, LaplacianEdges, gaussian_weights, grey

CONTRAST = EdgeSettings(threshold=0.11, blur=1.5, contrast_window=31, signed=True)


def picture(height: int = 97, width: int = 131, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise over gradients and boxes, so that every operator finds some edges and misses others."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 60 + 0.8 * x[..., None] + rng.normal(0, 6, (height, width, 3))
    base[(y // 16 + x // 24) % 2 == 0] += 50
    return np.clip(base, 0, 255).astype(np.uint8)


def edges_of(rgb: npt.NDArray[np.uint8], settings: EdgeSettings) -> npt.NDArray[np.bool_]:
    return LaplacianEdges(settings)(torch.from_numpy(rgb)[None])[0].numpy()


def opencv_response(rgb: npt.NDArray[np.uint8], settings: EdgeSettings) -> npt.NDArray[np.float64]:
    """The same operator by OpenCV in float64, in grey levels."""
    levels = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float64)
    blurred = levels
    if settings.blur:
        half = gaussian_weights(settings.blur)
        kernel = np.array(half[:0:-1] + half, np.float64) / 256
        blurred = cv2.sepFilter2D(levels, cv2.CV_64F, kernel, kernel)
    response = cv2.Laplacian(blurred, cv2.CV_64F, ksize=settings.kernel)
    if not settings.contrast_window:
        return response
    box = (settings.contrast_window,) * 2
    mean = cv2.blur(levels, box)
    deviation = np.sqrt(np.maximum(0, cv2.blur(levels * levels, box) - mean * mean))
    return response / (deviation + settings.contrast_floor)


def test_grey_is_opencvs_for_every_colour_of_a_fine_raster() -> None:
    values = np.arange(0, 256, 5, dtype=np.uint8)
    raster = np.stack(np.meshgrid(values, values, values), -1).reshape(1, -1, 3)
    assert (grey(torch.from_numpy(raster)[None])[0].numpy() == cv2.cvtColor(raster, cv2.COLOR_RGB2GRAY)).all()


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("threshold", [0.0, 20.0, 34.5])
def test_plain_operator_equals_opencvs_integer_laplacian(kernel: int, threshold: float) -> None:
    rgb = picture()
    levels = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    expected = np.abs(cv2.Laplacian(levels, cv2.CV_16S, ksize=kernel)) > threshold
    assert 0.01 < expected.mean() < 1
    assert (edges_of(rgb, EdgeSettings(threshold=threshold, kernel=kernel))[0] == expected).all()


@pytest.mark.parametrize(
    "settings",
    [
        EdgeSettings(threshold=4.1, blur=1.5),
        EdgeSettings(threshold=7.5, blur=1.0, kernel=3),
        EdgeSettings(threshold=0.21, blur=1.0, contrast_window=31),
        EdgeSettings(threshold=0.6, contrast_window=7, contrast_floor=2.0),
        CONTRAST,
    ],
)
def test_blurred_and_normalised_operators_equal_opencvs_in_float64(settings: EdgeSettings) -> None:
    rgb = picture()
    response = opencv_response(rgb, settings)
    ours = edges_of(rgb, settings)
    # Where OpenCV's rounding decides on the limit itself, neither is wrong.
    decided = np.abs(np.abs(response) - settings.threshold) > 1e-9
    assert decided.mean() > 0.999
    union = ours.any(0)
    assert (union == (np.abs(response) > settings.threshold))[decided].all()
    if settings.signed:
        assert (ours[0] == (response > settings.threshold))[decided].all()
        assert not (ours[0] & ours[1]).any()


def test_result_does_not_depend_on_batch_or_threads() -> None:
    batch = torch.from_numpy(np.stack([picture(seed=s) for s in range(5)]))
    operator = LaplacianEdges(CONTRAST)
    together = operator(batch)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = torch.cat([operator(batch[i : i + 1]) for i in range(5)])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together, alone)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (2, 3), (5, 70), (16, 16)])
def test_pictures_smaller_than_the_windows_work(height: int, width: int) -> None:
    assert edges_of(picture(height, width), CONTRAST).shape == (2, height, width)


def test_contrast_normalised_edges_survive_a_change_of_exposure() -> None:
    rgb = picture() // 3
    assert (edges_of(rgb, CONTRAST) == edges_of(rgb + 100, CONTRAST)).mean() > 0.999


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": -1.0},
        {"threshold": 40_000.0, "blur": 1.0},
        {"kernel": 5},
        {"contrast_window": 30},
        {"contrast_window": 99},
        {"contrast_floor": 0.0},
        {"blur": -0.1},
        {"blur": 1e9},
        {"blur": 1.0, "coarse_blur": 1e9},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="edge"):
        EdgeSettings(**wrong)  # type: ignore[arg-type]


def test_a_coarse_scale_comes_as_further_planes() -> None:
    rgb = picture()
    both = replace(CONTRAST, coarse_blur=3.0)
    planes = edges_of(rgb, both)
    assert planes.shape == (both.planes, 97, 131) == (4, 97, 131)
    assert (planes[:2] == edges_of(rgb, CONTRAST)).all()
    coarse = replace(CONTRAST, blur=3.0, threshold=0.11 / 4)
    assert (planes[2:] == edges_of(rgb, coarse)).all()
    assert 0 < planes[2:].mean() != planes[:2].mean()
    assert edges_of(rgb, replace(both, signed=False)).shape[0] == 2


def test_the_coarse_threshold_sees_the_same_step_as_the_fine_one() -> None:
    """A blurred step's largest Laplacian falls with the square of the Gaussian's width, and so does the threshold."""
    rgb = np.full((64, 64, 3), 90, np.uint8)
    rgb[:, 32:] = 130
    for threshold, seen in ((4.0, True), (4.7, False)):
        planes = edges_of(rgb, EdgeSettings(threshold=threshold, blur=1.5, coarse_blur=3.0))
        assert planes.any(axis=(1, 2)).tolist() == [seen, seen]


@pytest.mark.parametrize(("blur", "coarse"), [(0.0, 2.0), (1.5, 1.5), (1.5, 1.0), (1.5, -1.0), (1.5, float("nan"))])
def test_a_coarse_scale_is_coarser(blur: float, coarse: float) -> None:
    with pytest.raises(ValueError, match="coarse_blur is"):
        EdgeSettings(blur=blur, coarse_blur=coarse)
