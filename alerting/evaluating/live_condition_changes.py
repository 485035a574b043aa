"""Condition changes of live readings: the changes of the live states that concern alarms. Functions without I/O."""

from collections.abc import Iterable, Mapping

from alerting.evaluating.probe_state import ProbeState
from core.alarms.condition_changes import ConditionChange
from core.alarms.zone_cache import ZoneCache
from core.ids import SeriesId, ZoneId
from core.rules.live_state import Bounds
from core.rules.rule_types import GOING_ON, Rule
from core.runtime.instant import Instant
from core.wire.quality import Quality


def condition_changes_of(
    probes: Mapping[SeriesId, ProbeState], zones: ZoneCache, now: Instant
) -> list[ConditionChange]:
    """Return the condition changes of probes whose live states have taken all readings of a chunk."""
    condition_changes: list[ConditionChange] = []
    for probe in probes.values():
        zone = probe.live_state.recent.zone
        if zone is not None:
            condition_changes += _changes(probe, zone, zones.bounds(zone, probe.place.interval), now)
        condition_changes += _end_of_offline(probe, zone)
        condition_changes += probe.left
    return condition_changes


def _changes(probe: ProbeState, zone: ZoneId, bounds: Bounds, now: Instant) -> Iterable[ConditionChange]:
    """Return the changes that concern the zone's alarms."""
    state = probe.live_state
    newest = state.recent.samples[-1] if state.recent.samples else None
    backlog = bool(newest and newest.q & Quality.BACKFILLED)
    draining = backlog if backlog or probe.was_backlog else None
    limits = {Rule.ABOVE: bounds.above, Rule.BELOW: bounds.below}
    for rule, was in probe.was.items():
        live = probe.memory(rule)
        goes_on, went_on = live.condition in GOING_ON, was.condition in GOING_ON
        if not (goes_on or went_on) or (live == was and draining is None and not probe.was_followed_late(now)):
            continue
        limit = limits.get(rule)
        ended = [item.episode for item in probe.ended if item.rule is rule]
        yield ConditionChange(
            zone=zone,
            rule=rule,
            probe=probe.place.probe,
            onset=live.onset if goes_on else was.onset,
            at=newest.at if newest and rule in limits else None,
            value=newest.value if newest else None,
            peak=getattr(live if goes_on else was, "peak", None),
            limit=limit.value if limit else None,
            ended=None if goes_on else ended[-1].ended if ended else state.newest,
            draining=draining,
            # The removal of a limit says nothing about the temperature.
            measured=rule not in limits or limit is not None,
        )


def _end_of_offline(probe: ProbeState, zone: ZoneId | None) -> Iterable[ConditionChange]:
    """Yield the condition change that ends a silence in the zone of its alarm.

    The probe was heard there again, or has left it.
    """
    row = probe.offline_row
    if row is None or not probe.was_offline:
        return
    rule, onset = Rule.PROBE_OFFLINE, probe.offline_since
    if row.zone_id != zone:
        yield ConditionChange(zone=row.zone_id, rule=rule, probe=probe.place.probe, onset=onset, measured=False)
    elif probe.offline_ends:
        yield ConditionChange(
            zone=row.zone_id, rule=rule, probe=probe.place.probe, onset=onset, ended=probe.last_value_at
        )
