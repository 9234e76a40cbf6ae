"""What pydantic found wrong, in words that fit into a sentence."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails


class Mistake(NamedTuple):
    """One thing that is wrong.

    Attributes:
        place: Keys and indices down to the value, joined by dots; empty for the whole.
        kind: pydantic's word for it, like ``missing``, ``extra_forbidden`` or ``value_error``.
        value: What was given.
        message: What should be, as pydantic or a validator of ours says it.
    """

    place: str
    kind: str
    value: object
    message: str

    @property
    def inside(self) -> str:
        """The message as the middle of a sentence."""
        if self.kind == "value_error":  # a sentence of ours
            return self.message
        return "it" + text if (text := self.message.removeprefix("Input")) != self.message else _lower(text)

    def __str__(self) -> str:
        """``'a.b' is 7: it should be ...``; a long value is left out."""
        if not self.place:
            return self.inside
        plain = self.value is None or isinstance(self.value, str | int | float)
        shown = f" is {self.value!r}" if self.kind != "missing" and plain and len(repr(self.value)) <= 80 else ""
        return f"{self.place!r}{shown}: {self.inside}"


def mistakes_in(error: ValidationError) -> list[Mistake]:
    """Everything that is wrong, in pydantic's order."""
    return [_read(details) for details in error.errors(include_url=False)]


def first_mistake(error: ValidationError) -> Mistake:
    """The first thing that is wrong."""
    return mistakes_in(error)[0]


def _read(details: ErrorDetails) -> Mistake:
    place = ".".join(str(part) for part in details["loc"])
    return Mistake(place, details["type"], details["input"], details["msg"].removeprefix("Value error, "))


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
