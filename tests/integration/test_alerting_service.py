"""The process as a whole: it comes up before anything else is there, keeps step with a stepped clock, audits itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from alerting import service
from alerting.watchdog import Watchdog
from config import secrets
from config.settings import AlertingSettings, BrokerSettings, IntakeSettings, RecordsSettings, Settings
from config.settings_loader import InvalidSetting
from core.alarms.tables import AlarmStep, DeliveryAttempt, OutboxMessage, PeriodicJob
from core.db.engine import Records, connect
from core.runtime.barrier import Barrier
from core.runtime.clock import ClockKeeper, real_now
from core.runtime.instant import MINUTE, Instant
from core.runtime.scheduler import Scheduler
from core.runtime.status import StatusFile
from core.units.tables import Person
from tests.fixtures.alerting import DAWN, HandClock, Watch, outbox_writer
from tests.fixtures.databases import DATABASES, fresh_url
from tests.fixtures.waiting import until


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Run the service in a thread; it must end within 3 s."""
    stop = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            service.run(settings, stop)
        except BaseException as error:  # noqa: BLE001  # raised below
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(3)
        ended = not thread.is_alive()
    assert ended, "the service did not end"
    assert not raised, raised


def settings_in(folder: Path, url: str, **alerting: object) -> Settings:
    return Settings(
        data_dir=str(folder),
        virtual_clock=str(folder / "clock.json"),
        broker=BrokerSettings(port=1),
        records=RecordsSettings(url=url),
        intake=IntakeSettings(),
        alerting=AlertingSettings(**alerting),  # type: ignore[arg-type]
    )


@pytest.mark.req("AL-09", "AL-10")
@pytest.mark.parametrize("database", DATABASES)
def test_after_each_step_of_the_clock_all_that_is_due_is_done_and_nothing_else(database: str, tmp_path: Path) -> None:
    url = fresh_url(database, tmp_path)
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    keeper, barrier = ClockKeeper(tmp_path / "clock.json", start=DAWN, speed=0), Barrier(tmp_path / "clock.json")
    watch = Watch(Records(connect(url)), tmp_path)
    watch.fridge()

    def step(minutes: int, seconds: int = 0) -> list[list[int]]:
        """Step, read once a minute, and say which tiers each level was told."""
        began = watch.clock.time
        watch.clock.time = Instant(began + minutes * MINUTE + seconds * 1000)
        number = keeper.step_to(watch.clock.time)
        times = [Instant(began + n * MINUTE) for n in range(1, minutes + 1)]
        watch.reads_at([*times, watch.clock.time] if seconds else times, 9.4)
        barrier.wait(["alerting"], number, within_s=20)
        return [watch.tiers(level) for level in (1, 2, 3)]

    with running(settings_in(tmp_path, url)):
        assert step(1) == [[], [], []]
        assert step(9) == [[], [], []]
        assert step(1) == [[1], [], []]
        assert step(29, 59) == [[1], [], []]
        assert step(0, 1) == [[1, 2], [2], []]
        assert step(29) == [[1, 2], [2], []]
        assert step(1) == [[1, 2, 3], [2, 3], [3]]
        assert step(30) == [[1, 2, 3, 3], [2, 3, 3], [3, 3]]
        status = StatusFile(tmp_path, "alerting").read()
        assert status is not None
        assert status.fresh
    watch.close()
    watch.records.close()


def test_it_comes_up_before_clock_and_records_and_makes_them_when_it_can(tmp_path: Path) -> None:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    settings = settings_in(tmp_path, "")
    status = StatusFile(tmp_path, "alerting")
    with running(settings):
        until(lambda: (said := status.read()) and "clock" in str(said.facts.get("problem")), "no word of the clock")
        keeper = ClockKeeper(tmp_path / "clock.json", start=DAWN, speed=0)
        Barrier(tmp_path / "clock.json").wait(["alerting"], keeper.step_to(DAWN), within_s=20)


def test_it_refuses_a_channel_that_there_is_not(tmp_path: Path) -> None:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    with pytest.raises(InvalidSetting, match="'pigeon'; known: wechat"):
        service.run(settings_in(tmp_path, "", channels=("pigeon",)), threading.Event())


class Outside:
    """Who expects a ping every minute."""

    def __init__(self) -> None:
        pings = self.pings = [0]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pings[0] += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def outside() -> Iterator[Outside]:
    made = Outside()
    yield made
    made.close()


@pytest.fixture
def watch(records: Records, tmp_path: Path) -> Iterator[Watch]:
    made = Watch(records, tmp_path)
    yield made
    made.close()


def auditor(
    watch: Watch, outside: Outside, *, channels: tuple[str, ...] = ("wechat",), lasting_s: float = 60.0
) -> Watchdog:
    return Watchdog(
        watch.records,
        watch.log,
        outbox_writer(),
        watch.clock,
        channels=channels,
        dead_man_url=outside.url,
        confirm_s=0.0,
        lasting_s=lasting_s,
    )


def troubles(audit: Watchdog) -> list[str]:
    return [finding.trouble for finding in audit.findings]


def looks(audit: Watchdog, clock: HandClock, minutes: int) -> None:
    for _ in range(minutes):
        clock.time = Instant(clock.time + MINUTE)
        assert audit.run()
        assert not audit.run(), "once a minute"


def test_the_audit_pings_while_all_is_well_and_stays_silent_over_an_overdue_step(
    watch: Watch, outside: Outside
) -> None:
    watch.fridge()
    watch.warms_up()
    audit = auditor(watch, outside)
    looks(audit, watch.clock, 3)
    assert outside.pings == [2]
    with watch.records.write() as tx:
        tx.scalars(select(AlarmStep).where(AlarmStep.tier == 2)).one().due_at = watch.clock.time
    looks(audit, watch.clock, 3)
    assert outside.pings == [2]
    with watch.records.read() as tx:
        assert tx.get_one(PeriodicJob, "audit").detail == "step_overdue 1"
    (told,) = watch.told(1, "ops")
    assert told.alarm_id is None
    watch.run()
    looks(audit, watch.clock, 1)
    assert outside.pings == [3]


def test_a_ping_that_fails_does_not_tell_its_address(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("https//pings.example/sesame", "http://127.0.0.1:1/sesame", "http://127.0.0.1:1/sesame me"):
        audit = Watchdog(
            watch.records, watch.log, outbox_writer(), watch.clock, channels=(), dead_man_url=address, confirm_s=0.0
        )
        looks(audit, watch.clock, 2)
        said = "".join(capsys.readouterr())
        assert "ping not taken" in said
        assert "sesame" not in said


def test_the_audit_finds_a_message_that_everybody_let_go(watch: Watch, outside: Outside) -> None:
    watch.fridge()
    watch.warms_up()
    audit = auditor(watch, outside)
    looks(audit, watch.clock, 1)
    with watch.records.write() as tx:
        row = tx.scalars(select(OutboxMessage)).one()
        row.lease, row.lease_until = "gone", Instant(real_now() - 6 * MINUTE)
    looks(audit, watch.clock, 1)
    assert [finding.trouble for finding in audit.findings] == ["lease_stuck"]
    assert outside.pings == [0]


@pytest.mark.req("AL-15")
def test_the_audit_finds_alarm_messages_that_no_channel_takes_and_is_silent_where_none_is_configured(
    watch: Watch, outside: Outside
) -> None:
    watch.fridge()
    watch.warms_up()
    audit = auditor(watch, outside, lasting_s=0.0)
    looks(audit, watch.clock, 5)
    assert (troubles(audit), outside.pings) == ([], [4])
    looks(audit, watch.clock, 1)
    assert (troubles(audit), outside.pings) == (["outbox_behind"], [4])
    assert [(finding.count, finding.since) for finding in audit.findings] == [(1, watch.told(1)[0].created_at)]
    with watch.records.read() as tx:
        assert tx.get_one(PeriodicJob, "audit").detail == "outbox_behind 1"
    assert len(watch.told(1, "ops")) == 1
    bare = auditor(watch, outside, channels=(), lasting_s=0.0)
    looks(bare, watch.clock, 1)
    assert (troubles(bare), outside.pings) == ([], [5])
    with watch.records.write() as tx:
        tx.scalars(select(OutboxMessage).where(OutboxMessage.kind == "alarm")).one().state = "sent"
    looks(audit, watch.clock, 1)
    assert (troubles(audit), outside.pings) == ([], [6]), "what only tells of it keeps no ping away"


def test_a_fast_clock_makes_no_backlog_of_a_moments_retries(watch: Watch, outside: Outside) -> None:
    watch.fridge()
    watch.warms_up()
    audit = auditor(watch, outside)
    looks(audit, watch.clock, 20)
    assert (troubles(audit), outside.pings) == ([], [19])


def refuse(watch: Watch, *, kind: str = "alarm") -> None:
    """Say that WeChat has refused for good what is queued, now."""
    with watch.records.write() as tx:
        for row in tx.scalars(select(OutboxMessage).where(OutboxMessage.state == "queued", OutboxMessage.kind == kind)):
            row.state, row.next_at = "failed", Instant(real_now() + MINUTE)
            tx.add(DeliveryAttempt(outbox_id=row.id, at=watch.clock.time, outcome="refused", code="47003"))


def test_the_audit_finds_refused_messages_for_an_hour_but_not_those_to_people_who_left_the_account(
    watch: Watch, outside: Outside
) -> None:
    watch.fridge()
    watch.warms_up()
    with watch.records.write() as tx:
        tx.execute(delete(AlarmStep).where(AlarmStep.state == "due"))
    audit = auditor(watch, outside)
    refuse(watch)
    looks(audit, watch.clock, 2)
    assert (troubles(audit), outside.pings) == (["messages_failed"], [0])
    refuse(watch, kind="ops")
    looks(audit, watch.clock, 57)
    assert [(finding.trouble, finding.count) for finding in audit.findings] == [("messages_failed", 1)]
    looks(audit, watch.clock, 2)
    assert (troubles(audit), outside.pings) == ([], [2])
    with watch.records.write() as tx:
        row = tx.scalars(select(OutboxMessage).where(OutboxMessage.kind == "alarm")).one()
        tx.add(DeliveryAttempt(outbox_id=row.id, at=watch.clock.time, outcome="refused", code="43004"))
        tx.get_one(Person, row.person_id).unreachable_since = watch.clock.time
    looks(audit, watch.clock, 1)
    assert (troubles(audit), outside.pings) == ([], [3])


def test_the_audit_finds_a_log_that_nobody_follows_and_forgives_what_fell_due_while_it_slept(
    watch: Watch, outside: Outside
) -> None:
    watch.fridge()
    watch.warms_up()
    audit = auditor(watch, outside)
    looks(audit, watch.clock, 1)
    watch.reads(9.4)
    looks(audit, watch.clock, 2)
    assert [finding.trouble for finding in audit.findings] == ["log_behind"]
    watch.clock.time = Instant(watch.clock.time + 120 * MINUTE)
    told = len(watch.told(1, "ops"))
    assert audit.run()
    assert len(watch.told(1, "ops")) == told


def test_a_tick_that_fails_is_called_again_and_one_that_hangs_stops_no_other() -> None:
    ticks, release = Scheduler(), threading.Event()
    calls = {"fails": 0, "hangs": 0, "goes_on": 0}

    def fails() -> None:
        calls["fails"] += 1
        msg = "as tests do"
        raise RuntimeError(msg)

    def hangs() -> None:
        calls["hangs"] += 1
        release.wait(10)

    def goes_on() -> None:
        calls["goes_on"] += 1

    for job in (fails, hangs, goes_on):
        ticks.every(0.02, job.__name__, job)
    ticks.start()
    until(lambda: calls["goes_on"] >= 5 and calls["fails"] >= 3, "a tick stopped")
    assert calls["hangs"] == 1
    release.set()
    ticks.stop()
