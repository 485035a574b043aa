"""Persons with a real name and an identity document, as accounts need them (实名制, UP-06)."""

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.crypto import FieldCipher
from core.errors import Conflict
from core.ids import PersonId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.identities import Identity, identity_of
from core.units.people import PHONE_FIELD, checked_phone
from core.units.real_names import checked_name
from core.units.tables import Person, Unit

IDENTITY_FIELD = "person.identity"


def enter_named_person(
    tx: Session,
    actor: Actor,
    unit: Unit,
    *,
    name: str,
    identity: Identity,
    phone: str,
    cipher: FieldCipher,
    now: Instant,
) -> Person:
    """Return the person of a unit with this identity document; enter it, or them, if they aren't known yet.

    A person whom the unit knows by name and phone, as an alarm contact, gets the document. The caller has checked the
    actor's right.
    Raises: Invalid, Conflict when the document belongs to somebody of another name in this unit.
    """
    name = checked_name(name, unit_name=unit.name)
    identity_index = cipher.index(identity.text, field=IDENTITY_FIELD)
    phone_text = checked_phone(phone)
    phone_index = cipher.index(phone_text, field=PHONE_FIELD)
    people = tx.scalars(
        select(Person).where(Person.unit_id == unit.id, Person.left_at.is_(None)).order_by(Person.id)
    ).all()
    same = next((person for person in people if person.identity_index == identity_index), None)
    if same is not None and same.name != name:
        msg = "a person of this unit with this identity number has another name; compare both with the document"
        raise Conflict(msg)
    if same is not None:
        return same
    known = [
        person
        for person in people
        if person.name == name and person.phone_index == phone_index and person.identity_index is None
    ]
    person = known[0] if known else Person(unit_id=unit.id, name=name)
    person.identity, person.identity_index = cipher.seal(identity.text, field=IDENTITY_FIELD), identity_index
    person.phone, person.phone_index = cipher.seal(phone_text, field=PHONE_FIELD), phone_index
    tx.add(person)
    tx.flush()
    for act in ("identity set",) if known else ("person added", "phone set", "identity set"):
        audit.record(tx, at=now, actor=actor.name, act=act, subject=f"person:{person.id}")
    return person


def with_duplicate_identity(tx: Session, people: Collection[Person]) -> set[PersonId]:
    """Return those of some people whose identity document somebody else who hasn't left has too, in any unit."""
    indexes = {person.identity_index for person in people if person.identity_index is not None}
    query = (
        select(Person.identity_index)
        .where(Person.identity_index.in_(indexes), Person.left_at.is_(None))
        .group_by(Person.identity_index)
        .having(func.count() > 1)
    )
    twice = set(tx.scalars(query))
    return {person.id for person in people if person.identity_index in twice}


def opened_identity(person: Person, cipher: FieldCipher) -> Identity | None:
    """Return a person's identity document, or None.

    Raises: UnreadableField.
    """
    return None if person.identity is None else identity_of(cipher.open(person.identity, field=IDENTITY_FIELD))
