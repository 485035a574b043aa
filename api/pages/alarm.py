"""The list of alarms, and the page of one, for who is signed in."""

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
    place = place_of(cursor, 2)
    found = listing.alarms(
        tx,
        asker.actor.scope(Right.SEE, Alarm.equipment_id),
        Wanted(states=() if everything else ("open", "recovered")),
        behind=(place[0], place[1]) if place else None,
        limit=ON_A_PAGE,
    )
    now = parts.clock.now()
    last = found[-1].alarm if len(found) == ON_A_PAGE else None
    return page(
        request,
        "alarms.html",
        alarms=found,
        everything=everything,
        next=cursor_of(last.opened_at, last.id) if last else None,
        opened=lambda one: SiteClock(request, one.unit.timezone, now)(one.alarm.opened_at),
        clock=SiteClock(request, parts.settings.timezone, now),
        now=now,
        every=RENEWED_S,
    )


@router.get("/{alarm}")
def alarm_page(
    request: Request, alarm: AlarmNumber, tx: Reading, asker: SignedIn, parts: Using, said: str = ""
) -> Response:
    """Show one alarm."""
    return _shown(request, alarm, tx, asker, parts, said=said)


def _shown(
    request: Request,
    alarm: AlarmId,
    tx: Session,
    asker: Asker,
    parts: Parts,
    *,
    said: str = "",
    form: FilledForm | None = None,
) -> Response:
    seen = listing.alarm_for(tx, asker.actor, alarm)
    told, tone = said_of(words_for(request), said, seen, asker, parts)
    may = may_handle(asker, seen)
    return page(
        request,
        "alarm.html",
        **view(request, tx, parts, seen, asker, may=may),
        **given_back(form, f"/alarms/{alarm}"),
        base=f"/alarms/{alarm}",
        said=told,
        said_tone=tone,
        why_not="alarm.not_granted",
        ways_in=(),
    )


@router.post("/{alarm}/acknowledge")
def acknowledge(alarm: AlarmNumber, tx: Writing, asker: SignedIn, parts: Using) -> Response:
    """Acknowledge, and show who has."""
    handling.acknowledge(tx, asker.actor, alarm, through=asker.through, now=parts.clock.now())
    return RedirectResponse(f"/alarms/{alarm}?said=acknowledged", HTTPStatus.SEE_OTHER)


@router.post("/{alarm}/handling")
def handle(
    request: Request, alarm: AlarmNumber, tx: Writing, asker: SignedIn, parts: Using, report: HandlingForm
) -> Response:
    """Keep the handling record, or give the form back with every field marked that can't be used."""
    if faults := handling.faults(report):
        return _shown(request, alarm, tx, asker, parts, form=form_of(report, faults))
    handling.handle(tx, asker.actor, alarm, report, now=parts.clock.now())
    return RedirectResponse(f"/alarms/{alarm}?said=handled", HTTPStatus.SEE_OTHER)
