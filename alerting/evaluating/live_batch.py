"""Chunk of readings: updates the memory of their probes, then their zones and alarms.

Readings pass through the live state of their probe. Readings that can't (late ones, ones released from quarantine, ones
of a zone that the probe has left) are only marked, and evaluated later with all others of their time. So a backlog
costs little here, and no live reading waits long behind one.
"""

from collections.abc import Iterable

import msgspec
from sqlalchemy.orm import Session

from alerting.evaluating.probe_state import ProbeState, load, save
from core.alarms.evidence import Evidence
from core.alarms.late_spans import LateMarks
from core.alarms.lifecycle import FOLLOWED_LATE, lock, settle
from core.alarms.outbox import OutboxWriter
from core.alarms.unplaced import UnplacedMarks
from core.alarms.zone_cache import ZoneCache
from core.devices.directory import Place
from core.ids import AlarmId, Centi, SeriesId, ZoneId
from core.rules import live_state as courses
from core.rules import offline
from core.rules.conditions import GOING_ON, Rule, Sample
from core.rules.live_state import Bounds
from core.runtime.instant import Instant
from core.wire.quality import Quality
from core.wire.shards import Shard


class PlacedReading(msgspec.Struct, frozen=True):
    """Temperature with its place and time."""

    place: Place
    shard: Shard
    n: int
    """Position in the shard's log."""
    at: Instant
    received: Instant
    value: Centi | None
    q: int
    released: bool
    """Whether it came out of quarantine: such a reading is past, whenever it was taken, and never opens a paging alarm.
    """


class LiveBatch:
    """Readings of one transaction. `add` them in the order of the log, then `settle`."""

    def __init__(self, zones: ZoneCache, now: Instant) -> None:
        self._zones = zones
        self._now = now
        self._readings: list[PlacedReading] = []
        self._marks = LateMarks()
        self.unplaced = UnplacedMarks()
        """Readings without a known place."""
        self._last: dict[SeriesId, tuple[Shard, int]] = {}
        """Position of each series's last reading in the log."""
        self.begun_anew = 0
        """Number of probes whose memory couldn't be read."""

    def __len__(self) -> int:
        return len(self._readings)

    def add(self, reading: PlacedReading) -> None:
        """Append a reading."""
        self._readings.append(reading)
        self._last[reading.place.series] = reading.shard, reading.n

    def received_since(self, since: Instant) -> set[ZoneId]:
        """Return the zones whose last reading in this chunk was received at or after `since`."""
        last = {reading.place.zone: reading.received for reading in self._readings if reading.place.zone is not None}
        return {zone for zone, received in last.items() if received >= since}

    def settle(self, tx: Session, outbox: OutboxWriter) -> tuple[list[AlarmId], list[AlarmId]]:
        """Evaluate all readings, save the memories, update alarms; return the ids of opened and of recovered alarms."""
        probes = load(tx, {reading.place.series: reading.place for reading in self._readings})
        self.begun_anew = sum(bool(probe.unreadable) for probe in probes.values())
        for reading in self._readings:
            self._take(probes[reading.place.series], reading)
        evidence: list[Evidence] = []
        for series, probe in probes.items():
            recent = probe.course.recent
            if recent.zone is not None:
                bounds = self._zones.bounds(recent.zone, probe.place.interval)
                evidence += self._evidence(probe, recent.zone, bounds)
                self._mark_unnoticed(series, probe)
            evidence += _end_of_offline(probe, recent.zone)
            evidence += probe.left
        save(tx, probes, self._zones, self._now)
        self._marks.write(tx, self._now)
        self.unplaced.write(tx)
        # All at once and in order, so that two workers can't deadlock on each other's zones.
        lock(tx, {item.zone for item in evidence})
        return settle(tx, self._zones, outbox, evidence, self._now)

    def _take(self, probe: ProbeState, reading: PlacedReading) -> None:
        place, course = reading.place, probe.course
        sample = Sample(reading.at, reading.value, reading.q)
        if not reading.released:
            probe.shard = reading.shard
            if offline.has_value(reading.value, reading.q):
                probe.spoke = probe.received = reading.received
            if offline.is_heard(reading.value, reading.q):
                probe.heard = reading.received
        newer = reading.at > course.newest and not reading.released
        if place.zone != course.recent.zone and newer:
            self._move(probe, place)
            course = probe.course
        if place.zone is None:
            if newer:
                course.recent.samples = [sample]
            return
        if course.recent.zone is None and not course.recent.samples and not reading.released:
            course.recent.zone = place.zone
        if reading.released or place.zone != course.recent.zone or courses.is_late(course, sample.at):
            self._marks.add(place.series, reading.at, reading.shard, reading.n)
        else:
            probe.ended += courses.take(course, self._zones.bounds(place.zone, place.interval), sample)

    def _mark_unnoticed(self, series: SeriesId, probe: ProbeState) -> None:
        """Mark ended excursions for which no alarm may have opened: they began within this chunk, or in a late one."""
        for ended in probe.ended:
            was = probe.was[ended.rule]
            if self._was_late(probe) or was.condition not in GOING_ON or was.onset < ended.episode.onset:
                self._mark_span(series, ended.episode.onset, ended.episode.until)

    def _was_late(self, probe: ProbeState) -> bool:
        """Return whether a probe was followed so late that an excursion may have opened nothing (`lifecycle`)."""
        return probe.was_newest <= self._now - FOLLOWED_LATE

    def _mark_span(self, series: SeriesId, since: Instant, until: Instant) -> None:
        shard, n = self._last[series]
        for at in (since, until):
            self._marks.add(series, at, shard, n)

    def _move(self, probe: ProbeState, place: Place) -> None:
        """Restart the rules in another zone; conditions of the old zone lose their evidence."""
        old = probe.course.recent.zone
        if old is not None:
            self._mark_unnoticed(place.series, probe)
            probe.left += [
                Evidence(zone=old, rule=rule, probe=place.probe, onset=memory.onset, measured=False)
                for rule in probe.was
                if (memory := probe.memory(rule)).condition in GOING_ON
            ]
            for rule in (Rule.ABOVE, Rule.BELOW):
                excursion = probe.memory(rule)
                unnoticed = self._was_late(probe) or probe.was[rule].condition not in GOING_ON
                if excursion.condition in GOING_ON and unnoticed:
                    self._mark_span(place.series, excursion.onset, probe.course.newest)
        probe.place = place
        probe.course = courses.begin(place.zone)
        probe.ended = []
        probe.was = {rule: probe.memory(rule) for rule in probe.was}

    def _evidence(self, probe: ProbeState, zone: ZoneId, bounds: Bounds) -> Iterable[Evidence]:
        """Return the changes that concern the zone's alarms."""
        course = probe.course
        newest = course.recent.samples[-1] if course.recent.samples else None
        backlog = bool(newest and newest.q & Quality.BACKFILLED)
        draining = backlog if backlog or probe.was_backlog else None
        limits = {Rule.ABOVE: bounds.above, Rule.BELOW: bounds.below}
        for rule, was in probe.was.items():
            live = probe.memory(rule)
            goes_on, went_on = live.condition in GOING_ON, was.condition in GOING_ON
            if not (goes_on or went_on) or (live == was and draining is None and not self._was_late(probe)):
                continue
            limit = limits.get(rule)
            ended = [item.episode for item in probe.ended if item.rule is rule]
            yield Evidence(
                zone=zone,
                rule=rule,
                probe=probe.place.probe,
                onset=live.onset if goes_on else was.onset,
                at=newest.at if newest and rule in limits else None,
                value=newest.value if newest else None,
                peak=getattr(live if goes_on else was, "peak", None),
                limit=limit.value if limit else None,
                ended=None if goes_on else ended[-1].ended if ended else course.newest,
                draining=draining,
                # The removal of a limit says nothing about the temperature.
                measured=rule not in limits or limit is not None,
            )


def _end_of_offline(probe: ProbeState, zone: ZoneId | None) -> Iterable[Evidence]:
    """Return evidence that ends a silence in the zone of its alarm: the probe was heard there again, or has left it."""
    row = probe.offline_row
    if row is None or not probe.was_offline:
        return
    rule, onset = Rule.PROBE_OFFLINE, probe.offline_since
    if row.zone_id != zone:
        yield Evidence(zone=row.zone_id, rule=rule, probe=probe.place.probe, onset=onset, measured=False)
    elif probe.offline_ends:
        yield Evidence(zone=row.zone_id, rule=rule, probe=probe.place.probe, onset=onset, ended=probe.spoke)
