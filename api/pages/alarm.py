"""Pages of alarms for signed-in people: the list, and the page of one."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api.asking import Asker, Reading, SignedIn, Using, Writing
from api.pages.alarm_view import may_handle, said_of, view
from api.pages.forms import FilledForm, HandlingForm, form_of, given_back
from api.pages.rendering import RENEWED_S, SiteClock, page, words_for
from api.parts import Parts
from api.shapes import AlarmNumber, Cursor, cursor_of, place_of
from core.alarms import handling, listing
from core.alarms.listing import Wanted
from core.alarms.tables import Alarm
from core.ids import AlarmId
from core.units.rights import Right

router = APIRouter(prefix="/alarms", tags=["pages"])
ON_A_PAGE = 30


@router.get("")
def alarms(
    request: Request,
    tx: Reading,
    asker: SignedIn,
    parts: Using,
    *,
    everything: Annotated[bool, Query(alias="all")] = False,
    cursor: Cursor = None,
) -> Response:
    """Show the alarms that aren't closed, or all of them, the newest first."""
    position = place_of(cursor, 2)
    page_items = listing.alarms(
        tx,
        asker.actor.scope(Right.SEE, Alarm.equipment_id),
        Wanted(states=() if everything else ("open", "recovered")),
        behind=(position[0], position[1]) if position else None,
        limit=ON_A_PAGE,
    )
    now = parts.clock.now()
    last = page_items[-1].alarm if len(page_items) == ON_A_PAGE else None
    return page(
        request,
        "alarms.html",
        alarms=page_items,
        everything=everything,
        next=cursor_of(last.opened_at, last.id) if last else None,
        opened=lambda item: SiteClock(request, item.unit.timezone, now)(item.alarm.opened_at),
        clock=SiteClock(request, parts.settings.timezone, now),
        now=now,
        every=RENEWED_S,
    )


@router.get("/{alarm}")
def alarm_page(
    request: Request, alarm: AlarmNumber, tx: Reading, asker: SignedIn, parts: Using, said: str = ""
) -> Response:
    """Show one alarm."""
    return _shown(request, alarm, tx, asker, parts, outcome_code=said)


def _shown(
    request: Request,
    alarm: AlarmId,
    tx: Session,
    asker: Asker,
    parts: Parts,
    *,
    outcome_code: str = "",
    form: FilledForm | None = None,
) -> Response:
    details = listing.alarm_for(tx, asker.actor, alarm)
    outcome, tone = said_of(words_for(request), outcome_code, details, asker, parts)
    may = may_handle(asker, details)
    return page(
        request,
        "alarm.html",
        **view(request, tx, parts, details, asker, may=may),
        **given_back(form, f"/alarms/{alarm}"),
        base=f"/alarms/{alarm}",
        said=outcome,
        said_tone=tone,
        why_not="alarm.not_granted",
        ways_in=(),
    )


@router.post("/{alarm}/acknowledge")
def acknowledge(alarm: AlarmNumber, tx: Writing, asker: SignedIn, parts: Using) -> Response:
    """Acknowledge, and show who did."""
    handling.acknowledge(tx, asker.actor, alarm, through=asker.through, now=parts.clock.now())
    return RedirectResponse(f"/alarms/{alarm}?said=acknowledged", HTTPStatus.SEE_OTHER)


@router.post("/{alarm}/handling")
def handle(
    request: Request, alarm: AlarmNumber, tx: Writing, asker: SignedIn, parts: Using, report: HandlingForm
) -> Response:
    """Store the handling record, or return the form with every invalid field marked."""
    if faults := handling.faults(report):
        return _shown(request, alarm, tx, asker, parts, form=form_of(report, faults))
    handling.handle(tx, asker.actor, alarm, report, now=parts.clock.now())
    return RedirectResponse(f"/alarms/{alarm}?said=handled", HTTPStatus.SEE_OTHER)
