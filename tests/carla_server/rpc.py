"""msgpack-RPC as CARLA's client speaks it: requests and answers on a byte stream, and how results are wrapped.

A request is ``[0, call id, method, [metadata, argument ...]]``, an answer ``[1, call id, nil, result]``; the values
follow each other without lengths. CARLA reports its errors inside the result: the error slot stays nil.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgpack

REQUEST: Final = 0
ANSWER: Final = 1
MAX_REQUEST_BYTES: Final = 16 << 20
"""More than this without a whole request is no client's."""

_SYNCHRONOUS: Final[list[bool]] = [False]
_ASYNCHRONOUS: Final[list[bool]] = [True]
_METADATA: Final = (_SYNCHRONOUS, _ASYNCHRONOUS)

Wrapped = list[Any]
"""A result in the response structure that the client unwraps."""


class RpcError(Exception):
    """A call cannot be answered; the client raises RuntimeError with this sentence."""


class FramingError(Exception):
    """What came in is no msgpack-RPC: the connection cannot be read any further."""


class Request(NamedTuple):
    """One call.

    Attributes:
        call_id: Chosen by the client; the answer carries it.
        method: Name of the method.
        arguments: What the method is called with, without the metadata.
        waits: Whether the caller waits for the answer.
    """

    call_id: int
    method: str
    arguments: list[Any]
    waits: bool


class RequestReader:
    """Cuts a byte stream into requests, wherever it was split on its way."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=MAX_REQUEST_BYTES)

    def feed(self, data: bytes) -> Iterator[Request]:
        """Takes the next bytes and yields the requests that they complete.

        Raises:
            FramingError: The bytes are no requests.
        """
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                yield _request(message)
        except (ValueError, TypeError, msgpack.UnpackException) as error:  # what msgpack raises on other bytes
            raise FramingError(f"no msgpack-RPC request: {error}") from error


def _request(message: object) -> Request:
    match message:
        case [0, int(call_id), str(method), [*arguments]]:
            # The traffic manager's client leaves the metadata out.
            first = arguments[0] if arguments else None
            return Request(call_id, method, arguments[first in _METADATA :], first != _ASYNCHRONOUS)
    raise ValueError(f"expected [0, call id, method, arguments], not {str(message)[:80]}")


def encode_answer(call_id: int, result: Wrapped) -> bytes:
    """The bytes of the answer to a call."""
    packed: bytes = msgpack.packb([ANSWER, call_id, None, result])
    return packed


def value(result: object) -> Wrapped:
    """Wraps the result of a method that returns something."""
    return [[1, result]]


def nothing() -> Wrapped:
    """The result of a method that returns nothing."""
    return [[False]]


def failure(sentence: str) -> Wrapped:
    """An error, for methods that return something; for others the client reads the index 0 as false: no error."""
    return [[0, [sentence]]]


def failure_of_nothing(sentence: str) -> Wrapped:
    """An error of a method that returns nothing."""
    return [[True, [sentence]]]
