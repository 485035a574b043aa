"""Page of a zone: its present state, its curve over a day, a week or a month, and the figures."""

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal, visibility_of
from api.db_session import ReadSession
from api.pages.curve import Picture, Trace, svg, table
from api.pages.rendering import RENEWED_S, SiteClock, page, words_for, zone_info
from api.schemas import ZoneNumber
from core.alarms.zone_status import limits_of, zone_status
from core.devices.queries import visible_equipment
from core.devices.zone_history import history
from core.runtime.instant import DAY, Instant
from core.wire.messages import CLOCK_TOLERANCE

router = APIRouter(tags=["pages"])
SPANS = {"24h": (DAY, "last_24h"), "7d": (7 * DAY, "last_7d"), "30d": (30 * DAY, "last_30d")}


@router.get("/zones/{zone}")
def zone_page(
    request: Request,
    zone: ZoneNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    span: Literal["24h", "7d", "30d"] = "24h",
) -> Response:
    """Show one zone, over the time in which it was in a unit of the principal's."""
    telemetry, now, words = context.telemetry.get(), context.clock.now(), words_for(request)
    length, _ = SPANS[span]
    since = Instant(now - length)
    readings = history(tx, telemetry, zone, since, Instant(now + CLOCK_TOLERANCE), visibility_of(principal.actor))
    live = zone_status(tx, telemetry, readings.zone, visible_equipment(principal.actor), now=now)
    timezone = zone_info(live.timezone if live else context.settings.timezone)
    low, high = limits_of(readings.zone)
    name = words("zone_name", equipment=readings.equipment.name, zone=words(f"zone.{readings.zone.kind}"))
    picture = Picture(
        since=since,
        until=now,
        traces=[Trace(probe.code, probe.curve, probe.interval) for probe in readings.curves],
        low=low,
        high=high,
        onset=None,
        timezone=timezone,
        title=words(
            "curve_title",
            zone=name,
            since=words.clock(since, timezone),
            until=words.clock(now, timezone),
            limits=words.band(low, high),
        ),
        empty_label=words("no_readings"),
    )
    return page(
        request,
        "zone.html",
        name=name,
        live=live,
        band=words.band(low, high),
        curve=svg(picture),
        numbers=table(picture),
        spans=[(key, label) for key, (_, label) in SPANS.items()],
        chosen=span,
        figures=readings.figures(),
        now=now,
        clock=SiteClock(request, timezone.key, now),
        every=RENEWED_S if span == "24h" else 4 * RENEWED_S,
    )
