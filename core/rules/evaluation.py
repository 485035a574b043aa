"""Evaluation of stored readings: the episodes of a probe in a zone, as a pure function of the set of its readings.

The rule is the one of the live state (`excursion.step`), applied in event order. What is evaluated reaches from a
moment at which the state is certain to one from which on the readings of the span no longer matter:

* **Certain from.** The rule is begun in its worst case, active. Once the readings have brought that back to ok, the
  state is ok whatever was before, since a worse state never becomes ok earlier than a better one. A probe that came to
  the zone then, or has no earlier reading, is ok at its first.
* **Matters no longer.** The same behind the span: begun as active at its end, the rule has come back to ok.

Guarantee, tried by tests/unit/test_late_evaluation.py: whatever window around a span is read, the episodes that touch
the span are those of all readings sorted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from core.ids import Centi, ProbeId, ZoneId
from core.rules import excursion
from core.rules.excursion import CALM, Excursion, Limit
from core.rules.live_state import WATERMARK, Bounds
from core.rules.reconcile import FoundEpisode, KnownAlarm, of_episode, united
from core.rules.rule_types import BEGINNING, END, GOING_ON, Condition, Episode, Rule, Sample
from core.runtime.instant import HOUR, Instant, Milliseconds

WORST = Excursion(Condition.ACTIVE)
FIRST_LOOK = Milliseconds(HOUR)
"""Time that is read before and after a span at first, and `FARTHER` times as much whenever that isn't enough."""
FARTHER = 4
Read = Callable[[Instant, Instant], Sequence[Sample]]
"""Returns the readings of [since, until) in event order, each instant once."""
Alarms = Callable[[Instant, Instant], Sequence[KnownAlarm]]
"""Returns the alarms of a zone and rule that touch [since, until], in event order."""


class ZonePeriod(msgspec.Struct, frozen=True):
    """Limits of a probe in [since, until), while it was in a zone."""

    since: Instant
    until: Instant
    zone: ZoneId
    bounds: Bounds


class RuleEvaluation(msgspec.Struct, frozen=True):
    """Result of one rule for a span of one probe."""

    since: Instant
    """The state was ok then, and what was before isn't touched by the span."""
    until: Instant
    """The state was ok then, and what comes later isn't touched by the span; END where the readings end before that."""
    episodes: Sequence[Episode]
    """In event order; at most the last has no end yet."""
    settled: Excursion
    """From the readings up to the watermark, where the evaluation came that far."""
    unfinished: bool = False
    """Whether the state at the end of the readings isn't ok: what is measured next belongs to it."""


class ProbeReadings(msgspec.Struct, frozen=True):
    """The readings of a probe, and when it was in the zone."""

    probe: ProbeId
    runs: Sequence[Sequence[ZonePeriod]]
    """Each run has periods that follow one another without a break."""
    read: Read
    newest: Instant | None
    """Event time of the live state's newest reading, up to which all are looked at; None without a live state."""


class ZoneEpisodes(msgspec.Struct, frozen=True):
    """Result of one rule for a zone in [since, until]: no episode or alarm reaches beyond it."""

    since: Instant
    until: Instant
    episodes: Sequence[FoundEpisode]
    alarms: Sequence[KnownAlarm]
    """Those that touch [since, until]."""
    settled: Mapping[ProbeId, Excursion]
    """State at the watermark of each probe that is in the zone now and was evaluated up to there."""
    unfinished: frozenset[ProbeId]
    """Probes whose last readings are beyond the limit, or not inside for long enough: the next ones belong to these."""


def evaluate(
    rule: Rule,
    periods: Sequence[ZonePeriod],
    samples: Sequence[Sample],
    span: tuple[Instant, Instant],
    *,
    complete: bool,
    watermark: Instant = END,
) -> RuleEvaluation | None:
    """Evaluate the readings of a probe around a span, from and to where they are certain.

    `periods` follow one another without a break, all in one zone; `samples` are in event order, each instant once, all
    within them. `complete` says that there are no earlier ones. Returns None where the state at the beginning of the
    span isn't certain: read from earlier on. Behind the span it reads up to the last sample.
    """
    walk = _Walk(span, watermark, CALM if complete else None)
    for limit, sample in _held_to(rule, periods, samples):
        if sample.at >= span[0] and walk.state is None:
            return None
        walk.take(limit, sample)
        if walk.matters_no_longer(limit, sample):
            return RuleEvaluation(walk.since, sample.at, walk.episodes, walk.settled)
    if walk.state is None:
        return None
    going_on = excursion.episode(walk.state, samples[-1].at if samples else span[0])
    episodes = [*walk.episodes, going_on] if going_on else walk.episodes
    return RuleEvaluation(walk.since, END, episodes, walk.settled, walk.state.condition is not Condition.OK)


class _Walk:
    """State of an evaluation in progress. `state` is None while it isn't certain."""

    def __init__(self, span: tuple[Instant, Instant], watermark: Instant, state: Excursion | None) -> None:
        self._first, self._last = span
        self._watermark = watermark
        self._before = self._behind = WORST
        self.state = state
        self.since = BEGINNING
        self.settled = CALM
        self.episodes: list[Episode] = []

    def take(self, limit: Limit | None, sample: Sample) -> None:
        was, at = self.state, sample.at
        self.state = self._after(limit, sample)
        if self.state is None:
            return
        if at <= self._watermark:
            self.settled = self.state
        if self.state.condition is not Condition.OK:
            return
        if at < self._first:
            self.since = at
        elif was is not None and was.condition in GOING_ON:
            self.episodes.append(excursion.ended(was, at))

    def _after(self, limit: Limit | None, sample: Sample) -> Excursion | None:
        if limit is None:
            return CALM
        if self.state is not None:
            return excursion.step(limit, self.state, sample)
        self._before = excursion.step(limit, self._before, sample)
        return CALM if self._before.condition is Condition.OK else None

    def matters_no_longer(self, limit: Limit | None, sample: Sample) -> bool:
        """Return whether the readings of the span make no difference from this sample on."""
        if sample.at <= self._last:
            return False
        self._behind = CALM if limit is None else excursion.step(limit, self._behind, sample)
        return self._behind.condition is Condition.OK


def _held_to(
    rule: Rule, periods: Sequence[ZonePeriod], samples: Sequence[Sample]
) -> Iterator[tuple[Limit | None, Sample]]:
    """Yield samples with the limit that held then."""
    following = iter(periods)
    period = next(following)
    for sample in samples:
        while sample.at >= period.until:
            period = next(following)
        yield period.bounds.limit(rule), sample


def around(
    rule: Rule,
    periods: Sequence[ZonePeriod],
    read: Read,
    span: tuple[Instant, Instant],
    *,
    newest: Instant,
    watermark: Instant = END,
) -> RuleEvaluation:
    """Evaluate a span with as many readings around it as needed, none newer than `newest`."""
    began, ends = periods[0].since, min(periods[-1].until, Instant(newest + 1))
    before = behind = FIRST_LOOK
    while True:
        since, until = max(began, Instant(span[0] - before)), min(ends, Instant(span[1] + 1 + behind))
        complete = since == began
        found = evaluate(rule, periods, read(since, until), span, complete=complete, watermark=watermark)
        if found is None:
            before = Milliseconds(before * FARTHER)
        elif found.until == END and until < ends:
            behind = Milliseconds(behind * FARTHER)
        else:
            return found


def of_zone(rule: Rule, probes: Sequence[ProbeReadings], span: tuple[Instant, Instant], alarms: Alarms) -> ZoneEpisodes:
    """Return the episodes of a zone that a span touches, of all its probes together.

    The span is widened until no episode and no alarm reaches beyond it: two probes and three short excursions may be
    one episode of the zone, and what is compared with an alarm must be all that the alarm was made of.
    """
    first, last = span
    while True:
        found: list[FoundEpisode] = []
        settled: dict[ProbeId, Excursion] = {}
        unfinished: set[ProbeId] = set()
        for each in probes:
            for periods in each.runs:
                since, until = max(first, periods[0].since), min(last, Instant(periods[-1].until - 1))
                if since > until:
                    continue
                newest = until if each.newest is None else max(each.newest, until)
                watermark = Instant(newest - WATERMARK)
                evaluated = around(rule, periods, each.read, (since, until), newest=newest, watermark=watermark)
                left = periods[-1].until < END
                for episode in evaluated.episodes:
                    one = of_episode(each.probe, episode, _limit_at(rule, periods, episode.onset))
                    found.append(msgspec.structs.replace(one, ended=True) if left else one)
                if not left and evaluated.until > watermark:
                    settled[each.probe] = evaluated.settled
                    if evaluated.unfinished:
                        unfinished.add(each.probe)
        episodes = united(found, highest=rule is Rule.ABOVE)
        touched = alarms(first, last)
        lows = [first, *(one.since for one in episodes), *(one.since for one in touched)]
        highs = [last, *(one.until for one in episodes), *(one.until for one in touched if one.until < END)]
        if (min(lows), max(highs)) == (first, last):
            return ZoneEpisodes(first, last, episodes, touched, settled, frozenset(unfinished))
        first, last = min(lows), max(highs)


def _limit_at(rule: Rule, periods: Sequence[ZonePeriod], at: Instant) -> Centi | None:
    period = next((one for one in periods if one.since <= at < one.until), periods[0])
    limit = period.bounds.limit(rule)
    return None if limit is None else limit.value
