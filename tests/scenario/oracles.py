"""Oracles of the kill scenarios: what must hold after any number of kills, read from the phones and the stores.

`LogWatch` reads the intake log all the time, since it is pruned behind its readers. `examine` compares everything at
the end, when no work is under way, and returns counts and all that is wrong. No process of the system takes part.
"""

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import select

from core.alarms.message_text import client_msg_id, repeat_of
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, HandlingRecord, OutboxMessage
from core.db.audit import Audit
from core.devices.tables import Equipment, Probe, Series
from core.ids import SeriesId
from core.intake.factory import open_log
from core.intake.port import IntakeUnavailable
from core.runtime.instant import DAY, MINUTE, SECOND, Instant, Milliseconds
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.factory import open_telemetry
from core.units.tables import Person
from core.wire.quality import of_origin
from core.wire.shards import GatewayNumber, Shard
from gateway_agent.spool import Spool
from tests.scenario.county import LEVELS, County
from tests.scenario.county_activity import Episode, History, Staff, Value

LIMIT, DELAY, GAP_INTERVALS = 800, Milliseconds(10 * MINUTE), 3
"""Constants of the rule for the fridges (config/rules/china-2017.toml): 0.01 °C, milliseconds, polling intervals."""


class Tally(msgspec.Struct, kw_only=True):
    """Counts of a run, and a sentence for everything that is wrong."""

    batches_spooled: int = 0
    batches_logged: int = 0
    batches_lost: int = 0
    batches_doubled: int = 0
    readings_logged: int = 0
    readings_stored: int = 0
    readings_lost: int = 0
    readings_doubled: int = 0
    readings_altered: int = 0
    readings_held: int = 0
    dead_letters: int = 0
    episodes: int = 0
    alarms_opened: int = 0
    alarms_missed: int = 0
    alarms_doubled: int = 0
    alarms_recovered: int = 0
    alarms_acknowledged: int = 0
    alarms_handled: int = 0
    steps_fired: int = 0
    messages_told: int = 0
    messages_missing: int = 0
    messages_doubled: int = 0
    messages_superseded: int = 0
    messages_unwritten: int = 0
    asked_again: int = 0
    wrong: list[str] = []


class LogWatch:
    """Reader of the intake log in the test's process that keeps up with its head."""

    def __init__(self, county: County) -> None:
        self._log = open_log(county.settings.intake.url, county.settings.data_dir)
        self._read: dict[Shard, int] = {}
        self.wrong: list[str] = []
        self.batches: Counter[tuple[str, str, int]] = Counter()
        self.readings: Counter[tuple[str, int]] = Counter()
        """How often a reading (probe, instant) came from its gateway."""
        self.taken: dict[str, dict[int, Value]] = defaultdict(dict)
        """All values of each probe in the log, by instant."""

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            try:
                self.catch_up()
            except IntakeUnavailable:
                continue  # its server has just been killed

    def catch_up(self) -> None:
        for shard, head in self._log.heads().items():
            while self._read.get(shard, 0) < head:
                after = self._read.get(shard, 0)
                entries = self._log.read(shard, after, 500)
                numbers = [entry.n for entry in entries]
                if numbers != list(range(after + 1, after + 1 + len(numbers))) or not numbers:
                    self.wrong.append(f"the log of shard {shard} goes on with {numbers[:3]} behind {after}")
                    self._read[shard] = head
                    return
                for entry in entries:
                    batch = entry.batch
                    if batch.origin != "released":
                        self.batches[batch.gw, batch.ep, batch.seq] += 1
                        self.readings.update((reading.p, reading.at) for reading in batch.readings)
                    for reading in batch.readings:
                        self.taken[reading.p][reading.at] = (reading.value, reading.q | of_origin(batch.origin))
                self._read[shard] = numbers[-1]

    def close(self) -> None:
        self._log.close()


class _Told(NamedTuple):
    """Row of the outbox."""

    key: str
    alarm: int | None
    cycle: int
    tier: int
    kind: str
    level: int
    state: str
    attempts: int


def examine(county: County, watch: LogWatch, history: History, staff: Staff, episodes: Iterable[Episode]) -> Tally:
    """Compare logs, stores, records and phones. No work may be under way."""
    tally = Tally()
    watch.catch_up()
    tally.wrong += watch.wrong
    _spooled_and_logged(county, watch, tally)
    _stored(county, {code: taken | history.laid.get(code, {}) for code, taken in watch.taken.items()}, tally)
    _alarms(county, list(episodes), watch.taken, tally)
    _messages(county, tally)
    _deeds(county, staff, tally)
    return tally


def _spooled_and_logged(county: County, watch: LogWatch, tally: Tally) -> None:
    """Check that every spooled batch is in the log once."""
    log = open_log(county.settings.intake.url, county.settings.data_dir)
    spools = sorted((Path(county.settings.data_dir) / "spool").glob("*.db"))
    if {file.stem for file in spools} != set(county.stage.lines):
        tally.wrong.append(f"spools of {[file.stem for file in spools]}")
    for file in spools:
        spool = Spool(file, limit_bytes=2**30, limit_age=Milliseconds(10 * DAY))
        given, ep, gw = spool.seq, spool.ep, GatewayNumber(file.stem)
        if spool.depth or spool.lost:
            tally.wrong.append(f"spool {gw}: {spool.depth} batches were never acknowledged, lost {spool.lost}")
        spool.close()
        logged = [seq for number, life, seq in watch.batches if (number, life) == (gw, ep)]
        missing = set(range(1, given + 1)) - set(logged)
        tally.batches_spooled += given
        tally.batches_lost += len(missing)
        if missing:
            tally.wrong.append(f"gateway {gw}: batches {sorted(missing)[:9]} of {given} aren't in the log")
        if log.have(gw, ep) != [(1, given)]:
            tally.wrong.append(f"gateway {gw}: the log says that it has {log.have(gw, ep)}, spooled were 1 to {given}")
        foreign = [key for key in watch.batches if key[0] == gw and (key[1] != ep or not 1 <= key[2] <= given)]
        if foreign:
            tally.wrong.append(f"gateway {gw}: batches that were never spooled: {foreign[:5]}")
    tally.batches_logged = len(watch.batches)
    tally.batches_doubled = sum(times - 1 for times in watch.batches.values())
    tally.readings_logged = len(watch.readings)
    tally.readings_doubled = sum(times - 1 for times in watch.readings.values())
    if tally.batches_doubled or tally.readings_doubled:
        twice = [key for key, times in [*watch.batches.items(), *watch.readings.items()] if times > 1]
        tally.wrong.append(f"in the log more than once: {twice[:5]}")
    letters = log.dead_letters()
    tally.dead_letters = len(letters)
    quarantined = log.held(limit=1000)
    tally.readings_held = len(quarantined)
    if letters or quarantined:
        tally.wrong.append(f"dead letters {letters[:3]}, in quarantine {quarantined[:3]}")
    log.close()


def _stored(county: County, readings: Mapping[str, Mapping[int, Value]], tally: Tally) -> None:
    """Check that telemetry has exactly the readings of the log and of the written history."""
    store = open_telemetry(county.settings, read_only=True)
    with county.records.read() as tx:
        series = dict(tx.execute(select(Probe.code, Series.id).join(Series, Series.probe_id == Probe.id)).all())
    for code, taken in readings.items():
        if code not in series:
            tally.wrong.append(f"probe {code} is not in the records")
            continue
        curve = store.range(SeriesId(series[code]), Instant(0), Instant(2**52))
        stored = {int(sample.at): (sample.value, sample.q) for sample in curve.samples(SeriesId(series[code]))}
        lost, unexpected = taken.keys() - stored.keys(), stored.keys() - taken.keys()
        altered = [at for at in taken.keys() & stored.keys() if taken[at] != stored[at]]
        tally.readings_stored += len(stored)
        tally.readings_lost += len(lost)
        tally.readings_altered += len(altered) + len(unexpected)
        if lost or unexpected or altered:
            tally.wrong.append(
                f"probe {code}: {len(lost)} readings lost {sorted(lost)[:3]}, {len(unexpected)} from nowhere, "
                f"{len(altered)} altered {[(taken[at], stored[at]) for at in altered[:3]]}"
            )
    if isinstance(store, EmbeddedTelemetry) and store.verify().damage:
        tally.wrong.append(f"damage: {store.verify().damage[:3]}")
    store.close()


def _is_of_the_past(event: AlarmEvent) -> bool:
    """Return whether the event opened an alarm for an excursion that was already over."""
    return event.kind == "opened" and json.loads(event.detail).get("late") is True


def _alarms(
    county: County, episodes: Sequence[Episode], taken: Mapping[str, Mapping[int, Value]], tally: Tally
) -> None:
    """Check that no zone and rule had two open alarms at once, and that each alarm opened once a cycle."""
    with county.records.read() as tx:
        alarms = {alarm.id: alarm for alarm in tx.scalars(select(Alarm))}
        names = dict(tx.execute(select(Equipment.id, Equipment.name)).all())
        events = tx.scalars(select(AlarmEvent).order_by(AlarmEvent.id)).all()
    open_now: dict[tuple[int, str, int], int] = {}
    openings: Counter[int] = Counter()
    late = {event.alarm_id for event in events if _is_of_the_past(event)}
    for event in events:
        alarm = alarms[event.alarm_id]
        # An alarm made after its excursion was over may exist beside an open one.
        key = (alarm.zone_id, alarm.rule, alarm.id if alarm.id in late else 0)
        if event.kind in ("opened", "reopened"):
            openings[alarm.id] += 1
            tally.alarms_opened += 1
            if key in open_now:
                tally.alarms_doubled += 1
                tally.wrong.append(f"alarm {alarm.id} opened while {open_now[key]} of its zone and rule was open")
            open_now[key] = alarm.id
        elif event.kind == "recovered":
            tally.alarms_recovered += 1
            if open_now.pop(key, None) != alarm.id:
                tally.wrong.append(f"alarm {alarm.id} recovered, but was not open")
    cycles = Counter({alarm.id: alarm.cycle for alarm in alarms.values()})
    if openings != cycles:
        tally.wrong.append(f"openings by alarm: {cycles - openings} are missing, {openings - cycles} are too many")
    onsets: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    too_warm = {alarm.id: names[alarm.equipment_id] for alarm in alarms.values() if alarm.rule == "above"}
    for alarm_id, name in too_warm.items():
        onsets[name].append((alarms[alarm_id].onset_at, alarm_id in late))
    reopenings: dict[str, list[int]] = defaultdict(list)
    for event in (event for event in events if event.kind == "reopened" and event.alarm_id in too_warm):
        reopenings[too_warm[event.alarm_id]].append(json.loads(event.detail)["onset"])
    _episodes(county, episodes, onsets, reopenings, taken, tally)


def _episodes(
    county: County,
    episodes: Iterable[Episode],
    onsets: Mapping[str, Sequence[tuple[int, bool]]],
    reopenings: Mapping[str, Sequence[int]],
    taken: Mapping[str, Mapping[int, Value]],
    tally: Tally,
) -> None:
    """Check that each episode in which a fridge was too warm has one alarm, found by its onset in event time.

    Two alarms are allowed if a gap in the readings splits the episode. Alarms that were made after their excursion was
    over are allowed besides; `onsets` says of each alarm whether it is such a late one. An alarm that opens again tells
    everybody again, and is that episode's too: `reopenings` are the onsets of such cycles.
    """
    gap = Milliseconds(GAP_INTERVALS * county.interval_s * SECOND)
    for episode in episodes:
        if episode.since > county.now:
            continue
        stretches: list[list[int]] = []
        for code in county.fridges[episode.fridge].probes:
            for at, (value, _q) in sorted(taken[code].items()):
                if not episode.since <= at <= episode.until + county.interval_s * SECOND or (value or 0) <= LIMIT:
                    continue
                if stretches and at - stretches[-1][-1] <= gap:
                    stretches[-1].append(at)
                else:
                    stretches.append([at])
        possible = [stretch for stretch in stretches if stretch[-1] - stretch[0] >= DELAY]
        required = [stretch for stretch in possible if stretch[-1] - stretch[0] > DELAY + county.interval_s * SECOND]
        alarms = [alarm for alarm in onsets.get(episode.fridge, []) if episode.since <= alarm[0] <= episode.until]
        live_alarms = sum(not late for _, late in alarms)
        tally.episodes += bool(required)
        again = any(episode.since <= onset <= episode.until for onset in reopenings.get(episode.fridge, []))
        missed = bool(required and not alarms and not again)
        if missed or live_alarms > len(possible):
            tally.wrong.append(
                f"{episode}: measured {[(stretch[0], stretch[-1]) for stretch in stretches]}, alarms since {alarms}"
            )
            tally.alarms_missed += missed
            tally.alarms_doubled += max(0, live_alarms - len(possible))


def _messages(county: County, tally: Tally) -> None:
    """Check that the phones got each sent message once, and that each step told everybody whom it names."""
    received = Counter(
        (LEVELS[level], message["client_msg_id"]) for level in LEVELS for message in county.phone(level).messages
    )
    level_of = {openid: level for level, openid in LEVELS.items()}
    with county.records.read() as tx:
        rows = tx.execute(select(OutboxMessage, Person.openid).join(Person, Person.id == OutboxMessage.person_id)).all()
        rows_of_outbox = [
            _Told(row.key, row.alarm_id, row.cycle, row.tier, row.kind, level_of[openid], row.state, row.attempts)
            for row, openid in rows
        ]
    tally.messages_told = received.total()
    tally.messages_doubled = sum(times - 1 for times in received.values())
    # Duplicates here came more than ten minutes apart, since WeChat drops the others. docs/kills.md promises nothing
    # about them; they are counted.
    tally.messages_superseded = sum(outbox_row.state == "superseded" for outbox_row in rows_of_outbox)
    if tally.messages_doubled:
        tally.wrong.append(f"told twice: {[key for key, times in received.items() if times > 1][:5]}")
    sent = {
        (LEVELS[outbox_row.level], client_msg_id(outbox_row.key))
        for outbox_row in rows_of_outbox
        if outbox_row.state == "sent"
    }
    # Superseded messages may have been received: their sender was killed before it recorded the outcome, and when their
    # turn came again they were no longer true. Their rows have an attempt.
    begun = {
        (LEVELS[outbox_row.level], client_msg_id(outbox_row.key))
        for outbox_row in rows_of_outbox
        if outbox_row.state == "superseded" and outbox_row.attempts
    }
    unwritten = set(received) - sent
    tally.messages_missing += len(sent - set(received))
    tally.messages_unwritten = len(unwritten)
    if sent - set(received) or unwritten - begun:
        tally.wrong.append(
            f"sent, not received: {len(sent - set(received))}; received, and nobody knows why: {unwritten - begun}"
        )
    unfinished = [outbox_row for outbox_row in rows_of_outbox if outbox_row.state not in ("sent", "superseded")]
    if unfinished:
        tally.wrong.append(f"neither sent nor superseded: {unfinished[:5]}")
    for key, times in Counter(outbox_row.key for outbox_row in rows_of_outbox).items():
        if times > 1:
            tally.wrong.append(f"queued twice: {key}")
    _fired(county, rows_of_outbox, tally)


def _fired(county: County, outbox_rows: Iterable[_Told], tally: Tally) -> None:
    """Check that each fired step, or a higher one due with it, told everybody whom it names."""
    with county.records.read() as tx:
        steps = tx.execute(
            select(AlarmStep.alarm_id, AlarmStep.cycle, AlarmStep.tier, AlarmStep.repeat).where(
                AlarmStep.state == "fired", AlarmStep.tier > 0
            )
        ).all()
        state_of = {alarm.id: (alarm.state, alarm.cycle) for alarm in tx.scalars(select(Alarm))}
    tally.steps_fired = len(steps)
    by_person: dict[tuple[int | None, int, int], list[_Told]] = defaultdict(list)
    for row in outbox_rows:
        if row.kind == "alarm":
            by_person[row.alarm, row.cycle, row.level].append(row)
    for alarm, cycle, tier, repeat in steps:
        # After a recovery the messages of the step need not be sent any more.
        is_over = state_of[alarm] != ("open", cycle)
        for level in range(1, tier + 1):
            told_by_step = [
                row for row in by_person[alarm, cycle, level] if (row.tier, repeat_of(row.key)) >= (tier, repeat)
            ]
            if not told_by_step or not (is_over or any(row.state == "sent" for row in told_by_step)):
                tally.messages_missing += 1
                tally.wrong.append(
                    f"step {tier}/{repeat} of alarm {alarm}, cycle {cycle}: level {level} was told {told_by_step}"
                )


def _deeds(county: County, staff: Staff, tally: Tally) -> None:
    """Check that every act that the API confirmed is recorded once, in alarm events and in the audit."""
    with county.records.read() as tx:
        events = tx.scalars(select(AlarmEvent).where(AlarmEvent.kind.in_(["acknowledged", "handled"]))).all()
        causes = dict(tx.execute(select(HandlingRecord.alarm_id, HandlingRecord.cause)).all())
        audits = Counter((row.act, row.subject) for row in tx.scalars(select(Audit).where(Audit.act.like("alarm %"))))
    acknowledged = Counter(
        (event.alarm_id, msgspec.json.decode(event.detail)["cycle"]) for event in events if event.kind == "acknowledged"
    )
    handled = Counter(event.alarm_id for event in events if event.kind == "handled")
    tally.alarms_acknowledged, tally.alarms_handled = len(acknowledged), len(handled)
    tally.asked_again = staff.again
    tally.wrong += staff.refused
    if set(acknowledged.values()) - {1} or set(handled.values()) - {1}:
        tally.wrong.append(f"recorded more than once: {acknowledged} {handled}")
    if unknown := staff.acknowledged - set(acknowledged):
        tally.wrong.append(f"answered as acknowledged, and not in the records: {unknown}")
    if {alarm: causes.get(alarm) for alarm in staff.handled} != staff.handled:
        tally.wrong.append(f"answered as handled: {staff.handled}; in the records: {causes}")
    of_alarms = Counter({("alarm handled", f"alarm:{alarm}"): times for alarm, times in handled.items()})
    for (alarm, _cycle), times in acknowledged.items():
        of_alarms["alarm acknowledged", f"alarm:{alarm}"] += times
    if audits != of_alarms:
        tally.wrong.append(f"the audit has {audits}, the alarms {of_alarms}")
