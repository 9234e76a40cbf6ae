"""Wire format, version 1: one frame is one ZeroMQ multipart message ``[topic, header, payload]``.

The topic is ``<camera>/<kind>``, the header one msgpack map with string keys, the payload the pixels in C order without
padding. Nothing here copies pixels: :func:`encode` hands out a view of the frame's array, :func:`decode` makes an array
on the received buffer. Whatever bytes come in, :func:`decode` either returns a checked message or raises
:class:`~sim_bridge.errors.WireError`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from sim_bridge.frames import (
    CAMERA_NAME,
    MAX_PIXELS,
    MAX_SIDE,
    RAW_LAYOUTS,
    Encoding,
    Frame,
    FrameStatus,
    Kind,
    PixelArray,
    Provenance,
    Style,
    StyleValue,
)
from sim_bridge.wire.header import MAX_TEXT, Cause, Header, fail, pack, real_number, show, unpack, view

if TYPE_CHECKING:
    from typing_extensions import Buffer

_KINDS = frozenset(str(kind) for kind in Kind)

VERSION: Final = 1
"""The only header version this module writes and reads."""

_IMAGE: Final = frozenset({Encoding.BGRA8, Encoding.RGB8, Encoding.BGR8, Encoding.JPEG, Encoding.PNG})
ENCODINGS: Final[Mapping[Kind, frozenset[Encoding]]] = {
    Kind.RGB: _IMAGE,
    Kind.PHOTOREAL: _IMAGE,
    Kind.SEMANTIC: frozenset({Encoding.MONO8, Encoding.PNG}),
    Kind.EDGES: frozenset({Encoding.MONO8, Encoding.PNG}),
    Kind.INSTANCE: frozenset({Encoding.MONO16}),
    Kind.DEPTH: frozenset({Encoding.FLOAT1}),
    Kind.FLOW: frozenset({Encoding.FLOAT2}),
    Kind.STATUS: frozenset(),
}
"""Which encodings each kind may travel in."""

_MODEL = re.compile(r"[0-9a-f]{12}")
_ENSEMBLE = "ensemble"  # version 1 has this style as a header key of its own, always six numbers
_ENSEMBLE_WEIGHTS = 6
_MAX_WEIGHTS = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader accepts at most.

    Attributes:
        side: Width and height, pixels.
        pixels: Width times height.
        payload: Payload, bytes.
    """

    side: int = MAX_SIDE
    pixels: int = MAX_PIXELS
    payload: int = 1 << 29


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """What a bridge says about a camera once a second.

    Attributes:
        camera: Name of the camera.
        sent: Nanoseconds since the epoch on the sender's clock.
        counters: Per topic, how many messages had which outcome.
        rates: Events per second.
        latency_ms: Per stage, percentiles in milliseconds.
        state: ``loading``, ``running``, ``paused`` or ``stopping``; None when the sender does not say.
        mode: ``realtime`` or ``lockstep``; None when the sender does not say.
        seed: The camera's style seed; None when the sender does not say.
    """

    camera: str
    sent: int
    counters: Mapping[str, Mapping[str, int]]
    rates: Mapping[str, float]
    latency_ms: Mapping[str, Mapping[str, float]]
    state: str | None = None
    mode: str | None = None
    seed: int | None = None


def topic_of(camera: str, kind: Kind | str) -> bytes:
    """Returns the topic ``<camera>/<kind>`` as bytes, what a subscriber subscribes to.

    Raises WireError when the camera's name or the kind is not allowed.
    """
    topic = f"{camera}/{kind}".encode("ascii", errors="replace")
    decode_topic(topic)
    return topic


def decode_topic(part: Buffer) -> tuple[str, Kind]:
    """Splits a topic into camera and kind. Raises WireError when it is not ``<camera>/<kind>`` with a known kind."""
    raw = bytes(view(part)[:MAX_TEXT])
    camera, _, kind = raw.decode("ascii", errors="replace").partition("/")
    if CAMERA_NAME.fullmatch(camera) is None or kind not in _KINDS:
        fail(
            Cause.TOPIC,
            f"topic {show(raw)} is not <camera>/<kind>: a camera is up to 64 letters, digits, '_', '-' or '.' "
            f"(not in front '-' or '.'), a kind one of {', '.join(Kind)}",
        )
    return camera, Kind(kind)


def encode(frame: Frame) -> list[bytes | memoryview]:
    """Encodes a frame as ``[topic, header, payload]``.

    The payload is a view of ``frame.pixels`` (a copy only where they are not C-contiguous): the pixels must stay as
    they are until the message has left. What this accepts, :func:`decode` accepts.

    Raises WireError when the frame breaks the format, by the same rules as in :func:`decode`.
    """
    topic = topic_of(frame.camera, frame.kind)
    header = _header_of(frame)
    payload = _payload_of(frame)
    _read_frame(Header(header), frame.camera, frame.kind, payload, 0, DEFAULT_LIMITS)
    return [topic, pack(header), payload]


def encode_status(camera: str, sent: int, body: Mapping[str, object]) -> list[bytes]:
    """Encodes a status message as ``[topic, header]``.

    Args:
        camera: Name of the camera.
        sent: Nanoseconds since the epoch.
        body: ``counters``, ``rates`` and ``latency_ms``, if known ``state``, ``mode`` and ``seed``, as in
            :class:`StatusMessage`; further keys travel along.

    Raises:
        WireError: The message breaks the format, by the same rules as in :func:`decode`.
    """
    header = {**body, "v": VERSION, "camera": camera, "kind": str(Kind.STATUS), "sent": sent}
    topic = topic_of(camera, Kind.STATUS)
    packed = pack(header)
    _read_status(Header(unpack(memoryview(packed))), camera)  # the body is the caller's: see it as a reader will
    return [topic, packed]


def decode(parts: Sequence[Buffer], *, received: int, limits: Limits = DEFAULT_LIMITS) -> Frame | StatusMessage:
    """Decodes one multipart message and checks all of it before a pixel is touched.

    Args:
        parts: The message's parts: ``bytes``, or ``zmq.Frame`` objects, whose buffers the pixels then keep alive.
        received: When it was taken from the socket, nanoseconds since the epoch.
        limits: What to accept at most.

    Returns:
        A frame with a read-only view of the payload as pixels, or a status message.

    Raises:
        WireError: Anything is wrong with the message; ``cause`` is a :class:`Cause`.
    """
    if not 2 <= len(parts) <= 3:
        fail(
            Cause.PARTS,
            f"a message has {len(parts)} parts, but must be [topic, header, payload] ([topic, header] for status)",
        )
    camera, kind = decode_topic(parts[0])
    if len(parts) != (2 if kind is Kind.STATUS else 3):
        fail(Cause.PARTS, f"a message of kind '{kind}' has {len(parts)} parts, but must have {5 - len(parts)}")
    header = Header(unpack(view(parts[1])))
    _check_version(header)
    _check_topic(header, camera, kind)
    if kind is Kind.STATUS:
        return _read_status(header, camera)
    return _read_frame(header, camera, kind, view(parts[2]), received, limits)


def _check_version(header: Header) -> None:
    version = header.value("v")
    if version != VERSION or not isinstance(version, int) or isinstance(version, bool):
        fail(
            Cause.VERSION,
            f"the header's version is {show(version)}, this reader knows {VERSION}: use the same release on both ends",
        )


def _check_topic(header: Header, camera: str, kind: Kind) -> None:
    if (header.value("camera"), header.value("kind")) != (camera, str(kind)):
        said = f"{header.value('camera')}/{header.value('kind')}"
        fail(Cause.TOPIC, f"the topic is '{camera}/{kind}', but the header says {show(said)}: both must agree")


def _header_of(frame: Frame) -> dict[str, object]:
    header: dict[str, object] = {
        "v": VERSION,
        "camera": frame.camera,
        "kind": str(frame.kind),
        "frame": frame.number,
        "time": frame.time,
        "session": frame.session,
        "sent": frame.sent,
        "width": frame.width,
        "height": frame.height,
        "encoding": str(frame.encoding),
    }
    if frame.labels is not None:
        header["labels"] = frame.labels
    if frame.fov is not None:
        header["fov"] = frame.fov
    if frame.pose is not None:
        header["pose"] = np.asarray(frame.pose, dtype=np.float64).ravel().tolist()
    if frame.provenance is not None:
        header |= _provenance_header(frame.provenance)
    return header


def _provenance_header(provenance: Provenance) -> dict[str, object]:
    header: dict[str, object] = {
        "received": provenance.received,
        "inferred": provenance.inferred,
        "published": provenance.published,
        "model": provenance.model,
        "seed": provenance.seed,
        "status": str(provenance.status),
    }
    style = {name: list(value) if isinstance(value, tuple) else value for name, value in provenance.style.items()}
    ensemble = style.get(_ENSEMBLE)
    if isinstance(ensemble, list) and len(ensemble) == _ENSEMBLE_WEIGHTS:
        header[_ENSEMBLE] = style.pop(_ENSEMBLE)
    if style:
        header["style"] = style
    return header


def _payload_of(frame: Frame) -> memoryview:
    layout = RAW_LAYOUTS.get(frame.encoding)
    pixels = frame.pixels
    shape: tuple[int, ...] = (pixels.size,) if layout is None else layout.shape(frame.width, frame.height)
    dtype: np.dtype[np.generic] = np.dtype(np.uint8) if layout is None else layout.dtype
    if pixels.shape != shape or pixels.dtype != dtype:
        expected = f"'{frame.encoding}' at {frame.width}x{frame.height} is {dtype} {shape}"
        fail(Cause.LENGTH, f"the pixels are {pixels.dtype} {pixels.shape}, but {expected}: convert them first")
    return np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data


def _read_frame(header: Header, camera: str, kind: Kind, payload: memoryview, received: int, limits: Limits) -> Frame:
    encoding = header.choice("encoding", Encoding, Cause.ENCODING)
    if encoding not in ENCODINGS[kind]:
        allowed = ", ".join(sorted(ENCODINGS[kind]))
        fail(Cause.ENCODING, f"a frame of kind '{kind}' has the encoding '{encoding}', but must have one of {allowed}")
    width, height = _read_size(header, limits)
    return Frame(
        camera=camera,
        kind=kind,
        number=header.unsigned("frame"),
        time=header.real("time"),
        session=header.text("session"),
        encoding=encoding,
        width=width,
        height=height,
        pixels=_pixels(payload, encoding, width, height, limits),
        sent=header.stamp("sent"),
        labels=header.text("labels") if kind is Kind.SEMANTIC or "labels" in header else None,
        fov=_read_fov(header),
        pose=_read_pose(header),
        provenance=_read_provenance(header) if kind is Kind.PHOTOREAL else None,
        received=received,
    )


def _read_size(header: Header, limits: Limits) -> tuple[int, int]:
    width, height = header.unsigned("width"), header.unsigned("height")
    if not (0 < width <= limits.side and 0 < height <= limits.side and width * height <= limits.pixels):
        allowed = f"1 to {limits.side} on a side and at most {limits.pixels} in all"
        fail(
            Cause.SIZE,
            f"a frame has {show(width)}x{show(height)} pixels, but must have {allowed}: send another size, or raise "
            "the reader's limit (of a bridge: --max-pixels)",
        )
    return width, height


def _pixels(payload: memoryview, encoding: Encoding, width: int, height: int, limits: Limits) -> PixelArray:
    """The payload as a read-only array, its length checked."""
    layout = RAW_LAYOUTS.get(encoding)
    if payload.nbytes > limits.payload:
        fail(
            Cause.LENGTH, f"the payload has {payload.nbytes} bytes, the limit is {limits.payload}: send smaller frames"
        )
    if layout is None:
        if payload.nbytes == 0:
            fail(Cause.LENGTH, f"the payload of a '{encoding}' frame is empty: send the compressed image")
        pixels: PixelArray = np.frombuffer(payload, dtype=np.uint8)
    else:
        expected = layout.nbytes(width, height)
        if payload.nbytes != expected:
            sentence = f"the payload has {payload.nbytes} bytes, but '{encoding}' at {width}x{height} has {expected}"
            fail(Cause.LENGTH, f"{sentence}: send rows without padding")
        pixels = np.frombuffer(payload, dtype=layout.dtype).reshape(layout.shape(width, height))
    pixels.flags.writeable = False
    return pixels


def _read_fov(header: Header) -> float | None:
    if "fov" not in header:
        return None
    fov = header.real("fov")
    if not 0 < fov < 360:
        fail(Cause.VALUE, f"header key 'fov' is {fov}, but must be between 0 and 360 degrees")
    return fov


def _read_pose(header: Header) -> npt.NDArray[np.float64] | None:
    if "pose" not in header:
        return None
    value = header.value("pose")
    if not isinstance(value, list) or len(value) != 16:
        fail(
            Cause.TYPE,
            f"header key 'pose' is {show(value)}, but must be 16 numbers, the rows of a 4x4 camera-to-world matrix",
        )
    pose = np.array([real_number("pose", entry) for entry in value]).reshape(4, 4)
    if not np.allclose(pose[3], (0, 0, 0, 1), rtol=0, atol=1e-6):
        fail(
            Cause.VALUE,
            f"the last row of 'pose' is {pose[3].tolist()}, but must be [0, 0, 0, 1]: send the matrix row by row",
        )
    return pose


def _read_provenance(header: Header) -> Provenance:
    model = header.text("model")
    if _MODEL.fullmatch(model) is None:
        fail(Cause.VALUE, f"header key 'model' is {show(model)}, but must be 12 hexadecimal digits")
    return Provenance(
        received=header.stamp("received"),
        inferred=header.stamp("inferred"),
        published=header.stamp("published"),
        model=model,
        seed=header.unsigned("seed"),
        status=header.choice("status", FrameStatus),
        style=_read_style(header),
    )


def _read_style(header: Header) -> Style:
    values: dict[str, StyleValue] = {}
    if "style" in header:
        table = Header(header.table("style"))
        values = {name: _read_style_value(table, name) for name in header.table("style")}
    if _ENSEMBLE in header:
        values[_ENSEMBLE] = _read_weights(_ENSEMBLE, header.value(_ENSEMBLE), _ENSEMBLE_WEIGHTS)
    return Style(values)


def _read_style_value(table: Header, name: str) -> StyleValue:
    value = table.value(name)
    if isinstance(value, str):
        return table.text(name)
    if isinstance(value, list):
        return _read_weights(f"style.{name}", value, None)
    number = real_number(f"style.{name}", value)
    return value if isinstance(value, int) else number


def _read_weights(name: str, value: object, count: int | None) -> tuple[float, ...]:
    wanted = f"{count} numbers" if count else f"1 to {_MAX_WEIGHTS} numbers"
    if not isinstance(value, list) or not (len(value) == count if count else 0 < len(value) <= _MAX_WEIGHTS):
        fail(Cause.TYPE, f"header key '{name}' is {show(value)}, but must be {wanted}")
    return tuple(real_number(f"{name}[{place}]", weight) for place, weight in enumerate(value))


def _read_status(header: Header, camera: str) -> StatusMessage:
    counters = header.table("counters")
    latency = header.table("latency_ms")
    return StatusMessage(
        camera=camera,
        sent=header.stamp("sent"),
        counters={topic: _counts(Header(counters), topic) for topic in counters},
        rates=_numbers(header, "rates"),
        latency_ms={stage: _numbers(Header(latency), stage) for stage in latency},
        state=header.text("state") if "state" in header else None,
        mode=header.text("mode") if "mode" in header else None,
        seed=header.unsigned("seed") if "seed" in header else None,
    )


def _counts(header: Header, key: str) -> Mapping[str, int]:
    table = header.table(key)
    return {name: Header(table).unsigned(name) for name in table}


def _numbers(header: Header, key: str) -> Mapping[str, float]:
    return {name: real_number(f"{key}.{name}", value) for name, value in header.table(key).items()}
