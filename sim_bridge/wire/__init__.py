"""Bytes and sockets: the wire format, ZeroMQ sockets, addresses. What becomes of a frame lives in sim_bridge/live.

The format's public names are importable from here.
"""

from sim_bridge.wire.format import (
    DEFAULT_LIMITS,
    ENCODINGS,
    VERSION,
    Limits,
    StatusMessage,
    decode,
    decode_topic,
    encode,
    encode_status,
    topic_of,
)
from sim_bridge.wire.header import Cause

__all__ = [
    "DEFAULT_LIMITS",
    "ENCODINGS",
    "VERSION",
    "Cause",
    "Limits",
    "StatusMessage",
    "decode",
    "decode_topic",
    "encode",
    "encode_status",
    "topic_of",
]
