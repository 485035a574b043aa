"""Page with the inventory of devices, and the same list as a CSV file."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, Field
from sqlalchemy.orm import Session

from api.app_context import AppContext, AppContextDep
from api.auth import CurrentPrincipal
from api.csv_export import Cell, csv_answer, degrees
from api.db_session import ReadSession
from api.pages.rendering import SiteClock, page, words_for, zone_info
from api.pages.texts import Texts
from api.schemas import UnitNumber, cursor_of, place_of
from core.devices import inventory
from core.devices.inventory import Device, DeviceFilter, DeviceType
from core.devices.kinds_and_labels import DeviceState
from core.runtime.instant import Instant, at_zone
from core.units.actor import Actor
from core.units.queries import in_subtree, visible_unit
from core.units.tables import Unit

router = APIRouter(tags=["pages"])
ON_A_PAGE = 50
ROWS = 500
"""Devices of the file that are read and sent at once."""
COLUMNS = (
    *("type", "code", "name", "measures", "unit", "unit_code", "state", "source", "supplier"),
    *("installed_on", "warranty_end", "last_at", "last_value"),
)


def _unless_empty(given: object) -> object:
    return given or None  # a form sends a field that was left empty as ""


class DeviceList(BaseModel):
    """Query of the inventory and of its CSV file."""

    unit: UnitNumber | None = None
    type: Annotated[DeviceType | None, BeforeValidator(_unless_empty)] = None
    state: Annotated[DeviceState | None, BeforeValidator(_unless_empty)] = None
    expired: Annotated[bool, Field(description="only devices whose warranty is over")] = False
    cursor: Annotated[str | None, Field(max_length=200)] = None

    def path(self, *, cursor: str | None = None, file: str = "") -> str:
        """Return path and query of a page of the same list, or of its CSV file."""
        given = self.model_copy(update={"cursor": cursor}).model_dump(mode="json", exclude_defaults=True)
        query = urlencode({name: int(value) if value is True else value for name, value in given.items()})
        return f"/devices{file}?{query}" if query else f"/devices{file}"


@router.get("/devices")
def devices(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    query: Annotated[DeviceList, Query()],
) -> Response:
    """Show the devices of a unit and all below it, or all that the reader may see."""
    unit = None if query.unit is None else visible_unit(tx, principal.actor, query.unit)
    now, today = _today(context, unit)
    position = place_of(query.cursor, 3)
    found = inventory.devices(
        tx,
        context.telemetry.get(),
        principal.actor,
        _filter(query, unit, today),
        now=now,
        after=(position[0], position[1], position[2]) if position else None,
        limit=ON_A_PAGE,
    )
    return page(
        request,
        "devices.html",
        groups=inventory.by_unit(found),
        query=query,
        unit=unit,
        types=list(DeviceType),
        states=list(DeviceState),
        today=today,
        clock_of=lambda device: SiteClock(request, device.timezone, now),
        next=cursor_of(*inventory.position_of(found[-1])) if len(found) == ON_A_PAGE else None,
    )


@router.get("/devices.csv")
def devices_csv(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    query: Annotated[DeviceList, Query()],
) -> Response:
    """Send the devices that the page with the same query lists, on all its pages."""
    words = words_for(request)
    unit = None if query.unit is None else visible_unit(tx, principal.actor, query.unit)
    now, today = _today(context, unit)
    name = f"{words('device.title')}{f'-{unit.name}' if unit else ''}.csv"
    header = [words(f"device.{column}") for column in COLUMNS]
    pages = _pages(context, principal.actor, _filter(query, unit, today), now)
    return csv_answer(name, header, ([_row(words, device) for device in found] for found in pages))


def _today(context: AppContext, unit: Unit | None) -> tuple[Instant, date]:
    now = context.clock.now()
    return now, at_zone(now, zone_info(unit.timezone if unit else context.settings.timezone)).date()


def _filter(query: DeviceList, unit: Unit | None, today: date) -> DeviceFilter:
    return DeviceFilter(
        query.type, query.state, today if query.expired else None, None if unit is None else in_subtree(unit)
    )


def _pages(context: AppContext, actor: Actor, wanted: DeviceFilter, now: Instant) -> Iterator[Sequence[Device]]:
    """Yield the devices in pages, each read in a transaction of its own: a slow reader holds none open."""
    after: inventory.Position | None = None
    while True:
        with context.records.read() as tx:
            found = _read(tx, context, actor, wanted, now, after)
        yield found
        if len(found) < ROWS:
            return
        after = inventory.position_of(found[-1])


def _read(
    tx: Session, context: AppContext, actor: Actor, wanted: DeviceFilter, now: Instant, after: inventory.Position | None
) -> list[Device]:
    return inventory.devices(tx, context.telemetry.get(), actor, wanted, now=now, after=after, limit=ROWS)


def _row(words: Texts, device: Device) -> Sequence[Cell]:
    last = "" if device.last_at is None else at_zone(device.last_at, zone_info(device.timezone))
    return (
        words(f"device_type.{device.type}"),
        device.code,
        device.name,
        measured_zone(words, device),
        device.unit_name,
        device.unit_code,
        words(f"device_state.{device.state}"),
        words(f"device_source.{device.source}") if device.source else "",
        device.supplier,
        device.installed_on.isoformat() if device.installed_on else "",
        device.warranty_end.isoformat() if device.warranty_end else "",
        f"{last:%Y-%m-%d %H:%M:%S}" if last else "",
        degrees(device.last_value),
    )


def measured_zone(words: Texts, device: Device) -> str:
    """Return what a probe measures, as people call it; empty for one that measures nothing."""
    if device.equipment_name is None or device.zone is None:
        return ""
    return words("zone_name", equipment=device.equipment_name, zone=words(f"zone.{device.zone}"))
