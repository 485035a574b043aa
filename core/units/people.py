"""People of a unit: their names, phones (sealed) and WeChat bindings."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.among import among
from core.db.audit import Change, record_all
from core.db.crypto import FieldCipher, plain_phone
from core.db.insert import insert_all
from core.errors import Conflict, Invalid, Wrong
from core.ids import UnitId
from core.runtime.instant import Instant
from core.text import require_plain
from core.units.actor import Actor
from core.units.messages import message
from core.units.rights import Right
from core.units.tables import Person, Unit

PHONE_FIELD = "person.phone"
_PHONE = re.compile(
    r"1[3-9]\d{9}|0\d{9,11}|[2-9]\d{6,7}|[48]00\d{7}|\+86(10|[2-9]\d)\d{7,9}|\+(?!86)[1-9]\d{6,14}", re.ASCII
)
"""Mobile; landline with its area code, or without; 400 and 800 numbers; abroad."""
_OPENID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NewPerson(msgspec.Struct, frozen=True):
    """Somebody to be entered in a unit, with the phone and the openid that reach them if they are known."""

    unit: Unit
    name: str
    phone: str | None = None
    openid: str | None = None


def add_person(tx: Session, actor: Actor, unit: Unit, name: str, *, now: Instant) -> Person:
    """Enter somebody who works in a unit; a name is theirs alone there.

    Raises: NotGranted, Invalid, Conflict.
    """
    (result,) = add_people(tx, actor, [NewPerson(unit, name)], now=now)
    if isinstance(result, Wrong):
        raise result
    return result


def add_people(
    tx: Session, actor: Actor, new: Sequence[NewPerson], *, cipher: FieldCipher | None = None, now: Instant
) -> list[Person | Wrong]:
    """Enter people; returns for each who was made, or why not. Phones need a cipher."""
    units, openids = {item.unit.id for item in new}, [item.openid for item in new if item.openid is not None]
    named = select(Person.unit_id, Person.name).where(among(tx, Person.unit_id, units))
    names = {(row.unit_id, row.name) for row in tx.execute(named)}
    bound = set(tx.scalars(select(Person.openid).where(among(tx, Person.openid, openids))))
    results: list[dict[str, Any] | Wrong] = []
    for item in new:
        try:
            row = _new_person(actor, item, names, bound) | _sealed(item.phone, cipher)
        except Wrong as refusal:
            results.append(refusal)
            continue
        names.add((item.unit.id, item.name))
        bound.add(item.openid)
        results.append(row)
    insert_all(tx, Person, [row for row in results if isinstance(row, dict)])
    found = tx.scalars(select(Person).where(among(tx, Person.unit_id, units)))
    people = {(person.unit_id, person.name): person for person in found}
    made = [row if isinstance(row, Wrong) else people[row["unit_id"], row["name"]] for row in results]
    record_all(tx, (change for each in made for change in _changes(each)), at=now, actor=actor.name)
    return made


def _changes(made: Person | Wrong) -> Iterator[Change]:
    if isinstance(made, Person):
        acts = ("person added", "phone set" if made.phone else "", "WeChat bound" if made.openid else "")
        yield from (Change(act, f"person:{made.id}") for act in acts if act)


def _new_person(
    actor: Actor, item: NewPerson, names: set[tuple[UnitId, str]], bound: set[str | None]
) -> dict[str, Any]:
    actor.require(Right.CONTACTS, on=item.unit)
    require_plain("name", item.name)
    if not item.name.strip():
        raise Invalid(field="name", value=item.name, problem="a person needs a name")
    if (item.unit.id, item.name) in names:
        msg = f"{item.unit.name} has a {item.name!r} already; add something that tells them apart"
        raise Conflict(msg)
    if item.openid is not None:
        check_openid(item.openid)
        if item.openid in bound:
            raise Conflict(message("openid_bound"))
    return {"unit_id": item.unit.id, "name": item.name, "openid": item.openid}


def _sealed(phone: str | None, cipher: FieldCipher | None) -> dict[str, Any]:
    if phone is None or cipher is None:
        return {"phone": None, "phone_index": None}
    plain = checked_phone(phone)
    return {
        "phone": cipher.seal(plain, field=PHONE_FIELD),
        "phone_index": cipher.index(plain, field=PHONE_FIELD),
    }


def checked_phone(phone: str) -> str:
    """Return a phone number as it is sealed.

    Raises: Invalid.
    """
    plain = plain_phone(phone)
    if not _PHONE.fullmatch(plain):
        raise Invalid(field="phone", value=phone, problem=message("phone"))
    return plain


def check_openid(openid: str) -> None:
    """Let pass what WeChat calls somebody.

    Raises: Invalid.
    """
    if not _OPENID.fullmatch(openid):
        raise Invalid(field="openid", value=openid, problem=message("openid"))


def set_phone(tx: Session, actor: Actor, person: Person, phone: str, cipher: FieldCipher, *, now: Instant) -> bool:
    """Note a person's phone number; returns whether it is another than before.

    Raises: NotGranted, Invalid.
    """
    actor.require(Right.CONTACTS, on=tx.get_one(Unit, person.unit_id), asked=("person", person.id))
    plain = checked_phone(phone)
    index = cipher.index(plain, field=PHONE_FIELD)
    if person.phone_index == index:
        return False
    person.phone, person.phone_index = cipher.seal(plain, field=PHONE_FIELD), index
    audit.record(tx, at=now, actor=actor.name, act="phone set", subject=f"person:{person.id}")
    return True


def bind_wechat(tx: Session, actor: Actor, person: Person, openid: str, *, now: Instant) -> bool:
    """Note by which openid WeChat reaches a person; returns whether it is another than before.

    Raises: NotGranted, Conflict when the openid is somebody else's.
    """
    actor.require(Right.CONTACTS, on=tx.get_one(Unit, person.unit_id), asked=("person", person.id))
    check_openid(openid)
    if person.openid == openid:
        return False
    if tx.scalar(select(Person.id).where(Person.openid == openid)) is not None:
        raise Conflict(message("openid_bound"))
    person.openid, person.unreachable_since = openid, None
    audit.record(tx, at=now, actor=actor.name, act="WeChat bound", subject=f"person:{person.id}")
    return True
