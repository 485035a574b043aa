"""New CDCs: from the county up each gets its system administrator's account with it, for a named person (UP-02)."""

import msgspec
from sqlalchemy.orm import Session

from core.access.accounts import NewAccount, open_account
from core.access.passwords import PasswordHash
from core.db.crypto import FieldCipher
from core.errors import Invalid
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.identities import Identity
from core.units.rights import Role
from core.units.tables import Account, Unit
from core.units.tree import UnitParticulars, add_unit
from core.units.unit_levels import UnitKind, below_county


class NewAdministrator(msgspec.Struct, frozen=True, kw_only=True):
    """The person who is to be the system administrator of a new unit."""

    username: str
    name: str
    identity: Identity
    phone: str


def add_unit_with_administrator(
    tx: Session,
    actor: Actor,
    unit: UnitParticulars,
    *,
    parent: Unit | None,
    administrator: NewAdministrator | None,
    password_hash: PasswordHash,
    cipher: FieldCipher,
    now: Instant,
) -> tuple[Unit, Account | None]:
    """Add a unit; a CDC from the county up together with the account of its system administrator.

    Raises: NotFound, PermissionDenied, Conflict, Invalid; also when the administrator of such a CDC isn't named, or one
    is named for a unit that has none.
    """
    needs_administrator = unit.kind is UnitKind.CDC and not below_county(unit.level)
    if needs_administrator is not (administrator is not None):
        problem = (
            "name the person who is to be its system administrator"
            if needs_administrator
            else "only a CDC from the county up gets a system administrator with it"
        )
        raise Invalid(field="administrator", value=None, problem=problem)
    row = add_unit(tx, actor, unit, parent=parent, now=now)
    if administrator is None:
        return row, None
    new = NewAccount(
        username=administrator.username,
        account_type=Role.SYSTEM_ADMIN,
        unit=row,
        name=administrator.name,
        identity=administrator.identity,
        phone=administrator.phone,
    )
    return row, open_account(tx, actor, new, password_hash, cipher, now=now)
