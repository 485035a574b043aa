"""Benchmark of the alarm engine on both databases.

    .venv/bin/python benchmarks/alarms.py [--quick] [--only sqlite|postgresql]

The engine is that of `coldchain alerting`; PostgreSQL is durable (fsync on). The limits that the machine sets are
measured in the same run: a plain executemany of the same rows, and the rules without a database.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alarm_latency import told_in_time
from fridges import INTERVAL, Fridges
from late import of_a_gateway, of_a_province, of_one_shard
from restart import restart
from results import Report
from servers import database, postgres, postgres_version

from alerting.alerting_loop import AlertingLoop
from alerting.following.follower import Follower
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, OutboxMessage, RuleState, SeriesState
from core.db.engine import Records, connect
from core.ids import Centi, ZoneId
from core.intake.sqlite import SqliteIntakeLog
from core.limits import rule_profile
from core.migrations.migrate import upgrade
from core.rules import live_state
from core.rules.rule_types import Sample
from core.runtime import logs
from core.runtime.instant import MINUTE, Instant, Milliseconds
from tests.fixtures.alerting import HandClock

NOW = Instant(1_774_632_960_000)
SHARD_OF_PROVINCE = 20
"""Gateways of the fullest shard of 2 500 gateways, about."""
QUESTION = "How quickly an alarm reaches a person, on both databases: the goals of the alarm engine."
WRITTEN = (SeriesState, RuleState, Alarm, AlarmStep, AlarmEvent, OutboxMessage)


class Ward(NamedTuple):
    """Fridges with the alarm engine over them."""

    fridges: Fridges
    engine: AlertingLoop
    follower: Follower
    clock: HandClock


@contextmanager
def ward(url: str, count: int) -> Iterator[Ward]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        records = Records(connect(url or f"sqlite:///{folder}/records.db"))
        opened.callback(records.close)
        upgrade(records.engine)
        log = SqliteIntakeLog(Path(folder) / "intake.db")
        opened.callback(log.close)
        clock, fridges = HandClock(NOW), Fridges(records, log, count)
        loop, follower = fridges.worker(clock)
        yield Ward(fridges, loop, follower, clock)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a function."""
    began, cpu_before = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu_before


def rules_alone(samples: int) -> float:
    """Return samples for each CPU second of the rules alone, without records and log."""
    bounds = rule_profile.bounds(
        rule_profile.load(rule_profile.DEFAULT), "refrigerated", Milliseconds(MINUTE), rule_profile.ZoneOverrides()
    )
    state = live_state.begin(ZoneId(1))
    test_samples = [Sample(Instant(NOW + n * MINUTE), Centi(400 + n % 7 * 10), 0) for n in range(samples)]
    _, cpu_s = seconds(lambda: [live_state.take(state, bounds, sample) for sample in test_samples])
    return samples / cpu_s


def samples(report: Report, name: str, url: str, count: int, minutes: int) -> None:
    """Measure how fast readings within the limits are followed: no alarm opens, and all rule state is written."""
    with ward(url, count) as at:
        at.fridges.read(4.0, NOW)
        at.engine.run_once()
        for minute in range(1, minutes + 1):
            at.fridges.read(4.0 + minute % 3 / 10, Instant(NOW + minute * MINUTE))
        at.clock.time = Instant(NOW + minutes * MINUTE)
        before = at.follower.readings
        elapsed_s, cpu_s = seconds(at.engine.run_once)
        rate = (at.follower.readings - before) / elapsed_s
        assert at.follower.readings - before == count * minutes
        limit = rules_alone(200_000)
        report.table(
            f"{name}: calm readings of {count:,} probes followed",
            *("", "k samples/s", "µs CPU a sample", "to the rules"),
        )
        report.row("rules alone", limit / 1e3, 1e6 / limit, 1.0)
        report.row("engine with records and log", rate / 1e3, cpu_s / count / minutes * 1e6, rate / limit)
        report.goal(f"{name}: rule engine", rate / 1e3, at_least=20, unit="k samples/s")


def storm(report: Report, name: str, url: str, count: int, most_s: float) -> None:
    """Measure an opening of alarms in all fridges at once, with their steps and the messages to level 1."""
    with ward(url, count) as at:
        at.fridges.read(4.0, NOW)
        at.engine.run_once()
        at.clock.time = Instant(NOW + INTERVAL)
        at.fridges.read(9.4, at.clock.time)
        elapsed_s, cpu_s = seconds(at.engine.run_once)
        rows = _rows(at.fridges.records)
        assert len(rows[Alarm]) == len(rows[OutboxMessage]) == count, {
            table: len(table_rows) for table, table_rows in rows.items()
        }
        limit = _plain(at.fridges.records, rows)
        report.table(f"{name}: {count:,} alarms at once", *("", "seconds", "CPU seconds", "to the limit"))
        written = sum(map(len, rows.values()))
        report.row(f"executemany of the same {written:,} rows, no keys", limit, None, 1.0)
        report.row("readings to alarms, steps, events, outbox", elapsed_s, cpu_s, elapsed_s / limit)
        report.goal(f"{name}: {count:,} alarms committed with steps and outbox", elapsed_s, at_most=most_s, unit="s")


def _rows(records: Records) -> dict[type, list[dict[str, object]]]:
    with records.read() as tx:
        return {table: [dict(row) for row in tx.execute(sa.select(*table.__table__.c)).mappings()] for table in WRITTEN}


def _plain(records: Records, rows: dict[type, list[dict[str, object]]]) -> float:
    """Return the seconds of plain inserts of the same rows into tables without keys, one transaction a table."""
    copies = {}
    for table, table_rows in rows.items():
        columns = [sa.Column(column.name, column.type) for column in table.__table__.c]  # type: ignore[attr-defined]
        copies[sa.Table(f"plain_{table.__tablename__}", sa.MetaData(), *columns)] = table_rows  # type: ignore[attr-defined]
    for copy in copies:
        copy.create(records.engine)

    def write() -> None:
        for copy, table_rows in copies.items():
            with records.write() as tx:
                tx.execute(sa.insert(copy), table_rows)

    return seconds(write)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument("--part", choices=["samples", "storm", "late", "told", "restart"])
    parser.add_argument("--quick", action="store_true", help="small, and nothing kept")
    arguments = parser.parse_args()
    logs.set_up("benchmark", level="ERROR")
    report = Report("alarms", QUESTION, quick=arguments.quick or bool(arguments.only or arguments.part))
    with ExitStack() as opened:
        url_makers = dict.fromkeys(["sqlite"], lambda _part: "") if arguments.only != "postgresql" else {}
        if arguments.only != "sqlite":
            server = opened.enter_context(postgres())
            report.server("PostgreSQL", postgres_version())
            url_makers["postgresql"] = lambda part: database(server, part)
        for name, url in url_makers.items():
            if arguments.part in (None, "samples"):
                samples(report, name, url("samples"), *((80, 5) if arguments.quick else (2_000, 20)))
            if arguments.part in (None, "storm"):
                storm(report, name, url("storm"), 100 if arguments.quick else 10_000, 5 if name == "sqlite" else 8)
            if arguments.part in (None, "late"):
                hours = 6 if arguments.quick else 24
                of_a_gateway(report, name, (url("live"), url("late")), hours)
                for gateways in (1, SHARD_OF_PROVINCE):
                    of_one_shard(report, name, url(f"shard{gateways}"), gateways, hours)
                of_a_province(report, name, url("province"), 40 if arguments.quick else 20_000, hours)
            if arguments.part in (None, "told"):
                told_in_time(report, name, url("told"), 10 if arguments.quick else 200)
            if arguments.part in (None, "restart"):
                restart(report, name, url("restarted"), 200 if arguments.quick else 50_000)
    report.keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
