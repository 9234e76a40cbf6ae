"""A message's header: msgpack, bounded, with typed and checked access to its keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from reprlib import Repr
from typing import TYPE_CHECKING, NoReturn, TypeVar

import msgpack

from sim_bridge.errors import WireError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_MAX_UNSIGNED = 2**64 - 1
_MAX_STAMP = 2**63 - 1  # the year 2262: differences of two stamps fit into a signed word, wherever they are kept
MAX_TEXT = 128
_MAX_ITEMS = 256  # entries of one msgpack map or array; bounds what a small header can make the decoder allocate
_MAX_MSGPACK_TEXT = 4096
_HEADER_BYTES = 64 * 1024

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


def fail(cause: Cause, sentence: str) -> NoReturn:
    """Raises a :class:`WireError`."""
    raise WireError(sentence, cause=str(cause))


def show(value: object) -> str:
    """A short repr, safe for a log line."""
    return _repr.repr(value)


def view(part: Buffer) -> memoryview:
    """The part as flat bytes, without a copy."""
    try:
        flat = memoryview(part)
        return flat if flat.format == "B" and flat.ndim == 1 and flat.contiguous else flat.cast("B")
    except (TypeError, ValueError) as error:
        fail(Cause.PARTS, f"a message part of type {type(part).__name__} is not contiguous bytes ({error}): send bytes")


def pack(header: Mapping[str, object]) -> bytes:
    """Writes a header as msgpack."""
    try:
        packed = msgpack.packb(header)
    except (TypeError, ValueError, OverflowError) as error:
        fail(Cause.HEADER, f"the header cannot be written as msgpack ({error}): use strings, numbers, lists and maps")
    if len(packed) > _HEADER_BYTES:
        fail(Cause.HEADER, f"the header has {len(packed)} bytes, the limit is {_HEADER_BYTES}: send less in it")
    return bytes(packed)


def _string_keys(pairs: Sequence[tuple[object, object]]) -> dict[str, object]:
    """Builds a map; readers that disagree on which of two equal keys counts would see two different frames."""
    result = {key: value for key, value in pairs if isinstance(key, str)}
    if len(result) != len(pairs):
        raise ValueError("a map has a key twice, or one that is not a string")
    return result


def _no_extension(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"extension type {code} is not allowed")


def unpack(header: memoryview) -> Mapping[str, object]:
    """Reads a header, a map with string keys."""
    if header.nbytes > _HEADER_BYTES:
        fail(
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
        fail(Cause.HEADER, f"the header is not a msgpack map within the limits ({show(str(error))}): see docs/wire.md")
    if not isinstance(result, dict):
        fail(Cause.HEADER, f"the header is a msgpack {type(result).__name__}, but must be a map with string keys")
    return result


class Header:
    """Typed, checked access to a header's keys."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def __contains__(self, key: str) -> bool:
        return self._fields.get(key) is not None

    def value(self, key: str) -> object:
        """Whatever the key holds."""
        if key not in self._fields:
            fail(Cause.MISSING, f"header key '{key}' is missing: a message of this kind must carry it")
        return self._fields[key]

    def unsigned(self, key: str) -> int:
        """0 to 2^64 - 1."""
        value = self.value(key)
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong_type(key, value, "an unsigned integer")
        if not 0 <= value <= _MAX_UNSIGNED:
            fail(Cause.VALUE, f"header key '{key}' is {show(value)}, but must be within 0 and 2**64 - 1")
        return value

    def stamp(self, key: str) -> int:
        """Nanoseconds, 0 to 2^63 - 1."""
        value = self.unsigned(key)
        if value > _MAX_STAMP:
            fail(Cause.VALUE, f"header key '{key}' is {value}, but a time must be nanoseconds below 2**63")
        return value

    def real(self, key: str) -> float:
        """A finite number."""
        return real_number(key, self.value(key))

    def text(self, key: str) -> str:
        """1 to 128 printable characters."""
        value = self.value(key)
        if not isinstance(value, str):
            self._wrong_type(key, value, "a string")
        if not 0 < len(value) <= MAX_TEXT or not value.isprintable():
            fail(
                Cause.VALUE,
                f"header key '{key}' is {show(value)}, but must have 1 to {MAX_TEXT} printable characters",
            )
        return value

    def choice(self, key: str, enum: type[_EnumT], cause: Cause = Cause.VALUE) -> _EnumT:
        """A member of ``enum``."""
        value = self.text(key)
        if value not in enum.__members__.values():
            fail(cause, f"header key '{key}' is {show(value)}, but must be one of {', '.join(enum)}")
        return enum(value)

    def table(self, key: str) -> Mapping[str, object]:
        """A map."""
        value = self.value(key)
        if not isinstance(value, Mapping):
            self._wrong_type(key, value, "a map")
        return value

    def _wrong_type(self, key: str, value: object, expected: str) -> NoReturn:
        fail(Cause.TYPE, f"header key '{key}' is {show(value)} of type {type(value).__name__}, but must be {expected}")


def real_number(name: str, value: object) -> float:
    """A finite number; whole ones may arrive as integers, which is how some languages write 1.0."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        fail(Cause.TYPE, f"header key '{name}' is {show(value)} of type {type(value).__name__}, but must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        fail(Cause.VALUE, f"header key '{name}' is {show(value)}, but must be finite")
    return number
