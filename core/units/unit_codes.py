"""Unit codes (接种单位编码): requesting, giving, replacing and stopping them.

A county CDC's user asks (`check_new_unit`, `check_maintenance`, `check_stop`); city and province review; then the
effects of the filed application are carried out (`open_unit`, `maintain_unit`, `stop_coded_unit`,
`open_temporary_site`). Effects check the records anew, but no rights: those are what `authorization` stands for, the id
of the filed application.
"""

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.audit import Change, record_all
from core.db.insert import insert_all
from core.errors import Conflict, DomainError, Invalid, PermissionDenied
from core.runtime.instant import Instant, local_day
from core.units import device_revision, readiness, tree
from core.units.actor import OPERATOR, Actor
from core.units.code_rules import UNIT_CODE, division_of, national_from
from core.units.divisions import Divisions
from core.units.messages import message
from core.units.registered_names import abbreviation_in, is_full_name
from core.units.rights import Right
from core.units.tables import Unit, UnitCode
from core.units.tree import UnitParticulars
from core.units.unit_attributes import HardwareKind
from core.units.unit_levels import Level, UnitKind

BY_IMPORT = "import"
"""Authorization of a code that an operator's import brought."""


class NewUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A point of vaccination that a county asks for: what it is, its code among that, and what hardware it has."""

    particulars: UnitParticulars
    hardware: Mapping[HardwareKind, int]


def require_code_clerk(actor: Actor, county: Unit) -> None:
    """Check that an actor may ask for codes in a county: a user of the county's CDC, nobody above or below (UC-15).

    Raises: PermissionDenied, NotFound.
    """
    actor.require(Right.CODES, on=county)
    if county.kind is not UnitKind.CDC or county.level is not Level.COUNTY:
        raise PermissionDenied(message("no_county", name=county.name))


def check_new_unit(
    tx: Session, actor: Actor, county: Unit, new: NewUnit, *, divisions: Divisions, now: Instant
) -> list[DomainError]:
    """Return all that is wrong with a request for a new point of vaccination under a county.

    Raises: PermissionDenied, NotFound.
    """
    require_code_clerk(actor, county)
    return _faults_of_new_unit(tx, county, new, divisions, now)


def open_unit(
    tx: Session,
    actor: Actor,
    county: Unit,
    new: NewUnit,
    *,
    authorization: str,
    divisions: Divisions,
    now: Instant,
) -> Unit:
    """Open a point of vaccination under a county, with its code: usable from now on (UC-08, UC-13).

    Raises: Invalid, Conflict.
    """
    device_revision.bump(tx)
    for fault in _faults_of_new_unit(tx, county, new, divisions, now):
        raise fault
    code = _code_of(new.particulars)
    particulars = replace(new.particulars, division=division_of(code))
    unit = tree.add_unit(tx, _authorized(actor), particulars, parent=county, now=now)
    _begin(tx, actor, [(unit, code)], authorization, since=now, now=now)
    readiness.record_hardware(tx, actor, unit, new.hardware, now=now)
    return unit


def open_temporary_site(
    tx: Session,
    actor: Actor,
    parent: Unit,
    name: str,
    hardware: Mapping[HardwareKind, int],
    *,
    authorization: str,
    now: Instant,
) -> Unit:
    """Open a temporary site of a point of vaccination. It has no code, and reports under its parent's (UC-09).

    Raises: Invalid, also while a kind of hardware is missing.
    """
    for fault in readiness.faults(hardware):
        raise fault
    site = UnitParticulars(name=name, kind=UnitKind.TEMP_SITE, level=parent.level, timezone=parent.timezone)
    unit = tree.add_unit(tx, _authorized(actor), site, parent=parent, now=now)
    readiness.record_hardware(tx, actor, unit, hardware, now=now)
    detail = {"parent": parent.id, "authorization": authorization}
    record_all(tx, [Change("temporary site opened", f"unit:{unit.id}", detail)], at=now, actor=actor.name)
    return unit


def check_maintenance(
    tx: Session, actor: Actor, county: Unit, unit: Unit, to: UnitParticulars, *, now: Instant
) -> list[DomainError]:
    """Return what is wrong with a request to change a unit of a county.

    Raises: PermissionDenied, NotFound.
    """
    require_code_clerk(actor, county)
    actor.require(Right.CODES, on=unit)
    return [*tree.frozen_fields(tx, unit, to, now=now), *_faults_of_name(to)]


def maintain_unit(
    tx: Session, actor: Actor, unit: Unit, to: UnitParticulars, *, authorization: str, now: Instant
) -> None:
    """Change a unit in its maintenance. Code, division and institution are frozen once approved (UC-19, UC-20).

    Raises: Conflict for a frozen field; Invalid.
    """
    device_revision.bump(tx)
    for fault in _faults_of_name(to):
        raise fault
    tree.change_unit(tx, _authorized(actor), unit, to, now=now)
    record_all(tx, [_change("unit maintained", unit, authorization)], at=now, actor=actor.name)


def confirm_yearly_maintenance(tx: Session, actor: Actor, unit: Unit, *, authorization: str, now: Instant) -> None:
    """Note that a unit's code was maintained in the year of `now`; three fields are frozen for that year (UC-20)."""
    device_revision.bump(tx)
    unit.maintained_year = local_day(now, ZoneInfo(unit.timezone)).year
    record_all(tx, [_change("yearly maintenance", unit, authorization)], at=now, actor=actor.name)


def check_stop(actor: Actor, county: Unit, unit: Unit) -> None:
    """Check that an actor may ask to stop a unit of a county.

    Raises: PermissionDenied, NotFound.
    """
    require_code_clerk(actor, county)
    actor.require(Right.CODES, on=unit)


def stop_coded_unit(tx: Session, actor: Actor, unit: Unit, *, authorization: str, now: Instant) -> None:
    """Stop a unit and its code, and with it its temporary sites. Its history stays, and its code is never given again.

    Raises: Conflict when it is stopped already, or other units stand below it.
    """
    sites = select(Unit).where(Unit.parent_id == unit.id, Unit.kind == UnitKind.TEMP_SITE, Unit.until.is_(None))
    for site in tx.scalars(sites).all():
        tree.stop_unit(tx, _authorized(actor), site, now=now)
    tree.stop_unit(tx, _authorized(actor), unit, now=now)
    record_all(tx, [_change("unit code stopped", unit, authorization)], at=now, actor=actor.name)


def replace_code(
    tx: Session, actor: Actor, unit: Unit, code: str, *, authorization: str, divisions: Divisions, now: Instant
) -> None:
    """Give a unit another code, as the national system's yearly version says. The old one still resolves (UC-26).

    It is no effect of an application: once approved, a code isn't changed by request.
    Raises: Invalid, Conflict when the code was ever given.
    """
    device_revision.bump(tx)
    for fault in _faults_of_code(tx, code, divisions, now, unit.timezone):
        raise fault
    tree.end_code(tx, unit, now)
    unit.code, unit.division = code, division_of(code)
    tx.flush()
    _begin(tx, actor, [(unit, code)], authorization, since=now, now=now)


def enter_imported_codes(tx: Session, actor: Actor, units: Sequence[Unit], *, since: Instant, now: Instant) -> None:
    """Note the codes of units that an operator's import added; they have been in force since an instant."""
    coded = [(unit, unit.code) for unit in units if is_coded(unit.kind, unit.code) and unit.code]
    for unit, code in coded:
        unit.division = division_of(code)
    tx.flush()
    _begin(tx, actor, coded, BY_IMPORT, since=since, now=now, national=since)


def check_imported_code(unit: UnitParticulars, divisions: Divisions, now: Instant) -> None:
    """Check the division in the code of a unit that an import adds, and that it agrees with the one that is given.

    Raises: Invalid.
    """
    if unit.code is None or not is_coded(unit.kind, unit.code):
        return
    division = division_of(unit.code)
    divisions.require("code", division, local_day(now, ZoneInfo(unit.timezone)))
    if unit.division not in {None, division}:
        problem = message("other_division", code=unit.code)
        raise Invalid(field="division", value=unit.division, problem=problem)


def is_coded(kind: UnitKind, code: str | None) -> bool:
    """Return whether what a unit goes by is a unit code: ten digits, of a point of vaccination."""
    return kind is UnitKind.POV and code is not None and UNIT_CODE.fullmatch(code) is not None


def _faults_of_new_unit(
    tx: Session, county: Unit, new: NewUnit, divisions: Divisions, now: Instant
) -> list[DomainError]:
    particulars = new.particulars
    faults: list[DomainError] = []
    if particulars.kind is not UnitKind.POV:
        faults.append(Invalid("kind", particulars.kind.value, message("not_pov")))
    faults += _faults_of_code(tx, _code_of(particulars), divisions, now, particulars.timezone)
    faults += _faults_of_name(particulars)
    institution = None if particulars.institution is None else tx.get(Unit, particulars.institution)
    if institution is None or institution.kind is not UnitKind.INSTITUTION or institution.until is not None:
        faults.append(Invalid("institution", particulars.institution, message("no_institution")))
    if county.until is not None:
        faults.append(Conflict(message("stopped", name=county.name, until=county.until)))
    return [*faults, *readiness.faults(new.hardware)]


def _faults_of_code(tx: Session, code: str, divisions: Divisions, now: Instant, timezone: str) -> list[DomainError]:
    if not UNIT_CODE.fullmatch(code):
        return [Invalid("code", code, message("ten_digits"))]
    faults: list[DomainError] = []
    if divisions.at(division_of(code), local_day(now, ZoneInfo(timezone))) is None:
        faults.append(Invalid("code", code, message("division", code=division_of(code))))
    given = tx.scalar(select(UnitCode.id).where(UnitCode.code == code))
    if given is not None or tx.scalar(select(Unit.id).where(Unit.code == code)) is not None:
        faults.append(Conflict(message("given", code=code)))
    return faults


def _faults_of_name(particulars: UnitParticulars) -> list[DomainError]:
    if is_full_name(particulars.kind, particulars.name):
        return []
    short = abbreviation_in(particulars.name) or ""
    return [Invalid("name", particulars.name, message("abbreviated", short=short))]


def _code_of(particulars: UnitParticulars) -> str:
    return particulars.code or ""


def _begin(
    tx: Session,
    actor: Actor,
    coded: Sequence[tuple[Unit, str]],
    authorization: str,
    *,
    since: Instant,
    now: Instant,
    national: Instant | None = None,
) -> None:
    rows = [
        {
            "unit_id": unit.id,
            "code": code,
            "since": since,
            "until": None,
            "national_from": national_from(since, unit.timezone) if national is None else national,
            "authorization": authorization,
        }
        for unit, code in coded
    ]
    insert_all(tx, UnitCode, rows)
    changes = [_change("unit code given", unit, authorization) for unit, _ in coded]
    record_all(tx, changes, at=now, actor=actor.name)


def _authorized(actor: Actor) -> Actor:
    """Return the actor with the rights that the authorization stands for."""
    return Actor(actor.name, OPERATOR.holdings, account=actor.account, person=actor.person)


def _change(act: str, unit: Unit, authorization: str) -> Change:
    return Change(act, f"unit:{unit.id}", {"code": unit.code, "authorization": authorization})
