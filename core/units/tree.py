"""Unit tree: adding, changing, moving and stopping units.

A unit moves with all units below it; levels may be skipped. Who stood where at an earlier time stays known
(`core.units.ancestry`), while rights follow the present tree. Nothing is deleted: a unit that has ended is stopped.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from core.db import audit
from core.db.audit import Change, record_all
from core.db.in_values import in_values
from core.db.insert import insert_all
from core.errors import BackDated, Conflict, DomainError, Invalid, PermissionDenied
from core.ids import UnitId
from core.plain_text import require_plain
from core.runtime.instant import Instant, local_day, rfc3339
from core.units import device_revision
from core.units.actor import Actor
from core.units.messages import message
from core.units.rights import Right
from core.units.tables import Unit, UnitBusiness, UnitCode, UnitParent
from core.units.unit_attributes import Business, EntityKind, Grade
from core.units.unit_levels import Level, UnitKind, may_hang
from core.units.uscc import is_uscc

_CODE = re.compile(r"[0-9A-Za-z]{1,12}")


class UnitParticulars(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes of a unit, without its place in the tree."""

    name: str
    kind: UnitKind
    level: Level
    code: str | None = None
    timezone: str = "Asia/Shanghai"
    division: str | None = None
    uscc: str | None = None
    institution: UnitId | None = None
    entity: EntityKind | None = None
    grade: Grade | None = None
    businesses: frozenset[Business] | None = None
    """None: as they are."""
    address: str | None = None
    telephone: str | None = None


def add_unit(
    tx: Session, actor: Actor, unit: UnitParticulars, *, parent: Unit | None, now: Instant, since: Instant | None = None
) -> Unit:
    """Add a unit under `parent`, or as a root (operator only), that exists `since` an instant, or from now on.

    Raises: PermissionDenied, Conflict when the code is taken, Invalid when it can't stand there or a value is wrong.
    """
    (result,) = add_units(tx, actor, [(unit, parent)], now=now, since=since)
    if isinstance(result, DomainError):
        raise result
    return result


def add_units(
    tx: Session,
    actor: Actor,
    new: Sequence[tuple[UnitParticulars, Unit | None]],
    *,
    now: Instant,
    since: Instant | None = None,
) -> list[Unit | DomainError]:
    """Add units under existing parents; return for each the new unit or the error."""
    began = now if since is None else since
    device_revision.bump(tx)
    codes = [unit.code for unit, _ in new if unit.code is not None]
    taken = set(tx.scalars(select(Unit.code).where(in_values(tx, Unit.code, codes))))
    results: list[dict[str, Any] | DomainError] = []
    for unit, parent in new:
        try:
            _check(unit)
            _check_place(actor, unit, parent)
            _check_code_setter(actor, unit)
            if unit.code is not None and unit.code in taken:
                raise Conflict(_taken(unit.code))
        except DomainError as error:
            results.append(error)
            continue
        taken.add(unit.code)
        results.append(_row(unit, parent, began))
    rows = [row for row in results if isinstance(row, dict)]
    insert_all(tx, Unit, rows)
    inserted = tx.scalars(select(Unit).where(in_values(tx, Unit.path, [row["path"] for row in rows])))
    units_by_path = {unit.path: unit for unit in inserted}
    for (_, parent), row in zip(new, results, strict=True):
        if isinstance(row, dict):
            added = units_by_path[row["path"]]
            added.path = f"{'/' if parent is None else parent.path}{added.id}/"
    tx.flush()
    placed = [unit for unit in units_by_path.values() if unit.parent_id is not None]
    places = [{"unit_id": unit.id, "parent_id": unit.parent_id, "since": began, "until": None} for unit in placed]
    insert_all(tx, UnitParent, places)
    businesses = [
        {"unit_id": units_by_path[row["path"]].id, "business": business}
        for (unit, _), row in zip(new, results, strict=True)
        if isinstance(row, dict)
        for business in unit.businesses or ()
    ]
    insert_all(tx, UnitBusiness, businesses)
    record_all(tx, [_change("unit added", unit) for unit in units_by_path.values()], at=now, actor=actor.name)
    return [row if isinstance(row, DomainError) else units_by_path[row["path"]] for row in results]


def _row(unit: UnitParticulars, parent: Unit | None, since: Instant) -> dict[str, Any]:
    return {
        "code": unit.code,
        "name": unit.name,
        "kind": unit.kind,
        "level": unit.level,
        "parent_id": None if parent is None else parent.id,
        "path": f"new {uuid4().hex}",
        "timezone": unit.timezone,
        "since": since,
        "division": unit.division,
        "uscc": unit.uscc,
        "institution_id": unit.institution,
        "entity": unit.entity,
        "grade": unit.grade,
        "address": unit.address,
        "telephone": unit.telephone,
    }


def change_unit(tx: Session, actor: Actor, unit: Unit, to: UnitParticulars, *, now: Instant) -> None:
    """Change the attributes of a unit. Its parent stays the same.

    Raises: PermissionDenied, Conflict, Invalid.
    """
    actor.require(Right.UNITS, on=unit)
    device_revision.bump(tx)
    _check(to)
    for frozen in frozen_fields(tx, unit, to, now=now):
        raise frozen
    if to.code != unit.code:
        _check_code_setter(actor, to)
    parent = None if unit.parent_id is None else tx.get_one(Unit, unit.parent_id)
    if parent is not None:
        _check_level(to, parent)
    if to.code != unit.code:
        _check_free(tx, to.code)
    unit.name, unit.code, unit.timezone = to.name, to.code, to.timezone
    unit.kind, unit.level = to.kind, to.level
    unit.division, unit.uscc, unit.institution_id = to.division, to.uscc, to.institution
    unit.entity, unit.grade = to.entity, to.grade
    unit.address, unit.telephone = to.address, to.telephone
    if to.businesses is not None:
        tx.execute(delete(UnitBusiness).where(UnitBusiness.unit_id == unit.id))
        insert_all(tx, UnitBusiness, [{"unit_id": unit.id, "business": business} for business in to.businesses])
    record_all(tx, [_change("unit changed", unit)], at=now, actor=actor.name)


def frozen_fields(tx: Session, unit: Unit, to: UnitParticulars, *, now: Instant) -> list[Conflict]:
    """Return a conflict for each field that a change would touch though it is frozen.

    Code, division and institution are frozen once the province has approved the code, or while the year lasts in which
    it was maintained (UC-19, UC-20).
    """
    changed = [
        field
        for field, before, after in (
            ("code", unit.code, to.code),
            ("division", unit.division, to.division),
            ("institution", unit.institution_id, to.institution),
        )
        if before != after
    ]
    if not changed:
        return []
    is_approved = tx.scalar(select(UnitCode.id).where(UnitCode.unit_id == unit.id).limit(1)) is not None
    is_maintained = unit.maintained_year == local_day(now, ZoneInfo(unit.timezone)).year
    if not is_approved and not is_maintained:
        return []
    return [Conflict(message("frozen", name=unit.name, field=field)) for field in changed]


def particulars(unit: Unit) -> UnitParticulars:
    """Return the current attributes of a unit, but for its lines of business (`businesses_of`)."""
    return UnitParticulars(
        name=unit.name,
        kind=unit.kind,
        level=unit.level,
        code=unit.code,
        timezone=unit.timezone,
        division=unit.division,
        uscc=unit.uscc,
        institution=unit.institution_id,
        entity=unit.entity,
        grade=unit.grade,
        address=unit.address,
        telephone=unit.telephone,
    )


def businesses_of(tx: Session, units: Collection[UnitId]) -> dict[UnitId, frozenset[Business]]:
    """Return the lines of business of each of these units."""
    held: dict[UnitId, set[Business]] = {unit: set() for unit in units}
    query = select(UnitBusiness.unit_id, UnitBusiness.business).where(in_values(tx, UnitBusiness.unit_id, units))
    for unit, business in tx.execute(query):
        held[unit].add(business)
    return {unit: frozenset(businesses) for unit, businesses in held.items()}


def move_unit(tx: Session, actor: Actor, unit: Unit, parent: Unit | None, *, now: Instant) -> None:
    """Move a unit, with all units below it, under another parent from now on.

    Where it stood before stays in its timeline.
    Raises: PermissionDenied, Conflict when it would stand under itself, BackDated when it came to its parent later than
    `now`, Invalid when levels don't fit.
    """
    device_revision.bump(tx)
    tx.refresh(unit)
    if parent is not None:
        tx.refresh(parent)
        if parent.path.startswith(unit.path):
            raise Conflict(message("under_itself", name=unit.name, parent=parent.name))
    actor.require(Right.UNITS, on=unit)
    _check_place(actor, particulars(unit), parent)
    old = unit.path
    new = f"{'/' if parent is None else parent.path}{unit.id}/"
    if new == old:
        return
    _place(tx, unit, parent, now)
    tx.execute(
        update(Unit)
        .where(Unit.path.startswith(old, autoescape=True))
        .values(path=new + func.substr(Unit.path, len(old) + 1))
        .execution_options(synchronize_session=False)
    )
    unit.parent_id = None if parent is None else parent.id
    tx.flush()
    for loaded in tx.identity_map.values():  # the UPDATE bypasses loaded objects
        if isinstance(loaded, Unit) and loaded.path.startswith(old):
            set_committed_value(loaded, "path", new + loaded.path.removeprefix(old))
    audit.record(
        tx,
        at=now,
        actor=actor.name,
        act="unit moved",
        subject=f"unit:{unit.id}",
        detail={"from": old, "to": new},
    )


def stop_unit(tx: Session, actor: Actor, unit: Unit, *, now: Instant) -> None:
    """Stop a unit: it takes part in nothing new, and all that it has and did stays (UC-21).

    Raises: PermissionDenied, Conflict when it is stopped already or a unit below it isn't.
    """
    actor.require(Right.UNITS, on=unit)
    device_revision.bump(tx)
    if unit.until is not None:
        raise Conflict(message("stopped", name=unit.name, until=rfc3339(unit.until)))
    below = tx.scalar(select(Unit.name).where(Unit.parent_id == unit.id, Unit.until.is_(None)).limit(1))
    if below is not None:
        raise Conflict(message("still_below", name=unit.name, below=below))
    _check_code_setter(actor, particulars(unit))
    unit.until = now
    end_code(tx, unit, now)
    audit.record(tx, at=now, actor=actor.name, act="unit stopped", subject=f"unit:{unit.id}")


def end_code(tx: Session, unit: Unit, now: Instant) -> None:
    """End the code that a unit has, if it has one."""
    row = tx.scalars(select(UnitCode).where(UnitCode.unit_id == unit.id, UnitCode.until.is_(None))).first()
    if row is not None:
        row.until = Instant(max(now, row.since + 1))
        tx.flush()  # before the next row, which the database would refuse


def _place(tx: Session, unit: Unit, parent: Unit | None, now: Instant) -> None:
    """End the unit's row in its timeline at `now`, and begin one under the new parent."""
    query = select(UnitParent).where(UnitParent.unit_id == unit.id).order_by(UnitParent.since.desc()).limit(1)
    last = tx.scalars(query).first()
    if last is not None and last.until is None:
        if now < last.since:
            problem = message("came_later", name=unit.name, since=rfc3339(last.since), at=rfc3339(now))
            raise BackDated(problem)
        if now == last.since:  # it stood there for no time at all
            tx.delete(last)
        else:
            last.until = now
        tx.flush()  # otherwise the session could insert the next row first, which the database refuses
    if parent is not None:
        tx.add(UnitParent(unit_id=unit.id, parent_id=parent.id, since=now))
        tx.flush()


def _check_place(actor: Actor, unit: UnitParticulars, parent: Unit | None) -> None:
    if parent is None and not actor.may(Right.UNITS, on=Unit(path="/")):
        msg = f"{actor.name} may not enter a root; the operator does, with coldchain import"
        raise PermissionDenied(msg)
    if parent is not None:
        actor.require(Right.UNITS, on=parent)
        _check_level(unit, parent)
    elif unit.kind is UnitKind.TEMP_SITE:
        raise Invalid(field="parent", value="", problem=message("temp_site_root", name=unit.name))


def _check_level(unit: UnitParticulars, parent: Unit) -> None:
    if unit.kind is UnitKind.TEMP_SITE and parent.kind is not UnitKind.POV:
        problem = message("temp_site_parent", name=unit.name, parent=parent.name)
        raise Invalid(field="parent", value=parent.name, problem=problem)
    if not may_hang(unit.kind, unit.level, parent.kind, parent.level):
        problem = message("level", name=unit.name, kind=unit.kind, parent=parent.name, level=parent.level)
        raise Invalid(field="level", value=unit.level.value, problem=problem)


def _check_code_setter(actor: Actor, unit: UnitParticulars) -> None:
    """Check that a point of vaccination's code comes with an authorization, or by the operator's import (UC-15)."""
    if unit.code is not None and unit.kind is UnitKind.POV and not actor.may(Right.UNITS, on=Unit(path="/")):
        raise PermissionDenied(message("code_by_application", name=unit.name))


def _check_free(tx: Session, code: str | None) -> None:
    if code is not None and tx.scalar(select(Unit.id).where(Unit.code == code)) is not None:
        raise Conflict(_taken(code))


def _taken(code: str) -> str:
    return f"unit code {code} is taken"


def _check(unit: UnitParticulars) -> None:
    require_plain("name", unit.name)
    if not unit.name.strip():
        raise Invalid(field="name", value=unit.name, problem="a unit needs a name")
    if unit.code is not None and not _CODE.fullmatch(unit.code):
        raise Invalid(field="code", value=unit.code, problem="1 to 12 digits or letters")
    if unit.uscc is not None and not is_uscc(unit.uscc):
        raise Invalid(field="uscc", value=unit.uscc, problem=message("uscc"))
    if unit.code is not None and unit.kind is UnitKind.TEMP_SITE:
        raise Invalid(field="code", value=unit.code, problem=message("temp_site_code"))
    try:
        ZoneInfo(unit.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        problem = "no such time zone; write it like Asia/Shanghai"
        raise Invalid(field="timezone", value=unit.timezone, problem=problem) from None


def _change(act: str, unit: Unit) -> Change:
    detail = {"code": unit.code, "name": unit.name, "kind": unit.kind, "level": unit.level}
    return Change(act, f"unit:{unit.id}", detail)
