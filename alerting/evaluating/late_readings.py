"""Evaluation of late readings: marked spans are read from the telemetry store, and what they show becomes alarms.

It works in a thread of its own, in slices behind the live work, and outside any transaction but for its end. So neither
a backlog nor a store that can't be read delays what is live.

Guarantees, tried by tests/integration/test_late_readings*.py and test_late_stores.py on both databases and both stores:
* a span is evaluated once telemetry has come as far as its marks, and with all that can be read then;
* its end is one transaction that finds the marks and the devices' revision unmoved, or changes nothing: then it is
  evaluated again. Marks that never end hold nothing up: five minutes after the first, and each five minutes again, a
  span is evaluated with what telemetry has, and stays marked. Nor do live readings that come meanwhile. So whatever is
  killed (tests/integration/test_followed_late.py), alarms are a function of the readings (`core.rules.evaluation`);
* what late readings show pages only where the live state is itself beyond the limit (`live_state.join`);
* they end a live excursion only by a measured end: inside the limit for as long as the rule asks;
* a span that can't be evaluated (what telemetry has of it is damaged) is put aside for a while, and no other waits.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from alerting.evaluating import live_correction
from alerting.evaluating.late_inputs import RULES, LateInputs, RangeReader, is_calm, read_around, snapshot, zones_of
from alerting.evaluating.probe_state import ProbeState, load, save
from alerting.late_queue import SpanQueue
from config.secrets import NoSecrets
from config.settings_loader import InvalidSetting
from core.alarms import late_alarms, late_spans
from core.alarms.alarm_facts import worst
from core.alarms.late_spans import MarkedSpan
from core.alarms.lifecycle import ZoneRule, lock, longest_pause, settle
from core.alarms.outbox import OutboxWriter
from core.alarms.zone_cache import ZoneCache
from core.alarms.zone_periods import ProbeZonePeriods, in_zone
from core.db.engine import Records
from core.devices.directory import Place
from core.ids import Centi, SeriesId
from core.intake.port import IntakeUnavailable as LogUnavailable
from core.rules import evaluation
from core.rules.evaluation import ProbeReadings, ZoneEpisodes
from core.rules.excursion import Excursion
from core.rules.reconcile import KnownAlarm, reconcile
from core.rules.rule_types import BEGINNING, END, GOING_ON, Rule
from core.runtime.clock import Clock
from core.runtime.instant import Instant
from core.runtime.logs import logger
from core.runtime.trouble import TroubleKind, Troubles, first_line
from core.telemetry.codec import Damaged
from core.telemetry.port import Telemetry
from core.units import device_revision
from core.wire.quality import UNUSABLE

log = logger(__name__)

POLL_S = 1.0
BEHIND_S = 0.5
"""Real seconds that a slice waits for live work."""
AGAIN_S = 1.0
STORE, EVALUATION = "telemetry reader", "late readings"
"""Parts that a pass may fail by. Records and log are the engine's to tell."""
Results = Mapping[ZoneRule, tuple[ZoneEpisodes, Sequence[ProbeReadings]]]
"""What was evaluated of each zone and rule, and the readings that it was made of."""


class LiveWork(Protocol):
    """What evaluates live readings in the same process."""

    def is_behind(self) -> bool:
        """Return whether there are readings that it hasn't taken in."""

    def wake(self) -> None:
        """Tell what is due now: alarms have opened or changed."""


class LateEvaluation:
    """The late readings of one worker. `run` in a thread; `is_idle` may be called from any."""

    def __init__(
        self,
        records: Records,
        open_store: Callable[[], Telemetry],
        zones: ZoneCache,
        outbox: OutboxWriter,
        clock: Clock,
        *,
        shards: str,
        live: LiveWork,
    ) -> None:
        """`shards` is a range such as `00-7f`; of all spans the worker evaluates those of as many series."""
        self._records = records
        self._open_store = open_store
        self._store: Telemetry | None = None
        self._zones = zones
        self._outbox = outbox
        self._clock = clock
        first, last = shards.split("-")
        self._queue = SpanQueue(records, self._telemetry, (int(first, 16), int(last, 16)))
        self._live = live
        self._woken = threading.Event()
        self.evaluated = 0
        """Spans since the start."""
        self.troubles = Troubles()
        """Why the last pass failed."""

    def wake(self) -> None:
        """Ask for a look soon."""
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop`. Whatever fails is tried again."""
        while not stop.is_set():
            self._woken.clear()
            try:
                self._wait_for_live_work(stop)
                worked = self.step()
            except (SQLAlchemyError, LogUnavailable) as error:
                log.warning("late readings wait", problem=first_line(error))
                stop.wait(AGAIN_S)
            except (OSError, sqlite3.Error, NoSecrets, InvalidSetting) as error:
                self.close()
                self._note_store(error)
                stop.wait(AGAIN_S)
            except Exception as error:
                if self.troubles.note(EVALUATION, f"{type(error).__name__}: {first_line(error)}"):
                    log.exception("late readings not evaluated")
                stop.wait(AGAIN_S)
            else:
                self._passed()
                if not worked:
                    self._woken.wait(POLL_S)
        self.close()

    def _passed(self) -> None:
        if self._queue.is_well():
            for part in (STORE, EVALUATION):
                self.troubles.note(part, None)

    def _note_store(self, error: Exception) -> None:
        if self.troubles.note(STORE, error, kind=TroubleKind.DAMAGED if isinstance(error, Damaged) else None):
            log.warning("late readings wait for telemetry", problem=first_line(error))

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def is_idle(self) -> bool:
        """Return whether all that is due has been evaluated; true too while the store can't be read."""
        idle = not self._queue.has_any(self._clock.now())
        if not idle:
            self.wake()
        return idle or bool(self.troubles.now())

    def step(self) -> bool:
        """Evaluate some of the spans that are due and stored; returns whether there were any.

        Raises: OSError when the store can't be read; SQLAlchemyError; IntakeUnavailable of the log.
        """
        candidates = self._queue.next(self._clock.now())
        if not candidates:
            return False
        spans = [each.span for each in candidates]
        with self._records.read() as tx:
            known = snapshot(tx, candidates)
        try:
            self._evaluate_all(spans, known)
        except Exception as error:
            self._queue.failed(spans)
            if not isinstance(error, Damaged):
                raise
            self._note_store(error)
        else:
            self._queue.evaluated(spans)
        return True

    def _evaluate_all(self, spans: Sequence[MarkedSpan], known: LateInputs) -> None:
        pieces = read_around(self._telemetry(), spans)
        calm = [span for span in spans if is_calm(span, known, pieces[span.key].curve)]
        if calm:
            with self._records.write() as tx:
                unmoved = late_spans.take(tx, calm)
                if device_revision.current(tx) == known.revision:
                    late_spans.finish(tx, unmoved)
                    late_spans.postpone(tx, _overdue(calm, unmoved, self._clock.now()), self._clock.now())
            self.evaluated += len(calm)
        for span in spans:
            if span not in calm:
                self._evaluate(span, known, RangeReader(self._telemetry(), span, pieces[span.key]))
                self.evaluated += 1

    def _wait_for_live_work(self, stop: threading.Event) -> None:
        waited = 0.0
        while waited < BEHIND_S and self._live.is_behind() and not stop.wait(0.05):
            waited += 0.05

    def _telemetry(self) -> Telemetry:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _evaluate(self, span: MarkedSpan, known: LateInputs, reader: RangeReader) -> None:
        """Evaluate one span, zone by zone, and make of it what it is."""
        now = self._clock.now()
        results: dict[ZoneRule, tuple[ZoneEpisodes, Sequence[ProbeReadings]]] = {}
        for zone in zones_of(span, known):
            probes = [
                ProbeReadings(each.probe, runs, reader.of(each.series), known.newest.get(each.series))
                for each, runs in in_zone(zone, known.periods.values())
            ]
            for rule in RULES:
                alarms = self._alarms((zone, rule), known)
                results[zone, rule] = evaluation.of_zone(rule, probes, (span.since, span.until), alarms), probes
        with self._records.write() as tx:
            changed = self._finish(tx, span, known, results, reader, now)
        if changed:
            log.info("late readings evaluated", series=span.series, since=span.since, until=span.until, **changed)
            self._live.wake()

    def _alarms(self, key: ZoneRule, known: LateInputs) -> evaluation.Alarms:
        def touching(since: Instant, until: Instant) -> list[KnownAlarm]:
            if known.since <= since and until <= known.until:
                return _touching(known.alarms.get(key, ()), since, until)
            with self._records.read() as tx:
                return late_alarms.known_alarms(tx, [key[0]], since, until).get(key, [])

        return touching

    def _finish(
        self,
        tx: Session,
        span: MarkedSpan,
        known: LateInputs,
        results: Results,
        reader: RangeReader,
        now: Instant,
    ) -> dict[str, object]:
        """End an evaluation, unless something that it was made of has changed meanwhile.

        Of an overdue span it counts although more was marked meanwhile, or although the live state has moved on so far
        that it can't be corrected; the span is then evaluated again.
        """
        mine = known.periods.get(span.series)
        memory = load(tx, {span.series: _place(mine)}) if mine is not None else {}
        unmoved = late_spans.take(tx, [span])
        overdue = _overdue([span], unmoved, now)
        if not (unmoved or overdue) or device_revision.current(tx) != known.revision:
            return {}
        self._zones.refresh(tx)
        zones = {zone for zone, _ in results}
        lock(tx, zones)
        if _alarms_touched(tx, results) != {key: found.alarms for key, (found, _) in results.items()}:
            return {}
        settled = self._settled_now(span, known, results, memory, reader)
        if settled is None and not span.is_overdue(now):
            return {}
        if settled is None:
            settled, overdue = {}, [span]
        outcome = self._correct(tx, memory, results, settled, now)
        goes_on = {rule for rule in settled for probe in memory.values() if probe.memory(rule).condition in GOING_ON}
        # So that nobody acknowledges or handles one between the look at it and its change.
        late_alarms.hold(tx, [alarm.id for found, _ in results.values() for alarm in found.alarms])
        alarms = _alarms_touched(tx, results)
        for key, (found, readings) in results.items():
            changes = reconcile(found.episodes, alarms[key], pause=longest_pause(self._zones, *key))
            made, changed = late_alarms.change(tx, self._zones, key, changes, _peak(key[1], readings), now)
            if made or changed:
                outcome[str(key[1])] = {"made": made, "changed": changed}
        unfinished = {
            rule for (_, rule), (found, _) in results.items() if mine is not None and mine.probe in found.unfinished
        }
        if overdue:
            late_spans.postpone(tx, overdue, now)
        elif unfinished - goes_on:
            late_spans.keep(tx, span, known.newest.get(span.series, Instant(0)), now)
        else:
            late_spans.finish(tx, [span])
        return outcome

    def _settled_now(
        self,
        span: MarkedSpan,
        known: LateInputs,
        results: Results,
        memory: Mapping[SeriesId, ProbeState],
        reader: RangeReader,
    ) -> Mapping[Rule, Excursion] | None:
        """Return the states of the span's probe by all readings before its recent ones; None if they aren't known.

        While it was evaluated, the live state may have moved on.
        """
        probe = memory.get(span.series)
        if probe is None:
            return {}
        settled = {
            rule: found.settled[probe.place.probe]
            for (_, rule), (found, _) in results.items()
            if probe.place.probe in found.settled
        }
        if settled and probe.live_state.recent.inserted != known.inserted.get(span.series, 0):
            return None  # one that came meanwhile, behind a newer one, may not have been read
        newest = known.newest.get(span.series, Instant(0))
        return live_correction.at_the_recent(probe, self._zones, settled, newest, reader.of(span.series))

    def _correct(
        self,
        tx: Session,
        memory: Mapping[SeriesId, ProbeState],
        results: Results,
        settled: Mapping[Rule, Excursion],
        now: Instant,
    ) -> dict[str, object]:
        """Correct the live state of the span's probe, and its alarms with it."""
        episodes = {key: found for key, (found, _) in results.items()}
        outcome: dict[str, object] = {}
        for probe in memory.values():
            for condition_changes in live_correction.correct(probe, self._zones, episodes, settled):
                save(tx, memory, self._zones, now)
                opened, recovered = settle(tx, self._zones, self._outbox, condition_changes, now)
                outcome |= {"opened": opened} if opened else {"recovered": recovered}
        return outcome


def _overdue(spans: Sequence[MarkedSpan], unmoved: Sequence[MarkedSpan], now: Instant) -> list[MarkedSpan]:
    """Return the spans that were marked during their evaluation, and wait no longer for that to end."""
    return [span for span in spans if span not in unmoved and span.is_overdue(now)]


def _alarms_touched(tx: Session, results: Results) -> dict[ZoneRule, Sequence[KnownAlarm]]:
    """Return the alarms as they are now of each zone and rule that touch what was evaluated of it."""
    since = min((found.since for found, _ in results.values()), default=END)
    until = max((found.until for found, _ in results.values()), default=BEGINNING)
    alarms = late_alarms.known_alarms(tx, {zone for zone, _ in results}, since, until)
    return {key: _touching(alarms.get(key, ()), found.since, found.until) for key, (found, _) in results.items()}


def _touching(alarms: Iterable[KnownAlarm], since: Instant, until: Instant) -> list[KnownAlarm]:
    return [alarm for alarm in alarms if alarm.touches(since, until)]


def _peak(rule: Rule, probes: Sequence[ProbeReadings]) -> late_alarms.Peak:
    def peak(since: Instant, until: Instant) -> Centi | None:
        values = [
            one.value
            for probe in probes
            for run in probe.runs
            for one in probe.read(max(since, run[0].since), min(Instant(until + 1), run[-1].until))
            if not one.q & UNUSABLE
        ]
        return worst(rule, values)

    return peak


def _place(probe: ProbeZonePeriods) -> Place:
    return Place(probe.series, probe.probe, probe.interval, probe.runs[-1][-1].zone, None, None, None)
