"""Offline scan: finds the probes whose time limit without a value has passed, in server time.

Downtime of this system must never look like silence of a probe. A probe is judged only when the log of its gateway's
shard has been followed to its head, and after own downtime every probe gets `GRACE` to send first.

The scan also releases conditions without evidence: of a probe that was taken out of its zone, or of stopped equipment
(停用). Their alarms recover, without a message that all is well, and stay on the work list.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import ColumnElement, and_, delete, exists, func, not_, or_, select, update
from sqlalchemy.orm import Session

from alerting import periodic_jobs
from core.alarms.condition_changes import ConditionChange
from core.alarms.lifecycle import settle
from core.alarms.outbox import OutboxWriter
from core.alarms.tables import RuleState, SeriesState
from core.alarms.zone_cache import ZoneCache
from core.db.engine import Records
from core.db.in_force import in_force
from core.db.insert import insert_missing
from core.devices.kinds_and_labels import WindowKind
from core.devices.tables import Gateway, MaintenanceWindow, Probe, ProbeGateway, ProbeZone, Series, Zone
from core.ids import Centi, ProbeId, SeriesId, ZoneId
from core.rules import offline
from core.rules.rule_types import Condition, Rule
from core.runtime.instant import MINUTE, SECOND, Instant, Milliseconds
from core.runtime.logs import logger
from core.wire.shards import GatewayNumber, Shard, shard_of

log = logger(__name__)

TICK = "offline"
EVERY = Milliseconds(30 * SECOND)
AWAY = Milliseconds(5 * MINUTE)
"""Without a scan for so long this system itself was down."""
GRACE = Milliseconds(5 * MINUTE)
AT_ONCE = 100
"""Rows in one transaction."""
NEVER = Instant(2**53)
"""Onset that extends no alarm."""
NEVER_YET = Instant(0)

T = TypeVar("T")
_pack = msgspec.msgpack.Encoder().encode


class DueOffline(msgspec.Struct, frozen=True):
    """Row of an offline probe that has fallen due."""

    series: SeriesId
    probe: ProbeId
    zone: ZoneId
    interval: Milliseconds
    due_at: Instant
    gateway: GatewayNumber | None
    """None while no gateway reads the probe: then no more readings of it can come."""
    received_at: Instant | None
    value: Centi | None
    stopped: bool
    freed_at: Instant | None
    """When the equipment was last put back into use."""


class LeftoverCondition(msgspec.Struct, frozen=True):
    """Ongoing condition in the records whose probe no longer measures the zone."""

    series: SeriesId
    probe: ProbeId
    zone: ZoneId
    rule: Rule


def scan(
    records: Records,
    zones: ZoneCache,
    outbox: OutboxWriter,
    now: Instant,
    shards_behind: Callable[[Session], Iterable[Shard]],
) -> bool:
    """Scan if it is due; return False when it isn't, or when another worker has the run."""
    with records.read() as tx:
        if not periodic_jobs.is_due(tx, TICK, now):
            return False
    with records.write() as tx:
        run = periodic_jobs.claim_job(tx, TICK, EVERY, now)
        if run is None:
            return False
        if run.last is not None and now - run.last > AWAY:
            log.warning("nobody looked for offline probes for a while; they get a grace", since=run.last, now=now)
            _give_grace(tx, now)
    with records.read() as tx:
        zones.refresh(tx)
        gone, unwatched, due = _gone(tx, now), _unwatched(tx, now), _due(tx, now)
        behind = set(shards_behind(tx))
    judgeable = [row for row in due if row.gateway is None or shard_of(row.gateway) not in behind]
    for gone_batch in _batches(gone):
        with records.write() as tx:
            zones.refresh(tx)
            settle(tx, zones, outbox, _release(tx, gone_batch), now)
    for unwatched_batch in _batches(unwatched):
        with records.write() as tx:
            _watch(tx, zones, unwatched_batch, now)
    for due_batch in _batches(judgeable):
        with records.write() as tx:
            zones.refresh(tx)
            settle(tx, zones, outbox, _judge(tx, zones, due_batch, now), now)
    return True


def _stopped(now: Instant) -> ColumnElement[bool]:
    """Return the condition that the equipment of `Zone` is stopped."""
    window = select(MaintenanceWindow.id).where(MaintenanceWindow.equipment_id == Zone.equipment_id)
    return exists(window.where(MaintenanceWindow.kind == WindowKind.STOPPED, in_force(MaintenanceWindow, now)))


def _give_grace(tx: Session, now: Instant) -> None:
    is_waiting = and_(RuleState.rule == Rule.PROBE_OFFLINE, RuleState.condition == Condition.OK)
    due_soon = update(RuleState).where(is_waiting, RuleState.due_at < now + GRACE)
    tx.execute(due_soon.values(due_at=now + GRACE))


def _gone(tx: Session, now: Instant) -> list[LeftoverCondition]:
    is_in_zone = exists(
        select(ProbeZone.id).where(
            ProbeZone.probe_id == Series.probe_id, ProbeZone.zone_id == RuleState.zone_id, in_force(ProbeZone, now)
        )
    )
    rows = tx.execute(
        select(RuleState.series_id, Series.probe_id, RuleState.zone_id, RuleState.rule)
        .join(Series, Series.id == RuleState.series_id)
        .join(Zone, Zone.id == RuleState.zone_id)
        .where(RuleState.condition.in_([Condition.ACTIVE, Condition.CLEARING]), or_(not_(is_in_zone), _stopped(now)))
        .order_by(RuleState.series_id)
    )
    return [LeftoverCondition(*row) for row in rows]


def _unwatched(tx: Session, now: Instant) -> list[tuple[SeriesId, ZoneId, Milliseconds]]:
    """Return probes that should send and have no row of an offline probe, or one from before they were placed there."""
    own_row = and_(RuleState.series_id == Series.id, RuleState.rule == Rule.PROBE_OFFLINE)
    is_missing_or_old = or_(
        RuleState.series_id.is_(None),
        RuleState.zone_id != ProbeZone.zone_id,
        RuleState.due_at < ProbeZone.since,
        RuleState.due_at < ProbeGateway.since,
    )
    rows = tx.execute(
        select(Series.id, ProbeZone.zone_id, Probe.interval)
        .join(Probe, Probe.id == Series.probe_id)
        .join(ProbeZone, and_(ProbeZone.probe_id == Probe.id, in_force(ProbeZone, now)))
        .join(ProbeGateway, and_(ProbeGateway.probe_id == Probe.id, in_force(ProbeGateway, now)))
        .join(Zone, Zone.id == ProbeZone.zone_id)
        .outerjoin(RuleState, own_row)
        .where(Series.quantity == "t", is_missing_or_old, not_(_stopped(now)))
        .where(or_(RuleState.condition.is_(None), RuleState.condition == Condition.OK))
        .order_by(Series.id)
    )
    return [(series, zone, interval) for series, zone, interval in rows]


def _due(tx: Session, now: Instant) -> list[DueOffline]:
    freed_at = (
        select(func.max(MaintenanceWindow.until))
        .where(
            MaintenanceWindow.equipment_id == Zone.equipment_id,
            MaintenanceWindow.kind == WindowKind.STOPPED,
            MaintenanceWindow.until <= now,
        )
        .scalar_subquery()
    )
    rows = tx.execute(
        select(
            RuleState.series_id,
            Series.probe_id,
            RuleState.zone_id,
            Probe.interval,
            RuleState.due_at,
            Gateway.number,
            SeriesState.received_at,
            SeriesState.value,
            _stopped(now),
            freed_at,
        )
        .join(Series, Series.id == RuleState.series_id)
        .join(Probe, Probe.id == Series.probe_id)
        .join(
            ProbeZone,
            and_(ProbeZone.probe_id == Probe.id, ProbeZone.zone_id == RuleState.zone_id, in_force(ProbeZone, now)),
        )
        .join(Zone, Zone.id == RuleState.zone_id)
        .outerjoin(ProbeGateway, and_(ProbeGateway.probe_id == Probe.id, in_force(ProbeGateway, now)))
        .outerjoin(Gateway, Gateway.id == ProbeGateway.gateway_id)
        .outerjoin(SeriesState, SeriesState.series_id == RuleState.series_id)
        .where(
            RuleState.rule == Rule.PROBE_OFFLINE,
            RuleState.condition == Condition.OK,
            RuleState.due_at <= now,
        )
        .order_by(RuleState.series_id)
    )
    return [DueOffline(*row) for row in rows]


def _release(tx: Session, gone: Iterable[LeftoverCondition]) -> list[ConditionChange]:
    condition_changes = []
    for condition in gone:
        of_probe = and_(RuleState.series_id == condition.series, RuleState.zone_id == condition.zone)
        tx.execute(delete(RuleState).where(of_probe, RuleState.rule == condition.rule))
        condition_changes.append(
            ConditionChange(
                zone=condition.zone, rule=condition.rule, probe=condition.probe, onset=NEVER, measured=False
            )
        )
    return condition_changes


def _watch(
    tx: Session, zones: ZoneCache, unwatched: Iterable[tuple[SeriesId, ZoneId, Milliseconds]], now: Instant
) -> None:
    """Expect probes from now on, whenever they were placed: the time before is not their silence."""
    for series, zone, interval in unwatched:
        due_at = offline.due(now, interval, zones[zone].profile.offline_limit)
        row = {"series_id": series, "rule": Rule.PROBE_OFFLINE, "zone_id": zone, "condition": Condition.OK}
        insert_missing(tx, RuleState, [{**row, "due_at": due_at, "memory": b"", "changed_at": now}])
        own_row = and_(RuleState.series_id == series, RuleState.rule == Rule.PROBE_OFFLINE)
        tx.execute(update(RuleState).where(own_row).values(zone_id=zone, due_at=due_at))


def _judge(tx: Session, zones: ZoneCache, due: Iterable[DueOffline], now: Instant) -> list[ConditionChange]:
    """Postpone the rows of probes that have sent since; the others become silent now."""
    condition_changes = []
    for row in due:
        unchanged = and_(
            RuleState.series_id == row.series,
            RuleState.rule == Rule.PROBE_OFFLINE,
            RuleState.condition == Condition.OK,
            # Else the follower has moved it meanwhile, since the probe has sent something.
            RuleState.due_at == row.due_at,
        )
        offline_limit = zones[row.zone].profile.offline_limit
        # Readings of stopped equipment are refused, so that time is not silence of its probes.
        heard_at = max(now if row.stopped else row.freed_at or NEVER_YET, row.received_at or NEVER_YET)
        due_at = max(row.due_at, offline.due(heard_at, row.interval, offline_limit))
        if due_at > now:
            tx.execute(update(RuleState).where(unchanged).values(due_at=due_at))
            continue
        onset = Instant(due_at - offline_limit.of(row.interval))
        values = {"condition": Condition.ACTIVE, "due_at": None, "changed_at": now, "memory": _pack(onset)}
        if tx.scalar(update(RuleState).where(unchanged).values(values).returning(RuleState.series_id)) is not None:
            condition_changes.append(
                ConditionChange(zone=row.zone, rule=Rule.PROBE_OFFLINE, probe=row.probe, onset=onset, value=row.value)
            )
    return condition_changes


def _batches(rows: Sequence[T]) -> Iterable[Sequence[T]]:
    return (rows[at : at + AT_ONCE] for at in range(0, len(rows), AT_ONCE))
