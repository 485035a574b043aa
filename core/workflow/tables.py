"""Tables of applications: the form of each round, its submissions, review steps, decisions, and executed effects."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.state_type import one_of, state_type
from core.db.table_base import Record
from core.ids import ApplicationId, PersonId, ReviewStepId, UnitId
from core.runtime.instant import Instant
from core.units.unit_levels import Level
from core.workflow.states import ApplicationState, DecisionOutcome, Payer

LARGEST_ATTACHMENT = 2**20


class Application(Record):
    """Form of a unit that passes from reviewer to reviewer until it is filed (备案), and is then executed.

    A round is one passage through the review; a refused form begins another. `revision` goes up with every change.
    """

    __tablename__ = "application"
    __table_args__ = (Index(None, "unit_id", "state"), one_of("state", ApplicationState))

    id: Mapped[ApplicationId] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(30))
    kind_version: Mapped[int]
    """Version of the kind's declaration that this application began with, and keeps."""
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"))
    linked_id: Mapped[ApplicationId | None] = mapped_column(ForeignKey("application.id"))
    """Filed application that this one belongs to: form 2 of a form 3."""
    state: Mapped[ApplicationState] = mapped_column(state_type(ApplicationState, 10))
    round: Mapped[int] = mapped_column(default=1)
    revision: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[Instant]
    created_by: Mapped[str] = mapped_column(String(40))
    filed_at: Mapped[Instant | None]
    executed_at: Mapped[Instant | None]
    differences: Mapped[str] = mapped_column(Text, default="[]")
    """JSON list of what differs from the form while it is blocked."""


class ApplicationRow(Record):
    """Row of a form in one round, as written and as resolved. Row 0 holds the fields of the form itself.

    Submitting freezes the rows of the round: review, print and effects read them.
    """

    __tablename__ = "application_row"
    __table_args__ = (UniqueConstraint("application_id", "round", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    application_id: Mapped[ApplicationId] = mapped_column(ForeignKey("application.id"))
    round: Mapped[int]
    number: Mapped[int]
    written: Mapped[str] = mapped_column(Text)
    """JSON object of the cells as somebody wrote them."""
    resolved: Mapped[str] = mapped_column(Text, default="{}")
    """JSON object of what the cells named when the form was submitted."""
    payer: Mapped[Payer | None] = mapped_column(state_type(Payer, 16))
    warnings: Mapped[str] = mapped_column(Text, default="[]")


class Attachment(Record):
    """File of an application, such as a photo: at most 1 MiB."""

    __tablename__ = "attachment"
    __table_args__ = (
        CheckConstraint(f"length(content) BETWEEN 1 AND {LARGEST_ATTACHMENT}", name="content"),
        Index(None, "application_id", "round"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    application_id: Mapped[ApplicationId] = mapped_column(ForeignKey("application.id"))
    round: Mapped[int]
    name: Mapped[str] = mapped_column(String(100))
    media_type: Mapped[str] = mapped_column(String(60))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    added_at: Mapped[Instant]
    added_by: Mapped[str] = mapped_column(String(40))


class Submission(Record):
    """Submission of a round: who filed it, when, and the SHA-256 of what was frozen. Append only."""

    __tablename__ = "submission"
    __table_args__ = (UniqueConstraint("application_id", "round"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    application_id: Mapped[ApplicationId] = mapped_column(ForeignKey("application.id"))
    round: Mapped[int]
    revision: Mapped[int]
    """Revision of the draft that was submitted; the same request again is known by it."""
    at: Mapped[Instant]
    actor: Mapped[str] = mapped_column(String(40))
    person_id: Mapped[PersonId | None] = mapped_column(ForeignKey("person.id"))
    person_name: Mapped[str] = mapped_column(String(60))
    """Name at that time, kept when the person leaves."""
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)


class ReviewStep(Record):
    """Step of a round: the form waits for exactly one unit. At most one step of an application is open.

    A step that was closed without a decision ended with a withdrawal, or when its unit was no longer above.
    """

    __tablename__ = "review_step"
    __table_args__ = (
        Index(
            "uq_review_step_open",
            "application_id",
            unique=True,
            sqlite_where=text("closed_at IS NULL"),
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index(None, "application_id", "round"),
        Index(None, "unit_id", "closed_at"),
    )

    id: Mapped[ReviewStepId] = mapped_column(primary_key=True)
    application_id: Mapped[ApplicationId] = mapped_column(ForeignKey("application.id"))
    round: Mapped[int]
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"))
    level: Mapped[Level] = mapped_column(state_type(Level, 10))
    """Level of the unit when the step opened."""
    opened_at: Mapped[Instant]
    due_at: Mapped[Instant | None]
    closed_at: Mapped[Instant | None]


class Decision(Record):
    """Decision of a review step: at most one a step. Append only."""

    __tablename__ = "decision"
    __table_args__ = (Index(None, "application_id", "round"), one_of("outcome", DecisionOutcome))

    id: Mapped[int] = mapped_column(primary_key=True)
    step_id: Mapped[ReviewStepId] = mapped_column(ForeignKey("review_step.id"), unique=True)
    application_id: Mapped[ApplicationId] = mapped_column(ForeignKey("application.id"))
    round: Mapped[int]
    outcome: Mapped[DecisionOutcome] = mapped_column(state_type(DecisionOutcome, 10))
    opinion: Mapped[str] = mapped_column(String(500), default="")
    at: Mapped[Instant]
    actor: Mapped[str] = mapped_column(String(40))
    person_id: Mapped[PersonId | None] = mapped_column(ForeignKey("person.id"))
    person_name: Mapped[str] = mapped_column(String(60))
    """Name at that time, kept when the person leaves."""
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the round as it was reviewed."""


class Execution(Record):
    """Effect of a filed row that took effect, in the transaction of the effect. Append only."""

    __tablename__ = "execution"
    __table_args__ = (UniqueConstraint("application_id", "row", "effect"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    application_id: Mapped[ApplicationId] = mapped_column(ForeignKey("application.id"))
    row: Mapped[int]
    effect: Mapped[str] = mapped_column(String(200))
    at: Mapped[Instant]
    """Instant at which it holds; all effects that are executed together have the same."""
    recorded_at: Mapped[Instant]
    actor: Mapped[str] = mapped_column(String(40))


APPEND_ONLY = ("submission", "decision", "execution")
"""Tables in which the database refuses changes."""
