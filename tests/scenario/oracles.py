"""What must be true after any number of kills, seen from outside: from the phones and from what the stores give back.

`LogWatch` reads the intake log all the time, since it is pruned behind its readers. `examine` compares at the end, when
nothing is under way any more, and returns figures and everything that is wrong; no process of the system is asked.
"""

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import select

from core.alarms.message import client_msg_id, turn_of
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, HandlingRecord, Outbox
from core.db.audit import Audit
from core.devices.tables import Equipment, Probe, Series
from core.ids import SeriesId
from core.intake.open import open_log
from core.intake.port import Unavailable
from core.runtime.instant import DAY, MINUTE, SECOND, Instant, Milliseconds
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.open import open_telemetry
from core.units.tables import Person
from core.wire.quality import of_origin
from core.wire.topics import GatewayNumber, Shard
from gateway_agent.spool import Spool
from tests.scenario.county import LEVELS, County
from tests.scenario.unrest import Episode, History, Staff, Value

LIMIT, DELAY, GAP_INTERVALS = 800, Milliseconds(10 * MINUTE), 3
"""Of the rule that fridges are under (config/rules/china-2017.toml)."""


class Tally(msgspec.Struct, kw_only=True):
    """Figures of a run, and what is wrong."""

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
    """Reads the intake log from outside, always behind its head."""

    def __init__(self, county: County) -> None:
        self._log = open_log(county.settings.intake.url, county.settings.data_dir)
        self._read: dict[Shard, int] = {}
        self.wrong: list[str] = []
        self.batches: Counter[tuple[str, str, int]] = Counter()
        self.readings: Counter[tuple[str, int]] = Counter()
        """(probe, instant): how often it came from its gateway."""
        self.taken: dict[str, dict[int, Value]] = defaultdict(dict)
        """Of each probe all that came by the log."""

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            try:
                self.catch_up()
            except Unavailable:
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
                        self.readings.update((each.p, each.at) for each in batch.readings)
                    for each in batch.readings:
                        self.taken[each.p][each.at] = (each.value, each.q | of_origin(batch.origin))
                self._read[shard] = numbers[-1]

    def close(self) -> None:
        self._log.close()


class _Told(NamedTuple):
    """A row of the outbox."""

    key: str
    alarm: int | None
    cycle: int
    tier: int
    kind: str
    level: int
    state: str
    attempts: int


def examine(county: County, watch: LogWatch, history: History, staff: Staff, episodes: Iterable[Episode]) -> Tally:
    """Look at everything; nothing may be under way."""
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
    """Every batch that was spooled is in the log, once."""
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
        twice = [each for each, times in [*watch.batches.items(), *watch.readings.items()] if times > 1]
        tally.wrong.append(f"in the log more than once: {twice[:5]}")
    letters = log.dead_letters()
    tally.dead_letters = len(letters)
    held = log.held(limit=1000)
    tally.readings_held = len(held)
    if letters or held:
        tally.wrong.append(f"dead letters {letters[:3]}, in quarantine {held[:3]}")
    log.close()


def _stored(county: County, readings: Mapping[str, Mapping[int, Value]], tally: Tally) -> None:
    """Telemetry has what the log had, and the history, to the last bit, and nothing else."""
    store = open_telemetry(county.settings, read_only=True)
    with county.records.read() as tx:
        series = dict(tx.execute(select(Probe.code, Series.id).join(Series, Series.probe_id == Probe.id)).all())
    for code, taken in readings.items():
        if code not in series:
            tally.wrong.append(f"probe {code} is not in the records")
            continue
        curve = store.range(SeriesId(series[code]), Instant(0), Instant(2**52))
        stored = {int(one.at): (one.value, one.q) for one in curve.samples(SeriesId(series[code]))}
        lost, invented = taken.keys() - stored.keys(), stored.keys() - taken.keys()
        altered = [at for at in taken.keys() & stored.keys() if taken[at] != stored[at]]
        tally.readings_stored += len(stored)
        tally.readings_lost += len(lost)
        tally.readings_altered += len(altered) + len(invented)
        if lost or invented or altered:
            tally.wrong.append(
                f"probe {code}: {len(lost)} readings lost {sorted(lost)[:3]}, {len(invented)} from nowhere, "
                f"{len(altered)} altered {[(taken[at], stored[at]) for at in altered[:3]]}"
            )
    if isinstance(store, EmbeddedTelemetry) and store.verify().damage:
        tally.wrong.append(f"damage: {store.verify().damage[:3]}")
    store.close()


def _is_of_the_past(event: AlarmEvent) -> bool:
    """Whether an alarm began with this as a record of what was over."""
    return event.kind == "opened" and json.loads(event.detail).get("late") is True


def _alarms(
    county: County, episodes: Sequence[Episode], taken: Mapping[str, Mapping[int, Value]], tally: Tally
) -> None:
    """No zone and rule ever had two alarms at once; each opened once a cycle."""
    with county.records.read() as tx:
        alarms = {alarm.id: alarm for alarm in tx.scalars(select(Alarm))}
        names = dict(tx.execute(select(Equipment.id, Equipment.name)).all())
        events = tx.scalars(select(AlarmEvent).order_by(AlarmEvent.id)).all()
    open_now: dict[tuple[int, str, int], int] = {}
    openings: Counter[int] = Counter()
    late = {event.alarm_id for event in events if _is_of_the_past(event)}
    for event in events:
        alarm = alarms[event.alarm_id]
        # What was found when it was over is a record, beside which another alarm may be open.
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
    wanted = Counter({alarm.id: alarm.cycle for alarm in alarms.values()})
    if openings != wanted:
        tally.wrong.append(f"openings by alarm: {wanted - openings} are missing, {openings - wanted} are too many")
    onsets: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for alarm in alarms.values():
        if alarm.rule == "above":
            onsets[names[alarm.equipment_id]].append((alarm.onset_at, alarm.id in late))
    _episodes(county, episodes, onsets, taken, tally)


def _episodes(
    county: County,
    episodes: Iterable[Episode],
    onsets: Mapping[str, Sequence[tuple[int, bool]]],
    taken: Mapping[str, Mapping[int, Value]],
    tally: Tally,
) -> None:
    """Each time that a fridge was too warm there was one alarm; alarms are told by their onset, in event time.

    There may be another where nothing was measured for so long that the time between says nothing, and records of what
    was over when its readings came. `onsets` says of each alarm whether it is such a record.
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
        may = [one for one in stretches if one[-1] - one[0] >= DELAY]
        must = [one for one in may if one[-1] - one[0] > DELAY + county.interval_s * SECOND]
        found = [one for one in onsets.get(episode.fridge, []) if episode.since <= one[0] <= episode.until]
        told = sum(not late for _, late in found)
        tally.episodes += bool(must)
        if (must and not found) or told > len(may):
            tally.wrong.append(f"{episode}: measured {[(one[0], one[-1]) for one in stretches]}, alarms since {found}")
            tally.alarms_missed += bool(must and not found)
            tally.alarms_doubled += max(0, told - len(may))


def _messages(county: County, tally: Tally) -> None:
    """What the records say was sent is what the phones got, once; and everybody whom a step names was told by it."""
    received = Counter(
        (LEVELS[level], message["client_msg_id"]) for level in LEVELS for message in county.phone(level).messages
    )
    level_of = {openid: level for level, openid in LEVELS.items()}
    with county.records.read() as tx:
        rows = tx.execute(select(Outbox, Person.openid).join(Person, Person.id == Outbox.person_id)).all()
        told = [
            _Told(row.key, row.alarm_id, row.cycle, row.tier, row.kind, level_of[openid], row.state, row.attempts)
            for row, openid in rows
        ]
    tally.messages_told = received.total()
    tally.messages_doubled = sum(times - 1 for times in received.values())
    # More than ten minutes apart, since WeChat drops the others: promised to nobody (docs/kills.md), and counted.
    tally.messages_superseded = sum(one.state == "superseded" for one in told)
    if tally.messages_doubled:
        tally.wrong.append(f"told twice: {[key for key, times in received.items() if times > 1][:5]}")
    sent = {(LEVELS[one.level], client_msg_id(one.key)) for one in told if one.state == "sent"}
    # Handed over by a process that was killed before it could write it down, and no longer true when its turn came
    # again: it is on the phone, and its row says that a try was begun.
    begun = {(LEVELS[one.level], client_msg_id(one.key)) for one in told if one.state == "superseded" and one.attempts}
    unwritten = set(received) - sent
    tally.messages_missing += len(sent - set(received))
    tally.messages_unwritten = len(unwritten)
    if sent - set(received) or unwritten - begun:
        tally.wrong.append(
            f"sent, not received: {len(sent - set(received))}; received, and nobody knows why: {unwritten - begun}"
        )
    unfinished = [one for one in told if one.state not in ("sent", "superseded")]
    if unfinished:
        tally.wrong.append(f"neither sent nor superseded: {unfinished[:5]}")
    for key, times in Counter(one.key for one in told).items():
        if times > 1:
            tally.wrong.append(f"queued twice: {key}")
    _fired(county, told, tally)


def _fired(county: County, told: Iterable[_Told], tally: Tally) -> None:
    """Everybody whom a fired step names was told by it, or by a higher one that was due together with it."""
    with county.records.read() as tx:
        steps = tx.execute(
            select(AlarmStep.alarm_id, AlarmStep.cycle, AlarmStep.tier, AlarmStep.turn).where(
                AlarmStep.state == "fired", AlarmStep.tier > 0
            )
        ).all()
        standing = {alarm.id: (alarm.state, alarm.cycle) for alarm in tx.scalars(select(Alarm))}
    tally.steps_fired = len(steps)
    by_person: dict[tuple[int | None, int, int], list[_Told]] = defaultdict(list)
    for one in told:
        if one.kind == "alarm":
            by_person[one.alarm, one.cycle, one.level].append(one)
    for alarm, cycle, tier, turn in steps:
        # What was overtaken by the recovery needn't be told any more.
        over = standing[alarm] != ("open", cycle)
        for level in range(1, tier + 1):
            own = [one for one in by_person[alarm, cycle, level] if (one.tier, turn_of(one.key)) >= (tier, turn)]
            if not own or not (over or any(one.state == "sent" for one in own)):
                tally.messages_missing += 1
                tally.wrong.append(f"step {tier}/{turn} of alarm {alarm}, cycle {cycle}: level {level} was told {own}")


def _deeds(county: County, staff: Staff, tally: Tally) -> None:
    """What people were told is done, was done, and once; the audit says so too."""
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
