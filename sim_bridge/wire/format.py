"""Wire format, version 1: one frame is one ZeroMQ multipart message ``[topic, header, payload]``.

The topic is ``<camera>/<kind>``, the header one msgpack map with string keys, the payload the pixels in C order without
padding. Nothing here copies pixels: :func:`encode` hands out a view of the frame's array, :func:`decode` makes an array
on the received buffer. Whatever bytes come in, :func:`decode` either returns a checked message or raises
:class:`~sim_bridge.errors.WireError`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from reprlib import Repr
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import msgpack
import numpy as np
import numpy.typing as npt

from sim_bridge.errors import WireError
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

if TYPE_CHECKING:
    from typing_extensions import Buffer

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
_MAX_UNSIGNED = 2**64 - 1
_MAX_STAMP = 2**63 - 1  # the year 2262: differences of two stamps fit into a signed word, wherever they are kept
_MAX_TEXT = 128
_MAX_ITEMS = 256  # entries of one msgpack map or array; bounds what a small header can make the decoder allocate
_MAX_MSGPACK_TEXT = 4096
_HEADER_BYTES = 64 * 1024
_ENSEMBLE = "ensemble"  # version 1 has this style as a header key of its own, always six numbers
_ENSEMBLE_WEIGHTS = 6
_MAX_WEIGHTS = 64

_EnumT = TypeVar("_EnumT", bound=StrEnum)

_repr = Repr()
_repr.maxstring = _repr.maxother = 60


class Cause(StrEnum):
    """What can be wrong with a message; :attr:`WireError.cause <sim_bridge.errors.WireError>` is one of these."""

    PARTS = "parts"
    """Not three parts (two for ``status``), or a part that is not contiguous bytes."""
    TOPIC = "topic"
    """The topic is not ``<camera>/<kind>``, or names another camera or kind than the header."""
    HEADER = "header"
    """The header is too long, not msgpack, not a map with string keys, or nests beyond the limits."""
    VERSION = "version"
    """The header's ``v`` is not 1."""
    MISSING = "header-missing"
    """A key that must be there is not."""
    TYPE = "header-type"
    """A key's value has the wrong type."""
    VALUE = "header-value"
    """A key's value is out of its range."""
    ENCODING = "encoding"
    """The encoding is unknown, or this kind may not travel in it."""
    SIZE = "size"
    """Width or height is zero or above the limits."""
    LENGTH = "length"
    """The payload's length is not what size and encoding say."""


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

    Raises:
        WireError: The camera's name or the kind is not allowed.
    """
    topic = f"{camera}/{kind}".encode("ascii", errors="replace")
    decode_topic(topic)
    return topic


def decode_topic(part: Buffer) -> tuple[str, Kind]:
    """Splits a topic into camera and kind.

    Raises:
        WireError: It is not ``<camera>/<kind>`` with a known kind.
    """
    raw = bytes(_view(part)[:_MAX_TEXT])
    camera, _, kind = raw.decode("ascii", errors="replace").partition("/")
    if CAMERA_NAME.fullmatch(camera) is None or kind not in _KINDS:
        _fail(
            Cause.TOPIC,
            f"topic {_show(raw)} is not <camera>/<kind>: a camera is up to 64 letters, digits, '_', '-' or '.' "
            f"(not in front '-' or '.'), a kind one of {', '.join(Kind)}",
        )
    return camera, Kind(kind)


def encode(frame: Frame) -> list[bytes | memoryview]:
    """Encodes a frame as ``[topic, header, payload]``.

    The payload is a view of ``frame.pixels`` (a copy only where they are not C-contiguous): the pixels must stay as
    they are until the message has left. What this accepts, :func:`decode` accepts.

    Raises:
        WireError: The frame breaks the format, by the same rules as in :func:`decode`.
    """
    topic = topic_of(frame.camera, frame.kind)
    header = _header_of(frame)
    payload = _payload_of(frame)
    _read_frame(_Header(header), frame.camera, frame.kind, payload, 0, DEFAULT_LIMITS)
    return [topic, _pack(header), payload]


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
    packed = _pack(header)
    _read_status(_Header(_unpack(memoryview(packed))), camera)  # the body is the caller's: see it as a reader will
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
        _fail(
            Cause.PARTS,
            f"a message has {len(parts)} parts, but must be [topic, header, payload] ([topic, header] for status)",
        )
    camera, kind = decode_topic(parts[0])
    if len(parts) != (2 if kind is Kind.STATUS else 3):
        _fail(Cause.PARTS, f"a message of kind '{kind}' has {len(parts)} parts, but must have {5 - len(parts)}")
    header = _Header(_unpack(_view(parts[1])))
    _check_version(header)
    _check_topic(header, camera, kind)
    if kind is Kind.STATUS:
        return _read_status(header, camera)
    return _read_frame(header, camera, kind, _view(parts[2]), received, limits)


_KINDS = frozenset(str(kind) for kind in Kind)


def _fail(cause: Cause, sentence: str) -> NoReturn:
    raise WireError(sentence, cause=str(cause))


def _show(value: object) -> str:
    """A short repr, safe for a log line."""
    return _repr.repr(value)


def _view(part: Buffer) -> memoryview:
    """The part as flat bytes, without a copy."""
    try:
        view = memoryview(part)
        return view if view.format == "B" and view.ndim == 1 and view.contiguous else view.cast("B")
    except (TypeError, ValueError) as error:
        _fail(
            Cause.PARTS, f"a message part of type {type(part).__name__} is not contiguous bytes ({error}): send bytes"
        )


def _pack(header: Mapping[str, object]) -> bytes:
    try:
        packed = msgpack.packb(header)
    except (TypeError, ValueError, OverflowError) as error:
        _fail(Cause.HEADER, f"the header cannot be written as msgpack ({error}): use strings, numbers, lists and maps")
    if len(packed) > _HEADER_BYTES:
        _fail(Cause.HEADER, f"the header has {len(packed)} bytes, the limit is {_HEADER_BYTES}: send less in it")
    return bytes(packed)


def _string_keys(pairs: Sequence[tuple[object, object]]) -> dict[str, object]:
    """Builds a map; readers that disagree on which of two equal keys counts would see two different frames."""
    result = {key: value for key, value in pairs if isinstance(key, str)}
    if len(result) != len(pairs):
        raise ValueError("a map has a key twice, or one that is not a string")
    return result


def _no_extension(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"extension type {code} is not allowed")


def _unpack(header: memoryview) -> Mapping[str, object]:
    if header.nbytes > _HEADER_BYTES:
        _fail(
            Cause.HEADER,
            f"the header has {header.nbytes} bytes, the limit is {_HEADER_BYTES}: send pixels in the payload",
        )
    try:
        result = msgpack.unpackb(
            header,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_string_keys,
            ext_hook=_no_extension,
            max_str_len=_MAX_MSGPACK_TEXT,
            max_bin_len=_MAX_MSGPACK_TEXT,
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        _fail(
            Cause.HEADER, f"the header is not a msgpack map within the limits ({_show(str(error))}): see docs/wire.md"
        )
    if not isinstance(result, dict):
        _fail(Cause.HEADER, f"the header is a msgpack {type(result).__name__}, but must be a map with string keys")
    return result


class _Header:
    """Typed, checked access to a header's keys."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def __contains__(self, key: str) -> bool:
        return self._fields.get(key) is not None

    def value(self, key: str) -> object:
        if key not in self._fields:
            _fail(Cause.MISSING, f"header key '{key}' is missing: a message of this kind must carry it")
        return self._fields[key]

    def unsigned(self, key: str) -> int:
        value = self.value(key)
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong_type(key, value, "an unsigned integer")
        if not 0 <= value <= _MAX_UNSIGNED:
            _fail(Cause.VALUE, f"header key '{key}' is {_show(value)}, but must be within 0 and 2**64 - 1")
        return value

    def stamp(self, key: str) -> int:
        value = self.unsigned(key)
        if value > _MAX_STAMP:
            _fail(Cause.VALUE, f"header key '{key}' is {value}, but a time must be nanoseconds below 2**63")
        return value

    def real(self, key: str) -> float:
        return _real(key, self.value(key))

    def text(self, key: str) -> str:
        value = self.value(key)
        if not isinstance(value, str):
            self._wrong_type(key, value, "a string")
        if not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
            _fail(
                Cause.VALUE,
                f"header key '{key}' is {_show(value)}, but must have 1 to {_MAX_TEXT} printable characters",
            )
        return value

    def choice(self, key: str, enum: type[_EnumT], cause: Cause = Cause.VALUE) -> _EnumT:
        value = self.text(key)
        if value not in enum.__members__.values():
            _fail(cause, f"header key '{key}' is {_show(value)}, but must be one of {', '.join(enum)}")
        return enum(value)

    def table(self, key: str) -> Mapping[str, object]:
        value = self.value(key)
        if not isinstance(value, Mapping):
            self._wrong_type(key, value, "a map")
        return value

    def _wrong_type(self, key: str, value: object, expected: str) -> NoReturn:
        _fail(
            Cause.TYPE, f"header key '{key}' is {_show(value)} of type {type(value).__name__}, but must be {expected}"
        )


def _real(name: str, value: object) -> float:
    """A finite number; whole ones may arrive as integers, which is how some languages write 1.0."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        _fail(Cause.TYPE, f"header key '{name}' is {_show(value)} of type {type(value).__name__}, but must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        _fail(Cause.VALUE, f"header key '{name}' is {_show(value)}, but must be finite")
    return number


def _check_version(header: _Header) -> None:
    version = header.value("v")
    if version != VERSION or not isinstance(version, int) or isinstance(version, bool):
        _fail(
            Cause.VERSION,
            f"the header's version is {_show(version)}, this reader knows {VERSION}: use the same release on both ends",
        )


def _check_topic(header: _Header, camera: str, kind: Kind) -> None:
    if (header.value("camera"), header.value("kind")) != (camera, str(kind)):
        said = f"{header.value('camera')}/{header.value('kind')}"
        _fail(Cause.TOPIC, f"the topic is '{camera}/{kind}', but the header says {_show(said)}: both must agree")


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
        _fail(Cause.LENGTH, f"the pixels are {pixels.dtype} {pixels.shape}, but {expected}: convert them first")
    return np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data


def _read_frame(header: _Header, camera: str, kind: Kind, payload: memoryview, received: int, limits: Limits) -> Frame:
    encoding = header.choice("encoding", Encoding, Cause.ENCODING)
    if encoding not in ENCODINGS[kind]:
        allowed = ", ".join(sorted(ENCODINGS[kind]))
        _fail(Cause.ENCODING, f"a frame of kind '{kind}' has the encoding '{encoding}', but must have one of {allowed}")
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


def _read_size(header: _Header, limits: Limits) -> tuple[int, int]:
    width, height = header.unsigned("width"), header.unsigned("height")
    if not (0 < width <= limits.side and 0 < height <= limits.side and width * height <= limits.pixels):
        allowed = f"1 to {limits.side} on a side and at most {limits.pixels} in all"
        _fail(
            Cause.SIZE,
            f"a frame has {_show(width)}x{_show(height)} pixels, but must have {allowed}: send another size, or raise "
            "the reader's limit (of a bridge: --max-pixels)",
        )
    return width, height


def _pixels(payload: memoryview, encoding: Encoding, width: int, height: int, limits: Limits) -> PixelArray:
    """The payload as a read-only array, its length checked."""
    layout = RAW_LAYOUTS.get(encoding)
    if payload.nbytes > limits.payload:
        _fail(
            Cause.LENGTH, f"the payload has {payload.nbytes} bytes, the limit is {limits.payload}: send smaller frames"
        )
    if layout is None:
        if payload.nbytes == 0:
            _fail(Cause.LENGTH, f"the payload of a '{encoding}' frame is empty: send the compressed image")
        pixels: PixelArray = np.frombuffer(payload, dtype=np.uint8)
    else:
        expected = layout.nbytes(width, height)
        if payload.nbytes != expected:
            sentence = f"the payload has {payload.nbytes} bytes, but '{encoding}' at {width}x{height} has {expected}"
            _fail(Cause.LENGTH, f"{sentence}: send rows without padding")
        pixels = np.frombuffer(payload, dtype=layout.dtype).reshape(layout.shape(width, height))
    pixels.flags.writeable = False
    return pixels


def _read_fov(header: _Header) -> float | None:
    if "fov" not in header:
        return None
    fov = header.real("fov")
    if not 0 < fov < 360:
        _fail(Cause.VALUE, f"header key 'fov' is {fov}, but must be between 0 and 360 degrees")
    return fov


def _read_pose(header: _Header) -> npt.NDArray[np.float64] | None:
    if "pose" not in header:
        return None
    value = header.value("pose")
    if not isinstance(value, list) or len(value) != 16:
        _fail(
            Cause.TYPE,
            f"header key 'pose' is {_show(value)}, but must be 16 numbers, the rows of a 4x4 camera-to-world matrix",
        )
    pose = np.array([_real("pose", entry) for entry in value]).reshape(4, 4)
    if not np.allclose(pose[3], (0, 0, 0, 1), rtol=0, atol=1e-6):
        _fail(
            Cause.VALUE,
            f"the last row of 'pose' is {pose[3].tolist()}, but must be [0, 0, 0, 1]: send the matrix row by row",
        )
    return pose


def _read_provenance(header: _Header) -> Provenance:
    model = header.text("model")
    if _MODEL.fullmatch(model) is None:
        _fail(Cause.VALUE, f"header key 'model' is {_show(model)}, but must be 12 hexadecimal digits")
    return Provenance(
        received=header.stamp("received"),
        inferred=header.stamp("inferred"),
        published=header.stamp("published"),
        model=model,
        seed=header.unsigned("seed"),
        status=header.choice("status", FrameStatus),
        style=_read_style(header),
    )


def _read_style(header: _Header) -> Style:
    values: dict[str, StyleValue] = {}
    if "style" in header:
        table = _Header(header.table("style"))
        values = {name: _read_style_value(table, name) for name in header.table("style")}
    if _ENSEMBLE in header:
        values[_ENSEMBLE] = _read_weights(_ENSEMBLE, header.value(_ENSEMBLE), _ENSEMBLE_WEIGHTS)
    return Style(values)


def _read_style_value(table: _Header, name: str) -> StyleValue:
    value = table.value(name)
    if isinstance(value, str):
        return table.text(name)
    if isinstance(value, list):
        return _read_weights(f"style.{name}", value, None)
    number = _real(f"style.{name}", value)
    return value if isinstance(value, int) else number


def _read_weights(name: str, value: object, count: int | None) -> tuple[float, ...]:
    wanted = f"{count} numbers" if count else f"1 to {_MAX_WEIGHTS} numbers"
    if not isinstance(value, list) or not (len(value) == count if count else 0 < len(value) <= _MAX_WEIGHTS):
        _fail(Cause.TYPE, f"header key '{name}' is {_show(value)}, but must be {wanted}")
    return tuple(_real(f"{name}[{place}]", weight) for place, weight in enumerate(value))


def _read_status(header: _Header, camera: str) -> StatusMessage:
    counters = header.table("counters")
    latency = header.table("latency_ms")
    return StatusMessage(
        camera=camera,
        sent=header.stamp("sent"),
        counters={topic: _counts(_Header(counters), topic) for topic in counters},
        rates=_numbers(header, "rates"),
        latency_ms={stage: _numbers(_Header(latency), stage) for stage in latency},
        state=header.text("state") if "state" in header else None,
        mode=header.text("mode") if "mode" in header else None,
        seed=header.unsigned("seed") if "seed" in header else None,
    )


def _counts(header: _Header, key: str) -> Mapping[str, int]:
    table = header.table(key)
    return {name: _Header(table).unsigned(name) for name in table}


def _numbers(header: _Header, key: str) -> Mapping[str, float]:
    return {name: _real(f"{key}.{name}", value) for name, value in header.table(key).items()}
