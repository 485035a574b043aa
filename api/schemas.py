"""JSON types of the API: times, temperatures, ids and pages, from which every route's answers are built."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

import msgspec
from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from core.errors import Invalid
from core.ids import AccountId, AlarmId, Centi, PersonId, UnitId, ZoneId
from core.runtime.instant import Instant, parse, rfc3339

T = TypeVar("T")
LARGEST_PAGE = 200


_TIME = re.compile(
    r"(?P<moment>\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?)"
    r"(?:[Zz]|(?P<sign>[+ -])(?P<hours>\d\d):?(?P<minutes>\d\d))"
)


def _moment(given: object) -> Instant:
    """Return the instant of a time in text; a `+` that arrived unescaped in a query, as a space, is restored.

    Raises: PydanticCustomError with one hint for every kind of error.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return Instant(given)
    matched = _TIME.fullmatch(str(given))
    if matched is None:
        raise _wrong_time()
    moment = matched["moment"].upper().replace(",", ".")
    offset = (
        "Z"
        if matched["hours"] is None
        else f"{matched['sign'].replace(' ', '+')}{matched['hours']}:{matched['minutes']}"
    )
    try:
        return parse(moment + offset)
    except (ValueError, OverflowError):
        raise _wrong_time() from None


def _wrong_time() -> PydanticCustomError:
    hint = "write a time with its offset, such as 2026-03-28T03:02:40+08:00 or 2026-03-27T19:02:40Z"
    return PydanticCustomError("time", hint)


Moment = Annotated[
    Instant,
    BeforeValidator(_moment),
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-03-28T03:02:40.000+08:00"]}),
]
"""An instant as RFC 3339 with its offset."""
LAST_MOMENT = Instant(253_402_214_400_000)
"""End of the year 9999, less a day for any offset: later instants have no date."""

Celsius = Annotated[
    Centi,
    PlainSerializer(lambda hundredths: hundredths / 100, return_type=float),
    WithJsonSchema({"type": "number", "description": "°C"}),
]
"""Degrees with at most two decimals."""


LARGEST_ID = 2**63 - 1
UnitNumber = Annotated[UnitId, Field(ge=1, le=LARGEST_ID)]
ZoneNumber = Annotated[ZoneId, Field(ge=1, le=LARGEST_ID)]
AlarmNumber = Annotated[AlarmId, Field(ge=1, le=LARGEST_ID)]
"""Ids in requests: a number that no database could hold is refused before the query."""


_IN_BODY = WithJsonSchema({"type": "integer", "minimum": 1})
"""Schema of an id in a body. The largest one isn't said: the document would round it."""
UnitReference = Annotated[UnitId, Field(ge=1, le=LARGEST_ID), _IN_BODY]
AccountReference = Annotated[AccountId, Field(ge=1, le=LARGEST_ID), _IN_BODY]
PersonReference = Annotated[PersonId, Field(ge=1, le=LARGEST_ID), _IN_BODY]


class Schema(BaseModel):
    """JSON object of the API; a request with an unknown member is refused."""

    model_config = ConfigDict(from_attributes=True, extra="forbid")


class Page(Schema, Generic[T]):
    """Part of a list. `next` goes into `?cursor=` for the following part; null at the end."""

    items: Sequence[T]
    next: str | None = None


PageLimit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="items on a page")]
Cursor = Annotated[str | None, Query(description="`next` of the page before", max_length=200)]


def cursor_of(*position: int) -> str:
    """Return where a page ended, opaque to the client."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def place_of(cursor: str | None, length: int) -> tuple[int, ...] | None:
    """Return where the page before ended; None for the first page.

    Raises: Invalid.
    """
    if cursor is None:
        return None
    try:
        plain = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        position = msgspec.json.decode(plain, type=tuple[int, ...])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        position = ()
    if len(position) != length or not all(0 <= part <= LARGEST_ID for part in position):
        raise Invalid(field="cursor", value=cursor, problem="take it from `next` of the page before, as it is")
    return position
