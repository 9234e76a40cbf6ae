"""The errors a user can cause or meet.

Every message is one sentence that names the thing, its value, the limit and what to do next. The command line prints it
without a traceback and ends with the class's ``exit_code``.
"""

from __future__ import annotations


class SimBridgeError(Exception):
    """Base of all errors raised on purpose by this project."""

    exit_code = 1


class UsageError(SimBridgeError):
    """A flag, setting, path or file the user gave cannot be used."""

    exit_code = 2


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the message holds the pip command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: run pip install '.[{extra}]'"
        )
        self.package = package
        self.extra = extra


class WireError(SimBridgeError):
    """A message breaks the wire format; it is counted as ``malformed`` and never fatal to a reader.

    Attributes:
        cause: Short stable word for what is wrong (``version``, ``length``, ...), by which readers count and log once.
    """

    def __init__(self, message: str, *, cause: str = "malformed") -> None:
        super().__init__(message)
        self.cause = cause


class LabelError(SimBridgeError):
    """A class id, palette colour or taxonomy is not one this project knows."""


class ForeignIdsError(LabelError):
    """More of a label image than may be is outside its taxonomy.

    Attributes:
        fact: The sentence without its advice, for those whose user cannot name a taxonomy.
        advice: What to do.
    """

    def __init__(self, fact: str, advice: str) -> None:
        super().__init__(f"{fact}; {advice}")
        self.fact = fact
        self.advice = advice


class ImageError(SimBridgeError):
    """An image file or payload cannot be decoded, or its size is out of bounds."""


class SizeMismatchError(ImageError):
    """The RGB and the semantic image of one tick differ in size; such a pair is counted as ``mismatched``."""


class TranslatorError(SimBridgeError):
    """A translator could not be loaded, or refused its input."""


class LockstepTimeoutError(SimBridgeError):
    """In lockstep the photoreal frame of a tick did not arrive in time."""


class FrameTimeoutError(SimBridgeError, TimeoutError):
    """No frame that fits the question arrived within the time given."""


class MissedFrameError(SimBridgeError):
    """The frame asked for by number can no longer arrive: a later one is already here."""
