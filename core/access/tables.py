"""Tables of passwords, account histories, substitutions, designated managers and incidents of accounts."""

from sqlalchemy import CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from core.db.overlap_guard import longer_than_nothing
from core.db.state_type import state_type
from core.db.table_base import Record
from core.ids import AccountId, PersonId, UnitId
from core.runtime.instant import Instant
from core.units.account_states import AccountEventKind
from core.units.rights import Role


class UsedPassword(Record):
    """One of the last passwords of an account, the current one included: none of them may be chosen again."""

    __tablename__ = "used_password"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[AccountId] = mapped_column(ForeignKey("account.id"), index=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    set_at: Mapped[Instant]


class AccountEvent(Record):
    """Event in the history of an account; append only (UP-09). `actor` is written as in the audit log."""

    __tablename__ = "account_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[AccountId] = mapped_column(ForeignKey("account.id"), index=True)
    at: Mapped[Instant]
    kind: Mapped[AccountEventKind] = mapped_column(state_type(AccountEventKind, 20))
    actor: Mapped[str] = mapped_column(String(40))
    unit_id: Mapped[UnitId | None] = mapped_column(ForeignKey("unit.id"))
    """Unit of the grant that was given or ended."""
    role: Mapped[Role | None] = mapped_column(state_type(Role, 20))


class Substitution(Record):
    """An account reviews in place of another in [since, until): everywhere where the other may review at that time."""

    __tablename__ = "substitution"
    __table_args__ = (longer_than_nothing(), CheckConstraint("absent_id <> substitute_id", name="two_accounts"))

    id: Mapped[int] = mapped_column(primary_key=True)
    absent_id: Mapped[AccountId] = mapped_column(ForeignKey("account.id"), index=True)
    substitute_id: Mapped[AccountId] = mapped_column(ForeignKey("account.id"), index=True)
    since: Mapped[Instant]
    until: Mapped[Instant]


class DesignatedManager(Record):
    """The person whom a unit has designated to manage the system, in [since, until) (UP-05)."""

    __tablename__ = "designated_manager"
    __table_args__ = (longer_than_nothing(),)

    id: Mapped[int] = mapped_column(primary_key=True)
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"), index=True)
    person_id: Mapped[PersonId] = mapped_column(ForeignKey("person.id"))
    since: Mapped[Instant]
    until: Mapped[Instant | None]


class AccountIncident(Record):
    """A report that an account is misused. It is due within 2 h, and resolved by the new password (SE-09)."""

    __tablename__ = "account_incident"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[AccountId] = mapped_column(ForeignKey("account.id"), index=True)
    opened_at: Mapped[Instant]
    due_at: Mapped[Instant]
    resolved_at: Mapped[Instant | None]
    resolved_by: Mapped[str | None] = mapped_column(String(40))


TIMELINES = {"designated_manager": "unit_id"}
"""The table of each timeline, and its subject column: rows of one subject must not overlap."""
