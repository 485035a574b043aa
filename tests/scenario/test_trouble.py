"""Trouble from outside: full and broken disks, stores that hang, fail or answer late, under the real services.

Each story has three acts. While the trouble lasts the rest goes on, and `coldchain status` and readiness say what is
wrong; when it is over both are silent again, without a restart; at the end every reading is there once.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import msgspec
import pytest
import structlog

from coldchain.demo.environment import free_port
from config.settings import IntakeSettings, RecordsSettings
from core.db.engine import Records, connect
from core.runtime.status import STALE
from core.runtime.trouble import TroubleKind
from tests.fixtures.databases import empty_url, fresh_url
from tests.fixtures.disks import breaking_disk, small_disk
from tests.fixtures.influx_proxy import Fault
from tests.fixtures.tcp_proxy import TcpProxy, through, to_postgres
from tests.fixtures.troubled import (
    WITHIN_S,
    embedded_in,
    enter_county,
    folder_of,
    influx_line,
    influx_with_little_room,
    line_up,
    records_with_little_room,
    services_up,
)
from tests.fixtures.waiting import until

pytestmark = pytest.mark.long

WHO_SAYS = {"intake log": "collector", "telemetry": "writer", "records": "alerting", "data folder": ""}
"""The service that finds trouble of a part by itself."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # As the services log: the colourful tracebacks that structlog makes unasked take seconds each.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.stdlib.add_log_level, plain])
    monkeypatch.setattr("core.runtime.status.EVERY_S", 0.1)
    monkeypatch.setattr("core.db.engine.ANSWER_S", 2.0)
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("part", ["intake log", "telemetry", "records", "data folder"])
def test_a_full_disk_stops_its_part_alone_and_costs_nothing(part: str, tmp_path: Path) -> None:
    url = fresh_url("sqlite", tmp_path)
    with small_disk(folder_of(tmp_path, part), mib=12) as disk, line_up(embedded_in(tmp_path, url)) as line:
        line.sends(5)
        line.arrives()
        disk.fill()
        line.sends(60, readings=200)
        line.sends_hot()
        line.says(part, TroubleKind.DISK_FULL, service=WHO_SAYS[part])
        if part == "intake log":
            line.stays_out()
        else:
            line.arrives()
        if part in ("telemetry", "data folder"):
            line.has_alarms(1)
        disk.free()
        line.says_nothing_of(TroubleKind.DISK_FULL)
        line.all_is_there_once()
        line.has_alarms(1)


def test_a_full_disk_with_everything_on_it_is_told_as_what_it_is(tmp_path: Path) -> None:
    """As after `coldchain init`: one data folder. Nothing is taken in, and nobody who runs is called silent."""
    url = fresh_url("sqlite", tmp_path)
    with small_disk(tmp_path / "one", mib=24) as disk, line_up(embedded_in(tmp_path / "one", url)) as line:
        line.sends(5)
        line.arrives()
        disk.fill()
        line.sends(60, readings=200)
        line.sends_hot()
        line.says("intake log", TroubleKind.DISK_FULL)
        Event().wait(STALE / 1000 + 1)  # as long as it takes to call a service silent
        line.stays_out()
        told = line.readiness()
        assert {kind for _, kind, _ in told} - {TroubleKind.UNTOLD} == {TroubleKind.DISK_FULL}
        assert {said for _, _, said in told if "taken in" in said} == set()
        assert all("nothing is acknowledged" in said for part, _, said in told if part in ("records", "intake log"))
        disk.free()
        line.says_nothing_of(TroubleKind.DISK_FULL)
        line.all_is_there_once()
        line.has_alarms(1)


def test_a_line_that_starts_on_read_only_disks_says_so_and_works_once_they_can_be_written(tmp_path: Path) -> None:
    url = fresh_url("sqlite", tmp_path)
    parts = ("intake log", "telemetry", "records")
    with ExitStack() as stack:
        disks = [stack.enter_context(small_disk(folder_of(tmp_path, part), mib=12)) for part in parts]
        settings = embedded_in(tmp_path, url)
        records = Records(connect(settings.records.url))
        enter_county(records)
        records.close()
        for disk in disks:
            disk.read_only(yes=True)
        with services_up(settings) as line:
            line.sends(3)
            line.says("intake log", TroubleKind.READ_ONLY, service="collector")
            assert line.ready() >= {(part, TroubleKind.READ_ONLY) for part in parts}
            line.stays_out(0.5)
            for disk in disks:
                disk.read_only(yes=False)
            line.sends_hot()
            line.all_is_there_once()
            line.has_alarms(1)
            line.says_nothing_of(TroubleKind.READ_ONLY)


@pytest.mark.parametrize("part", ["intake log", "telemetry", "records"])
def test_a_disk_that_breaks_and_turns_read_only_costs_nothing_that_was_acknowledged(part: str, tmp_path: Path) -> None:
    with breaking_disk(folder_of(tmp_path, part)) as disk:
        settings = embedded_in(tmp_path, fresh_url("sqlite", tmp_path))
        with line_up(settings) as line:
            line.sends(5)
            line.all_is_there_once()
            disk.breaks()
            line.sends(5)
            line.sends_hot()
            line.says(part, TroubleKind.DISK_FAILS, service=WHO_SAYS[part])
            if part == "intake log":
                line.stays_out()
            else:
                line.arrives()
        disk.mend()
        with services_up(settings) as again:
            again.goes_on_from(line)
            again.all_is_there_once()
            again.has_alarms(1)
            again.says_nothing_of(TroubleKind.READ_ONLY, TroubleKind.DISK_FAILS)


@pytest.mark.parametrize("what", ["records", "intake log"])
def test_a_postgresql_that_hangs_is_told_and_heals_by_itself(what: str, tmp_path: Path) -> None:
    url = fresh_url("postgresql", tmp_path) if what == "records" else empty_url("postgresql", tmp_path)
    with to_postgres(url) as proxy:
        settings = embedded_in(tmp_path, fresh_url("sqlite", tmp_path))
        if what == "records":
            settings = msgspec.structs.replace(settings, records=RecordsSettings(url=through(url, proxy)))
        else:
            settings = msgspec.structs.replace(settings, intake=IntakeSettings(url=through(url, proxy)))
        with line_up(settings) as line:
            line.sends(3)
            line.all_is_there_once()
            proxy.hangs = True
            line.sends(3)
            line.sends_hot()
            line.says(what, TroubleKind.NO_ANSWER, service=WHO_SAYS[what])
            if what == "intake log":
                line.stays_out(0.5)
            else:
                line.arrives()
            proxy.hangs = False
            line.all_is_there_once()
            line.has_alarms(1)
            line.says_nothing_of(TroubleKind.NO_ANSWER, TroubleKind.UNREACHABLE)


def test_a_postgresql_without_room_for_the_records_holds_up_nothing_else(tmp_path: Path) -> None:
    with records_with_little_room(tmp_path) as (disk, url):
        settings = embedded_in(tmp_path, fresh_url("sqlite", tmp_path))
        with line_up(msgspec.structs.replace(settings, records=RecordsSettings(url=url))) as line:
            line.sends(3)
            line.all_is_there_once()
            disk.fill()
            line.sends_hot()
            line.says("records", TroubleKind.DISK_FULL, service="alerting")
            line.all_is_there_once()
            disk.free()
            line.has_alarms(1)
            line.says_nothing_of(TroubleKind.DISK_FULL)


@pytest.mark.parametrize(
    ("fault", "kind"), [("hang", TroubleKind.NO_ANSWER), ("500", TroubleKind.FAILS), ("cut", TroubleKind.UNREACHABLE)]
)
def test_an_influxdb_that_is_ill_holds_up_neither_ingest_nor_alarms(
    fault: Fault, kind: TroubleKind, tmp_path: Path
) -> None:
    with influx_line(tmp_path) as (line, proxy):
        line.sends(3)
        line.all_is_there_once()
        proxy.fault = fault
        line.sends(5)
        line.sends_hot()
        line.arrives()
        line.has_alarms(1)
        line.says("telemetry", kind, service="writer")
        proxy.fault = ""
        line.all_is_there_once()
        line.says_nothing_of(kind)


def test_an_influxdb_without_room_is_told_and_takes_everything_once_it_has(tmp_path: Path) -> None:
    with influx_with_little_room(tmp_path) as (disk, server, line):
        line.sends(3)
        line.all_is_there_once()
        disk.fill()
        line.sends(40, readings=300)
        line.sends_hot()
        line.arrives()
        line.has_alarms(1)
        until(
            lambda: line.own_words("writer").get("telemetry") in (TroubleKind.DISK_FULL, TroubleKind.STUCK),
            "a word of it",
        )
        disk.free()
        until(
            lambda: line.own_words("writer").get("telemetry") != TroubleKind.DISK_FULL,
            "its next attempt",
            within_s=WITHIN_S,
        )
        if (
            line.own_words("writer").get("telemetry") == TroubleKind.STUCK
        ):  # it says what to do, and the operator does it
            server.kill()
            server.start()
        line.all_is_there_once()
        line.says_nothing_of(TroubleKind.DISK_FULL, TroubleKind.STUCK)


def test_an_influxdb_that_answers_late_is_told_and_takes_everything(tmp_path: Path) -> None:
    with influx_line(tmp_path, timeout=10.0) as (line, proxy):
        line.sends(1)
        line.all_is_there_once()
        proxy.late_s = 5.0
        line.sends_hot()
        line.arrives()
        line.has_alarms(1)
        until(lambda: line.own_words("writer").get("telemetry") == TroubleKind.LATE, "late", within_s=WITHIN_S)
        assert ("telemetry", TroubleKind.NO_ANSWER) in line.ready()
        proxy.late_s = 0.0
        line.sends(1)
        line.all_is_there_once()
        line.says_nothing_of(TroubleKind.LATE, TroubleKind.NO_ANSWER)


def test_a_broker_that_hangs_is_noticed_though_no_connection_breaks(tmp_path: Path) -> None:
    own = free_port()
    with TcpProxy("127.0.0.1", own) as proxy:
        settings = embedded_in(tmp_path, fresh_url("sqlite", tmp_path), broker="mosquitto")
        settings = msgspec.structs.replace(settings, broker=msgspec.structs.replace(settings.broker, port=proxy.port))
        with line_up(settings, broker_port=own) as line:
            line.sends(2)
            line.all_is_there_once()
            proxy.hangs = True
            line.sends_hot()
            line.says("broker", TroubleKind.NO_ANSWER, service="collector", within_s=2 * WITHIN_S)
            proxy.hangs = False
            line.says_nothing_of(TroubleKind.NO_ANSWER, TroubleKind.UNREACHABLE)
            line.all_is_there_once()
            line.has_alarms(1)
