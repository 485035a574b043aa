"""Rights and roles: one enumerated table. What is not listed here is denied."""

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
    CARE = "care"
    """Record the daily care of equipment, and readings of its thermometer."""
    VERIFY = "verify"
    """Record whether bindings agree with what is on site (CC-12)."""
    FILE = "file"
    """Write and submit applications of the unit."""
    STOCK_SEE = "stock_see"
    STOCK_MOVE = "stock_move"
    """Receive, issue, count and return stock."""
    REPORT = "report"
    """Submit the periodic reports of the unit."""
    REGISTER = "register"
    """Enter and correct the persons who are vaccinated."""
    VACCINATE = "vaccinate"
    PERSON_SEE = "person_see"
    """See vaccinated persons with their names and numbers, for a purpose that is logged."""
    BIND = "bind"
    """Bind, move and pair probes; place gateways."""
    EQUIP = "equip"
    """Enter, place, stop and repair equipment, and change its limits."""
    CONTACTS = "contacts"
    """Enter people and set the alarm contacts of each level."""
    QUARANTINE = "quarantine"
    """See readings that are held in quarantine."""
    REVIEW = "review"
    """Decide applications that wait for exactly this unit."""
    GRANT = "grant"
    """Give rights, at most one's own, to accounts on the unit and below it."""
    TRACE = "trace"
    """Follow a batch or code forward and back."""
    RECALL = "recall"
    """Hold stock and call it back."""
    ANALYSE = "analyse"
    """See figures and reports of the area."""
    FEEDBACK = "feedback"
    """Send findings of an analysis to the units that they concern."""
    INSPECT = "inspect"
    """Record inspections and what they found."""
    CORRECT = "correct"
    """Settle findings on the quality of registered data."""
    CODES = "codes"
    """Apply for unit codes and maintain them."""
    LOTS = "lots"
    """Enter and correct lots."""
    CATALOGUE = "catalogue"
    """Maintain the catalogue of products."""
    SUMMARY = "summary"
    """Enter the summary reports of the province."""
    EXECUTE = "execute"
    """Carry out the rows of filed applications."""
    INSTITUTIONS = "institutions"
    """Add medical institutions."""
    EXCHANGE = "exchange"
    """Watch and repeat what is exchanged with other systems."""
    ANSWER = "answer"
    """Approve and answer queries from outside."""
    UNITS = "units"
    """Enter, change and move units."""
    ACCOUNTS = "accounts"
    """Manage accounts, grants and tokens."""
    SECURITY = "security"
    """See who queried persons and exported data."""


ON_EXACTLY_THE_UNIT = frozenset({Right.REVIEW, Right.ACCOUNTS})
"""Rights that hold on the unit alone. All others also hold on the units below it."""


class Role(StrEnum):
    """Role of an account in a unit."""

    SYSTEM_ADMIN = "system_admin"
    """系统管理员: creates units and accounts; does not work on the cold chain itself."""
    BUSINESS_ADMIN = "business_admin"
    """业务管理员: runs the cold chain of the unit and all units below it."""
    USER = "user"
    """普通用户: watches, acknowledges, handles."""
    STOCK_KEEPER = "stock_keeper"
    """Receives, issues and counts vaccines, and reports."""
    VACCINATOR = "vaccinator"
    """Registers persons and vaccinates."""
    TECHNICIAN = "technician"
    """Installs and repairs devices."""
    SOFTWARE_PARTY = "software_party"
    """软件承建方: executes filed applications for the province, and keeps its catalogue."""
    INFO_CENTRE = "info_centre"
    """省疾控信息中心: adds institutions, and watches the exchange with other systems."""
    HEALTH_DEPT = "health_dept"
    """卫生健康主管部门: reads figures, and decides queries from outside."""
    REGULATOR = "regulator"
    """药品监督管理部门: reads figures, and traces."""
    INSPECTOR = "inspector"
    """Supervises on site: reads figures and stock, and records inspections."""
    SECURITY_OFFICER = "security_officer"
    """Reads the logs of queries and exports; nothing else."""


_USER = frozenset({Right.SEE, Right.ACKNOWLEDGE, Right.HANDLE, Right.CARE, Right.VERIFY, Right.FILE})
_STOCK_KEEPER = _USER | {Right.STOCK_SEE, Right.STOCK_MOVE, Right.REPORT}
_VACCINATOR = frozenset(
    {Right.SEE, Right.FILE, Right.REGISTER, Right.VACCINATE, Right.PERSON_SEE, Right.STOCK_SEE},
)
_TECHNICIAN = frozenset({Right.SEE, Right.BIND, Right.EQUIP, Right.CARE, Right.QUARANTINE})

RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.SYSTEM_ADMIN: frozenset({Right.SEE, Right.UNITS, Right.ACCOUNTS}),
    Role.BUSINESS_ADMIN: _STOCK_KEEPER
    | _VACCINATOR
    | {
        Right.BIND,
        Right.EQUIP,
        Right.CONTACTS,
        Right.QUARANTINE,
        Right.REVIEW,
        Right.GRANT,
        Right.TRACE,
        Right.RECALL,
        Right.ANALYSE,
        Right.FEEDBACK,
        Right.INSPECT,
        Right.CORRECT,
    },
    Role.USER: _USER,
    Role.STOCK_KEEPER: _STOCK_KEEPER,
    Role.VACCINATOR: _VACCINATOR,
    Role.TECHNICIAN: _TECHNICIAN,
    Role.SOFTWARE_PARTY: _TECHNICIAN | {Right.EXECUTE, Right.CATALOGUE},
    Role.INFO_CENTRE: _TECHNICIAN | {Right.INSTITUTIONS, Right.EXCHANGE},
    Role.HEALTH_DEPT: frozenset({Right.SEE, Right.ANALYSE, Right.ANSWER}),
    Role.REGULATOR: frozenset({Right.SEE, Right.ANALYSE, Right.TRACE}),
    Role.INSPECTOR: frozenset({Right.SEE, Right.ANALYSE, Right.STOCK_SEE, Right.INSPECT}),
    Role.SECURITY_OFFICER: frozenset({Right.SECURITY}),
}
"""Rights of a role on a unit of any level; `rights_of` adds those of its level."""

RIGHTS_OF_LEVEL: Mapping[tuple[Role, Level], frozenset[Right]] = {
    (Role.BUSINESS_ADMIN, Level.COUNTY): frozenset({Right.CODES}),
    (Role.BUSINESS_ADMIN, Level.PROVINCE): frozenset(
        {
            Right.LOTS,
            Right.CATALOGUE,
            Right.SUMMARY,
            Right.EXECUTE,
            Right.INSTITUTIONS,
            Right.EXCHANGE,
            Right.ANSWER,
        }
    ),
}
"""Further rights of a role that is held on a unit of exactly this level (UC-15, UP-22)."""

PERSON_RIGHTS = frozenset({Right.SEE, Right.ACKNOWLEDGE, Right.HANDLE})
"""Rights of a person who is known by WeChat only, without an account."""

NOT_FOR_MACHINES = frozenset({Right.REVIEW, Right.GRANT, Right.BIND})
"""Rights that a token never has, whatever its role: decisions, grants and bindings are a person's."""

_OF_PROVINCES = frozenset({Role.SOFTWARE_PARTY, Role.INFO_CENTRE, Role.SECURITY_OFFICER})


def rights_of(role: Role, level: Level) -> frozenset[Right]:
    """Return the rights of a role that is held on a unit of this level."""
    return RIGHTS[role] | RIGHTS_OF_LEVEL.get((role, level), frozenset())


def may_have(role: Role, level: Level) -> bool:
    """Return whether a unit of a level can have this role.

    There is no system administrator below the county (UP-04). The software party, the information centre and the
    security officer work for a whole province.
    """
    if role in _OF_PROVINCES:
        return level is Level.PROVINCE
    return role is not Role.SYSTEM_ADMIN or not below_county(level)
