"""Configuration of every test run: its choice of tests, its workers, and its summary of the requirements.

`pytest` without paths uses two workers on a machine with two cores. It leaves out tests that are marked `long` and the
repetitions of tests on PostgreSQL, InfluxDB and Mosquitto; `pytest -m long` runs these. If files or tests are named,
exactly these run, in one process. The first run saves the requirements that it shows in a file, so that the summary of
the second run counts both.
"""

import csv
import gc
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.fixtures.databases import records, sqlite_records

__all__ = ["records", "sqlite_records"]

os.environ["LC_ALL"] = "C.UTF-8"
"""Locale that makes commands answer in English, unless a test sets another."""

hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


WORKERS = 2
SERVERS = frozenset({"postgresql", "influxdb", "mosquitto", "servers"})
"""Test parameters that stand for a server rather than an embedded store or broker."""
ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "docs" / "requirements.csv"
MATRIX = ROOT / "requirements-shown.csv"


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """Fail the last test of a file if its tests left a socket, file or database open.

    Otherwise a test of a later file would fail, which happens to run when the garbage is collected.
    """
    yield
    gc.collect()


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of all later collections of garbage, of which there is one for each file."""
    gc.collect()
    gc.freeze()


def is_whole(config: pytest.Config) -> bool:
    """Return whether no files or tests were named."""
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS


def pytest_itemcollected(item: pytest.Item) -> None:
    callspec = getattr(item, "callspec", None)
    if callspec is not None and not SERVERS.isdisjoint(callspec.id.split("-")):
        item.add_marker("long")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers; 0 runs the tests in this process, since a worker needs a second to start."""
    return WORKERS if is_whole(config) and (os.cpu_count() or 1) >= WORKERS else 0


class _Ledger:
    """Results of this run. With several workers the first process gets the reports of all."""

    def __init__(self) -> None:
        with REQUIREMENTS.open(encoding="utf-8") as file:
            self.known = {row["id"]: row["subsystem"] for row in csv.DictReader(file)}
        self.marked: dict[str, set[str]] = defaultdict(set)
        self.failed: set[str] = set()
        self.passed: set[str] = set()
        self.told: list[str] = []
        """Lines that tests report with `record_property("report", …)`; they are printed even if all tests pass."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid
        for name, value in report.user_properties:
            if name == "req":
                self.marked[str(value)].add(test)
            elif name == "report" and report.when == "call":
                self.told.append(str(value))
        if report.failed:
            self.failed.add(test)
        elif report.when == "call" and report.passed:
            self.passed.add(test)


_LEDGER = pytest.StashKey[_Ledger]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEDGER] = ledger = _Ledger()
    config.pluginmanager.register(ledger)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_whole(config) and not config.option.markexpr:
        long_tests = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long_tests)
    known_requirements = config.stash[_LEDGER].known
    for item in items:
        for mark in item.iter_markers("req"):
            unknown = [name for name in mark.args if name not in known_requirements]
            if unknown:
                pytest.fail(f"{item.nodeid}: {', '.join(unknown)} is not in docs/requirements.csv", pytrace=False)
            item.user_properties += [("req", name) for name in mark.args]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ledger = config.stash[_LEDGER]
    passed = ledger.passed - ledger.failed
    if config.option.markexpr:
        for name, tests in _shown_before().items():
            ledger.marked[name] |= tests
            passed |= tests
    shown = {name for name, tests in ledger.marked.items() if tests & passed and not tests & ledger.failed}
    for text in ledger.told:
        terminalreporter.section("counted")
        terminalreporter.line(text)
    if not is_whole(config):
        if ledger.marked:
            terminalreporter.section("requirements")
            terminalreporter.line(f"shown: {' '.join(sorted(shown)) or 'none'}")
        return
    with MATRIX.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "shown", "tests"])
        for name in ledger.known:
            writer.writerow([name, "yes" if name in shown else "no", " ".join(sorted(ledger.marked[name]))])
    terminalreporter.section("requirements")
    by_subsystem: dict[str, list[str]] = defaultdict(list)
    for name, subsystem in ledger.known.items():
        by_subsystem[subsystem].append(name)
    for subsystem, names in by_subsystem.items():
        line = f"{subsystem}: {len(shown.intersection(names))} of {len(names)} shown"
        failed = [name for name in names if ledger.marked[name] & ledger.failed]
        terminalreporter.line(f"{line}; failed: {' '.join(failed)}" if failed else line)


def _shown_before() -> dict[str, set[str]]:
    """Return the requirements that the run before this one showed, with their tests."""
    if not MATRIX.exists():
        return {}
    with MATRIX.open(encoding="utf-8", newline="") as file:
        return {row["id"]: set(row["tests"].split(" ")) for row in csv.DictReader(file) if row["shown"] == "yes"}
