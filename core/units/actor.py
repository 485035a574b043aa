"""Actors: accounts, people, machines and the operator, with their rights on units and equipment.

What an actor may not see does not exist for them: they get NotFound, which names nothing. PermissionDenied is for what
they may see but may not do.
"""

import msgspec
from sqlalchemy import ColumnElement, and_, false, or_
from sqlalchemy.orm import InstrumentedAttribute

from core.errors import NotFound, PermissionDenied
from core.ids import AccountId, EquipmentId, PersonId, UnitId
from core.units.rights import ON_EXACTLY_THE_UNIT, Right
from core.units.tables import Unit

ALL_UNITS = "/"


class Holding(msgspec.Struct, frozen=True):
    """Rights on a unit and all units below it; `path` is the unit's path, or `/` for all units.

    Reviewing and managing accounts hold on exactly the unit: who stands above decides nothing in its place.
    """

    path: str
    rights: frozenset[Right]

    def holds(self, right: Right, *, on: Unit) -> bool:
        """Return whether the holding gives a right on a unit."""
        if right not in self.rights:
            return False
        if right in ON_EXACTLY_THE_UNIT and self.path != ALL_UNITS:
            return on.path == self.path
        return on.path.startswith(self.path)


class EquipmentHolding(msgspec.Struct, frozen=True):
    """Rights on one equipment while it is in one unit; nothing else of that unit."""

    equipment: EquipmentId
    unit: UnitId
    rights: frozenset[Right]


class Actor(msgspec.Struct, frozen=True):
    """An account, a person known by WeChat, a machine's token, or the operator at the command line."""

    name: str
    """Name in the audit log: `account:3`, `person:7`, `token:2`, `operator`."""
    holdings: tuple[Holding, ...]
    account: AccountId | None = None
    person: PersonId | None = None
    equipment: tuple[EquipmentHolding, ...] = ()

    def may(self, right: Right, *, on: Unit, equipment: EquipmentId | None = None) -> bool:
        """Return whether the actor has a right on a unit, or on one equipment that is (or was) in it."""
        return any(holding.holds(right, on=on) for holding in self.holdings) or any(
            right in holding.rights and holding.equipment == equipment and holding.unit == on.id
            for holding in self.equipment
        )

    def require(
        self, right: Right, *, on: Unit, equipment: EquipmentId | None = None, subject: tuple[str, object] | None = None
    ) -> None:
        """Check that the actor has a right. `subject` is kind and id of the object for NotFound; the unit by default.

        Raises: NotFound when the actor may not see the unit, PermissionDenied when they may see it but lack the right.
        """
        if self.may(right, on=on, equipment=equipment):
            return
        if not self.may(Right.SEE, on=on, equipment=equipment):
            raise NotFound(*(subject or ("unit", on.id)))
        msg = f"{self.name} was not granted {right.value!r} on {on.name}"
        raise PermissionDenied(msg)

    def scope(self, right: Right, equipment: InstrumentedAttribute[EquipmentId] | None = None) -> ColumnElement[bool]:
        """Return the SQL condition that selects the units on which the actor has a right.

        With a column that holds equipment ids it also selects the actor's single equipment.
        """
        paths = [holding.path for holding in self.holdings if right in holding.rights]
        covered = or_(false(), *(_covered(path, right) for path in paths))
        return covered if equipment is None else or_(covered, self.equipment_scope(right, equipment))

    def equipment_scope(self, right: Right, equipment: InstrumentedAttribute[EquipmentId]) -> ColumnElement[bool]:
        """Return the SQL condition that selects the actor's single equipment by unit and column `equipment`."""
        single = [holding for holding in self.equipment if right in holding.rights]
        return or_(false(), *(and_(Unit.id == holding.unit, equipment == holding.equipment) for holding in single))


def _covered(path: str, right: Right) -> ColumnElement[bool]:
    if right in ON_EXACTLY_THE_UNIT and path != ALL_UNITS:
        return Unit.path == path
    return Unit.path.startswith(path, autoescape=True)


OPERATOR = Actor("operator", (Holding(ALL_UNITS, frozenset(Right)),))
"""Actor of the command line (import, init, user add): somebody who has a shell on the machine."""
