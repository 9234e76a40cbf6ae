"""What a translator lets a user choose: the controls that page, wire and command line build on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sim_bridge.errors import UsageError
from sim_bridge.frames import Style, StyleValue

MAX_WEIGHT: Final = 1e6
"""Weights are shares: larger ones say nothing more."""


@dataclass(frozen=True, slots=True)
class Control:
    """One value of a style.

    Attributes:
        name: Key in the style: a lower-case word.
        kind: ``seed`` (whole number, 0 is the default look), ``number``, ``choice`` (one of ``names``), or ``weights``
            (a number >= 0 for each of ``names``, not all 0; only their shares count). Weights that are not given leave
            the choice to the translator.
        title: Label on the page.
        low: Least value of a seed or number.
        high: Greatest value of a seed or number.
        default: Value of a number or choice that is not given.
        names: The choices, or what the weights belong to.
    """

    name: str
    kind: Literal["seed", "weights", "number", "choice"]
    title: str
    low: float = 0.0
    high: float = 1.0
    default: StyleValue | None = None
    names: tuple[str, ...] = ()

    def check(self, value: object) -> StyleValue:
        """The value as the translator takes it.

        Raises UsageError when the value has the wrong type or is out of range.
        """
        match self.kind:
            case "weights":
                return self._weights(value)
            case "choice" if isinstance(value, str) and value in self.names:
                return value
            case "seed" if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
                return value
            case "number" if _is_number(value) and self.low <= value <= self.high:  # type: ignore[operator]
                return float(value)  # type: ignore[arg-type]
        raise UsageError(f"the style {self.name} cannot be {value!r}: give {self._limits()}")

    def read(self, text: str) -> StyleValue:
        """A value as the command line has it: ``7``, ``0.5``, ``dusk``, or weights as ``1,0,0.5``.

        Raises UsageError as :meth:`check` does.
        """
        try:
            match self.kind:
                case "seed":
                    return self.check(int(text))
                case "number":
                    return self.check(float(text))
                case "weights":
                    return self.check([float(part) for part in text.split(",")])
                case _:
                    return self.check(text)
        except ValueError as error:
            raise UsageError(f"the style {self.name} cannot be {text!r}: give {self._limits()}") from error

    def describe(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        default = list(self.default) if isinstance(self.default, tuple) else self.default
        return {
            **{name: getattr(self, name) for name in ("name", "kind", "title", "low", "high")},
            "default": default,
            "names": list(self.names),
        }

    def _limits(self) -> str:
        match self.kind:
            case "seed":
                return f"a whole number from {self.low:.0f} to {self.high:.0f}"
            case "number":
                return f"a number from {self.low:g} to {self.high:g}"
            case "choice":
                return f"one of {', '.join(self.names)}"
            case _:
                return f"{len(self.names)} numbers from 0 to {MAX_WEIGHT:g}, not all 0"

    def _weights(self, value: object) -> tuple[float, ...]:
        if isinstance(value, list | tuple) and len(value) == len(self.names):
            fits = all(_is_number(weight) and 0 <= weight <= MAX_WEIGHT for weight in value)
            if fits and math.fsum(value) > 0:
                return tuple(float(weight) for weight in value)
        raise UsageError(f"the style {self.name} cannot be {value!r}: give {self._limits()}")


def check_style(controls: Sequence[Control], values: Mapping[str, object]) -> Style:
    """A style of values that the controls allow.

    Raises UsageError when a name is unknown or a value is out of range.
    """
    return Style({name: _named(controls, name).check(value) for name, value in values.items()})


def read_style(controls: Sequence[Control], values: Mapping[str, object]) -> Style:
    """As :func:`check_style`, for settings: texts are read as :meth:`Control.read` does.

    Raises UsageError when a name is unknown or a value is out of range.
    """
    style: dict[str, StyleValue] = {}
    for name, value in values.items():
        control = _named(controls, name)
        style[name] = control.read(value) if isinstance(value, str) else control.check(value)
    return Style(style)


def _named(controls: Sequence[Control], name: str) -> Control:
    for control in controls:
        if control.name == name:
            return control
    known = ", ".join(control.name for control in controls)
    advice = f"give one of {known}" if known else "leave it out: this network has no style"
    raise UsageError(f"the network has no style {name!r}: {advice}")


def _is_number(value: object) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
