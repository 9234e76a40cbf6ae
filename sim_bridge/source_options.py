"""Options of a source: written as ``key=value``, checked by a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sim_bridge.errors import UsageError
from sim_bridge.frames import Kind
from sim_bridge.mistakes import first_mistake


def parse_options(words: Iterable[str]) -> dict[str, object]:
    """Reads ``key=value`` words; each value is YAML: ``rate=20``, ``loop=true``, ``cameras=[front, left]``.

    Raises UsageError when a word has no ``=``, comes twice, or its value is no YAML.
    """
    options: dict[str, object] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (equals and key):
            raise UsageError(f"the option {word!r} has no value: write it as key=value")
        if key in options:
            raise UsageError(f"the option {key!r} is given twice: give it once")
        try:
            options[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"the value of the option {word!r} is no YAML: put it in quotes") from error
    return options


class CheckedOptions(BaseModel):
    """Base of a source's options; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    @classmethod
    def checked_for(cls, source: str, options: Mapping[str, object]) -> Self:
        """Checks options given by name; those left out have their defaults.

        Raises UsageError when one is unknown or out of bounds; the sentence names the ``source``.
        """
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            mistake = first_mistake(error)
            what = "option" if mistake.place else "options:"
            raise UsageError(f"the {source} {what} {mistake}") from error


def check_kinds(source: str, kinds: Iterable[Kind], offered: Collection[Kind]) -> None:
    """Raises UsageError unless the source offers all kinds asked for beside RGB and semantic frames."""
    if strange := [kind.value for kind in kinds if kind not in offered]:
        raise UsageError(f"{source} has no {', '.join(strange)}: choose from {', '.join(offered)}")
