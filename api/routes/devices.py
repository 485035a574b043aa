"""Devices of the principal's scope: equipment, gateways and probes with origin, warranty, state and latest reading."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import ReadSession
from api.schemas import Celsius, Cursor, Moment, Page, PageLimit, Schema, UnitNumber, cursor_of, place_of
from core.devices import inventory
from core.devices.inventory import DeviceFilter, DeviceType
from core.devices.kinds_and_labels import DeviceSource, DeviceState, ZoneKind
from core.ids import UnitId
from core.units.queries import in_subtree, in_unit, visible_unit

router = APIRouter(prefix="/devices", tags=["devices"])


class DeviceOut(Schema):
    """A device. `code` is the inventory number of equipment, the number of a gateway, or the code of a probe.

    `equipment_name` and `zone` say what a probe measures; null for one that measures nothing. Only a probe has
    `last_value`.
    """

    type: DeviceType
    id: int
    code: str
    name: str | None
    equipment_name: str | None
    zone: ZoneKind | None
    unit: UnitId
    unit_name: str
    state: DeviceState
    supplier: str | None
    source: DeviceSource | None
    installed_on: date | None
    warranty_end: date | None
    last_at: Moment | None
    last_value: Celsius | None


class DeviceQuery(BaseModel):
    """Query of the list."""

    unit: UnitNumber | None = None
    below: Annotated[bool, Field(description="with `unit`: also of all units below")] = False
    type: DeviceType | None = None
    state: DeviceState | None = None
    warranty_ends_before: date | None = None
    cursor: Cursor = None
    limit: PageLimit = 100


@router.get("")
def devices(
    tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep, query: Annotated[DeviceQuery, Query()]
) -> Page[DeviceOut]:
    """List the devices that the principal may see: of a unit, or all."""
    scope = None
    if query.unit is not None:
        row = visible_unit(tx, principal.actor, query.unit)
        scope = in_subtree(row) if query.below else in_unit(row)
    position = place_of(query.cursor, 3)
    found = inventory.devices(
        tx,
        context.telemetry.get(),
        principal.actor,
        DeviceFilter(query.type, query.state, query.warranty_ends_before, scope),
        now=context.clock.now(),
        after=(position[0], position[1], position[2]) if position else None,
        limit=query.limit,
    )
    items = [DeviceOut.model_validate(each) for each in found]
    is_full = len(found) == query.limit
    return Page(items=items, next=cursor_of(*inventory.position_of(found[-1])) if is_full else None)
