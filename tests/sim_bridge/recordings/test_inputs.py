"""Depth, flow and instances of a recorded frame: read as they were written, brought to the network's size, refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("cv2")

from sim_bridge.errors import ImageError
from sim_bridge.frames import Encoding, Frame, Kind
from sim_bridge.pixels.inputs import fit_input
from sim_bridge.recordings.inputs import read_inputs
from sim_bridge.recordings.read import Folder, RecordedFrame, RecordingInfo
from sim_bridge.recordings.write import RecordingWriter
from tests.sim_bridge.bridge_helpers import make_frame

SIZE = (6, 4)
DEPTH = np.arange(24, dtype=np.float32).reshape(4, 6) + 0.5
DEPTH[0, 0] = np.inf  # the sky
FLOW = np.stack([DEPTH, -DEPTH], -1)
FLOW[1, 1] = np.nan  # hidden in the next frame
INSTANCE = (np.arange(24, dtype=np.uint16) * 2000).reshape(4, 6)
VALUES = {Kind.DEPTH: DEPTH, Kind.FLOW: FLOW, Kind.INSTANCE: INSTANCE}


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedFrame:
    with RecordingWriter(tmp_path / "recording", RecordingInfo()) as writer:
        folders = {Folder.DEPTH: DEPTH, Folder.FLOW: FLOW, Folder.INSTANCE: INSTANCE}
        files = {folder: writer.write_image("camera", folder, 7, values) for folder, values in folders.items()}
        files[Folder.RGB] = writer.write_image("camera", Folder.RGB, 7, np.zeros((4, 6, 3), np.uint8))
        frame = RecordedFrame("camera", 7, 0.35, None, files)
        writer.add(frame)
    return frame


def rgb(size: tuple[int, int] = SIZE) -> Frame:
    return make_frame(Kind.RGB, 7, size=size)


def values(kind: Kind, encoding: Encoding, pixels: npt.NDArray[np.generic]) -> Frame:
    return replace(rgb(pixels.shape[1::-1]), kind=kind, encoding=encoding, pixels=pixels)  # type: ignore[arg-type]


def test_what_was_written_is_read(recorded: RecordedFrame) -> None:
    read = read_inputs(recorded, rgb(), VALUES)
    for kind, wanted in VALUES.items():
        frame = read[kind]
        assert (frame.kind, frame.number, frame.session, frame.camera) == (kind, 7, "s", "camera")
        assert frame.pixels.dtype == wanted.dtype
        np.testing.assert_array_equal(frame.pixels, wanted)
        np.testing.assert_array_equal(fit_input(frame, SIZE), wanted)
    assert read_inputs(recorded, rgb(), ()) == {}, "nothing else is read"


@pytest.mark.parametrize("kind", VALUES)
def test_a_file_that_is_missing_broken_or_of_another_size_is_one_sentence(recorded: RecordedFrame, kind: Kind) -> None:
    with pytest.raises(ImageError, match=rf"but {kind} is .* \(8, 12"):
        read_inputs(recorded, rgb((12, 8)), [kind])
    folder = Folder(kind.value)
    without = replace(recorded, files={f: path for f, path in recorded.files.items() if f is not folder})
    with pytest.raises(ImageError, match=f"frame 7 of camera 'camera' has no {folder} file: record it again"):
        read_inputs(without, rgb(), [kind])
    recorded.files[folder].write_bytes(recorded.files[folder].read_bytes()[:-9])
    with pytest.raises(ImageError, match=recorded.files[folder].name):
        read_inputs(recorded, rgb(), [kind])


def test_pickled_or_other_numbers_are_refused(recorded: RecordedFrame) -> None:
    path = recorded.files[Folder.DEPTH]
    np.save(path, DEPTH.astype(np.float64))
    with pytest.raises(ImageError, match="holds float64"):
        read_inputs(recorded, rgb(), [Kind.DEPTH])
    np.save(path, np.array([{"a": 1}], object))
    with pytest.raises(ImageError, match=r"no readable \.npy file"):
        read_inputs(recorded, rgb(), [Kind.DEPTH])


def test_depth_takes_the_value_at_the_nearest_pixel_centre() -> None:
    fitted = fit_input(values(Kind.DEPTH, Encoding.FLOAT1, DEPTH), (3, 2))
    assert fitted.dtype == np.float32 and fitted.shape == (2, 3)
    np.testing.assert_array_equal(fitted, DEPTH[1::2, 1::2])
    grown = fit_input(values(Kind.DEPTH, Encoding.FLOAT1, DEPTH), (12, 8))
    np.testing.assert_array_equal(grown, DEPTH.repeat(2, 0).repeat(2, 1))
    edge = np.array([[1.0, 100.0, 100.0]], np.float32).repeat(3, 0)
    assert set(np.unique(fit_input(values(Kind.DEPTH, Encoding.FLOAT1, edge), (2, 2)))) == {1.0, 100.0}, "no means"


def test_flow_is_scaled_with_the_picture_and_ids_are_not() -> None:
    flow = fit_input(values(Kind.FLOW, Encoding.FLOAT2, FLOW), (3, 4))
    np.testing.assert_array_equal(flow[..., 0], FLOW[:, 1::2, 0] / 2)
    np.testing.assert_array_equal(flow[..., 1], FLOW[:, 1::2, 1])
    assert np.isnan(flow[1, 0]).all() and flow.dtype == np.float32
    ids = fit_input(values(Kind.INSTANCE, Encoding.MONO16, INSTANCE), (4, 3))
    assert ids.dtype == np.uint16 and set(ids.ravel()) <= set(INSTANCE.ravel())


def test_an_encoding_of_another_kind_is_refused() -> None:
    wrong = values(Kind.DEPTH, Encoding.MONO16, INSTANCE)
    with pytest.raises(ImageError, match="the depth frame 7 has encoding mono16: send raw values"):
        fit_input(wrong, SIZE)
