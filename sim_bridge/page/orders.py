"""What a client may ask for: one JSON object a message, checked whole before anything is done."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from sim_bridge.errors import UsageError
from sim_bridge.page.pictures import Panel
from sim_bridge.settings import MAX_STYLE_SEED
from sim_bridge.translators import Ensemble

_Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


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
    """Use this style for this camera: the seed, or six ensemble weights instead."""

    op: Literal["style"]
    camera: str
    seed: Annotated[int, Field(ge=0, le=MAX_STYLE_SEED)]
    ensemble: tuple[_Weight, _Weight, _Weight, _Weight, _Weight, _Weight] | None = None

    @field_validator("ensemble")
    @classmethod
    def _not_all_zero(cls, value: Ensemble | None) -> Ensemble | None:
        if value is not None and not math.fsum(value) > 0:
            raise ValueError("at least one ensemble weight must be above 0")
        return value


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

    Raises:
        UsageError: It is no order, or holds a value out of bounds; one sentence that the page can show.
    """
    try:
        return _ORDERS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the message"
        raise UsageError(f"{where} cannot be used: {first['msg'].removeprefix('Value error, ')}") from error
