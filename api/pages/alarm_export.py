"""CSV file of the alarm list: the same query as the page, all of it, with what was done about each alarm."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api.app_context import AppContext, AppContextDep
from api.auth import CurrentPrincipal
from api.csv_export import Cell, csv_answer, degrees
from api.db_session import ReadSession
from api.pages.alarm_list import AlarmList, filter_in
from api.pages.rendering import words_for, zone_info
from api.pages.texts import Texts
from core.alarms import queries
from core.alarms.duration import time_out
from core.alarms.queries import AlarmDetail, AlarmFilter, HandlingDetail
from core.alarms.states import AlarmState
from core.ids import AlarmId
from core.runtime.instant import MINUTE, Instant, at_zone
from core.units.actor import Actor
from core.units.queries import visible_unit

router = APIRouter(tags=["pages"])
ROWS = 500
"""Alarms that are read and sent at once."""
COLUMNS = (
    *("number", "unit", "unit_code", "equipment_code", "equipment", "zone", "rule", "began", "opened", "ended"),
    *("minutes_out", "peak", "limit", "state", "handling", "acknowledged_at", "acknowledged_by", "on_time"),
    *("cause", "action", "disposition", "handled_by", "handled_at"),
)


@router.get("/alarms.csv")
def alarms_csv(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    query: Annotated[AlarmList, Query()],
) -> Response:
    """Send the alarms that the page with the same query lists, on all its pages."""
    words = words_for(request)
    unit = None if query.unit is None else visible_unit(tx, principal.actor, query.unit)
    wanted = filter_in(query, unit.timezone if unit else context.settings.timezone)
    name = f"{words('alarms')}{f'-{unit.name}' if unit else ''}.csv"
    pages = _pages(context, principal.actor, wanted)
    header = [words(f"export.{column}") for column in COLUMNS]
    now = context.clock.now()
    return csv_answer(name, header, ([_row(words, *one, now) for one in page] for page in pages))


def _pages(
    context: AppContext, actor: Actor, wanted: AlarmFilter
) -> Iterator[Iterable[tuple[AlarmDetail, HandlingDetail | None]]]:
    """Yield the alarms in pages, each read in a transaction of its own: a slow reader holds none open."""
    after: tuple[int, int] | None = None
    while True:
        with context.records.read() as tx:
            details = queries.alarms(tx, actor, wanted, after=after, limit=ROWS)
            handlings = queries.handlings_of(tx, [one.alarm.id for one in details])
        yield [(one, handlings.get(AlarmId(one.alarm.id))) for one in details]
        if len(details) < ROWS:
            return
        after = details[-1].alarm.opened_at, details[-1].alarm.id


def _row(words: Texts, details: AlarmDetail, handling: HandlingDetail | None, now: Instant) -> Sequence[Cell]:
    alarm, zone = details.alarm, zone_info(details.unit.timezone)

    def clock(at: Instant | None) -> str:
        return "" if at is None else at_zone(at, zone).strftime("%Y-%m-%d %H:%M:%S")

    on_time = details.on_time
    return (
        str(alarm.id),
        details.unit.name,
        details.unit.code or "",
        details.equipment.code,
        details.equipment.name,
        words(f"zone.{details.zone.kind}"),
        words(f"rule.{alarm.rule}"),
        clock(alarm.onset_at),
        clock(alarm.opened_at),
        "" if alarm.state == AlarmState.OPEN else clock(alarm.ended_at),
        time_out(alarm, now) // MINUTE,
        degrees(alarm.peak),
        degrees(alarm.limit),
        words(f"alarm.state_{alarm.state}"),
        words(f"alarm.{alarm.handling}"),
        clock(alarm.acknowledged_at),
        details.acknowledged_by or "",
        "" if on_time is None else words(f"export.{'yes' if on_time else 'no'}"),
        *(
            (handling.cause, handling.action, handling.disposition, handling.by, clock(handling.at))
            if handling
            else [""] * 5
        ),
    )
