"""People of units: names, encrypted phone numbers and WeChat bindings."""

import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.audit import Change, record_all
from core.db.crypto import FieldCipher, plain_phone
from core.db.in_values import in_values
from core.db.insert import insert_all
from core.errors import Conflict, DomainError, Invalid
from core.ids import UnitId
from core.plain_text import require_plain
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.messages import message
from core.units.rights import Right
from core.units.tables import Person, Unit

PHONE_FIELD = "person.phone"
_PHONE = re.compile(
    r"1[3-9]\d{9}|0\d{9,11}|[2-9]\d{6,7}|[48]00\d{7}|\+86(10|[2-9]\d)\d{7,9}|\+(?!86)[1-9]\d{6,14}", re.ASCII
)
"""Mobile; landline with or without area code; 400 and 800 numbers; numbers abroad."""
_LONGEST_NUMBER = 18
_OPENID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NewPerson(msgspec.Struct, frozen=True):
    """A person to add to a unit, with phone and openid if known."""

    unit: Unit
    name: str
    phone: str | None = None
    openid: str | None = None


def add_person(tx: Session, actor: Actor, unit: Unit, name: str, *, now: Instant) -> Person:
    """Add a person to a unit. A namesake needs something that tells the two apart (`add_people`).

    Raises: PermissionDenied, Invalid, Conflict.
    """
    (result,) = add_people(tx, actor, [NewPerson(unit, name)], now=now)
    if isinstance(result, DomainError):
        raise result
    return result


def add_people(
    tx: Session, actor: Actor, new: Sequence[NewPerson], *, cipher: FieldCipher | None = None, now: Instant
) -> list[Person | DomainError]:
    """Add people; return for each the new person or the error. Phone numbers are stored only with a `cipher`.

    Two people of a unit may have one name if the new one has a phone number, and the other hasn't the same.
    """
    units, openids = {item.unit.id for item in new}, [item.openid for item in new if item.openid is not None]
    known = tx.scalars(select(Person).where(in_values(tx, Person.unit_id, units))).all()
    known_ids = {person.id for person in known}
    phones: dict[tuple[UnitId, str], set[bytes | None]] = defaultdict(set)
    for person in known:
        phones[person.unit_id, person.name].add(person.phone_index)
    bound = set(tx.scalars(select(Person.openid).where(in_values(tx, Person.openid, openids))))
    results: list[dict[str, Any] | DomainError] = []
    for item in new:
        namesakes = phones[item.unit.id, item.name]
        try:
            row = _new_person(actor, item, bound) | _phone_columns(item.phone, cipher)
            if namesakes and (row["phone_index"] is None or row["phone_index"] in namesakes):
                raise Conflict(message("namesake", unit=item.unit.name, name=item.name))
        except DomainError as error:
            results.append(error)
            continue
        namesakes.add(row["phone_index"])
        bound.add(item.openid)
        results.append(row)
    insert_all(tx, Person, [row for row in results if isinstance(row, dict)])
    added: dict[tuple[UnitId, str], deque[Person]] = defaultdict(deque)
    for person in tx.scalars(select(Person).where(in_values(tx, Person.unit_id, units)).order_by(Person.id)):
        if person.id not in known_ids:
            added[person.unit_id, person.name].append(person)
    people_or_errors = [
        row if isinstance(row, DomainError) else added[row["unit_id"], row["name"]].popleft() for row in results
    ]
    record_all(tx, (change for each in people_or_errors for change in _changes(each)), at=now, actor=actor.name)
    return people_or_errors


def _changes(person: Person | DomainError) -> Iterator[Change]:
    if isinstance(person, Person):
        acts = ("person added", "phone set" if person.phone else "", "WeChat bound" if person.openid else "")
        yield from (Change(act, f"person:{person.id}") for act in acts if act)


def _new_person(actor: Actor, item: NewPerson, bound: set[str | None]) -> dict[str, Any]:
    actor.require(Right.CONTACTS, on=item.unit)
    require_plain("name", item.name)
    if not item.name.strip():
        raise Invalid(field="name", value=item.name, problem="a person needs a name")
    if item.openid is not None:
        check_openid(item.openid)
        if item.openid in bound:
            raise Conflict(message("openid_bound"))
    return {"unit_id": item.unit.id, "name": item.name, "openid": item.openid}


def _phone_columns(phone: str | None, cipher: FieldCipher | None) -> dict[str, Any]:
    if phone is None or cipher is None:
        return {"phone": None, "phone_index": None}
    plain = checked_phone(phone)
    return {
        "phone": cipher.seal(plain, field=PHONE_FIELD),
        "phone_index": cipher.index(plain, field=PHONE_FIELD),
    }


def checked_phone(phone: str) -> str:
    """Check a phone number and return it in the form that is encrypted.

    Raises: Invalid.
    """
    plain = plain_phone(phone)
    if not _PHONE.fullmatch(plain):
        raise Invalid(field="phone", value=phone, problem=message("phone"))
    return plain


def phone_index(phone: str, cipher: FieldCipher) -> bytes:
    """Return the keyed hash by which a person with this phone number is found.

    Raises: Invalid.
    """
    return cipher.index(checked_phone(phone), field=PHONE_FIELD)


def opened_phone(person: Person, cipher: FieldCipher) -> str | None:
    """Return a person's phone number, or None.

    Raises: UnreadableField.
    """
    return None if person.phone is None else cipher.open(person.phone, field=PHONE_FIELD)


def check_openid(openid: str) -> None:
    """Check the form of a WeChat openid.

    Raises: Invalid.
    """
    if not _OPENID.fullmatch(openid):
        raise Invalid(field="openid", value=openid, problem=message("openid"))


def set_phone(tx: Session, actor: Actor, person: Person, phone: str, cipher: FieldCipher, *, now: Instant) -> bool:
    """Store a person's phone number; return whether it changed.

    Raises: PermissionDenied, Invalid.
    """
    actor.require(Right.CONTACTS, on=tx.get_one(Unit, person.unit_id), subject=("person", person.id))
    plain = checked_phone(phone)
    index = cipher.index(plain, field=PHONE_FIELD)
    if person.phone_index == index:
        return False
    person.phone, person.phone_index = cipher.seal(plain, field=PHONE_FIELD), index
    audit.record(tx, at=now, actor=actor.name, act="phone set", subject=f"person:{person.id}")
    return True


def bind_wechat(tx: Session, actor: Actor, person: Person, openid: str, *, now: Instant) -> bool:
    """Bind a person to a WeChat openid; return whether it changed.

    Raises: PermissionDenied, Invalid, Conflict when the openid is bound to another person.
    """
    actor.require(Right.CONTACTS, on=tx.get_one(Unit, person.unit_id), subject=("person", person.id))
    check_openid(openid)
    if person.openid == openid:
        return False
    if person_with_openid(tx, openid) is not None:
        raise Conflict(message("openid_bound"))
    person.openid, person.unreachable_since = openid, None
    audit.record(tx, at=now, actor=actor.name, act="WeChat bound", subject=f"person:{person.id}")
    return True


def person_with_openid(tx: Session, openid: str) -> Person | None:
    """Return the person who is bound to a WeChat openid, or None."""
    return tx.scalar(select(Person).where(Person.openid == openid))


def people_called(tx: Session, named: str, now: Instant) -> list[tuple[Person, Unit]]:
    """Return the people with this name or number who haven't left, with their units."""
    is_number = named.isascii() and named.isdigit() and len(named) <= _LONGEST_NUMBER
    is_called = Person.id == int(named) if is_number else Person.name == named
    is_present = or_(Person.left_at.is_(None), Person.left_at > now)
    query = select(Person, Unit).join(Unit, Unit.id == Person.unit_id).where(is_called, is_present).order_by(Person.id)
    return [(person, unit) for person, unit in tx.execute(query)]
