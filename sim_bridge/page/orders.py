"""What a client may ask for: one JSON object a message, checked whole before anything is done."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, TypeAdapter, ValidationError, field_validator

from sim_bridge.errors import UsageError
from sim_bridge.mistakes import first_mistake
from sim_bridge.page.pictures import Panel

MAX_STYLE_VALUES = 64


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Watch(_Order):
    """Show these panels of this camera from now on; none of them while the page is not looked at."""

    op: Literal["watch"]
    camera: str
    panels: Annotated[tuple[Panel, ...], Field(max_length=len(Panel))]

    @field_validator("panels")
    @classmethod
    def _each_once(cls, value: tuple[Panel, ...]) -> tuple[Panel, ...]:
        return tuple(dict.fromkeys(value))


class Shown(_Order):
    """The tick with this number is on the screen: the next one may come."""

    op: Literal["shown"]
    tick: int


class Run(_Order):
    """Pause, go on, or let one more pair of every camera through."""

    op: Literal["pause", "resume", "step"]


class SetStyle(_Order):
    """Use this style for this camera; the running network's controls say what it may hold."""

    op: Literal["style"]
    camera: str
    style: Annotated[dict[str, StrictInt | StrictFloat | str | list[float]], Field(max_length=MAX_STYLE_VALUES)]


class ChooseBundle(_Order):
    """Load another bundle, one of those that the greeting lists."""

    op: Literal["bundle"]
    bundle: str


class SaveStill(_Order):
    """Send a panel of the tick that is on the screen as a PNG with its metadata."""

    op: Literal["still"]
    panel: Panel


Order = Watch | Shown | Run | SetStyle | ChooseBundle | SaveStill

_ORDERS: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="op")])


def read_order(text: str) -> Order:
    """Reads a client's message.

    Raises UsageError when it is no order, or holds a value out of bounds; one sentence that the page can show.
    """
    try:
        return _ORDERS.validate_json(text)
    except ValidationError as error:
        raise UsageError(f"the message cannot be used: {first_mistake(error)}") from error
