"""People of a unit: their names, phones (sealed) and WeChat bindings."""

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.crypto import FieldCipher, plain_phone
from core.errors import Conflict, Invalid
from core.runtime.instant import Instant
from core.text import require_plain
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Person, Unit

PHONE_FIELD = "person.phone"
_PHONE = re.compile(r"\+?\d{5,15}")


def add_person(tx: Session, actor: Actor, unit: Unit, name: str, *, now: Instant) -> Person:
    """Enter somebody who works in a unit; a name is theirs alone there.

    Raises: NotGranted, Invalid, Conflict.
    """
    actor.require(Right.CONTACTS, on=unit)
    require_plain("name", name)
    if not name.strip():
        raise Invalid(field="name", value=name, problem="a person needs a name")
    if tx.scalar(select(Person.id).where(Person.unit_id == unit.id, Person.name == name)) is not None:
        msg = f"{unit.name} has a {name!r} already; add something that tells them apart"
        raise Conflict(msg)
    made = Person(unit_id=unit.id, name=name)
    tx.add(made)
    tx.flush()
    audit.record(tx, at=now, actor=actor.name, act="person added", subject=f"person:{made.id}")
    return made


def set_phone(tx: Session, actor: Actor, person: Person, phone: str, cipher: FieldCipher, *, now: Instant) -> bool:
    """Note a person's phone number; returns whether it is another than before.

    Raises: NotGranted, Invalid.
    """
    actor.require(Right.CONTACTS, on=tx.get_one(Unit, person.unit_id), asked=("person", person.id))
    plain = plain_phone(phone)
    if not _PHONE.fullmatch(plain):
        raise Invalid(field="phone", value=phone, problem="write it as digits, such as 13812345678")
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
    require_plain("openid", openid)
    if person.openid == openid:
        return False
    if tx.scalar(select(Person.id).where(Person.openid == openid)) is not None:
        msg = "this WeChat account is bound to somebody else"
        raise Conflict(msg)
    person.openid, person.unreachable_since = openid, None
    audit.record(tx, at=now, actor=actor.name, act="WeChat bound", subject=f"person:{person.id}")
    return True
