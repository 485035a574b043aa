"""Signatures: who acted, with the name that the person had then."""

import msgspec
from sqlalchemy.orm import Session

from core.ids import PersonId
from core.units.actor import Actor
from core.units.tables import Account, Person


class Signature(msgspec.Struct, frozen=True):
    """Actor, person if known, and the name to be kept."""

    actor: str
    person_id: PersonId | None
    person_name: str

    def is_same_person(self, actor: str, person_id: PersonId | None) -> bool:
        """Return whether another signature is of the same actor, or of another account of the same person."""
        return self.actor == actor or (self.person_id is not None and self.person_id == person_id)


def signed_by(tx: Session, actor: Actor) -> Signature:
    """Return the signature of an actor: a person's name, else the user name, else the actor's own."""
    if actor.person is not None:
        return Signature(actor.name, actor.person, tx.get_one(Person, actor.person).name)
    if actor.account is not None:
        return Signature(actor.name, None, tx.get_one(Account, actor.account).username)
    return Signature(actor.name, None, actor.name)
