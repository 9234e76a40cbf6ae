"""The wire: what goes in comes out, and nothing that comes in raises anything but a WireError."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from sim_bridge.errors import WireError
from sim_bridge.frames import RAW_LAYOUTS, Encoding, Frame, FrameStatus, Kind, Provenance, Style
from sim_bridge.wire import (
    ENCODINGS,
    Cause,
    Limits,
    StatusMessage,
    decode,
    decode_topic,
    encode,
    encode_status,
    topic_of,
)

CAMERAS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=40)
STAMPS = st.integers(0, 2**63 - 1)
NUMBERS = st.integers(0, 2**64 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
STYLES = st.dictionaries(
    TEXTS.filter(lambda name: name not in ("seed", "ensemble")),
    FINITE | st.integers(-(2**63), 2**63 - 1) | TEXTS | st.lists(FINITE, min_size=1, max_size=8).map(tuple),
    max_size=3,
)
ENSEMBLES = st.fixed_dictionaries({}, optional={"ensemble": st.tuples(*[st.floats(0, 1)] * 6)})
PROVENANCES = st.builds(
    Provenance,
    received=STAMPS,
    inferred=STAMPS,
    published=STAMPS,
    model=st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
    seed=NUMBERS,
    status=st.sampled_from(FrameStatus),
    style=st.builds(lambda style, ensemble: Style(style | ensemble), STYLES, ENSEMBLES),
)


def pixels_of(encoding: Encoding, width: int, height: int, seed: int) -> np.ndarray[Any, np.dtype[Any]]:
    noise = np.random.default_rng(seed)
    layout = RAW_LAYOUTS.get(encoding)
    if layout is None:
        return noise.integers(0, 256, width + height, dtype=np.uint8)
    raw = noise.bytes(layout.nbytes(width, height))  # floats made of any bits: NaN and inf must travel too
    return np.frombuffer(raw, layout.dtype).reshape(layout.shape(width, height))


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    kind = draw(st.sampled_from([kind for kind in Kind if kind is not Kind.STATUS]))
    encoding = draw(st.sampled_from(sorted(ENCODINGS[kind])))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    pose = draw(st.none() | st.lists(FINITE, min_size=12, max_size=12))
    return Frame(
        camera=draw(CAMERAS),
        kind=kind,
        number=draw(NUMBERS),
        time=draw(FINITE),
        session=draw(TEXTS),
        encoding=encoding,
        width=width,
        height=height,
        pixels=pixels_of(encoding, width, height, draw(st.integers(0, 99))),
        sent=draw(STAMPS),
        labels=draw(TEXTS if kind is Kind.SEMANTIC else st.none() | TEXTS),
        fov=draw(st.none() | st.floats(0.001, 359.0)),
        pose=None if pose is None else np.array([*pose, 0.0, 0.0, 0.0, 1.0]).reshape(4, 4),
        provenance=draw(PROVENANCES) if kind is Kind.PHOTOREAL else None,
    )


def rgb(**changes: Any) -> Frame:
    frame = Frame(
        camera="camera",
        kind=Kind.RGB,
        number=3,
        time=0.15,
        session="run",
        encoding=Encoding.RGB8,
        width=6,
        height=4,
        pixels=np.arange(72, dtype=np.uint8).reshape(4, 6, 3),
        sent=11,
        fov=90.0,
        pose=np.eye(4),
    )
    return dataclasses.replace(frame, **changes)


def message(changes: dict[str, Any] | None = None, *, drop: str = "", frame: Frame | None = None) -> list[bytes]:
    """A good message with some header keys replaced or dropped."""
    topic, header, payload = (bytes(part) for part in encode(frame or rgb()))
    fields = msgpack.unpackb(header) | (changes or {})
    fields.pop(drop, None)
    return [topic, msgpack.packb(fields), payload]


def cause_of(parts: list[Any], **options: Any) -> str:
    with pytest.raises(WireError) as caught:
        decode(parts, received=1, **options)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()
    return caught.value.cause


@given(frames(), STAMPS)
def test_any_frame_comes_back_as_it_was(frame: Frame, received: int) -> None:
    back = decode(encode(frame), received=received)
    assert isinstance(back, Frame)
    for field in dataclasses.fields(Frame):
        before, after = getattr(frame, field.name), getattr(back, field.name)
        if field.name == "received":
            assert after == received
        elif isinstance(before, np.ndarray):
            assert after.dtype == before.dtype
            assert after.shape == before.shape
            assert after.tobytes() == before.tobytes()
        else:
            assert after == before
            assert type(after) is type(before)


@given(
    CAMERAS,
    STAMPS,
    st.dictionaries(TEXTS, st.dictionaries(TEXTS, NUMBERS, max_size=4), max_size=3),
    st.dictionaries(TEXTS, FINITE, max_size=4),
    st.dictionaries(TEXTS, st.dictionaries(TEXTS, FINITE, max_size=4), max_size=3),
)
def test_any_status_comes_back_as_it_was(
    camera: str,
    sent: int,
    counters: dict[str, dict[str, int]],
    rates: dict[str, float],
    latency: dict[str, dict[str, float]],
) -> None:
    body = {"counters": counters, "rates": rates, "latency_ms": latency, "later": [1, {"a": None}]}
    back = decode(encode_status(camera, sent, body), received=1)
    assert back == StatusMessage(camera, sent, counters, rates, latency)


def test_a_status_says_what_the_bridge_does() -> None:
    body = {"counters": {}, "rates": {}, "latency_ms": {}}
    back = decode(encode_status("camera", 1, body | {"state": "loading", "mode": "lockstep", "seed": 7}), received=1)
    assert isinstance(back, StatusMessage)
    assert (back.state, back.mode, back.seed) == ("loading", "lockstep", 7)
    for value in ({"state": 5}, {"mode": ""}, {"seed": -1}, {"seed": "7"}):
        with pytest.raises(WireError, match=next(iter(value))):
            encode_status("camera", 1, body | value)
    with pytest.raises(WireError, match="sent"):
        encode_status("camera", 2**63, body)


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_arbitrary_parts_raise_only_wire_errors(parts: list[bytes]) -> None:
    assert cause_of(parts) in set(Cause)


@given(st.binary(max_size=300))
def test_arbitrary_headers_raise_only_wire_errors(header: bytes) -> None:
    assert cause_of([b"camera/rgb", header, b"x"]) in set(Cause)


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=17) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


@given(st.sampled_from(sorted(msgpack.unpackb(encode(rgb(labels="x"))[1]))), JSON_LIKE)
def test_any_value_in_any_key_is_taken_or_refused(key: str, value: Any) -> None:
    try:
        frame = decode(message({key: value}), received=1)
    except WireError as error:
        assert error.cause in set(Cause)
    else:
        assert isinstance(frame, Frame)
        encode(frame)  # what a reader takes, it could send on


@given(frames(), st.data())
def test_flipped_bits_raise_only_wire_errors(frame: Frame, data: st.DataObject) -> None:
    parts = [bytearray(part) for part in encode(frame)]
    for _ in range(data.draw(st.integers(1, 4))):
        part = parts[data.draw(st.integers(0, 1))]
        part[data.draw(st.integers(0, len(part) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decode(parts, received=1)
    except WireError as error:
        assert error.cause in set(Cause)


@given(frames(), st.data())
def test_truncated_parts_are_refused(frame: Frame, data: st.DataObject) -> None:
    parts = [bytes(part) for part in encode(frame)]
    index = data.draw(st.integers(0, 2))
    raw = index == 2 and frame.encoding in RAW_LAYOUTS
    keep = data.draw(st.integers(0, len(parts[index]) - 1)) if index < 2 or raw else 0
    parts[index] = parts[index][:keep]
    assert cause_of(parts) in {Cause.TOPIC, Cause.HEADER, Cause.MISSING, Cause.LENGTH}


@pytest.mark.parametrize("parts", [0, 1, 2, 4, 9])
def test_wrong_number_of_parts(parts: int) -> None:
    assert cause_of((message() * 3)[:parts]) == Cause.PARTS


def test_status_with_a_payload_and_parts_that_are_no_bytes() -> None:
    status = encode_status("camera", 1, {"counters": {}, "rates": {}, "latency_ms": {}})
    assert cause_of([*status, b""]) == Cause.PARTS
    assert cause_of(["camera/rgb", *message()[1:]]) == Cause.PARTS
    assert cause_of([*message()[:2], memoryview(bytes(144))[::2]]) == Cause.PARTS


@pytest.mark.parametrize(
    "topic",
    [
        b"",
        b"camera",
        b"camera/",
        b"/rgb",
        b"camera/rgb/",
        b"camera/rgb2",
        b"camera/RGB",
        b"camera/rgb\n",
        b"a/b/rgb",
        b"../rgb",
        b".hidden/rgb",
        b"-flag/rgb",
        b"\x00/rgb",
        b"caf\xc3\xa9/rgb",
        pytest.param(b"x" * 65 + b"/rgb", id="65 characters"),
        pytest.param(b"x" * 10_000_000, id="10 MB"),
    ],
)
def test_bad_topics(topic: bytes) -> None:
    assert cause_of([topic, *message()[1:]]) == Cause.TOPIC
    with pytest.raises(WireError):
        decode_topic(topic)


def test_topic_and_header_must_agree() -> None:
    assert cause_of([b"other/rgb", *message()[1:]]) == Cause.TOPIC
    assert cause_of([b"camera/photoreal", *message()[1:]]) == Cause.TOPIC
    assert cause_of(message({"camera": ["camera"]})) == Cause.TOPIC


def test_topics_are_read_and_written() -> None:
    assert topic_of("front.left-1", Kind.SEMANTIC) == b"front.left-1/semantic"
    assert decode_topic(memoryview(b"front.left-1/semantic")) == ("front.left-1", Kind.SEMANTIC)
    with pytest.raises(WireError, match="topic"):
        topic_of("é", "rgb")


@pytest.mark.parametrize("version", [0, 2, -1, 1.0, True, "1", None, [1], {}])
def test_other_versions_are_refused_before_anything_else(version: Any) -> None:
    assert cause_of(message({"v": version}, drop="frame")) == Cause.VERSION


@pytest.mark.parametrize(
    "key", ["v", "camera", "kind", "frame", "time", "session", "sent", "width", "height", "encoding"]
)
def test_keys_that_must_be_there(key: str) -> None:
    assert cause_of(message(drop=key)) == Cause.MISSING


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"frame": "3"}, Cause.TYPE),
        ({"frame": 3.0}, Cause.TYPE),
        ({"frame": True}, Cause.TYPE),
        ({"frame": -1}, Cause.VALUE),
        ({"time": "0"}, Cause.TYPE),
        ({"time": False}, Cause.TYPE),
        ({"time": float("nan")}, Cause.VALUE),
        ({"time": float("inf")}, Cause.VALUE),
        ({"session": b"run"}, Cause.TYPE),
        ({"session": ""}, Cause.VALUE),
        ({"session": "x" * 129}, Cause.VALUE),
        ({"session": "a\nERROR faked log line"}, Cause.VALUE),
        ({"sent": -5}, Cause.VALUE),
        ({"sent": 2**63}, Cause.VALUE),
        ({"sent": 2**64 - 1}, Cause.VALUE),
        ({"sent": 1.5}, Cause.TYPE),
        ({"width": 0}, Cause.SIZE),
        ({"height": 0}, Cause.SIZE),
        ({"width": 16385}, Cause.SIZE),
        ({"width": 2**63, "height": 2**63}, Cause.SIZE),
        ({"width": 16384, "height": 16384}, Cause.SIZE),
        ({"width": "6"}, Cause.TYPE),
        ({"width": 7}, Cause.LENGTH),
        ({"encoding": "bgra8"}, Cause.LENGTH),
        ({"encoding": "rgb16"}, Cause.ENCODING),
        ({"encoding": "mono8"}, Cause.ENCODING),
        ({"encoding": 5}, Cause.TYPE),
        ({"fov": 0.0}, Cause.VALUE),
        ({"fov": 360}, Cause.VALUE),
        ({"fov": "90"}, Cause.TYPE),
        ({"pose": [0.0] * 15}, Cause.TYPE),
        ({"pose": {"0": 1}}, Cause.TYPE),
        ({"pose": ["x"] * 16}, Cause.TYPE),
        ({"pose": [float("nan")] * 16}, Cause.VALUE),
        ({"pose": [*np.eye(4).ravel()[:-1].tolist(), 0.0]}, Cause.VALUE),
        ({"labels": 3}, Cause.TYPE),
    ],
)
def test_bad_header_values(changes: dict[str, Any], cause: Cause) -> None:
    assert cause_of(message(changes)) == cause


def test_a_transposed_pose_is_found_out() -> None:
    pose = np.eye(4)
    pose[:3, 3] = (12.0, -3.0, 1.6)
    assert cause_of(message({"pose": pose.T.ravel().tolist()})) == Cause.VALUE


def test_semantic_needs_its_taxonomy_and_photoreal_its_provenance() -> None:
    ids = rgb(kind=Kind.SEMANTIC, encoding=Encoding.MONO8, pixels=np.zeros((4, 6), np.uint8), labels="carla-0.9.14")
    assert cause_of(message(drop="labels", frame=ids)) == Cause.MISSING
    made = Provenance(1, 2, 3, "0123456789ab", 0, FrameStatus.FRESH)
    photoreal = rgb(kind=Kind.PHOTOREAL, provenance=made)
    for key in ("received", "inferred", "published", "model", "seed", "status"):
        assert cause_of(message(drop=key, frame=photoreal)) == Cause.MISSING
    assert cause_of(message({"model": "0123456789AB"}, frame=photoreal)) == Cause.VALUE
    assert cause_of(message({"status": "stale"}, frame=photoreal)) == Cause.VALUE
    assert cause_of(message({"ensemble": [1.0] * 5}, frame=photoreal)) == Cause.TYPE
    assert cause_of(message({"ensemble": [float("nan")] * 6}, frame=photoreal)) == Cause.VALUE
    for key in ("received", "inferred", "published"):
        assert cause_of(message({key: 2**64 - 1}, frame=photoreal)) == Cause.VALUE


def test_unknown_keys_and_whole_number_times_are_fine() -> None:
    frame = decode(message({"time": 2, "status": "?", "gps": {"lat": 1.5}, "note": None, "fov": None}), received=1)
    assert isinstance(frame, Frame)
    assert (frame.time, type(frame.time), frame.fov, frame.provenance) == (2.0, float, None, None)


@pytest.mark.parametrize("change", [-1, 1, -72])
def test_payload_length_must_be_exact(change: int) -> None:
    topic, header, payload = message()
    assert cause_of([topic, header, (payload + b"x")[: len(payload) + change]]) == Cause.LENGTH


def test_limits_of_the_reader_count() -> None:
    assert cause_of(message(), limits=Limits(side=5)) == Cause.SIZE
    assert cause_of(message(), limits=Limits(pixels=23)) == Cause.SIZE
    assert cause_of(message(), limits=Limits(payload=71)) == Cause.LENGTH
    assert isinstance(decode(message(), received=1, limits=Limits(6, 24, 72)), Frame)


def test_empty_compressed_payload() -> None:
    topic, header, _ = message(frame=rgb(encoding=Encoding.JPEG, pixels=np.ones(9, np.uint8)))
    assert cause_of([topic, header, b""]) == Cause.LENGTH


NESTED = b"\x91" * 60_000 + b"\xc0"
BOMBS = {
    "array of 2**32 - 1": b"\xdd\xff\xff\xff\xff",
    "map of 2**32 - 1": b"\xdf\xff\xff\xff\xff",
    "text of 2**32 - 1": b"\x81\xa1v\xdb\xff\xff\xff\xff",
    "bytes of 2**32 - 1": b"\x81\xa1v\xc6\xff\xff\xff\xff",
    "extension of 2**32 - 1": b"\x81\xa1v\xc9\xff\xff\xff\xff\x05",
    "extension": b"\x81\xa1v\xd4\x05\x00",
    "timestamp": b"\x81\xa1v\xd6\xff\x00\x00\x00\x00",
    "60,000 nested arrays": NESTED,
    "60,000 nested maps": b"\x81\xa1v" * 20_000 + b"\xc0",
    "nested arrays that announce 65,535 entries each": b"\xdc\xff\xff" * 20_000,
    "257 entries": msgpack.packb({str(number): number for number in range(257)}),
    "long array": msgpack.packb({"v": list(range(257))}),
    "long text": msgpack.packb({"v": "x" * 4097}),
    "long bytes": msgpack.packb({"v": bytes(4097)}),
    "above 64 KiB": msgpack.packb({str(number): "x" * 1000 for number in range(70)}),
    "number keys": msgpack.packb({1: 1}),
    "bytes keys": b"\x81\xc4\x01v\x01",
    "a key twice": b"\x82\xa1v\x01\xa1v\x01",
    "a key twice inside": b"\x81\xa1x\x82\xa1v\x01\xa1v\x01",
    "text that is not UTF-8": b"\x81\xa1v\xa2\xff\xff",
    "a list": msgpack.packb([1]),
    "a number": msgpack.packb(1),
    "nothing": b"",
    "two maps": msgpack.packb({"v": 1}) * 2,
    "cut off": msgpack.packb({"v": 1, "camera": "camera"})[:-3],
    "reserved byte": b"\xc1",
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00",
}


@pytest.mark.parametrize("header", BOMBS.values(), ids=BOMBS.keys())
def test_msgpack_bombs(header: bytes) -> None:
    tracemalloc.start()
    try:
        assert cause_of([b"camera/rgb", header, b"x"]) == Cause.HEADER
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [
        {"number": -1},
        {"number": 1.5},
        {"time": float("nan")},
        {"time": 10**400},
        {"session": ""},
        {"camera": "a/b"},
        {"kind": Kind.STATUS},
        {"kind": Kind.SEMANTIC},
        {"kind": Kind.PHOTOREAL},
        {"width": 7},
        {"width": 0, "pixels": np.zeros((4, 0, 3), np.uint8)},
        {"pixels": np.zeros((4, 6, 3), np.int8)},
        {"pixels": np.zeros((6, 4, 3), np.uint8)},
        {"pixels": np.zeros(72, np.uint8)},
        {"encoding": Encoding.MONO8},
        {"encoding": Encoding.PNG, "pixels": np.zeros((2, 2), np.uint8)},
        {"encoding": Encoding.PNG, "pixels": np.zeros(0, np.uint8)},
        {"pose": np.full((4, 4), np.inf)},
        {"pose": np.eye(3)},
    ],
)
def test_a_bad_frame_does_not_leave(change: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        encode(rgb(**change))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"counters": {"camera/rgb": {"received": -1}}, "rates": {}, "latency_ms": {}},
        {"counters": {"camera/rgb": 5}, "rates": {}, "latency_ms": {}},
        {"counters": {}, "rates": {"fps": float("nan")}, "latency_ms": {}},
        {"counters": {}, "rates": {}, "latency_ms": {"network": {"p50": "1"}}},
        {"counters": {}, "rates": {}, "latency_ms": {}, "extra": object()},
        {"counters": {}, "rates": {}, "latency_ms": {}, "extra": "x" * 100_000},
        {"counters": {str(n): {} for n in range(300)}, "rates": {}, "latency_ms": {}},
        {"counters": {}, "rates": {}, "latency_ms": {}, "extra": {1: 2}},
    ],
)
def test_a_bad_status_does_not_leave(body: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        encode_status("camera", 1, body)


def test_encode_does_not_copy_contiguous_pixels() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    payload = encode(rgb(pixels=pixels))[2]
    pixels[0, 0, 0] = 77
    assert payload[0] == 77
    assert bytes(encode(rgb(pixels=np.zeros((4, 12, 3), np.uint8)[:, ::2]))[2]) == bytes(72)


def test_decode_does_not_copy_and_pixels_are_read_only() -> None:
    parts = [zmq.Frame(part) for part in message()]
    frame = decode([part.buffer for part in parts], received=1)
    assert isinstance(frame, Frame)
    assert np.shares_memory(frame.pixels, np.frombuffer(parts[2].buffer, np.uint8))
    del parts
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0, 0] = 1
    assert frame.pixels.ravel().tolist() == list(range(72))  # the view keeps ZeroMQ's buffer alive


@pytest.mark.parametrize("module", ["wire", "client", "frames", "errors", "wire.transport"])
def test_the_client_side_needs_neither_torch_nor_cv2(module: str) -> None:
    code = f"import sys, sim_bridge.{module}; sys.exit(' '.join({{'torch', 'cv2', 'yaml'}} & set(sys.modules)) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_errors_of_other_modules_have_a_cause_too() -> None:
    raisers: list[Callable[[], object]] = [lambda: decode([], received=0), lambda: encode(rgb(number=-1))]
    for raiser in raisers:
        with pytest.raises(WireError) as caught:
            raiser()
        assert caught.value.cause in set(Cause)
    assert WireError("x").cause == "malformed"


def test_the_page_on_the_wire_says_what_the_code_does() -> None:
    page = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
    for kind, encodings in ENCODINGS.items():
        row = re.search(rf"^\| `{kind}` \|.*\| (.*) \|$", page, re.MULTILINE)
        assert row is not None
        expected = ENCODINGS[Kind.RGB] if kind is Kind.PHOTOREAL else encodings
        listed = row[1].replace("the same", " ".join(f"`{name}`" for name in expected))
        assert set(re.findall(r"`(\w+)`", listed)) == {str(name) for name in expected}
    causes = page.partition("## What a reader refuses")[2].partition("Limits inside")[0]
    assert set(re.findall(r"^\| (`.*`) \|", causes, re.MULTILINE)) <= {f"`{cause}`" for cause in Cause} | {
        "`header-missing`, `header-type`, `header-value`"
    }
    assert all(f"`{cause}`" in causes for cause in Cause)
    for key in msgpack.unpackb(encode(rgb(labels="x"))[1]):
        assert f"`{key}`" in page
    status = page.partition("## Status")[2].partition("## What a reader refuses")[0]
    for field in dataclasses.fields(StatusMessage):
        assert re.search(rf"^\|.*`{field.name}`.* \|", status, re.MULTILINE), field.name


def test_the_pages_pose_of_a_carla_camera_is_right() -> None:
    page = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    # A camera 2 m above (10, 5), turned by 90 degrees to CARLA's right, that is, to look along CARLA's +y.
    matrix = [[0.0, -1.0, 0.0, 10.0], [1.0, 0.0, 0.0, 5.0], [0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 1.0]]
    pose = names["pose_from_carla"](matrix)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    ahead, right, down = (pose @ np.array([*axis, 1.0]) for axis in ((0, 0, 1), (1, 0, 0), (0, 1, 0)))
    assert ahead[:3].tolist() == [10.0, -6.0, 2.0]  # one metre on along -y of the right-handed world
    assert right[:3].tolist() == [9.0, -5.0, 2.0]
    assert down[:3].tolist() == [10.0, -5.0, 1.0]
    back = decode(encode(rgb(pose=pose)), received=1)
    assert isinstance(back, Frame)
    assert back.pose is not None
    assert np.array_equal(back.pose, pose)
