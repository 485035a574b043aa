"""Every test run: which tests it has, how many workers, and which requirements its passing tests show.

`pytest` without paths takes two workers where there are two cores, and leaves out what is marked `long` or is tried on
PostgreSQL, InfluxDB or Mosquitto as well as on the embedded kind; `pytest -m long` runs the rest. Whoever names files
or tests gets exactly these, in one process. The requirements that the first run shows are kept in a file, so that the
summary of the second counts both.
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
"""Commands answer in the language of the locale: in English, unless a test asks for Chinese."""

hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


WORKERS = 2
SERVERS = frozenset({"postgresql", "influxdb", "mosquitto", "servers"})
"""Parameters of tests that run once on each kind of store or broker."""
ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "docs" / "requirements.csv"
MATRIX = ROOT / "requirements-shown.csv"


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """Fail the last test of a file for a socket, file or database that its tests left open.

    Else a later file would be blamed, whose test was running when the garbage was found by chance.
    """
    yield
    gc.collect()


def is_whole(config: pytest.Config) -> bool:
    """Whether nobody has named files or tests."""
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS


def pytest_itemcollected(item: pytest.Item) -> None:
    callspec = getattr(item, "callspec", None)
    if callspec is not None and not SERVERS.isdisjoint(callspec.id.split("-")):
        item.add_marker("long")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return 0 for none but this process: a worker needs a second to come up."""
    return WORKERS if is_whole(config) and (os.cpu_count() or 1) >= WORKERS else 0


class _Ledger:
    """What the reports of this run say; with several workers each runs a part, and the first process hears of all."""

    def __init__(self) -> None:
        with REQUIREMENTS.open(encoding="utf-8") as file:
            self.known = {row["id"]: row["subsystem"] for row in csv.DictReader(file)}
        self.marked: dict[str, set[str]] = defaultdict(set)
        self.failed: set[str] = set()
        self.passed: set[str] = set()
        self.told: list[str] = []
        """What tests counted (`record_property("report", …)`): shown also when they pass."""

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
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
    known = config.stash[_LEDGER].known
    for item in items:
        for mark in item.iter_markers("req"):
            unknown = [name for name in mark.args if name not in known]
            if unknown:
                pytest.fail(f"{item.nodeid}: {', '.join(unknown)} is not in docs/requirements.csv", pytrace=False)
            item.user_properties += [("req", name) for name in mark.args]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ledger = config.stash[_LEDGER]
    good = ledger.passed - ledger.failed
    if config.option.markexpr:
        for name, tests in _shown_before().items():
            ledger.marked[name] |= tests
            good |= tests
    shown = {name for name, tests in ledger.marked.items() if tests & good and not tests & ledger.failed}
    for text in ledger.told:
        terminalreporter.section("counted")
        terminalreporter.line(text)
    if not is_whole(config):
        if ledger.marked:
            terminalreporter.section("requirements")
            terminalreporter.line(f"shown: {' '.join(sorted(shown)) or 'none'}")
        return
    with MATRIX.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "shown", "tests"])
        for name in ledger.known:
            table.writerow([name, "yes" if name in shown else "no", " ".join(sorted(ledger.marked[name]))])
    terminalreporter.section("requirements")
    by_subsystem: dict[str, list[str]] = defaultdict(list)
    for name, subsystem in ledger.known.items():
        by_subsystem[subsystem].append(name)
    for subsystem, names in by_subsystem.items():
        line = f"{subsystem}: {len(shown.intersection(names))} of {len(names)} shown"
        failed = [name for name in names if ledger.marked[name] & ledger.failed]
        terminalreporter.line(f"{line}; failed: {' '.join(failed)}" if failed else line)


def _shown_before() -> dict[str, set[str]]:
    """Return the requirements that the run before this one showed, and by which tests."""
    if not MATRIX.exists():
        return {}
    with MATRIX.open(encoding="utf-8", newline="") as file:
        return {row["id"]: set(row["tests"].split(" ")) for row in csv.DictReader(file) if row["shown"] == "yes"}
