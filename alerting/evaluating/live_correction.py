"""Correction of a probe's live state by its late readings. Functions without I/O, which change the given state.

The live state can't count readings that come late. Once they are evaluated, it goes on with what all readings show:

* an excursion that began in late readings keeps its beginning, also while it is too short for an alarm: by its live
  readings alone it may end before it opens one;
* a live excursion of which late readings show a whole end is over. Else the next one would be taken for the same, and
  have no alarm.
"""

from collections.abc import Iterator, Mapping

from alerting.evaluating.probe_state import ProbeState
from core.alarms.condition_changes import ConditionChange
from core.alarms.lifecycle import ZoneRule
from core.alarms.zone_cache import ZoneCache
from core.ids import ZoneId
from core.rules import evaluation, live_state
from core.rules.evaluation import ZoneEpisodes
from core.rules.excursion import CALM, Excursion, Limit
from core.rules.live_state import WATERMARK, LimitState
from core.rules.rule_types import GOING_ON, Condition, Rule
from core.runtime.instant import Instant


def correct(
    probe: ProbeState,
    zones: ZoneCache,
    episodes: Mapping[ZoneRule, ZoneEpisodes],
    settled: Mapping[Rule, Excursion],
) -> Iterator[list[ConditionChange]]:
    """Correct the live state in one or two steps; yield the condition changes of each.

    The caller saves the state and settles the changes before it takes the next step. `settled` has the states at the
    watermark by all readings.
    """
    recent = probe.live_state.recent
    if recent.zone is None:
        return
    tracks = probe.live_state.tracks(zones.bounds(recent.zone, probe.place.interval))
    known = [
        (rule, track, limit) for rule, track, limit in tracks if rule in settled and (recent.zone, rule) in episodes
    ]
    over: set[Rule] = set()
    ends: list[ConditionChange] = []
    for rule, track, limit in known:
        ended = _end_of(track, episodes[recent.zone, rule])
        if ended is not None:
            over.add(rule)
            ends.append(_change(probe, recent.zone, rule, limit, track.live, ended))
            track.settled = track.live = CALM
    if over:
        yield ends
    corrected = []
    for rule, track, limit in known:
        if rule in over:
            live_state.begin_anew(track, limit, recent.samples, settled[rule])
        elif not live_state.join(track, limit, recent.samples, settled[rule]):
            continue
        corrected.append((rule, track, limit))
    if corrected:
        yield [
            _change(probe, recent.zone, rule, limit, track.live, None)
            for rule, track, limit in corrected
            if track.live.condition is Condition.ACTIVE
        ]


def at_the_recent(
    probe: ProbeState, zones: ZoneCache, settled: Mapping[Rule, Excursion], newest: Instant, read: evaluation.Read
) -> Mapping[Rule, Excursion] | None:
    """Return the states by all readings before the recent ones of the live state, which may have moved on.

    `settled` has the states at the watermark of `newest`, up to which the readings are known. Returns None if the
    live state has left readings behind that aren't.
    """
    recent = probe.live_state.recent
    if not settled or probe.live_state.newest == newest:
        return settled
    if recent.zone is None or probe.live_state.newest - WATERMARK > newest:
        return None
    bounds = zones.bounds(recent.zone, probe.place.interval)
    samples = read(Instant(newest - WATERMARK + 1), recent.samples[0].at)
    moved = {}
    for rule, state in settled.items():
        limit = bounds.limit(rule)
        moved[rule] = CALM if limit is None else live_state.replayed(limit, samples, state)
    return moved


def _end_of(track: LimitState, found: ZoneEpisodes) -> Instant | None:
    """Return when the live excursion has ended by all readings; None while it goes on."""
    if track.live.condition not in GOING_ON:
        return None
    return min((one.until for one in found.episodes if one.ended and one.until > track.live.onset), default=None)


def _change(
    probe: ProbeState, zone: ZoneId, rule: Rule, limit: Limit, excursion: Excursion, ended: Instant | None
) -> ConditionChange:
    value = probe.live_state.recent.samples[-1].value
    return ConditionChange(
        zone=zone,
        rule=rule,
        probe=probe.place.probe,
        onset=excursion.onset,
        value=value,
        peak=excursion.peak,
        limit=limit.value,
        ended=ended,
        # Nobody is told of an end while the zone is beyond the limit again.
        measured=ended is None or value is None or not limit.exceeded_by(value),
    )
