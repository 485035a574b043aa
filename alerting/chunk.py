"""What a chunk of readings does to the memory of their probes, and from there to zones and alarms."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
from sqlalchemy import Row, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from core.alarms.lifecycle import Evidence, lock, settle
from core.alarms.past import record_past
from core.alarms.post import Post
from core.alarms.rules import course as courses
from core.alarms.rules import silence
from core.alarms.rules.course import Bounds, Course, Past, Recent, SensorTrack, Track
from core.alarms.rules.sample import Condition, Rule, Sample
from core.alarms.tables import RuleState, SeriesState
from core.alarms.watched import Zones
from core.db.record import Record
from core.devices.directory import Place
from core.ids import AlarmId, Centi, ProbeId, SeriesId, ZoneId
from core.runtime.instant import Instant
from core.wire.quality import Quality
from core.wire.topics import Shard

GOING_ON = (Condition.ACTIVE, Condition.CLEARING)

_pack = msgspec.msgpack.Encoder().encode
_recent = msgspec.msgpack.Decoder(Recent).decode
_track = msgspec.msgpack.Decoder(Track).decode
_sensor = msgspec.msgpack.Decoder(SensorTrack).decode


class Reading(msgspec.Struct, frozen=True):
    """A temperature, and where it belongs."""

    place: Place
    shard: Shard
    at: Instant
    received: Instant
    value: Centi | None
    q: int
    released: bool
    """It came out of quarantine: it is of the past, whenever it was, and never pages."""


class _Probe:
    """One series during a chunk: what was remembered, what is now."""

    def __init__(self, place: Place, row: Row[Any] | None, rules: dict[str, Row[Any]]) -> None:
        self.place = place
        self.known = rules
        self.course = _remembered(row, rules)
        self.shard = row.shard if row else ""
        self.received = row.received_at if row else None
        self.was_backlog = bool(row and row.q & Quality.BACKFILLED)
        self.was = {rule: self.memory(rule) for rule in (Rule.ABOVE, Rule.BELOW, Rule.BAD_SENSOR)}
        self.offline = rules.get(Rule.PROBE_OFFLINE)
        self.heard: Instant | None = None
        self.spoke: Instant | None = None
        self.past: list[Past] = []
        self.left: list[Evidence] = []

    def memory(self, rule: Rule) -> Any:  # noqa: ANN401  # Excursion or Sensor: both have condition and onset
        if rule is Rule.BAD_SENSOR:
            return self.course.sensor.live
        return (self.course.above if rule is Rule.ABOVE else self.course.below).live


class Chunk:
    """Readings of one transaction. `add` them in the order of the log, then `settle`."""

    def __init__(self, zones: Zones, now: Instant) -> None:
        self._zones = zones
        self._now = now
        self._readings: list[Reading] = []

    def __len__(self) -> int:
        return len(self._readings)

    def add(self, reading: Reading) -> None:
        """Take a reading."""
        self._readings.append(reading)

    def settle(self, tx: Session, post: Post) -> tuple[list[AlarmId], list[AlarmId]]:
        """Evaluate all, write what is remembered, open and recover alarms; return those opened and recovered."""
        probes = self._load(tx)
        for reading in self._readings:
            self._take(probes[reading.place.series], reading)
        evidence: list[Evidence] = []
        past: list[tuple[ProbeId, Past]] = []
        for probe in probes.values():
            recent = probe.course.recent
            if recent.late_zone is not None:
                late_bounds = self._zones.bounds(recent.late_zone, probe.place.interval)
                probe.past += courses.conclude(probe.course, late_bounds)
            if recent.zone is not None:
                bounds = self._zones.bounds(recent.zone, probe.place.interval)
                evidence += self._evidence(probe, recent.zone, bounds)
            evidence += probe.left
            past += [(probe.place.probe, found) for found in probe.past]
        self._write(tx, probes, evidence)
        # All at once and in order, so that two workers never wait for each other's zones crosswise.
        lock(tx, {one.zone for one in evidence} | {found.zone for _, found in past})
        opened, recovered = settle(tx, self._zones, post, evidence, self._now)
        opened += record_past(tx, self._zones, past, self._now)
        return opened, recovered

    def _load(self, tx: Session) -> dict[SeriesId, _Probe]:
        places = {reading.place.series: reading.place for reading in self._readings}
        ids = sorted(places)
        of_series = select(*SeriesState.__table__.c).where(SeriesState.series_id.in_(ids))
        found = tx.execute(of_series.order_by(SeriesState.series_id).with_for_update())
        rows = {row.series_id: row for row in found}
        rules: dict[SeriesId, dict[str, Row[Any]]] = {}
        for rule in tx.execute(select(*RuleState.__table__.c).where(RuleState.series_id.in_(ids))):
            rules.setdefault(rule.series_id, {})[rule.rule] = rule
        return {series: _Probe(places[series], rows.get(series), rules.get(series, {})) for series in ids}

    def _take(self, probe: _Probe, reading: Reading) -> None:
        place, course = reading.place, probe.course
        sample = Sample(reading.at, reading.value, reading.q)
        if not reading.released:
            probe.shard = reading.shard
            if silence.has_value(reading.value, reading.q):
                probe.spoke = probe.received = reading.received
            if silence.is_heard(reading.value, reading.q):
                probe.heard = reading.received
        newer = reading.at > course.newest and not reading.released
        if place.zone != course.recent.zone and newer:
            self._move(probe, place)
            course = probe.course
        if place.zone is None:
            if newer:
                course.recent.samples = [sample]
            return
        if course.recent.zone is None and not course.recent.samples:
            course.recent.zone = place.zone
        bounds = self._zones.bounds(place.zone, place.interval)
        if reading.released or place.zone != course.recent.zone or courses.is_late(course, reading.at):
            probe.past += courses.take_late(course, bounds, place.zone, sample, pages=not reading.released)
        else:
            probe.past += courses.take(course, bounds, sample)

    def _move(self, probe: _Probe, place: Place) -> None:
        """Begin anew in another zone; what was going on in the old one has no evidence any more."""
        old = probe.course.recent.zone
        if old is not None:
            probe.left += [
                Evidence(zone=old, rule=rule, probe=place.probe, onset=memory.onset, measured=False)
                for rule in probe.was
                if (memory := probe.memory(rule)).condition in GOING_ON
            ]
            if probe.offline and probe.offline.condition == Condition.ACTIVE:
                gone = Evidence(zone=old, rule=Rule.PROBE_OFFLINE, probe=place.probe, onset=self._now, measured=False)
                probe.left.append(gone)
        probe.place = place
        probe.course = courses.begin(place.zone)
        probe.was = {rule: probe.memory(rule) for rule in probe.was}

    def _evidence(self, probe: _Probe, zone: ZoneId, bounds: Bounds) -> Iterable[Evidence]:
        """Return what has changed for the zone's alarms."""
        course = probe.course
        newest = course.recent.samples[-1] if course.recent.samples else None
        backlog = bool(newest and newest.q & Quality.BACKFILLED)
        draining = backlog if backlog or probe.was_backlog else None
        limits = {Rule.ABOVE: bounds.above, Rule.BELOW: bounds.below}
        for rule, was in probe.was.items():
            now = probe.memory(rule)
            goes_on, went_on = now.condition in GOING_ON, was.condition in GOING_ON
            if not (goes_on or went_on) or (now == was and draining is None):
                continue
            limit = limits.get(rule)
            over = [found.episode for found in probe.past if found.rule is rule and found.zone == zone]
            yield Evidence(
                zone=zone,
                rule=rule,
                probe=probe.place.probe,
                onset=now.onset if goes_on else was.onset,
                value=newest.value if newest else None,
                peak=getattr(now if goes_on else was, "peak", None),
                limit=limit.value if limit else None,
                ended=None if goes_on else over[-1].ended if over else course.newest,
                draining=draining,
            )

    def _write(self, tx: Session, probes: dict[SeriesId, _Probe], evidence: list[Evidence]) -> None:
        series_rows: list[dict[str, object]] = []
        rule_rows: list[dict[str, object]] = []
        for series, probe in probes.items():
            recent = probe.course.recent
            newest = recent.samples[-1] if recent.samples else None
            series_rows.append(
                {
                    "series_id": series,
                    "shard": probe.shard,
                    "newest_at": newest.at if newest else recent.late_at,
                    "received_at": probe.received,
                    "value": newest.value if newest else None,
                    "q": newest.q if newest else 0,
                    "recent": _pack(recent),
                }
            )
            if recent.zone is None:
                tx.execute(delete(RuleState).where(RuleState.series_id == series))
                continue
            rule_rows += self._rule_rows(series, probe, recent.zone)
            if (row := self._offline_row(series, probe, recent.zone, evidence)) is not None:
                rule_rows.append(row)
        _upsert(tx, SeriesState, ["series_id"], series_rows)
        _upsert(tx, RuleState, ["series_id", "rule"], rule_rows)

    def _rule_rows(self, series: SeriesId, probe: _Probe, zone: ZoneId) -> Iterable[dict[str, object]]:
        course = probe.course
        tracks = ((Rule.ABOVE, course.above), (Rule.BELOW, course.below), (Rule.BAD_SENSOR, course.sensor))
        for rule, track in tracks:
            known = probe.known.get(rule)
            memory = _pack(track)
            if known is None or known.memory != memory or known.zone_id != zone:
                condition = track.live.condition
                changed = known is None or known.condition != condition
                yield {
                    "series_id": series,
                    "rule": rule,
                    "zone_id": zone,
                    "condition": condition,
                    "due_at": None,
                    "memory": memory,
                    "changed_at": self._now if changed or known is None else known.changed_at,
                }

    def _offline_row(
        self, series: SeriesId, probe: _Probe, zone: ZoneId, evidence: list[Evidence]
    ) -> dict[str, object] | None:
        """Return the row of silence where it changes.

        A reading with a value doesn't move `due_at`: the scan does, when it comes to the row, so that a calm probe
        costs no write here.
        """
        known = probe.offline
        was_active = known is not None and known.condition == Condition.ACTIVE
        moved = known is None or known.zone_id != zone
        ends = was_active and probe.spoke is not None
        alive_without_value = not was_active and probe.heard is not None and probe.spoke is None
        if not (moved or ends or alive_without_value):
            return None
        if ends and known is not None and not moved and probe.spoke is not None:
            onset = msgspec.msgpack.decode(known.memory, type=Instant)
            over = Evidence(zone=zone, rule=Rule.PROBE_OFFLINE, probe=probe.place.probe, onset=onset, ended=probe.spoke)
            evidence.append(over)
        heard = probe.heard or probe.received or self._now
        patience = self._zones[zone].profile.patience
        return {
            "series_id": series,
            "rule": Rule.PROBE_OFFLINE,
            "zone_id": zone,
            "condition": Condition.OK,
            "due_at": silence.due(heard, probe.place.interval, patience),
            "memory": b"",
            "changed_at": self._now,
        }


def _remembered(row: Row[Any] | None, rules: dict[str, Row[Any]]) -> Course:
    if row is None:
        return courses.begin(None)
    above, below, sensor = (rules.get(rule) for rule in (Rule.ABOVE, Rule.BELOW, Rule.BAD_SENSOR))
    return Course(
        _recent(row.recent),
        _track(above.memory) if above else Track(),
        _track(below.memory) if below else Track(),
        _sensor(sensor.memory) if sensor else SensorTrack(),
    )


def _upsert(tx: Session, table: type[Record], key: Sequence[str], rows: Sequence[dict[str, object]]) -> None:
    if not rows:
        return
    make = sqlite.insert if tx.get_bind().dialect.name == "sqlite" else postgresql.insert
    # The bare table: of entities the ORM makes twice the work.
    made = make(cast("Table", table.__table__))
    changed = {name: made.excluded[name] for name in rows[0] if name not in key}
    tx.execute(made.on_conflict_do_update(index_elements=list(key), set_=changed), list(rows))
