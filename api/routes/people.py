"""People of units, and the person whom each unit has designated to manage the system (UP-05).

Phone and identity numbers are masked.
"""

from typing import Annotated

from fastapi import APIRouter, Query

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import ReadSession, WriteSession
from api.routes.units import UnitOut
from api.schemas import Cursor, Moment, Page, PageLimit, PersonReference, Schema, UnitNumber, cursor_of, place_of
from core.access import account_lists
from core.access.account_lists import ListedPerson
from core.access.designated_managers import ManagerOfUnit, designate, designated_manager, units_without_manager
from core.db.crypto import FieldCipher, masked
from core.ids import PersonId, UnitId
from core.units.identities import IdentityType
from core.units.named_persons import opened_identity
from core.units.people import opened_phone

router = APIRouter(prefix="/people", tags=["people"])
managers_router = APIRouter(prefix="/managers", tags=["people"])
Below = Annotated[bool, Query(description="also of all units below")]


class PersonOut(Schema):
    """A person of a unit. `duplicate_identity`: somebody else has an identity document with the same number."""

    id: PersonId
    name: str
    unit: UnitId
    unit_name: str
    phone: str | None
    identity_type: IdentityType | None
    identity_number: str | None
    duplicate_identity: bool
    left_at: Moment | None


class Designate(Schema):
    """The person who is to manage the system in a unit; they work there and have a phone number."""

    person: PersonReference


class ManagerOut(Schema):
    """The designated manager of a unit."""

    unit: UnitId
    unit_name: str
    person: PersonId
    name: str
    phone: str | None
    since: Moment


@router.get("", responses={404: {}})
def people(
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    unit: UnitNumber | None = None,
    *,
    below: Below = False,
    cursor: Cursor = None,
    limit: PageLimit = 100,
) -> Page[PersonOut]:
    """List the people of the units whose contacts or accounts the principal manages, those who have left too."""
    position = place_of(cursor, 1)
    after = position[0] if position else 0
    listed = account_lists.people(tx, principal.actor, unit=unit, below=below, after=after, limit=limit)
    cipher = FieldCipher(context.secrets)
    items = [_person(each, cipher) for each in listed]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


@managers_router.get("/missing")
def missing_managers(
    tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep, cursor: Cursor = None, limit: PageLimit = 100
) -> Page[UnitOut]:
    """List the units that have no designated manager who can be called."""
    position = place_of(cursor, 1)
    after = position[0] if position else 0
    units = units_without_manager(tx, principal.actor, context.clock.now(), after=after, limit=limit)
    items = [UnitOut.model_validate(unit) for unit in units]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


@managers_router.get("/{unit}")
def manager(
    unit: UnitNumber, tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep
) -> ManagerOut | None:
    """Return the designated manager of a unit, or null."""
    found = designated_manager(tx, principal.actor, unit, context.clock.now())
    return None if found is None else _manager(found, FieldCipher(context.secrets))


@managers_router.put("/{unit}")
def designate_manager(
    unit: UnitNumber, body: Designate, tx: WriteSession, principal: CurrentPrincipal, context: AppContextDep
) -> ManagerOut:
    """Designate a person of a unit as its manager, in place of the one before."""
    designated = designate(tx, principal.actor, unit, body.person, now=context.clock.now())
    return _manager(designated, FieldCipher(context.secrets))


def _person(listed: ListedPerson, cipher: FieldCipher) -> PersonOut:
    person, identity, phone = listed.person, opened_identity(listed.person, cipher), opened_phone(listed.person, cipher)
    return PersonOut(
        id=person.id,
        name=person.name,
        unit=listed.unit.id,
        unit_name=listed.unit.name,
        phone=None if phone is None else masked(phone),
        identity_type=None if identity is None else identity.type,
        identity_number=None if identity is None else masked(identity.number),
        duplicate_identity=listed.has_duplicate_identity,
        left_at=person.left_at,
    )


def _manager(manager: ManagerOfUnit, cipher: FieldCipher) -> ManagerOut:
    phone = opened_phone(manager.person, cipher)
    return ManagerOut(
        unit=manager.unit.id,
        unit_name=manager.unit.name,
        person=manager.person.id,
        name=manager.person.name,
        phone=None if phone is None else masked(phone),
        since=manager.since,
    )
