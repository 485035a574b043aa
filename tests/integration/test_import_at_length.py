"""Import of a province: the work grows with the file, whatever the records hold, and nothing is half done."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, func, select, text

from coldchain.importing import ImportReport, import_file
from config import secrets
from core.db.engine import Records
from core.devices.tables import Probe, ProbeZone, Zone
from core.runtime.instant import Instant, parse
from core.units.actor import OPERATOR
from core.units.tables import Contact, Person, Unit

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import province

pytestmark = pytest.mark.long

NOW = parse("2026-05-01T12:00:00+08:00")
SMALL, LARGE = 150, 600


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    """Yield the statements that are sent to the database."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def imports(records: Records, folder: Path, units: int, now: Instant = NOW) -> tuple[ImportReport, int, int]:
    """Import a province; returns the report, the rows of the file and the statements."""
    if not secrets.path_in(str(folder)).exists():
        secrets.write(str(folder), secrets.fresh("coldchain"))
    file = folder / f"province-{units}.csv"
    rows = province.write(file, units)
    with counted(records.engine) as sent:
        report = import_file(records, str(folder), file, actor=OPERATOR, now=now)
    return report, rows, len(sent)


def test_a_province_is_imported_whole_in_statements_that_grow_with_the_file(records: Records, tmp_path: Path) -> None:
    small, rows, first = imports(records, tmp_path, SMALL)
    assert small.mistakes == []
    large, more_rows, second = imports(records, tmp_path, LARGE)
    assert large.mistakes == []
    assert len(large.issued) == LARGE - SMALL, "those of the small file have their passwords already"
    again, _, third = imports(records, tmp_path, LARGE, Instant(NOW + 1))
    assert not again.changed
    with records.read() as tx:
        counts = [tx.scalar(select(func.count()).select_from(table)) for table in (Unit, Person, Contact)]
        assert counts == [LARGE, 3 * (LARGE - 1), 3 * (LARGE - 1)]
        zones, probes, bound = (tx.scalar(select(func.count()).select_from(each)) for each in (Zone, Probe, ProbeZone))
        assert zones == probes == bound == (LARGE - 1) * 20 // 3 + (LARGE - 1) * 20 // 3 % 2
    # A row takes a small part of a statement, and no more where the records hold more already.
    assert first < rows
    assert second / more_rows <= first / rows
    assert third < more_rows / 10


def test_progress_is_told_up_to_the_last_row(sqlite_records: Records, tmp_path: Path) -> None:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    rows = province.write(tmp_path / "p.csv", SMALL)
    told: list[tuple[int, int]] = []
    report = import_file(
        sqlite_records,
        str(tmp_path),
        tmp_path / "p.csv",
        actor=OPERATOR,
        now=NOW,
        progress=lambda done, all_rows: told.append((done, all_rows)),
    )
    assert report.mistakes == []
    assert told == sorted(told)
    assert told[-1] == (rows, rows)
    assert len(told) > 5


def test_the_last_row_of_a_province_takes_all_of_it_back(records: Records, tmp_path: Path) -> None:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    file = tmp_path / "p.csv"
    province.write(file, SMALL)
    with file.open("a", encoding="utf-8") as more:
        more.write("gateway,,G999999" + "," * 5 + ",nowhere" + "," * 6 + "\n")
    report = import_file(records, str(tmp_path), file, actor=OPERATOR, now=NOW)
    (mistake,) = report.mistakes
    assert "unit = 'nowhere': there is no unit with this code" in str(mistake)
    assert secrets.read(str(tmp_path)).broker.keys() == {"coldchain"}
    with records.read() as tx:
        for table in ("unit", "person", "equipment", "gateway", "probe", "contact", "audit"):
            assert tx.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table


@pytest.mark.parametrize("moves", [3])
def test_moving_units_costs_no_look_at_each_other_unit(sqlite_records: Records, tmp_path: Path, moves: int) -> None:
    imports(sqlite_records, tmp_path, SMALL)
    lines = (tmp_path / f"province-{SMALL}.csv").read_text("utf-8").splitlines()
    head, clinics = lines[0], [line for line in lines if line.startswith("unit,X")][:moves]
    file = tmp_path / "moved.csv"
    file.write_text("\n".join([head, *(line.replace(",C00001,", ",C00002,") for line in clinics)]), "utf-8")
    with counted(sqlite_records.engine) as sent:
        report = import_file(sqlite_records, str(tmp_path), file, actor=OPERATOR, now=NOW)
    assert report.mistakes == []
    assert report.changed
    assert len(sent) < 20 + 10 * moves


@pytest.mark.req("HW-06", "HW-07")
def test_a_province_gets_its_warranties_in_few_statements(records: Records, tmp_path: Path) -> None:
    _, rows, _ = imports(records, tmp_path, SMALL)
    lines = (tmp_path / f"province-{SMALL}.csv").read_text("utf-8").splitlines()
    hardware = ("equipment,", "gateway,", "probe,")
    more = [line + (",省级配发,2029-01-30" if line.startswith(hardware) else ",,") for line in lines[1:]]
    file = tmp_path / "warranties.csv"
    file.write_text("\n".join([f"{lines[0]},source,warranty_end", *more]), "utf-8")
    with counted(records.engine) as sent:
        report = import_file(records, str(tmp_path), file, actor=OPERATOR, now=Instant(NOW + 1))
    assert report.mistakes == []
    with records.read() as tx:
        ends = tx.scalars(select(Probe.warranty_end)).all()
        audited = tx.scalar(text("SELECT count(*) FROM audit WHERE act = 'origin set'"))
    assert set(ends) == {date(2029, 1, 30)}
    assert audited == sum(line.startswith(hardware) for line in lines)
    assert len(sent) < rows / 10
