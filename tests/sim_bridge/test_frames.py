from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sim_bridge.frames import RAW_LAYOUTS, Encoding, Frame, FrameId, Kind


def make(**changes: object) -> Frame:
    frame = Frame(
        camera="front",
        kind=Kind.RGB,
        number=7,
        time=0.35,
        session="run-1",
        encoding=Encoding.RGB8,
        width=3,
        height=2,
        pixels=np.zeros((2, 3, 3), np.uint8),
        sent=1,
    )
    return dataclasses.replace(frame, **changes)  # type: ignore[arg-type]


def test_identity_is_session_and_number_only() -> None:
    first = make()
    assert first.id == FrameId("run-1", 7)
    assert first.id == make(kind=Kind.SEMANTIC, time=9.0, sent=5, received=8).id
    assert first.id != make(session="run-2").id
    assert first.id != make(number=8).id


def test_topic_is_camera_and_kind() -> None:
    assert make(kind=Kind.PHOTOREAL).topic == "front/photoreal"


def test_frames_cannot_be_changed_on_their_way() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().number = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("encoding", "nbytes", "shape"),
    [
        (Encoding.BGRA8, 24, (2, 3, 4)),
        (Encoding.RGB8, 18, (2, 3, 3)),
        (Encoding.BGR8, 18, (2, 3, 3)),
        (Encoding.MONO8, 6, (2, 3)),
        (Encoding.MONO16, 12, (2, 3)),
        (Encoding.FLOAT1, 24, (2, 3)),
        (Encoding.FLOAT2, 48, (2, 3, 2)),
    ],
)
def test_raw_layouts(encoding: Encoding, nbytes: int, shape: tuple[int, ...]) -> None:
    layout = RAW_LAYOUTS[encoding]
    assert layout.nbytes(3, 2) == nbytes == np.zeros(layout.shape(3, 2), layout.dtype).nbytes
    assert layout.shape(3, 2) == shape


def test_compressed_encodings_have_no_layout() -> None:
    assert set(Encoding) - set(RAW_LAYOUTS) == {Encoding.JPEG, Encoding.PNG}
