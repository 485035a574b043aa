"""Tables of units, people, contacts, accounts, grants, web sessions and API tokens."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.db.overlap_guard import longer_than_nothing
from core.db.state_type import state_type
from core.db.table_base import Record
from core.ids import AccountId, EquipmentId, PersonId, UnitId
from core.runtime.instant import Instant
from core.units.account_states import AccountState
from core.units.rights import Role
from core.units.unit_attributes import Business, EntityKind, Grade, HardwareKind
from core.units.unit_levels import Level, UnitKind


class Unit(Record):
    """A node of the tree: province, city, county, clinic. Levels may be skipped (a county under a province).

    `path` holds the ids from the root, such as `/1/7/42/`, so a subtree is all paths with the same prefix. It and
    `parent_id` are the present state of the timeline in UnitParent. A temporary site has no code: it reports under its
    parent's (UC-09). A unit that was stopped keeps its row and its history.
    """

    __tablename__ = "unit"
    __table_args__ = (CheckConstraint(f"kind <> '{UnitKind.TEMP_SITE}' OR code IS NULL", name="temp_site_code"),)

    id: Mapped[UnitId] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(String(12), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    kind: Mapped[UnitKind] = mapped_column(state_type(UnitKind, 16))
    level: Mapped[Level] = mapped_column(state_type(Level, 10))
    parent_id: Mapped[UnitId | None] = mapped_column(ForeignKey("unit.id"))
    path: Mapped[str] = mapped_column(String(255), unique=True)
    timezone: Mapped[str] = mapped_column(String(40), default="Asia/Shanghai")
    since: Mapped[Instant | None]
    """When it began; None for a unit that is older than this column."""
    until: Mapped[Instant | None]
    """When it was stopped."""
    division: Mapped[str | None] = mapped_column(String(6))
    """Administrative division, such as 610103 (`core.units.divisions`)."""
    uscc: Mapped[str | None] = mapped_column(String(18))
    """Unified social credit code (`core.units.uscc`)."""
    institution_id: Mapped[UnitId | None] = mapped_column(ForeignKey("unit.id"))
    """The institution (医疗卫生机构) of a point of vaccination."""
    entity: Mapped[EntityKind | None] = mapped_column(state_type(EntityKind, 12))
    grade: Mapped[Grade | None] = mapped_column(state_type(Grade, 20))
    maintained_year: Mapped[int | None]
    """Year of the last yearly maintenance of its code (年度编码维护), after which three fields are frozen (UC-20)."""
    address: Mapped[str | None] = mapped_column(String(200))
    telephone: Mapped[str | None] = mapped_column(String(30))


class UnitParent(Record):
    """A unit stands directly under another one in [since, until); a time without a row is a time as a root."""

    __tablename__ = "unit_parent"
    __table_args__ = (longer_than_nothing(),)

    id: Mapped[int] = mapped_column(primary_key=True)
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"), index=True)
    parent_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"), index=True)
    since: Mapped[Instant]
    until: Mapped[Instant | None]


class UnitCode(Record):
    """A unit has a code (接种单位编码) in [since, until). It is never given again, so that old records resolve.

    `Unit.code` is the present state. Nationally a code may be used from `national_from`.
    """

    __tablename__ = "unit_code"
    __table_args__ = (longer_than_nothing(), CheckConstraint("length(code) = 10", name="ten_digits"))

    id: Mapped[int] = mapped_column(primary_key=True)
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"), index=True)
    code: Mapped[str] = mapped_column(String(10), unique=True)
    since: Mapped[Instant]
    until: Mapped[Instant | None]
    national_from: Mapped[Instant]
    authorization: Mapped[str] = mapped_column(String(60))
    """Id of what allowed it: a filed application, or an operator's import."""


class UnitHardware(Record):
    """How many devices of a kind of the readiness checklist a unit or temporary site has (SE-15)."""

    __tablename__ = "unit_hardware"
    __table_args__ = (CheckConstraint("quantity >= 0", name="quantity"),)

    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"), primary_key=True)
    kind: Mapped[HardwareKind] = mapped_column(state_type(HardwareKind, 12), primary_key=True)
    quantity: Mapped[int]
    recorded_at: Mapped[Instant]


class UnitBusiness(Record):
    """A line of business (业务类型) of a unit."""

    __tablename__ = "unit_business"

    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"), primary_key=True)
    business: Mapped[Business] = mapped_column(state_type(Business, 12), primary_key=True)


class Person(Record):
    """A person who works in a unit; two of a unit may have one name.

    `phone` and `identity` (type and number of a document) are encrypted; `..._index` is the keyed hash, for look-up.
    """

    __tablename__ = "person"
    __table_args__ = (Index(None, "unit_id", "name"),)

    id: Mapped[PersonId] = mapped_column(primary_key=True)
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"))
    name: Mapped[str] = mapped_column(String(50))
    phone: Mapped[bytes | None] = mapped_column(LargeBinary)
    phone_index: Mapped[bytes | None] = mapped_column(LargeBinary, index=True)
    identity: Mapped[bytes | None] = mapped_column(LargeBinary)
    identity_index: Mapped[bytes | None] = mapped_column(LargeBinary, index=True)
    openid: Mapped[str | None] = mapped_column(String(64), unique=True)
    """WeChat binding; None = not bound (AL-05)."""
    unreachable_since: Mapped[Instant | None]
    """When WeChat first answered that this person can't be reached (blocked, unsubscribed)."""
    left_at: Mapped[Instant | None]


class Contact(Record):
    """Alarm contact of a level: 1 vaccine manager, 2 department head, 3 unit head (AL-01 to AL-04).

    It belongs to a unit or to one equipment. An equipment's contacts of a level replace those of the unit at that
    level.
    """

    __tablename__ = "contact"
    __table_args__ = (
        CheckConstraint("(unit_id IS NULL) <> (equipment_id IS NULL)", name="one_owner"),
        CheckConstraint("level BETWEEN 1 AND 3", name="level"),
        UniqueConstraint("unit_id", "level", "person_id"),
        UniqueConstraint("equipment_id", "level", "person_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    unit_id: Mapped[UnitId | None] = mapped_column(ForeignKey("unit.id"))
    equipment_id: Mapped[EquipmentId | None] = mapped_column(ForeignKey("equipment.id"))
    level: Mapped[int]
    person_id: Mapped[PersonId] = mapped_column(ForeignKey("person.id"), index=True)


class Account(Record):
    """An account for signing in on the web, of one person. The password is hashed with argon2.

    `unit_id` and `account_type` say who manages it (`core.units.managing_units`). What it may do is in its grants.
    """

    __tablename__ = "account"

    id: Mapped[AccountId] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(50), unique=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    person_id: Mapped[PersonId | None] = mapped_column(ForeignKey("person.id"))
    unit_id: Mapped[UnitId | None] = mapped_column(ForeignKey("unit.id"), index=True)
    """Unit to which it belongs; None for an account of the operator's, without a grant."""
    account_type: Mapped[Role] = mapped_column(state_type(Role, 20), default=Role.USER)
    """账号类型: the role for which it was opened."""
    state: Mapped[AccountState] = mapped_column(state_type(AccountState, 10), default=AccountState.OPEN)
    password_set_at: Mapped[Instant | None]
    """When its owner chose the password; None for an initial one, which must be changed first."""


class Grant(Record):
    """Role of an account on a unit and all units below it, in [since, until)."""

    __tablename__ = "grant"
    __table_args__ = (Index(None, "account_id"), longer_than_nothing())

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[AccountId] = mapped_column(ForeignKey("account.id"))
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"))
    role: Mapped[Role] = mapped_column(state_type(Role, 20))
    since: Mapped[Instant]
    until: Mapped[Instant | None]


class WebSession(Record):
    """Session of an account, or of a person known by WeChat. Only the token's hash is stored."""

    __tablename__ = "web_session"
    __table_args__ = (CheckConstraint("(account_id IS NULL) <> (person_id IS NULL)", name="one_subject"),)

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    account_id: Mapped[AccountId | None] = mapped_column(ForeignKey("account.id"))
    person_id: Mapped[PersonId | None] = mapped_column(ForeignKey("person.id"))
    csrf: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[Instant]
    expires_at: Mapped[Instant] = mapped_column(index=True)
    user_agent: Mapped[str | None] = mapped_column(String(200))
    """What the browser says it is, by which its owner knows it again."""


class ApiToken(Record):
    """Bearer token of a machine: a role on a unit and all units below it. Only its hash is stored."""

    __tablename__ = "api_token"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"))
    role: Mapped[Role] = mapped_column(state_type(Role, 20))
    expires_at: Mapped[Instant | None]


class DeviceRevision(Record):
    """Single row: a number that goes up in the transaction of every change to units or devices.

    Its row lock also makes such changes run one after another, so that rules over several rows (no cycle in the unit
    tree) hold.
    """

    __tablename__ = "device_revision"

    id: Mapped[int] = mapped_column(primary_key=True, default=1)
    revision: Mapped[int] = mapped_column(default=0)


UNIT_TIMELINES = {"unit_parent": "unit_id", "unit_code": "unit_id"}
"""The table of each timeline of units, and its subject column: rows of one subject must not overlap."""
