"""Unit tree: adding, changing and moving units. A unit moves with all units below it; levels may be skipped."""

import re
from collections.abc import Sequence
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from core.db import audit
from core.db.audit import Change, record_all
from core.db.in_values import in_values
from core.db.insert import insert_all
from core.errors import Conflict, DomainError, Invalid, PermissionDenied
from core.plain_text import require_plain
from core.runtime.instant import Instant
from core.units import device_revision
from core.units.actor import Actor
from core.units.messages import message
from core.units.rights import Right
from core.units.tables import Unit
from core.units.unit_levels import Level, UnitKind, may_hang

_CODE = re.compile(r"[0-9A-Za-z]{1,12}")


class UnitParticulars(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes of a unit, without its place in the tree."""

    name: str
    kind: UnitKind
    level: Level
    code: str | None = None
    timezone: str = "Asia/Shanghai"


def add_unit(tx: Session, actor: Actor, unit: UnitParticulars, *, parent: Unit | None, now: Instant) -> Unit:
    """Add a unit under `parent`, or as a root (operator only).

    Raises: PermissionDenied, Conflict when the code is taken, Invalid when it can't stand there or a value is wrong.
    """
    (result,) = add_units(tx, actor, [(unit, parent)], now=now)
    if isinstance(result, DomainError):
        raise result
    return result


def add_units(
    tx: Session, actor: Actor, new: Sequence[tuple[UnitParticulars, Unit | None]], *, now: Instant
) -> list[Unit | DomainError]:
    """Add units under existing parents; return for each the new unit or the error."""
    device_revision.bump(tx)
    codes = [unit.code for unit, _ in new if unit.code is not None]
    taken = set(tx.scalars(select(Unit.code).where(in_values(tx, Unit.code, codes))))
    results: list[dict[str, Any] | DomainError] = []
    for unit, parent in new:
        try:
            _check(unit)
            _check_place(actor, unit, parent)
            if unit.code is not None and unit.code in taken:
                raise Conflict(_taken(unit.code))
        except DomainError as error:
            results.append(error)
            continue
        taken.add(unit.code)
        results.append(_row(unit, parent))
    rows = [row for row in results if isinstance(row, dict)]
    insert_all(tx, Unit, rows)
    inserted = tx.scalars(select(Unit).where(in_values(tx, Unit.path, [row["path"] for row in rows])))
    units_by_path = {unit.path: unit for unit in inserted}
    for (_, parent), row in zip(new, results, strict=True):
        if isinstance(row, dict):
            added = units_by_path[row["path"]]
            added.path = f"{'/' if parent is None else parent.path}{added.id}/"
    tx.flush()
    record_all(tx, [_change("unit added", unit) for unit in units_by_path.values()], at=now, actor=actor.name)
    return [row if isinstance(row, DomainError) else units_by_path[row["path"]] for row in results]


def _row(unit: UnitParticulars, parent: Unit | None) -> dict[str, Any]:
    return {
        "code": unit.code,
        "name": unit.name,
        "kind": unit.kind,
        "level": unit.level,
        "parent_id": None if parent is None else parent.id,
        "path": f"new {uuid4().hex}",
        "timezone": unit.timezone,
    }


def change_unit(tx: Session, actor: Actor, unit: Unit, to: UnitParticulars, *, now: Instant) -> None:
    """Change the attributes of a unit. Its parent stays the same.

    Raises: PermissionDenied, Conflict, Invalid.
    """
    actor.require(Right.UNITS, on=unit)
    device_revision.bump(tx)
    _check(to)
    parent = None if unit.parent_id is None else tx.get_one(Unit, unit.parent_id)
    if parent is not None:
        _check_level(to, parent)
    if to.code != unit.code:
        _check_free(tx, to.code)
    unit.name, unit.code, unit.timezone = to.name, to.code, to.timezone
    unit.kind, unit.level = to.kind, to.level
    record_all(tx, [_change("unit changed", unit)], at=now, actor=actor.name)


def particulars(unit: Unit) -> UnitParticulars:
    """Return the current attributes of a unit."""
    return UnitParticulars(name=unit.name, kind=unit.kind, level=unit.level, code=unit.code, timezone=unit.timezone)


def move_unit(tx: Session, actor: Actor, unit: Unit, parent: Unit | None, *, now: Instant) -> None:
    """Move a unit, with all units below it, under another parent.

    Its history moves with it: the tree has no timeline.
    Raises: PermissionDenied, Conflict when it would stand under itself, Invalid when levels don't fit.
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


def _check_place(actor: Actor, unit: UnitParticulars, parent: Unit | None) -> None:
    if parent is None and not actor.may(Right.UNITS, on=Unit(path="/")):
        msg = f"{actor.name} may not enter a root; the operator does, with coldchain import"
        raise PermissionDenied(msg)
    if parent is not None:
        actor.require(Right.UNITS, on=parent)
        _check_level(unit, parent)


def _check_level(unit: UnitParticulars, parent: Unit) -> None:
    if not may_hang(unit.kind, unit.level, parent.level):
        problem = message("level", name=unit.name, kind=unit.kind, parent=parent.name, level=parent.level)
        raise Invalid(field="level", value=unit.level.value, problem=problem)


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
    try:
        ZoneInfo(unit.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        problem = "no such time zone; write it like Asia/Shanghai"
        raise Invalid(field="timezone", value=unit.timezone, problem=problem) from None


def _change(act: str, unit: Unit) -> Change:
    detail = {"code": unit.code, "name": unit.name, "kind": unit.kind, "level": unit.level}
    return Change(act, f"unit:{unit.id}", detail)
