"""Health queries of each store: whether it serves, and what waits in it. Each is small."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import func, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.alarms.states import MessageState, StepState
from core.alarms.tables import Alarm, AlarmStep, FollowCursor, OutboxMessage, PeriodicJob
from core.contacts.contacts import ContactLevel
from core.contacts.reachability import count_out_of_reach, out_of_reach
from core.db.engine import Records
from core.intake.port import GatewayClock, GatewayFault, IntakeLog, QuarantineBacklog, ShardClaim
from core.runtime.instant import MINUTE, Instant
from core.telemetry.port import Telemetry
from core.wire.shards import GatewayNumber, Shard

READER = "telemetry"
OVERDUE_AFTER = MINUTE
PILED_UP = 100
"""Readings of a gateway in quarantine from which on that is a trouble."""
FIRST = ContactLevel.VACCINE_MANAGER
"""Who isn't told at once is told after half an hour by a higher level at best: that is trouble already."""
_NAMED = 5
_LOOKED_AT = 8
"""Shards whose oldest waiting entry is looked at."""


class RecordsStatus(msgspec.Struct, frozen=True):
    """State of the records."""

    alarms: dict[str, int]
    """By state."""
    messages: dict[str, int]
    """By state."""
    unsent_since: Instant | None
    """When the oldest message was written that a configured channel should have taken."""
    overdue: int
    """Steps that should have been told a minute ago."""
    overdue_since: Instant | None
    audit: str | None
    """Result of alerting's last audit of itself; None when there was none."""
    followed: dict[Shard, int]
    out_of_reach: int
    """Monitored equipment of whose alarms nobody of level 1 can be told."""
    out_of_reach_first: list[str]
    """Codes and names of some of them."""


class LogStatus(msgspec.Struct, frozen=True):
    """State of the intake log."""

    heads: dict[Shard, int]
    stored: dict[Shard, int]
    """How far telemetry is, as far as the log knows: to a few seconds."""
    held: dict[str, int]
    """Readings in quarantine, by reason."""
    dead: int
    """Unreadable messages that are kept."""
    claims: list[ShardClaim]
    """Of workers that live, on whichever machine."""
    faults: list[GatewayFault]
    """What was counted of gateways, ever."""
    backlogs: list[QuarantineBacklog]
    """Of gateways of which PILED_UP readings or more are in quarantine."""
    clocks: dict[GatewayNumber, GatewayClock]
    """Of gateways that run behind."""


class TelemetryStatus(msgspec.Struct, frozen=True):
    """State of the telemetry store."""

    positions: dict[Shard, int]


StoreStatus = RecordsStatus | LogStatus | TelemetryStatus


def check_records(records: Records, now: Instant, channels: tuple[str, ...]) -> RecordsStatus:
    """Ask the records; `now` is the system's clock."""
    with records.read() as tx:
        waiting = (OutboxMessage.state == MessageState.QUEUED, OutboxMessage.channel.in_(channels))
        late = (AlarmStep.state == StepState.DUE, AlarmStep.due_at <= now - OVERDUE_AFTER)
        overdue, since = tx.execute(select(func.count(), func.min(AlarmStep.due_at)).where(*late)).one()
        return RecordsStatus(
            alarms=_counted(tx, Alarm.state),
            messages=_counted(tx, OutboxMessage.state),
            unsent_since=tx.scalar(select(func.min(OutboxMessage.created_at)).where(*waiting)),
            overdue=overdue,
            overdue_since=since,
            audit=tx.scalar(select(PeriodicJob.detail).where(PeriodicJob.name == "audit")),
            followed={Shard(row.shard): row.position for row in tx.scalars(select(FollowCursor))},
            out_of_reach=(count := count_out_of_reach(tx, true(), now, channels, FIRST)),
            out_of_reach_first=[
                f"{one.code} {one.name}"
                for one in (out_of_reach(tx, true(), now, channels, levels=[FIRST], limit=_NAMED) if count else ())
            ],
        )


def check_log(log: IntakeLog) -> LogStatus:
    """Ask the intake log."""
    return LogStatus(
        heads=dict(log.heads()),
        stored=dict(log.cursor(READER)),
        held=dict(log.count_held()),
        dead=log.count_dead_letters(),
        claims=log.claims(),
        faults=log.faults(),
        backlogs=log.backlogs(least=PILED_UP),
        clocks=log.clocks(),
    )


def check_telemetry(telemetry: Telemetry) -> TelemetryStatus:
    """Ask the telemetry store; asked for no series it still says whether it answers."""
    telemetry.latest([])
    return TelemetryStatus(dict(telemetry.positions()))


def oldest_waiting(log: IntakeLog, heads: Mapping[Shard, int], reached: Mapping[Shard, int]) -> Instant | None:
    """Return when the oldest entry behind a reader was received, of the shards that are most behind."""
    behind = sorted(heads, key=lambda shard: reached.get(shard, 0) - heads[shard])[:_LOOKED_AT]
    first = (log.entries_after(shard, reached.get(shard, 0), 1) for shard in behind)
    return min((entry.batch.received for entries in first for entry in entries), default=None)


def _counted(tx: Session, column: InstrumentedAttribute[str]) -> dict[str, int]:
    return {row[0]: row[1] for row in tx.execute(select(column, func.count()).group_by(column))}
