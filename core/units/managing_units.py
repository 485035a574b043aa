"""Rule of management: which unit manages the accounts of another (系统用户管理, UP-02 to UP-04)."""

from collections.abc import Sequence

from core.units.rights import Role
from core.units.tables import Unit
from core.units.unit_levels import UnitKind, below_county


def managing_unit(lineage: Sequence[Unit], role: Role) -> Unit | None:
    """Return the unit whose system administrator manages accounts with a role; None when the operator does.

    `lineage` is the unit that has the account, behind all units above it, from the root on. A system administrator is
    managed by the CDC above. Every other account is managed by the unit itself from the county up, and by the county,
    or what stands in its place, for townships and below.
    """
    *above, unit = lineage
    if role is Role.SYSTEM_ADMIN:
        return next((upper for upper in reversed(above) if _is_managing_cdc(upper)), None)
    if not below_county(unit.level):
        return unit
    return next((upper for upper in reversed(above) if _is_managing_cdc(upper)), None)


def _is_managing_cdc(unit: Unit) -> bool:
    return unit.kind is UnitKind.CDC and not below_county(unit.level)
