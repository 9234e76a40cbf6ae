"""Options of a source, given by name, checked by a model; the sentence that says what is wrong with one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from sim_bridge.errors import UsageError
from sim_bridge.frames import Kind


class CheckedOptions(BaseModel):
    """What a source can be told; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def checked_for(cls, source: str, options: Mapping[str, object]) -> Self:
        """The options by name.

        Args:
            source: How the source is called in the message.
            options: Values by name; those left out have their defaults.

        Raises:
            UsageError: One is unknown or out of bounds.
        """
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"]) or "options"
            raise UsageError(f"the {source} option {name!r} is {first['input']!r}: {first['msg'].lower()}") from error


def check_kinds(source: str, kinds: Iterable[Kind], offered: Collection[Kind]) -> None:
    """Looks whether a source has all kinds that it is asked for.

    Args:
        source: How it is called in the message.
        kinds: Asked for beside RGB and semantic frames.
        offered: What it has of these.

    Raises:
        UsageError: It has not.
    """
    if strange := [kind.value for kind in kinds if kind not in offered]:
        raise UsageError(f"{source} has no {', '.join(strange)}: choose from {', '.join(offered)}")
