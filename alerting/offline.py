"""Which probes have gone silent: their rows of silence that fell due, in server time.

Our own standstill must never look like theirs: a probe is judged only when the log of its gateway's shard has been
followed to its head, and after we were away ourselves everybody gets `GRACE` to speak first.

The scan also lets go of what has no evidence any more: a probe that was taken out of its zone, an equipment that was
stopped (停用). Their alarms recover, without a message that all were well, and stay on the work list.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import ColumnElement, and_, delete, exists, func, not_, or_, select, update
from sqlalchemy.orm import Session

from alerting import ticks
from core.alarms.evidence import Evidence
from core.alarms.lifecycle import settle
from core.alarms.post import Post
from core.alarms.rules import silence
from core.alarms.rules.sample import Condition, Rule
from core.alarms.tables import RuleState, SeriesState
from core.alarms.watched import Zones
from core.db.engine import Records
from core.db.insert import insert_missing
from core.devices.tables import Gateway, MaintenanceWindow, Probe, ProbeGateway, ProbeZone, Series, Zone
from core.ids import Centi, ProbeId, SeriesId, ZoneId
from core.runtime.instant import MINUTE, SECOND, Instant, Milliseconds
from core.runtime.logs import logger
from core.wire.topics import GatewayNumber, Shard, shard_of

log = logger(__name__)

TICK = "offline"
EVERY = Milliseconds(30 * SECOND)
AWAY = Milliseconds(5 * MINUTE)
"""Nobody scanned for so long: we were away."""
GRACE = Milliseconds(5 * MINUTE)
AT_ONCE = 100
"""Rows in one transaction."""
NEVER = Instant(2**53)
"""An onset that widens nothing."""
NEVER_YET = Instant(0)

T = TypeVar("T")
_pack = msgspec.msgpack.Encoder().encode


class Due(msgspec.Struct, frozen=True):
    """A row of silence that has fallen due."""

    series: SeriesId
    probe: ProbeId
    zone: ZoneId
    interval: Milliseconds
    due_at: Instant
    gateway: GatewayNumber | None
    """None while no gateway reads the probe: then nothing of it can come any more."""
    received_at: Instant | None
    value: Centi | None
    stopped: bool
    freed_at: Instant | None
    """When the equipment was last stopped no more."""


class Gone(msgspec.Struct, frozen=True):
    """A condition that still goes on in the records, though its probe measures the zone no more."""

    series: SeriesId
    probe: ProbeId
    zone: ZoneId
    rule: str


def scan(
    records: Records, zones: Zones, post: Post, now: Instant, shards_behind: Callable[[Session], Iterable[Shard]]
) -> bool:
    """Take the scan's turn; returns False when it isn't due, or another worker's."""
    with records.read() as tx:
        if not ticks.is_due(tx, TICK, now):
            return False
    with records.write() as tx:
        turn = ticks.claim(tx, TICK, EVERY, now)
        if turn is None:
            return False
        if turn.last is not None and now - turn.last > AWAY:
            log.warning("nobody looked for silent probes for a while; they get a grace", since=turn.last, now=now)
            _give_grace(tx, now)
    with records.read() as tx:
        zones.refresh(tx)
        gone, unwatched, due = _gone(tx, now), _unwatched(tx, now), _due(tx, now)
        behind = set(shards_behind(tx))
    known = [row for row in due if row.gateway is None or shard_of(row.gateway) not in behind]
    for some in _parts(gone):
        with records.write() as tx:
            zones.refresh(tx)
            settle(tx, zones, post, _let_go(tx, some), now)
    for fresh in _parts(unwatched):
        with records.write() as tx:
            _watch(tx, zones, fresh, now)
    for silent in _parts(known):
        with records.write() as tx:
            zones.refresh(tx)
            settle(tx, zones, post, _judge(tx, zones, silent, now), now)
    return True


def _in_force(timeline: type[ProbeZone | ProbeGateway | MaintenanceWindow], now: Instant) -> ColumnElement[bool]:
    return and_(timeline.since <= now, or_(timeline.until.is_(None), timeline.until > now))


def _stopped(now: Instant) -> ColumnElement[bool]:
    """Whether the equipment of `Zone` is stopped."""
    window = select(MaintenanceWindow.id).where(MaintenanceWindow.equipment_id == Zone.equipment_id)
    return exists(window.where(MaintenanceWindow.kind == "stopped", _in_force(MaintenanceWindow, now)))


def _give_grace(tx: Session, now: Instant) -> None:
    waiting = and_(RuleState.rule == Rule.PROBE_OFFLINE, RuleState.condition == Condition.OK)
    late = update(RuleState).where(waiting, RuleState.due_at < now + GRACE)
    tx.execute(late.values(due_at=now + GRACE))


def _gone(tx: Session, now: Instant) -> list[Gone]:
    here = exists(
        select(ProbeZone.id).where(
            ProbeZone.probe_id == Series.probe_id, ProbeZone.zone_id == RuleState.zone_id, _in_force(ProbeZone, now)
        )
    )
    rows = tx.execute(
        select(RuleState.series_id, Series.probe_id, RuleState.zone_id, RuleState.rule)
        .join(Series, Series.id == RuleState.series_id)
        .join(Zone, Zone.id == RuleState.zone_id)
        .where(RuleState.condition.in_([Condition.ACTIVE, Condition.CLEARING]), or_(not_(here), _stopped(now)))
        .order_by(RuleState.series_id)
    )
    return [Gone(*row) for row in rows]


def _unwatched(tx: Session, now: Instant) -> list[tuple[SeriesId, ZoneId, Milliseconds]]:
    """Return probes that should speak and have no row of silence, or one of before they were put there."""
    row = and_(RuleState.series_id == Series.id, RuleState.rule == Rule.PROBE_OFFLINE)
    old = or_(
        RuleState.series_id.is_(None),
        RuleState.zone_id != ProbeZone.zone_id,
        RuleState.due_at < ProbeZone.since,
        RuleState.due_at < ProbeGateway.since,
    )
    rows = tx.execute(
        select(Series.id, ProbeZone.zone_id, Probe.interval)
        .join(Probe, Probe.id == Series.probe_id)
        .join(ProbeZone, and_(ProbeZone.probe_id == Probe.id, _in_force(ProbeZone, now)))
        .join(ProbeGateway, and_(ProbeGateway.probe_id == Probe.id, _in_force(ProbeGateway, now)))
        .join(Zone, Zone.id == ProbeZone.zone_id)
        .outerjoin(RuleState, row)
        .where(Series.quantity == "t", old, not_(_stopped(now)))
        .where(or_(RuleState.condition.is_(None), RuleState.condition == Condition.OK))
        .order_by(Series.id)
    )
    return [(series, zone, interval) for series, zone, interval in rows]


def _due(tx: Session, now: Instant) -> list[Due]:
    freed_at = (
        select(func.max(MaintenanceWindow.until))
        .where(
            MaintenanceWindow.equipment_id == Zone.equipment_id,
            MaintenanceWindow.kind == "stopped",
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
            and_(ProbeZone.probe_id == Probe.id, ProbeZone.zone_id == RuleState.zone_id, _in_force(ProbeZone, now)),
        )
        .join(Zone, Zone.id == RuleState.zone_id)
        .outerjoin(ProbeGateway, and_(ProbeGateway.probe_id == Probe.id, _in_force(ProbeGateway, now)))
        .outerjoin(Gateway, Gateway.id == ProbeGateway.gateway_id)
        .outerjoin(SeriesState, SeriesState.series_id == RuleState.series_id)
        .where(
            RuleState.rule == Rule.PROBE_OFFLINE,
            RuleState.condition == Condition.OK,
            RuleState.due_at <= now,
        )
        .order_by(RuleState.series_id)
    )
    return [Due(*row) for row in rows]


def _let_go(tx: Session, gone: Iterable[Gone]) -> list[Evidence]:
    evidence = []
    for one in gone:
        of_probe = and_(RuleState.series_id == one.series, RuleState.zone_id == one.zone)
        tx.execute(delete(RuleState).where(of_probe, RuleState.rule == one.rule))
        evidence.append(Evidence(zone=one.zone, rule=Rule(one.rule), probe=one.probe, onset=NEVER, measured=False))
    return evidence


def _watch(tx: Session, zones: Zones, fresh: Iterable[tuple[SeriesId, ZoneId, Milliseconds]], now: Instant) -> None:
    """Expect probes from now on, whenever they were put there: what was before is not their silence."""
    for series, zone, interval in fresh:
        due_at = silence.due(now, interval, zones[zone].profile.patience)
        row = {"series_id": series, "rule": Rule.PROBE_OFFLINE, "zone_id": zone, "condition": Condition.OK}
        insert_missing(tx, RuleState, [{**row, "due_at": due_at, "memory": b"", "changed_at": now}])
        mine = and_(RuleState.series_id == series, RuleState.rule == Rule.PROBE_OFFLINE)
        tx.execute(update(RuleState).where(mine).values(zone_id=zone, due_at=due_at))


def _judge(tx: Session, zones: Zones, due: Iterable[Due], now: Instant) -> list[Evidence]:
    """Move the rows of those that have spoken since; the others are silent now."""
    evidence = []
    for row in due:
        mine = and_(
            RuleState.series_id == row.series,
            RuleState.rule == Rule.PROBE_OFFLINE,
            RuleState.condition == Condition.OK,
            # Else the follower has moved it meanwhile, which means that the probe spoke.
            RuleState.due_at == row.due_at,
        )
        patience = zones[row.zone].profile.patience
        # What a stopped equipment's probes say is refused: that is no silence of theirs.
        heard = max(now if row.stopped else row.freed_at or NEVER_YET, row.received_at or NEVER_YET)
        due_at = max(row.due_at, silence.due(heard, row.interval, patience))
        if due_at > now:
            tx.execute(update(RuleState).where(mine).values(due_at=due_at))
            continue
        onset = Instant(due_at - patience.of(row.interval))
        values = {"condition": Condition.ACTIVE, "due_at": None, "changed_at": now, "memory": _pack(onset)}
        if tx.scalar(update(RuleState).where(mine).values(values).returning(RuleState.series_id)) is not None:
            evidence.append(
                Evidence(zone=row.zone, rule=Rule.PROBE_OFFLINE, probe=row.probe, onset=onset, value=row.value)
            )
    return evidence


def _parts(rows: Sequence[T]) -> Iterable[Sequence[T]]:
    return (rows[at : at + AT_ONCE] for at in range(0, len(rows), AT_ONCE))
