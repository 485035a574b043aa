"""What may be done, by which role. Deny is what isn't written here."""

from collections.abc import Mapping
from enum import StrEnum

from core.units.levels import Level, below_county


class Right(StrEnum):
    """One kind of deed, allowed on a unit and all below it."""

    SEE = "see"
    """Units, equipment, readings and alarms."""
    ACKNOWLEDGE = "acknowledge"
    HANDLE = "handle"
    """Record what was found and done about an alarm."""
    BIND = "bind"
    """Bind, move and pair probes; place gateways."""
    EQUIP = "equip"
    """Equipment: enter, change limits, place, stop, repair."""
    CONTACTS = "contacts"
    """People and who is told at which level."""
    QUARANTINE = "quarantine"
    """Release or discard readings that are held."""
    UNITS = "units"
    """Enter, change and move units."""
    ACCOUNTS = "accounts"
    """Accounts, grants and tokens."""


class Role(StrEnum):
    """What an account is in a unit."""

    SYSTEM_ADMIN = "system_admin"
    """系统管理员: creates units and accounts; no deeds of the cold chain itself."""
    BUSINESS_ADMIN = "business_admin"
    """业务管理员: runs the cold chain of the unit and all below."""
    USER = "user"
    """普通用户: watches, acknowledges, handles."""
    TECHNICIAN = "technician"
    """Installs and mends devices."""


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

OF_A_PERSON = RIGHTS[Role.USER]
"""What somebody may do who is known by WeChat alone, without an account."""


def may_have(role: Role, level: Level) -> bool:
    """Whether a unit of a level has this role: below the county there is no system administrator (UP-04)."""
    return role is not Role.SYSTEM_ADMIN or not below_county(level)
