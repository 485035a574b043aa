"""Workers that race and workers that die: each message is written once all the same, and no alarm is left open."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, update

from alerting.escalating.due_steps import escalate
from core.alarms import handling
from core.alarms.handling import HandlingReport
from core.alarms.tables import AlarmEvent, AlarmStep, FollowCursor
from core.alarms.zone_cache import ZoneCache
from core.db.engine import Records, connect
from core.devices.tables import Probe
from core.errors import Conflict
from core.ids import AlarmId
from core.runtime.instant import MINUTE, Instant
from core.units import device_revision
from core.units.actor import Actor
from tests.fixtures.alerting import DAWN, Watch, outbox_writer
from tests.fixtures.databases import DATABASES, fresh_url

REPORT = HandlingReport(cause="门未关严", action="关门", disposition="可用")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def watch(records: Records, tmp_path: Path) -> Iterator[Watch]:
    made = Watch(records, tmp_path)
    yield made
    made.close()


def number_in(half: str) -> str:
    """Return a gateway number whose shard is in 00-7f or in 80-ff."""
    high = half == "80-ff"
    return next(f"gw{n}" for n in range(100) if (sha256(f"gw{n}".encode()).digest()[0] >= 0x80) == high)


def together(*jobs: Callable[[], object]) -> None:
    """Do jobs at the same moment, each in its thread; what one raises is raised."""
    line = threading.Barrier(len(jobs))
    raised: list[BaseException] = []

    def work(job: Callable[[], object]) -> None:
        line.wait()
        try:
            job()
        except BaseException as error:  # noqa: BLE001  # raised below
            raised.append(error)

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_two_probes_of_a_zone_through_two_workers_close_its_alarm_once(watch: Watch) -> None:
    halves = ("00-7f", "80-ff")
    watch.fridge("a", "b", gateways=(number_in(halves[0]), number_in(halves[1])))
    workers = [watch.worker(half) for half in halves]

    def both() -> None:
        # Twice: the first may find that the other has not yet followed.
        for _ in range(2):
            together(*(worker.run_once for worker in workers))

    for cycle in range(1, 5):
        for t, minutes in ((9.4, 11), (5.0, 6)):
            watch.clock.time = Instant(watch.clock.time + minutes * MINUTE)
            for code in "ab":
                watch.reads_at([Instant(watch.clock.time - n * MINUTE) for n in reversed(range(minutes))], t, code)
            both()
            watch.delivered()
        (alarm,) = watch.alarms()
        assert (alarm.state, alarm.cycle) == ("recovered", cycle)
        events = Counter(watch.events(alarm.id))
        assert (events["opened"] + events["reopened"], events["recovered"]) == (cycle, cycle)
        assert len(watch.told(1)) == len(watch.told(1, "recovery")) == cycle


def test_two_escalators_on_the_same_steps_tell_each_once(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerting.escalating.due_steps.STEPS_PER_TRANSACTION", 3)
    codes = [f"p{number}" for number in range(24)]
    for code in codes:
        watch.fridge(code)
    with watch.records.write() as tx:
        # Read so seldom that one reading suffices.
        tx.execute(update(Probe).values(interval=60 * MINUTE))
        device_revision.bump(tx)
    for code in codes:
        watch.reads(9.4, code=code)
    watch.run()
    for minutes in (30, 60):
        now = Instant(watch.clock.time + minutes * MINUTE)
        together(lambda: _drain(watch.records, now), lambda: _drain(watch.records, now))  # noqa: B023  # ends in here
    alarms = {alarm.id for alarm in watch.alarms()}
    assert len(alarms) == len(codes)
    assert Counter((row.alarm_id, row.tier) for row in watch.told(1)) == Counter(
        (alarm, tier) for alarm in alarms for tier in (1, 2, 3)
    )
    assert Counter(row.alarm_id for row in watch.told(3)) == Counter(alarms)
    with watch.records.read() as tx:
        told = select(func.count()).where(AlarmEvent.kind == "told")
        assert tx.scalar(told) == 3 * len(alarms)
        assert tx.scalar(select(func.count()).where(AlarmStep.repeat == 1)) == len(alarms)


def test_a_step_that_one_worker_holds_while_another_finds_it_abnormal_again_is_fired(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(28, showing=9.4)
    watch.forward(1, showing=5.0)
    watch.clock.time = Instant(watch.clock.time + MINUTE)
    watch.reads(9.4)
    warm = threading.Thread(target=watch.run)
    zones = ZoneCache()
    with watch.records.write() as tx:
        zones.refresh(tx)
        assert escalate(tx, zones, outbox_writer(), watch.clock.time) == 1
        warm.start()
        warm.join(1)  # it either ends without us or waits for us
    warm.join(10)
    assert not warm.is_alive()
    assert "held" in watch.events(watch.alarm().id)
    watch.run()
    assert len(watch.told(2)) == 1


@pytest.mark.req("AL-11")
def test_handling_that_races_with_the_recovery_closes_once(watch: Watch) -> None:
    watch.fridge()
    for closed in range(1, 6):
        watch.warms_up()
        alarm = watch.alarms()[-1]
        me = watch.person(1)
        watch.forward(4, showing=5.0)
        watch.clock.time = Instant(watch.clock.time + 3 * MINUTE)
        watch.reads_at([Instant(watch.clock.time - n * MINUTE) for n in (2, 1, 0)], 5.0)

        def handle(alarm: AlarmId = alarm.id, me: Actor = me) -> None:
            with watch.records.write() as tx:
                handling.handle(tx, me, alarm, REPORT, now=watch.clock.time)

        def one_of_two(handle: Callable[[], None] = handle) -> None:
            with suppress(Conflict):
                handle()

        together(watch.run, one_of_two, one_of_two)
        assert [one.state for one in watch.alarms()] == ["closed"] * closed
        events = Counter(watch.events(alarm.id))
        assert (events["recovered"], events["handled"], events["closed"]) == (1, 1, 1)


def _drain(records: Records, now: Instant) -> None:
    zones = ZoneCache()
    with records.read() as tx:
        zones.refresh(tx)
    while True:
        with records.write() as tx:
            if not escalate(tx, zones, outbox_writer(), now):
                return


class Nursery:
    """Workers in processes of their own that die when told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fixtures.alerting_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def work(self, url: str, watch: Watch, *, dies_at: int = 0, before: bool = False) -> int:
        """Let a worker do all that is due; return its exit code, -9 when it was killed."""
        job = {"url": url, "intake": str(watch.folder / "intake.db"), "now": watch.clock.time}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({**job, "dies_at": dies_at, "before": before}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.mark.req("AL-06", "AL-09", "AL-10")
@pytest.mark.parametrize("database", DATABASES)
def test_killed_before_and_after_each_commit_it_ends_as_if_it_had_not_been(
    database: str, tmp_path: Path, nursery: Nursery
) -> None:
    url = fresh_url(database, tmp_path)
    (tmp_path / "calm").mkdir()
    killed, calm = (
        Watch(Records(connect(url)), tmp_path),
        Watch(Records(connect(fresh_url(database, tmp_path))), tmp_path / "calm"),
    )
    killed.fridge()
    calm.fridge()
    deaths = 0
    for minutes, t in ((0, 9.4), (10, 9.4), (30, 9.4), (30, 9.4), (31, 9.4), (6, 5.0)):
        for watch in (killed, calm):
            watch.clock.time = Instant(watch.clock.time + minutes * MINUTE)
            times = [Instant(watch.clock.time - n * MINUTE) for n in reversed(range(max(minutes, 1)))]
            watch.reads_at(times, t)
        calm.run()
        while True:
            before = nursery.work(url, killed, dies_at=1, before=True)
            after = nursery.work(url, killed, dies_at=1)
            assert before == after, "the same work was to be done"
            if after == 0:
                break
            assert after == -9
            deaths += 2
            assert deaths < 200
    assert deaths >= 20
    assert _history(killed) == _history(calm)
    killed.close()
    calm.close()
    killed.records.close()
    calm.records.close()


@pytest.mark.req("AL-14")
@pytest.mark.parametrize("database", DATABASES)
def test_killed_before_and_after_each_commit_late_readings_come_to_what_they_had_come_to(
    database: str, tmp_path: Path, nursery: Nursery
) -> None:
    url = fresh_url(database, tmp_path)
    (tmp_path / "calm").mkdir()
    killed, calm = (
        Watch(Records(connect(url)), tmp_path),
        Watch(Records(connect(fresh_url(database, tmp_path))), tmp_path / "calm"),
    )
    deaths = 0
    for watch in (killed, calm):
        watch.fridge()
        watch.reads(5.0)
        watch.clock.time = Instant(watch.clock.time + 90 * MINUTE)
        watch.reads(5.0)
    for first, last in ((30, 60), (10, 30), (60, 80), (None, None), (10, 30), (None, None)):
        for watch in (killed, calm):
            if first is None or last is None:
                watch.clock.time = Instant(watch.clock.time + 2 * MINUTE)
            else:
                values = [9.4 if 25 <= minute < 65 else 5.0 for minute in range(first, last)]
                watch.reads(*values, at=Instant(DAWN + first * MINUTE), origin="backfill")
        calm.run()
        killed.store()
        while (ended := nursery.work(url, killed, dies_at=1, before=deaths % 4 == 0)) != 0:
            assert ended == -9
            deaths += 1
            if deaths % 4 == 1:
                assert nursery.work(url, killed, dies_at=1) == -9, "the same work was to be done"
                deaths += 1
            assert deaths < 200
    assert deaths >= 10
    assert (killed.alarm().onset_at, killed.alarm().ended_at) == (DAWN + 25 * MINUTE, DAWN + 65 * MINUTE)
    assert _history(killed) == _history(calm)
    for watch in (killed, calm):
        watch.close()
        watch.records.close()


def _history(watch: Watch) -> dict[str, object]:
    """Return all that matters of what happened; the alarm's number doesn't, a sequence has gaps."""
    alarm = watch.alarm()
    with watch.records.read() as tx:
        cursor = tx.scalars(select(FollowCursor.position)).all()
    return {
        "alarm": (alarm.state, alarm.cycle, alarm.opened_at, alarm.onset_at, alarm.ended_at, alarm.recovered_at),
        "steps": [(step.tier, step.repeat, step.due_at, step.state, step.fired_at) for step in watch.steps(alarm.id)],
        "events": watch.events(alarm.id),
        "told": [(row.key.partition(":")[2], row.created_at) for level in (1, 2, 3) for row in watch.told(level)],
        "recovered": [row.key.partition(":")[2] for level in (1, 2, 3) for row in watch.told(level, "recovery")],
        "cursor": list(cursor),
    }


@contextmanager
def statements(records: Records) -> Iterator[list[str]]:
    """Yield what is said to the database meanwhile."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(records.engine, "before_cursor_execute", note)
    yield said
    event.remove(records.engine, "before_cursor_execute", note)


def test_a_worker_that_waits_for_another_does_not_spin(watch: Watch) -> None:
    watch.fridge("a", gateways=(number_in("00-7f"),))
    watch.fridge("b", gateways=(number_in("80-ff"),))
    watch.warms_up(code="a")
    watch.reads(5.0, code="b")
    watch.clock.time = Instant(watch.clock.time + 40 * MINUTE)
    one, stop = watch.worker("00-7f"), threading.Event()
    do_one = one.run_once
    passes: list[float] = []

    def counted(until: threading.Event | None = None) -> None:
        do_one(until)
        passes.append(time.monotonic())
        if len(passes) == 8:
            stop.set()

    one.run_once = counted  # type: ignore[method-assign] # a pass is counted where it begins, the pass is the real one
    one.run(stop)
    assert watch.tiers(2) == [], "it was held"
    assert passes[7] - passes[2] >= 0.4, "five passes in next to no time"


def test_an_alarm_in_a_window_costs_no_writing_transaction_until_the_window_ends(watch: Watch) -> None:
    fridge = watch.fridge()
    with watch.window(fridge, "repair"):
        watch.warms_up()
        assert watch.steps(watch.alarm().id)[0].state == "suppressed"
        with statements(watch.records) as said:
            watch.run()
            watch.run()
        assert not [one for one in said if "IMMEDIATE" in one or "FOR UPDATE" in one]
    watch.run()
    assert watch.tiers(1) == [1]
