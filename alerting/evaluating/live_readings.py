"""Live readings: they pass through the live state of their probe. Functions without I/O, which change the given states.

Readings that can't (late ones, ones released from quarantine, ones of a zone that the probe has left) are only marked,
and evaluated later with all others of their time. So a backlog costs little here, and no live reading waits long behind
one.
"""

from collections.abc import Iterable, Mapping, Sequence

from alerting.evaluating.placed_readings import PlacedReading
from alerting.evaluating.probe_state import ProbeState
from core.alarms.condition_changes import ConditionChange
from core.alarms.late_spans import LateMarks
from core.alarms.zone_cache import ZoneCache
from core.devices.directory import Place
from core.ids import SeriesId
from core.rules import live_state, offline
from core.rules.rule_types import GOING_ON, Rule, Sample
from core.runtime.instant import Instant


def update_live_states(
    probes: Mapping[SeriesId, ProbeState], readings: Sequence[PlacedReading], zones: ZoneCache, now: Instant
) -> tuple[LateMarks, Sequence[PlacedReading]]:
    """Take readings, in the order of the log, into the states of their probes.

    Returns what is left to late evaluation: the late readings, and the excursions for which no alarm may have opened.
    Returns also the readings that were not taken: behind the end of an excursion that may have an alarm. They must be
    taken once that alarm has recovered, or the next excursion would be taken for the same one.
    """
    marks = LateMarks()
    last: dict[SeriesId, PlacedReading] = {}
    left = []
    for reading in readings:
        series = reading.place.series
        probe = probes[series]
        if any(probe.was[ended.rule].condition in GOING_ON for ended in probe.ended):
            left.append(reading)
        else:
            _take(probe, reading, zones, marks, now)
            last[series] = reading
    for series, probe in probes.items():
        for span in (*probe.unnoticed, *_unnoticed(probe, now)):
            for at in span:
                marks.add(series, at, last[series].shard, last[series].n)
    return marks, left


def _take(probe: ProbeState, reading: PlacedReading, zones: ZoneCache, marks: LateMarks, now: Instant) -> None:
    place, state = reading.place, probe.live_state
    sample = Sample(reading.at, reading.value, reading.q)
    if not reading.released:
        probe.shard = reading.shard
        if offline.has_value(reading.value, reading.q):
            probe.last_value_at = probe.received = reading.received
        if offline.is_heard(reading.value, reading.q):
            probe.last_heard_at = reading.received
    newer = reading.at > state.newest and not reading.released
    if place.zone != state.recent.zone and newer:
        _move(probe, place, now)
        state = probe.live_state
    if place.zone is None:
        if newer:
            state.recent.samples = [sample]
        return
    if state.recent.zone is None and not state.recent.samples and not reading.released:
        state.recent.zone = place.zone
    if reading.released or place.zone != state.recent.zone or live_state.is_late(state, sample.at):
        marks.add(place.series, reading.at, reading.shard, reading.n)
    else:
        probe.ended += live_state.take(state, zones.bounds(place.zone, place.interval), sample)


def _move(probe: ProbeState, place: Place, now: Instant) -> None:
    """Restart the rules in another zone; conditions of the old zone lose their evidence."""
    old = probe.live_state.recent.zone
    if old is not None:
        probe.unnoticed += _unnoticed(probe, now)
        probe.left += [
            ConditionChange(zone=old, rule=rule, probe=place.probe, onset=memory.onset, measured=False)
            for rule in probe.was
            if (memory := probe.memory(rule)).condition in GOING_ON
        ]
        for rule in (Rule.ABOVE, Rule.BELOW):
            excursion = probe.memory(rule)
            opened_none = probe.was_followed_late(now) or probe.was[rule].condition not in GOING_ON
            if excursion.condition in GOING_ON and opened_none:
                probe.unnoticed.append((excursion.onset, probe.live_state.newest))
    probe.place = place
    probe.live_state = live_state.begin(place.zone)
    probe.ended = []
    probe.was = {rule: probe.memory(rule) for rule in probe.was}


def _unnoticed(probe: ProbeState, now: Instant) -> Iterable[tuple[Instant, Instant]]:
    """Return ended excursions for which no alarm may have opened: they began within this chunk, or in a late one."""
    for ended in probe.ended:
        was = probe.was[ended.rule]
        if probe.was_followed_late(now) or was.condition not in GOING_ON or was.onset < ended.episode.onset:
            yield ended.episode.onset, ended.episode.until
