"""Tables of rule states, alarms, escalation steps, outbox, delivery attempts, events and alerting's cursors."""

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.alarms.states import (
    ActedThrough,
    AlarmEventKind,
    AlarmHandling,
    AlarmOrigin,
    AlarmState,
    AttemptOutcome,
    MessageState,
    NotificationKind,
    StepState,
)
from core.db.state_type import one_of, state_type
from core.db.table_base import Record
from core.ids import AlarmId, Centi, EquipmentId, PersonId, ProbeId, SeriesId, UnitId, ZoneId, new_alarm_id
from core.rules.rule_types import Condition, Rule
from core.runtime.instant import Instant, Milliseconds


class RuleState(Record):
    """State of a rule for one series: ok → pending → active → clearing → ok.

    `memory` is the memory of the pure rule (msgpack), so that any worker can continue from it.
    """

    __tablename__ = "rule_state"
    __table_args__ = (Index(None, "zone_id", "rule"),)

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    rule: Mapped[Rule] = mapped_column(state_type(Rule, 16), primary_key=True)
    zone_id: Mapped[ZoneId] = mapped_column(ForeignKey("zone.id"))
    condition: Mapped[Condition] = mapped_column(state_type(Condition, 10))
    due_at: Mapped[Instant | None] = mapped_column(index=True)
    """Server time at which the condition changes by silence alone (probe_offline)."""
    memory: Mapped[bytes] = mapped_column(LargeBinary)
    changed_at: Mapped[Instant]


class SeriesState(Record):
    """Progress of the rules on one series: its newest reading, and the shard that it came through.

    `recent` (msgpack) holds the readings after the watermark, before which another reading may still arrive.
    """

    __tablename__ = "series_state"

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    shard: Mapped[str] = mapped_column(String(2))
    newest_at: Mapped[Instant]
    received_at: Mapped[Instant | None]
    """Server time of the last reading with a value; None if there was none."""
    value: Mapped[Centi | None]
    """Value of the newest reading; None if it failed."""
    q: Mapped[int]
    recent: Mapped[bytes] = mapped_column(LargeBinary)


class Alarm(Record):
    """An alarm. At most one per rule and zone is open.

    Server time: `opened_at` (t0, from which the steps count) and `recovered_at` (when the end became known). Event
    time: `onset_at` and `ended_at` of the excursion itself. `core.alarms.duration` computes from these what messages,
    API and pages show.
    """

    __tablename__ = "alarm"
    __table_args__ = (
        Index(
            "uq_alarm_open",
            "zone_id",
            "rule",
            unique=True,
            sqlite_where=text(f"state = '{AlarmState.OPEN}'"),
            postgresql_where=text(f"state = '{AlarmState.OPEN}'"),
        ),
        one_of("state", AlarmState),
        one_of("handling", AlarmHandling),
        one_of("origin", AlarmOrigin),
        Index(None, "unit_id", "state"),
    )

    id: Mapped[AlarmId] = mapped_column(primary_key=True, autoincrement=False, default=new_alarm_id)
    zone_id: Mapped[ZoneId] = mapped_column(ForeignKey("zone.id"), index=True)
    equipment_id: Mapped[EquipmentId] = mapped_column(ForeignKey("equipment.id"))
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"))
    """Unit in which the equipment stood at the opening."""
    probe_id: Mapped[ProbeId] = mapped_column(ForeignKey("probe.id"))
    """The probe that opened it."""
    rule: Mapped[Rule] = mapped_column(state_type(Rule, 16))
    state: Mapped[AlarmState] = mapped_column(state_type(AlarmState, 10))
    handling: Mapped[AlarmHandling] = mapped_column(state_type(AlarmHandling, 16), default=AlarmHandling.UNACKNOWLEDGED)
    cycle: Mapped[int] = mapped_column(default=1)
    """1, plus the number of re-openings within the merge window. Each cycle has its own step rows."""
    opened_at: Mapped[Instant]
    onset_at: Mapped[Instant]
    ended_at: Mapped[Instant | None]
    """End of the last cycle's excursion, known since `recovered_at`."""
    cycle_opened_at: Mapped[Instant | None]
    """Server time of the last re-opening; None in the first cycle."""
    cycle_onset_at: Mapped[Instant | None]
    """Event time of the last cycle's onset; None in the first cycle."""
    probe_ended_at: Mapped[Instant | None]
    """Latest end of an excursion of a probe that recovered before the other probes of the zone."""
    earlier_out: Mapped[Milliseconds] = mapped_column(default=0, server_default="0")
    """Time beyond the limit in the cycles before the last one."""
    recovered_at: Mapped[Instant | None]
    closed_at: Mapped[Instant | None]
    acknowledged_at: Mapped[Instant | None]
    acknowledged_by: Mapped[PersonId | None] = mapped_column(ForeignKey("person.id"))
    acknowledged_through: Mapped[ActedThrough | None] = mapped_column(state_type(ActedThrough, 10))
    opening_value: Mapped[Centi | None]
    peak: Mapped[Centi | None]
    """Value farthest beyond the limit so far."""
    limit: Mapped[Centi | None]
    snapshot: Mapped[str] = mapped_column(Text)
    """Rule and escalation policy as they were at the opening (JSON)."""
    origin: Mapped[AlarmOrigin] = mapped_column(state_type(AlarmOrigin, 10), default=AlarmOrigin.LIVE)
    exceeds_id: Mapped[AlarmId | None] = mapped_column(ForeignKey("alarm.id"))
    """The earlier alarm, already acknowledged or handled, whose excursion this late alarm exceeds."""


class AlarmStep(Record):
    """Escalation step: tell the levels up to `tier` at an absolute time, if the zone is still abnormal then.

    due → fired; → held while the condition is clearing (due again when it turns active); → suppressed in a maintenance
    window (due again at its end); → cancelled when the condition is over.
    """

    __tablename__ = "alarm_step"
    __table_args__ = (
        UniqueConstraint("alarm_id", "cycle", "tier", "repeat"),
        one_of("state", StepState),
        Index(None, "state", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    alarm_id: Mapped[AlarmId] = mapped_column(ForeignKey("alarm.id"))
    cycle: Mapped[int]
    tier: Mapped[int]
    """1, 2, 3: the highest level to tell; the levels below are told too. 0: digest of late data, to level 1."""
    repeat: Mapped[int] = mapped_column(default=0)
    """0 for the first time, then the number of the repeat."""
    due_at: Mapped[Instant]
    state: Mapped[StepState] = mapped_column(state_type(StepState, 12), default=StepState.DUE)
    fired_at: Mapped[Instant | None]


class OutboxMessage(Record):
    """A message to one person on one channel. Every attempt sends the same bytes of `body`.

    `next_at` and `lease_until` are real time, because providers don't follow a virtual clock.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        one_of("state", MessageState),
        Index(None, "state", "next_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(120), unique=True)
    """alarm:cycle:tier:repeat:person:channel:kind."""
    alarm_id: Mapped[AlarmId | None] = mapped_column(ForeignKey("alarm.id"), index=True)
    cycle: Mapped[int] = mapped_column(default=1)
    tier: Mapped[int] = mapped_column(default=1)
    kind: Mapped[NotificationKind] = mapped_column(state_type(NotificationKind, 12))
    person_id: Mapped[PersonId] = mapped_column(ForeignKey("person.id"))
    channel: Mapped[str] = mapped_column(String(12))
    address: Mapped[str] = mapped_column(String(100))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[MessageState] = mapped_column(state_type(MessageState, 10), default=MessageState.QUEUED)
    created_at: Mapped[Instant]
    sent_at: Mapped[Instant | None]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[Instant]
    lease: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[Instant | None]
    receipt: Mapped[str | None] = mapped_column(String(64))
    """Message id of the provider, as text (it exceeds 2^53)."""


class DeliveryAttempt(Record):
    """An attempt to deliver a message, with its outcome (AL-06)."""

    __tablename__ = "attempt"

    id: Mapped[int] = mapped_column(primary_key=True)
    outbox_id: Mapped[int] = mapped_column(ForeignKey("outbox.id"), index=True)
    at: Mapped[Instant]
    outcome: Mapped[AttemptOutcome] = mapped_column(state_type(AttemptOutcome, 10))
    code: Mapped[str] = mapped_column(String(20), default="")
    detail: Mapped[str] = mapped_column(String(300), default="")


class AlarmEvent(Record):
    """Event in the history of an alarm, append only."""

    __tablename__ = "alarm_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    alarm_id: Mapped[AlarmId] = mapped_column(ForeignKey("alarm.id"), index=True)
    at: Mapped[Instant]
    kind: Mapped[AlarmEventKind] = mapped_column(state_type(AlarmEventKind, 20))
    person_id: Mapped[PersonId | None] = mapped_column(ForeignKey("person.id"))
    detail: Mapped[str] = mapped_column(Text, default="{}")
    """The rest, as JSON."""


class HandlingRecord(Record):
    """Handling record: cause, action and disposition of the vaccine (CC-06). It closes a recovered alarm."""

    __tablename__ = "handling_record"

    id: Mapped[int] = mapped_column(primary_key=True)
    alarm_id: Mapped[AlarmId] = mapped_column(ForeignKey("alarm.id"), unique=True)
    at: Mapped[Instant]
    by: Mapped[str] = mapped_column(String(100))
    cause: Mapped[str] = mapped_column(String(300))
    action: Mapped[str] = mapped_column(String(300))
    disposition: Mapped[str] = mapped_column(String(300))


class FollowCursor(Record):
    """Position of alerting in a shard of the intake log; moves in the transaction of the entries' results."""

    __tablename__ = "follow_cursor"

    shard: Mapped[str] = mapped_column(String(2), primary_key=True)
    position: Mapped[int]
    mark: Mapped[str] = mapped_column(String(40), server_default="")
    """Identity of the log and of the entry at `position` (`core.intake.cursor_marks`)."""


class UnplacedSpan(Record):
    """Span of readings that alerting skipped because the records didn't pair the probe with the gateway at that time.

    Telemetry may store them nevertheless, if it reads them after the records were corrected.
    """

    __tablename__ = "unplaced_span"

    gw: Mapped[str] = mapped_column(String(32), primary_key=True)
    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    since: Mapped[Instant]
    until: Mapped[Instant]
    """`since` and `until`: event time of the oldest and the newest reading."""
    positions: Mapped[bytes] = mapped_column(LargeBinary)
    """Position of the newest reading in each shard of the intake log (msgpack)."""


class LateSpan(Record):
    """Span of late readings of one series and day that must still be evaluated from the telemetry store.

    It is written in the transaction that moves the cursor over the reading. `day` counts from 1970-01-01 in UTC.
    """

    __tablename__ = "late_span"

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    since: Mapped[Instant]
    until: Mapped[Instant]
    """`since` and `until`: event time of the oldest and the newest reading."""
    positions: Mapped[bytes] = mapped_column(LargeBinary)
    """Positions by shard of the intake log that telemetry must have reached first (msgpack)."""
    revision: Mapped[int]
    """Goes up with each late reading, so that one that arrives during the evaluation isn't lost."""
    first_at: Mapped[Instant]
    due_at: Mapped[Instant] = mapped_column(index=True)
    """Server time."""
    seen_at: Mapped[Instant | None]
    """Set when an evaluation found an excursion without end: due again when the series has a newer reading."""


class PeriodicJob(Record):
    """Job that falls due again and again; one worker claims it (`FOR UPDATE SKIP LOCKED` or BEGIN IMMEDIATE)."""

    __tablename__ = "tick"

    name: Mapped[str] = mapped_column(String(30), primary_key=True)
    due_at: Mapped[Instant]
    ran_at: Mapped[Instant | None]
    detail: Mapped[str] = mapped_column(String(300), default="")
