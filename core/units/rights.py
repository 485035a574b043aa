"""Rights and roles. What is not listed here is denied."""

from collections.abc import Mapping
from enum import StrEnum

from core.units.unit_levels import Level, below_county


class Right(StrEnum):
    """Permission for one kind of action. How far down the tree it reaches: `core.units.actor`."""

    SEE = "see"
    """See units, equipment, readings and alarms."""
    ACKNOWLEDGE = "acknowledge"
    HANDLE = "handle"
    """Record the cause of an alarm and what was done about it."""
    BIND = "bind"
    """Bind, move and pair probes; place gateways."""
    EQUIP = "equip"
    """Enter, place, stop and repair equipment, and change its limits."""
    CONTACTS = "contacts"
    """Enter people and set the alarm contacts of each level."""
    QUARANTINE = "quarantine"
    """See readings that are held in quarantine."""
    UNITS = "units"
    """Enter, change and move units."""
    ACCOUNTS = "accounts"
    """Manage accounts, grants and tokens."""


class Role(StrEnum):
    """Role of an account in a unit."""

    SYSTEM_ADMIN = "system_admin"
    """系统管理员: creates units and accounts; does not work on the cold chain itself."""
    BUSINESS_ADMIN = "business_admin"
    """业务管理员: runs the cold chain of the unit and all units below it."""
    USER = "user"
    """普通用户: watches, acknowledges, handles."""
    TECHNICIAN = "technician"
    """Installs and repairs devices."""


RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.SYSTEM_ADMIN: frozenset({Right.SEE, Right.UNITS, Right.ACCOUNTS}),
    Role.BUSINESS_ADMIN: frozenset(
        {
            Right.SEE,
            Right.ACKNOWLEDGE,
            Right.HANDLE,
            Right.BIND,
            Right.EQUIP,
            Right.CONTACTS,
            Right.QUARANTINE,
        }
    ),
    Role.USER: frozenset({Right.SEE, Right.ACKNOWLEDGE, Right.HANDLE}),
    Role.TECHNICIAN: frozenset({Right.SEE, Right.BIND, Right.EQUIP, Right.QUARANTINE}),
}

PERSON_RIGHTS = RIGHTS[Role.USER]
"""Rights of a person who is known by WeChat only, without an account."""


def may_have(role: Role, level: Level) -> bool:
    """Return whether a unit of a level can have this role: no system administrator below the county (UP-04)."""
    return role is not Role.SYSTEM_ADMIN or not below_county(level)
