"""Comparison of evaluated episodes with the known alarms: pure functions.

Afterwards each episode is covered by alarms of its zone and rule. Every alarm that was made of late readings only, and
that nobody has touched, equals an episode. So these alarms depend on the set of readings only.

* An alarm that live readings opened is widened while it is open. Once it has recovered, and until somebody acknowledges
  it, it ends with its last episode. Its own are all up to its last re-opening, and those that follow one another so
  closely that live readings would have re-opened it. One that comes later is another excursion, which live readings
  alone couldn't tell from the first.
* An alarm that was acknowledged, handled or closed stays as it is; the part of an episode that exceeds it becomes an
  alarm of its own, linked to it. So does an episode that the alarm was held open over, if it is none of its own and
  began after the acknowledgement: nobody has acknowledged it.
* An alarm made of late readings takes the times of its episode, or is withdrawn if there is no episode any more.
"""

from collections.abc import Iterable, Sequence
from enum import Enum, auto

import msgspec

from core.ids import AlarmId, Centi, ProbeId
from core.rules.rule_types import END, Episode
from core.runtime.instant import Instant, Milliseconds


class Alterable(Enum):
    """What late readings may do to an alarm."""

    WIDENS = auto()
    FIXED = auto()
    LATE = auto()


class KnownAlarm(msgspec.Struct, frozen=True):
    """An alarm of the zone and rule, in event time. `until` lies in the far future while it is open."""

    id: AlarmId
    since: Instant
    until: Instant
    standing: Alterable
    reopened: Instant | None = None
    """Onset of its last cycle; None in the first."""
    acknowledged: Instant | None = None
    """When its last cycle was acknowledged."""

    def touches(self, since: Instant, until: Instant) -> bool:
        """Return whether the alarm lies within [since, until], or reaches into it."""
        return self.since <= until and self.until >= since


class FoundEpisode(msgspec.Struct, frozen=True):
    """An episode of a zone: of one of its probes, or of several that overlap."""

    probe: ProbeId
    since: Instant
    until: Instant
    ended: bool
    """Whether its end is known."""
    peak: Centi | None
    limit: Centi | None


class NewAlarm(msgspec.Struct, frozen=True):
    """An alarm to be made."""

    found: FoundEpisode
    exceeds: AlarmId | None = None
    """The alarm that is left as it is, and that this one exceeds."""


class AlarmChanges(msgspec.Struct):
    """Changes that make the alarms cover the episodes."""

    widened: list[tuple[AlarmId, list[FoundEpisode]]] = []
    placed: list[tuple[AlarmId, FoundEpisode]] = []
    made: list[NewAlarm] = []
    withdrawn: list[AlarmId] = []


def of_episode(probe: ProbeId, episode: Episode, limit: Centi | None) -> FoundEpisode:
    """Return an episode of one probe as one of its zone."""
    return FoundEpisode(probe, episode.onset, episode.until, episode.ended is not None, episode.peak, limit)


def united(found: Iterable[FoundEpisode], *, highest: bool) -> list[FoundEpisode]:
    """Return the episodes of a zone's probes, overlapping ones joined; `highest`: the worst value is the greatest."""
    joined: list[FoundEpisode] = []
    for each in sorted(found, key=lambda one: (one.since, one.probe)):
        if joined and each.since <= joined[-1].until:
            last = joined[-1]
            later = max(last, each, key=lambda one: (one.until, not one.ended))
            peaks = [one.peak for one in (last, each) if one.peak is not None]
            peak = (max if highest else min)(peaks) if peaks else None
            joined[-1] = msgspec.structs.replace(last, until=later.until, ended=later.ended, peak=peak)
        else:
            joined.append(each)
    return joined


def reconcile(episodes: Sequence[FoundEpisode], alarms: Sequence[KnownAlarm], *, pause: Milliseconds) -> AlarmChanges:
    """Compare the episodes of a span with the alarms of its zone and rule that touch it; both in order of time.

    `pause` is the longest time between two episodes after which live readings re-open an alarm.
    """
    changes = AlarmChanges()
    late = [alarm for alarm in alarms if alarm.standing is Alterable.LATE]
    fixed = [alarm for alarm in alarms if alarm.standing is Alterable.FIXED]
    live = [alarm for alarm in alarms if alarm.standing is Alterable.WIDENS]
    live.sort(key=lambda alarm: alarm.until != END)
    own: dict[AlarmId, list[FoundEpisode]] = {}
    used: set[AlarmId] = set()
    for episode in episodes:
        widens = next((alarm for alarm in live if _takes(alarm, own.get(alarm.id), episode, pause)), None)
        if widens is not None:
            own.setdefault(widens.id, []).append(episode)
            continue
        over = [alarm for alarm in fixed if _covers(alarm, own.get(alarm.id), episode, pause)]
        for alarm in over:
            own.setdefault(alarm.id, []).append(episode)
        for piece, exceeds in _exceeding(episode, over):
            touching = (alarm for alarm in late if alarm.touches(piece.since, piece.until))
            mine = next((alarm for alarm in touching if alarm.id not in used), None)
            if mine is None:
                changes.made.append(NewAlarm(piece, exceeds))
            else:
                used.add(mine.id)
                changes.placed.append((mine.id, piece))
    changes.widened = [(alarm.id, own[alarm.id]) for alarm in live if alarm.id in own]
    changes.withdrawn = [alarm.id for alarm in late if alarm.id not in used]
    return changes


def _takes(alarm: KnownAlarm, own: Sequence[FoundEpisode] | None, episode: FoundEpisode, pause: Milliseconds) -> bool:
    """Return whether an episode is one of an alarm that has the episodes `own`."""
    if not alarm.touches(episode.since, episode.until):
        return False
    if not own or alarm.until == END or episode.since - own[-1].until <= pause:
        return True
    return alarm.reopened is not None and own[-1].until < alarm.reopened


def _covers(alarm: KnownAlarm, own: Sequence[FoundEpisode] | None, episode: FoundEpisode, pause: Milliseconds) -> bool:
    """Return whether an alarm that stays as it is was about an episode, or about a part of it."""
    if _takes(alarm, own, episode, pause):
        return True
    unknown_then = alarm.acknowledged is not None and episode.since > alarm.acknowledged
    return not unknown_then and alarm.touches(episode.since, episode.until)


def _exceeding(episode: FoundEpisode, over: Sequence[KnownAlarm]) -> list[tuple[FoundEpisode, AlarmId | None]]:
    """Return the parts of an episode that no fixed alarm covers, each with the alarm that it exceeds."""
    if not over:
        return [(episode, None)]
    pieces: list[tuple[FoundEpisode, AlarmId | None]] = []
    covered = episode.since
    for alarm in sorted(over, key=lambda one: one.since):
        if alarm.since > covered:
            piece = msgspec.structs.replace(episode, since=covered, until=alarm.since, ended=True)
            pieces.append((piece, alarm.id))
        covered = max(covered, alarm.until)
    if covered < episode.until:
        pieces.append((msgspec.structs.replace(episode, since=covered), over[-1].id))
    return pieces
