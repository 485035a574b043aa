"""Rows of rule state, alarms, steps, outbox, attempts and events."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.record import Record
from core.ids import AlarmId, Centi, EquipmentId, PersonId, ProbeId, SeriesId, UnitId, ZoneId, new_alarm_id
from core.runtime.instant import Instant, Milliseconds


class RuleState(Record):
    """Where a rule stands for one series: ok → pending → active → clearing → ok.

    `memory` is what the pure rule remembers (msgpack), so that any worker can go on from it.
    """

    __tablename__ = "rule_state"
    __table_args__ = (Index(None, "zone_id", "rule"),)

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    rule: Mapped[str] = mapped_column(String(16), primary_key=True)
    """above, below, probe_offline, bad_sensor."""
    zone_id: Mapped[ZoneId] = mapped_column(ForeignKey("zone.id"))
    condition: Mapped[str] = mapped_column(String(10))
    due_at: Mapped[Instant | None] = mapped_column(index=True)
    """Server time at which silence alone changes the condition (probe_offline)."""
    memory: Mapped[bytes] = mapped_column(LargeBinary)
    changed_at: Mapped[Instant]


class SeriesState(Record):
    """How far the rules have come with a series: its newest reading, and which shard brought it last.

    `recent` holds the readings that another could still come before (msgpack): those behind the watermark are settled.
    """

    __tablename__ = "series_state"

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    shard: Mapped[str] = mapped_column(String(2))
    newest_at: Mapped[Instant]
    received_at: Mapped[Instant | None]
    """Server time of the last reading with a value; None when none ever had one."""
    value: Mapped[Centi | None]
    """Of the newest reading; None when that one failed."""
    q: Mapped[int]
    recent: Mapped[bytes] = mapped_column(LargeBinary)


class Alarm(Record):
    """One per rule kind and zone while open.

    In server time: `opened_at` is t0, from which the steps count, `recovered_at` the moment at which the end was known.
    In event time: the excursion itself, from `onset_at` to `ended_at`. `core.alarms.duration` computes from these what
    messages, API and pages show.
    """

    __tablename__ = "alarm"
    __table_args__ = (
        Index(
            "uq_alarm_open",
            "zone_id",
            "rule",
            unique=True,
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
        CheckConstraint("state IN ('open', 'recovered', 'closed')", name="state"),
        CheckConstraint("handling IN ('unacknowledged', 'acknowledged', 'handled')", name="handling"),
        CheckConstraint("origin IN ('live', 'late', 'withdrawn')", name="origin"),
        Index(None, "unit_id", "state"),
    )

    id: Mapped[AlarmId] = mapped_column(primary_key=True, autoincrement=False, default=new_alarm_id)
    zone_id: Mapped[ZoneId] = mapped_column(ForeignKey("zone.id"), index=True)
    equipment_id: Mapped[EquipmentId] = mapped_column(ForeignKey("equipment.id"))
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"))
    """Where the equipment stood at the opening."""
    probe_id: Mapped[ProbeId] = mapped_column(ForeignKey("probe.id"))
    """The probe that opened it."""
    rule: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(10))
    handling: Mapped[str] = mapped_column(String(16), default="unacknowledged")
    cycle: Mapped[int] = mapped_column(default=1)
    """Counts re-openings within the merge window. Each has rows of its own for the steps that are still to come."""
    opened_at: Mapped[Instant]
    onset_at: Mapped[Instant]
    ended_at: Mapped[Instant | None]
    """End of the last cycle's excursion, known since `recovered_at`."""
    cycle_opened_at: Mapped[Instant | None]
    """Server time of the last re-opening; None in the first cycle."""
    cycle_onset_at: Mapped[Instant | None]
    """Event time of the last cycle's onset; None in the first cycle."""
    probe_ended_at: Mapped[Instant | None]
    """End of the excursion of a probe that came back before the others of its zone did."""
    earlier_out: Mapped[Milliseconds] = mapped_column(default=0, server_default="0")
    """Time beyond the limit in the cycles before the last."""
    recovered_at: Mapped[Instant | None]
    closed_at: Mapped[Instant | None]
    acknowledged_at: Mapped[Instant | None]
    acknowledged_by: Mapped[PersonId | None] = mapped_column(ForeignKey("person.id"))
    acknowledged_through: Mapped[str | None] = mapped_column(String(10))
    """web, wechat."""
    opening_value: Mapped[Centi | None]
    peak: Mapped[Centi | None]
    """The farthest value beyond the limit so far."""
    limit: Mapped[Centi | None]
    snapshot: Mapped[str] = mapped_column(Text)
    """Rule and escalation policy as they were at the opening (JSON)."""
    origin: Mapped[str] = mapped_column(String(10), default="live")
    """live; late: made of readings that came late, and until somebody touches it, it follows them; withdrawn: such a
    one of which later readings have left nothing.
    """
    exceeds_id: Mapped[AlarmId | None] = mapped_column(ForeignKey("alarm.id"))
    """The alarm, handled or acknowledged before, that this late one exceeds."""


class AlarmStep(Record):
    """Tell these levels at this absolute time, if it is still abnormal then.

    due → fired, or → held while the condition is clearing (due again when it turns back), or → suppressed while a
    maintenance window forbids paging (due again at its end), or → cancelled when the condition is over.
    """

    __tablename__ = "alarm_step"
    __table_args__ = (
        UniqueConstraint("alarm_id", "cycle", "tier", "turn"),
        CheckConstraint("state IN ('due', 'held', 'suppressed', 'fired', 'cancelled')", name="state"),
        Index(None, "state", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    alarm_id: Mapped[AlarmId] = mapped_column(ForeignKey("alarm.id"))
    cycle: Mapped[int]
    tier: Mapped[int]
    """1, 2, 3: the highest level told; all below are told too. 0: the digest of late data, to level 1."""
    turn: Mapped[int] = mapped_column(default=0)
    """0 the first time, then the number of the repeat."""
    due_at: Mapped[Instant]
    state: Mapped[str] = mapped_column(String(12), default="due")
    fired_at: Mapped[Instant | None]


class Outbox(Record):
    """One message to one person on one channel. `body` is sent byte for byte, however often it is tried.

    `next_at` and `lease_until` are real time: a provider's patience knows no virtual clock.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'sent', 'failed', 'superseded')", name="state"),
        Index(None, "state", "next_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(120), unique=True)
    """alarm:cycle:tier:turn:person:channel:kind."""
    alarm_id: Mapped[AlarmId | None] = mapped_column(ForeignKey("alarm.id"), index=True)
    cycle: Mapped[int] = mapped_column(default=1)
    tier: Mapped[int] = mapped_column(default=1)
    kind: Mapped[str] = mapped_column(String(12))
    """alarm, recovery, digest, ops."""
    person_id: Mapped[PersonId] = mapped_column(ForeignKey("person.id"))
    channel: Mapped[str] = mapped_column(String(12))
    address: Mapped[str] = mapped_column(String(100))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(String(10), default="queued")
    created_at: Mapped[Instant]
    sent_at: Mapped[Instant | None]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[Instant]
    lease: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[Instant | None]
    receipt: Mapped[str | None] = mapped_column(String(64))
    """The provider's number of the message, as text (it exceeds 2^53)."""


class Attempt(Record):
    """One try to hand a message over, and what came of it (AL-06)."""

    __tablename__ = "attempt"

    id: Mapped[int] = mapped_column(primary_key=True)
    outbox_id: Mapped[int] = mapped_column(ForeignKey("outbox.id"), index=True)
    at: Mapped[Instant]
    outcome: Mapped[str] = mapped_column(String(10))
    """sent, retry, refused."""
    code: Mapped[str] = mapped_column(String(20), default="")
    detail: Mapped[str] = mapped_column(String(300), default="")


class AlarmEvent(Record):
    """What happened to an alarm, append only."""

    __tablename__ = "alarm_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    alarm_id: Mapped[AlarmId] = mapped_column(ForeignKey("alarm.id"), index=True)
    at: Mapped[Instant]
    kind: Mapped[str] = mapped_column(String(20))
    """opened, reopened, told, nobody_to_tell, unreachable, held, suppressed, resumed, digest, acknowledged, recovered,
    widened, withdrawn, handled, closed; `detail` has the rest. `told`: messages were written to levels of which
    somebody can be told; `nobody_to_tell`: of a level nobody can.
    """
    person_id: Mapped[PersonId | None] = mapped_column(ForeignKey("person.id"))
    detail: Mapped[str] = mapped_column(Text, default="{}")


class HandlingRecord(Record):
    """What was found and done, and what became of the vaccine (CC-06); it closes a recovered alarm."""

    __tablename__ = "handling_record"

    id: Mapped[int] = mapped_column(primary_key=True)
    alarm_id: Mapped[AlarmId] = mapped_column(ForeignKey("alarm.id"), unique=True)
    at: Mapped[Instant]
    by: Mapped[str] = mapped_column(String(100))
    cause: Mapped[str] = mapped_column(String(300))
    action: Mapped[str] = mapped_column(String(300))
    disposition: Mapped[str] = mapped_column(String(300))


class FollowCursor(Record):
    """How far alerting has followed a shard of the intake log; moves in the transaction of what it led to."""

    __tablename__ = "follow_cursor"

    shard: Mapped[str] = mapped_column(String(2), primary_key=True)
    position: Mapped[int]
    mark: Mapped[str] = mapped_column(String(40), server_default="")
    """Which log, and which entry, `position` is of (`core.intake.identity`)."""


class UnplacedSpan(Record):
    """Readings that alerting has passed by, since the records didn't pair their probe with their gateway then.

    Telemetry may store them all the same, if it comes to them after the records were corrected.
    """

    __tablename__ = "unplaced_span"

    gw: Mapped[str] = mapped_column(String(32), primary_key=True)
    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    since: Mapped[Instant]
    until: Mapped[Instant]
    """Event time of the oldest and the newest."""
    positions: Mapped[bytes] = mapped_column(LargeBinary)
    """Of the newest in each shard of the intake log (msgpack)."""


class LateSpan(Record):
    """Late readings of a day of a series that are still to be evaluated, from the telemetry store.

    A mark is set in the transaction that moves the cursor over the reading. `day` counts from 1970 in UTC.
    """

    __tablename__ = "late_span"

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    since: Mapped[Instant]
    until: Mapped[Instant]
    """Event time of the oldest and the newest."""
    positions: Mapped[bytes] = mapped_column(LargeBinary)
    """How far telemetry must have come: position by shard of the intake log (msgpack)."""
    revision: Mapped[int]
    """Counts the marks, so that one that comes during the evaluation isn't lost."""
    first_at: Mapped[Instant]
    due_at: Mapped[Instant] = mapped_column(index=True)
    """Server time."""
    seen_at: Mapped[Instant | None]
    """Set once evaluated with an excursion that had no end yet: due again when the series has a newer reading."""


class Tick(Record):
    """A due piece of housekeeping that one worker claims (`FOR UPDATE SKIP LOCKED` / BEGIN IMMEDIATE)."""

    __tablename__ = "tick"

    name: Mapped[str] = mapped_column(String(30), primary_key=True)
    due_at: Mapped[Instant]
    ran_at: Mapped[Instant | None]
    detail: Mapped[str] = mapped_column(String(300), default="")
