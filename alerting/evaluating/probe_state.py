"""Memory of a probe between two chunks: rows of the records, read for each chunk and written where they changed.

A calm probe costs one row a chunk: its limits remember nothing, and the scan looks up its silence.

Guarantee: a memory that can't be read (another version wrote it, its bytes are damaged) stops nothing. The rules of
that probe restart behind its newest reading, from the columns beside the memory. An open alarm is neither opened again
nor ended before readings say so. Only an excursion that was still too short for an alarm is lost and counts anew. The
loss is logged, counted, and overwritten in the same chunk. Everything that can still be read is used.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, delete, select
from sqlalchemy.orm import Session

from core.alarms.condition_changes import FOLLOWED_LATE, ConditionChange
from core.alarms.tables import RuleState, SeriesState
from core.alarms.zone_cache import ZoneCache
from core.db.in_values import in_values
from core.db.insert import upsert
from core.devices.directory import Place
from core.ids import SeriesId, ZoneId
from core.rules import live_state, offline
from core.rules.bad_sensor import UNKNOWN, Sensor
from core.rules.excursion import CALM, Excursion
from core.rules.live_state import EndedExcursion, LimitState, LiveState, RecentReadings, SensorState
from core.rules.rule_types import GOING_ON, Condition, Rule, Sample
from core.runtime.instant import Instant
from core.runtime.logs import logger
from core.wire.quality import Quality

log = logger(__name__)

_pack = msgspec.msgpack.Encoder().encode
_recent = msgspec.msgpack.Decoder(RecentReadings).decode
_track = msgspec.msgpack.Decoder(LimitState).decode
_sensor = msgspec.msgpack.Decoder(SensorState).decode
_offline_since = msgspec.msgpack.Decoder(Instant).decode
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Errors that decoding may raise, whatever the bytes are."""


class ProbeState:
    """State of one series during a chunk: before and now."""

    def __init__(self, place: Place, row: Row[Any] | None, rules: Mapping[str, Row[Any]]) -> None:
        self.place = place
        self.known = rules
        self.unreadable = ""
        """Why the stored memory couldn't be read; its rules restart."""
        try:
            self.live_state = _remembered(row, rules)
        except UNREADABLE as error:
            self.unreadable = str(error)
            self.live_state = _restarted(row, rules)
        self.was_in = self.live_state.recent.zone
        """The zone of the live state before; None for a probe that was in no zone or has sent only old readings."""
        self.shard = row.shard if row else ""
        self.received: Instant | None = row.received_at if row else None
        """Server time of the last reading with a value."""
        self.was_backlog = bool(row and row.q & Quality.BACKFILLED)
        self.was_newest = self.live_state.newest
        self.was = {rule: self.memory(rule) for rule in (Rule.ABOVE, Rule.BELOW, Rule.BAD_SENSOR)}
        self.last_heard_at: Instant | None = None
        """Server time of the chunk's last reading that proves that the probe lives, with a value or without."""
        self.last_value_at: Instant | None = None
        """Server time of the chunk's last reading with a value."""
        self.ended: list[EndedExcursion] = []
        """Excursions that the chunk's readings have ended."""
        self.unnoticed: list[tuple[Instant, Instant]] = []
        """Spans of excursions in zones that the probe has left, for which no alarm may have opened."""
        self.left: list[ConditionChange] = []
        """Condition changes of zones that the probe has left."""

    def memory(self, rule: Rule) -> Any:  # noqa: ANN401  # Excursion or Sensor: both have condition and onset
        """Return the live memory of a rule."""
        if rule is Rule.BAD_SENSOR:
            return self.live_state.sensor.live
        return (self.live_state.above if rule is Rule.ABOVE else self.live_state.below).live

    def was_followed_late(self, now: Instant) -> bool:
        """Return whether the probe was followed so late that an excursion may have opened nothing."""
        return self.was_newest <= now - FOLLOWED_LATE

    @property
    def offline_row(self) -> Row[Any] | None:
        """The stored row of an offline probe."""
        return self.known.get(Rule.PROBE_OFFLINE)

    @property
    def was_offline(self) -> bool:
        """Whether the probe counted as offline."""
        return self.offline_row is not None and self.offline_row.condition == Condition.ACTIVE

    @property
    def offline_since(self) -> Instant:
        """Onset of its silence; when that can't be read, the time at which it was found."""
        if self.offline_row is None:
            msg = f"series {self.place.series} isn't silent"
            raise ValueError(msg)
        try:
            return _offline_since(self.offline_row.memory)
        except UNREADABLE:
            return Instant(self.offline_row.changed_at)

    @property
    def offline_ends(self) -> bool:
        """Whether the chunk has ended its silence."""
        return self.was_offline and self.last_value_at is not None


def load(tx: Session, places: Mapping[SeriesId, Place]) -> dict[SeriesId, ProbeState]:
    """Read the memory of some series, and lock it until the transaction ends."""
    ids = sorted(places)
    of_series = select(*SeriesState.__table__.c).where(in_values(tx, SeriesState.series_id, ids))
    locked = tx.execute(of_series.order_by(SeriesState.series_id).with_for_update())
    rows = {row.series_id: row for row in locked}
    rules: dict[SeriesId, dict[str, Row[Any]]] = {}
    for rule_row in tx.execute(select(*RuleState.__table__.c).where(in_values(tx, RuleState.series_id, ids))):
        rules.setdefault(rule_row.series_id, {})[rule_row.rule] = rule_row
    probes = {series: ProbeState(places[series], rows.get(series), rules.get(series, {})) for series in ids}
    unreadable = {series: probe.unreadable for series, probe in probes.items() if probe.unreadable}
    if unreadable:
        first = next(iter(unreadable))
        log.error("memory of rules can't be read, begun anew", series=list(unreadable), problem=unreadable[first])
    return probes


def inserted(memory: bytes) -> int:
    """Return how many readings had been inserted between recent ones when their memory was written."""
    try:
        return _recent(memory).inserted
    except UNREADABLE:
        return 0


def save(tx: Session, probes: Mapping[SeriesId, ProbeState], zones: ZoneCache, now: Instant) -> None:
    """Write the changes."""
    series_rows = [_series_row(series, probe) for series, probe in probes.items()]
    rule_rows: list[dict[str, object]] = []
    for series, probe in probes.items():
        zone = probe.live_state.recent.zone
        if zone is None:
            # A probe that has sent only old readings keeps its row of an offline probe: its alarm still waits for the
            # end.
            if probe.was_in is not None:
                tx.execute(delete(RuleState).where(RuleState.series_id == series))
        else:
            rule_rows += _rule_rows(series, probe, zone, now)
            rule_rows += _offline_row(series, probe, zone, zones, now)
    upsert(tx, SeriesState, series_rows)
    upsert(tx, RuleState, rule_rows)


def _series_row(series: SeriesId, probe: ProbeState) -> dict[str, object]:
    recent = probe.live_state.recent
    newest = recent.samples[-1] if recent.samples else None
    return {
        "series_id": series,
        "shard": probe.shard,
        "newest_at": newest.at if newest else Instant(0),
        "received_at": probe.received,
        "value": newest.value if newest else None,
        "q": newest.q if newest else 0,
        "recent": _pack(recent),
    }


def _rule_rows(series: SeriesId, probe: ProbeState, zone: ZoneId, now: Instant) -> Iterable[dict[str, object]]:
    state = probe.live_state
    tracks = ((Rule.ABOVE, state.above), (Rule.BELOW, state.below), (Rule.BAD_SENSOR, state.sensor))
    for rule, track in tracks:
        known = probe.known.get(rule)
        memory = _pack(track)
        if known is None or known.memory != memory or known.zone_id != zone:
            condition = track.live.condition
            same_condition = known is not None and known.condition == condition
            yield {
                "series_id": series,
                "rule": rule,
                "zone_id": zone,
                "condition": condition,
                "due_at": None,
                "memory": memory,
                "changed_at": known.changed_at if known is not None and same_condition else now,
            }


def _offline_row(
    series: SeriesId, probe: ProbeState, zone: ZoneId, zones: ZoneCache, now: Instant
) -> Iterable[dict[str, object]]:
    """Return the row of an offline probe if it changes.

    A reading with a value doesn't move `due_at`: the scan does that when it reaches the row.
    """
    moved = probe.offline_row is None or probe.offline_row.zone_id != zone
    alive_without_value = not probe.was_offline and probe.last_heard_at is not None and probe.last_value_at is None
    if moved or probe.offline_ends or alive_without_value:
        heard_at = probe.last_heard_at or probe.received or now
        yield {
            "series_id": series,
            "rule": Rule.PROBE_OFFLINE,
            "zone_id": zone,
            "condition": Condition.OK,
            "due_at": offline.due(heard_at, probe.place.interval, zones[zone].profile.offline_limit),
            "memory": b"",
            "changed_at": now,
        }


def _remembered(row: Row[Any] | None, rules: Mapping[str, Row[Any]]) -> LiveState:
    if row is None:
        return live_state.begin(None)
    above, below, sensor = (rules.get(rule) for rule in (Rule.ABOVE, Rule.BELOW, Rule.BAD_SENSOR))
    return LiveState(
        _recent(row.recent),
        _track(above.memory) if above else LimitState(),
        _track(below.memory) if below else LimitState(),
        _sensor(sensor.memory) if sensor else SensorState(),
    )


def _restarted(row: Row[Any] | None, rules: Mapping[str, Row[Any]]) -> LiveState:
    """Return the state that the columns beside the memory still tell.

    An ongoing condition is taken to have begun at the newest reading. That is never too early, and the alarm knows its
    real beginning.
    """
    zone = next((rules[rule].zone_id for rule in (Rule.ABOVE, Rule.BELOW, Rule.BAD_SENSOR) if rule in rules), None)
    if row is None or zone is None:
        return live_state.begin(None)
    at = Instant(row.newest_at)

    def condition(rule: Rule) -> Condition | None:
        stored = rules[rule].condition if rule in rules else Condition.OK
        return Condition(stored) if stored in GOING_ON else None

    def limit(rule: Rule) -> LimitState:
        going_on = condition(rule)
        state = Excursion(going_on, at, newest=at, inside=at) if going_on else CALM
        return LimitState(settled=state, live=state)

    sensor = Sensor(going_on, at) if (going_on := condition(Rule.BAD_SENSOR)) else UNKNOWN
    recent = RecentReadings(zone=zone, samples=[Sample(at, row.value, row.q)])
    return LiveState(recent, limit(Rule.ABOVE), limit(Rule.BELOW), SensorState(settled=sensor, live=sensor))
