"""Queries about unit codes: whose a code was, which codes a year had, under which one a unit reports."""

from datetime import date
from enum import StrEnum
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.db.in_force import in_force
from core.ids import UnitId
from core.runtime.instant import Instant, day_bounds
from core.units.ancestry import ancestors_at
from core.units.registered_names import is_full_name
from core.units.tables import Unit, UnitCode
from core.units.unit_levels import UnitKind
from core.units.uscc import is_uscc


class UploadObstacle(StrEnum):
    """Reason why nothing of a unit may be sent to the national system."""

    NO_CODE = "no_code"
    NOT_YET_NATIONAL = "not_yet_national"
    ABBREVIATED_NAME = "abbreviated_name"
    NO_USCC = "no_uscc"


class CodeOfYear(msgspec.Struct, frozen=True, kw_only=True):
    """A code of the yearly version: it was in force at some time of that year."""

    code: str
    unit: UnitId
    name: str
    since: Instant
    until: Instant | None


def unit_of_code(tx: Session, code: str, at: Instant | None = None) -> Unit | None:
    """Return the unit that had a code at an instant, or that ever had it; None if there is none."""
    query = select(Unit).join(UnitCode, UnitCode.unit_id == Unit.id).where(UnitCode.code == code)
    return tx.scalar(query if at is None else query.where(in_force(UnitCode, at)))


def codes_of_year(
    tx: Session, below: Unit, year: int, timezone: str, *, after: str = "", limit: int = 1_000
) -> list[CodeOfYear]:
    """Return up to `limit` codes of a unit and below it that were in force in a local year, by code.

    For the next page, `after` is the last code.
    """
    zone = ZoneInfo(timezone)
    begin, end = day_bounds(date(year, 1, 1), zone)[0], day_bounds(date(year, 12, 31), zone)[1]
    query = (
        select(UnitCode, Unit.name)
        .join(Unit, Unit.id == UnitCode.unit_id)
        .where(Unit.path.startswith(below.path, autoescape=True), UnitCode.code > after)
        .where(UnitCode.since < end, or_(UnitCode.until.is_(None), UnitCode.until > begin))
        .order_by(UnitCode.code)
        .limit(limit)
    )
    return [
        CodeOfYear(code=row.code, unit=row.unit_id, name=name, since=row.since, until=row.until)
        for row, name in tx.execute(query)
    ]


def reporting_unit(tx: Session, unit: Unit, at: Instant) -> Unit | None:
    """Return the unit under whose code a unit reports: itself, or for a temporary site its parent at that time."""
    if unit.kind is not UnitKind.TEMP_SITE:
        return unit
    return next(iter(ancestors_at(tx, unit.id, at)), None)


def code_in_force(tx: Session, unit: Unit, at: Instant) -> UnitCode | None:
    """Return the code under which a unit reports at an instant; None if it has none then."""
    reporter = reporting_unit(tx, unit, at)
    if reporter is None:
        return None
    return tx.scalar(select(UnitCode).where(UnitCode.unit_id == reporter.id, in_force(UnitCode, at)))


def upload_obstacles(tx: Session, unit: Unit, at: Instant) -> list[UploadObstacle]:
    """Return why nothing of a unit may be sent to the national system at an instant; empty if it may (UC-13, UC-25)."""
    reporter = reporting_unit(tx, unit, at)
    if reporter is None:
        return [UploadObstacle.NO_CODE]
    obstacles = []
    if reporter.kind is UnitKind.CDC:
        if reporter.uscc is None or not is_uscc(reporter.uscc):
            obstacles.append(UploadObstacle.NO_USCC)
    else:
        row = code_in_force(tx, unit, at)
        if row is None:
            obstacles.append(UploadObstacle.NO_CODE)
        elif at < row.national_from:
            obstacles.append(UploadObstacle.NOT_YET_NATIONAL)
    if not is_full_name(reporter.kind, reporter.name):
        obstacles.append(UploadObstacle.ABBREVIATED_NAME)
    return obstacles
