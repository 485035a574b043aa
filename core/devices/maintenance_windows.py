"""Maintenance windows: times without paging for an equipment (维修 备用 停用 盘苗 除霜).

Readings of a stopped equipment (停用) go to quarantine (CC-19).
"""

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.db import audit
from core.devices.bindings import unit_of_equipment
from core.devices.kinds_and_labels import WindowKind
from core.devices.messages import message
from core.devices.tables import MaintenanceWindow
from core.errors import BackDated, Conflict, PermissionDenied
from core.ids import EquipmentId
from core.plain_text import require_plain
from core.runtime.instant import Instant, rfc3339
from core.units import device_revision
from core.units.actor import OPERATOR, Actor
from core.units.rights import Right

BY_APPLICATION = (WindowKind.REPAIR, WindowKind.STOPPED)
"""Kinds that nobody begins or ends without a filed application."""


def begin_window(
    tx: Session,
    actor: Actor,
    equipment: EquipmentId,
    kind: WindowKind,
    *,
    since: Instant,
    until: Instant | None = None,
    reason: str = "",
    now: Instant,
) -> MaintenanceWindow:
    """Begin a window [since, until) without paging; for kind `stopped` (停用) readings are held in quarantine too.

    Repair and stop are begun by executing a filed application, or by the operator (HW-11).
    Raises: PermissionDenied, Conflict when a window of this kind overlaps, BackDated when the window would be empty.
    """
    actor.require(Right.EQUIP, on=unit_of_equipment(tx, equipment, since), subject=("equipment", equipment))
    _require_not_by_application(actor, kind)
    require_plain("reason", reason, several_lines=True)
    return enter_window(tx, actor.name, equipment, kind, since=since, until=until, reason=reason, now=now)


def enter_window(
    tx: Session,
    actor_name: str,
    equipment: EquipmentId,
    kind: WindowKind,
    *,
    since: Instant,
    until: Instant | None = None,
    reason: str = "",
    now: Instant,
) -> MaintenanceWindow:
    """Begin a window for a caller that has checked that it may.

    Raises: Conflict when a window of this kind overlaps, BackDated when the window would be empty.
    """
    device_revision.bump(tx)
    if until is not None and until <= since:
        raise BackDated(message("window_ends_before", until=rfc3339(until), since=rfc3339(since)))
    overlapping = select(MaintenanceWindow.id).where(
        MaintenanceWindow.equipment_id == equipment,
        MaintenanceWindow.kind == kind,
        or_(MaintenanceWindow.until.is_(None), MaintenanceWindow.until > since),
    )
    if until is not None:
        overlapping = overlapping.where(MaintenanceWindow.since < until)
    if tx.scalar(overlapping) is not None:
        raise Conflict(message("window_there", equipment=equipment, kind=kind.value))
    window = MaintenanceWindow(equipment_id=equipment, kind=kind, since=since, until=until, reason=reason)
    tx.add(window)
    tx.flush()
    detail = {"kind": kind, "since": since, "until": until, "reason": reason}
    audit.record(tx, at=now, actor=actor_name, act="window begun", subject=f"equipment:{equipment}", detail=detail)
    return window


def end_window(tx: Session, actor: Actor, window: MaintenanceWindow, at: Instant, *, now: Instant) -> None:
    """End a window at `at` that is open or ends later.

    Raises: PermissionDenied, Conflict when it ended before `at`, BackDated when it didn't begin before `at`.
    """
    actor.require(Right.EQUIP, on=unit_of_equipment(tx, window.equipment_id, at), subject=("window", window.id))
    _require_not_by_application(actor, window.kind)
    device_revision.bump(tx)
    if window.until is not None and window.until <= at:
        raise Conflict(message("window_ended", until=rfc3339(window.until)))
    if at <= window.since:
        raise BackDated(message("window_began", since=rfc3339(window.since), at=rfc3339(at)))
    window.until = at
    detail = {"kind": window.kind, "at": at}
    subject = f"equipment:{window.equipment_id}"
    audit.record(tx, at=now, actor=actor.name, act="window ended", subject=subject, detail=detail)


def _require_not_by_application(actor: Actor, kind: WindowKind) -> None:
    if kind in BY_APPLICATION and actor != OPERATOR:
        msg = f"{kind.value} begins and ends by executing a filed application"
        raise PermissionDenied(msg)
