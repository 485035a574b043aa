"""The migrations make exactly what the tables say, on both databases, whoever runs them and how often."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.db import audit
from core.db.engine import Records, connect
from core.devices.tables import TIMELINES as DEVICE_TIMELINES
from core.migrations.all_tables import METADATA
from core.migrations.migrate import NewerDatabase, upgrade
from core.runtime.instant import Instant
from core.units.tables import UNIT_TIMELINES, DeviceRevision
from tests.fixtures.databases import DATABASES, empty_url

TIMELINES = DEVICE_TIMELINES | {"unit_parent": UNIT_TIMELINES["unit_parent"]}


@pytest.fixture(params=DATABASES)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = connect(empty_url(request.param, tmp_path), pool_size=12)
    yield engine
    engine.dispose()


def test_the_migrated_database_is_what_the_tables_say(empty: Engine) -> None:
    upgrade(empty)
    with empty.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_also_its_checks_which_the_comparison_does_not_look_at(empty: Engine, tmp_path: Path) -> None:
    upgrade(empty)
    kind = "sqlite" if empty.dialect.name == "sqlite" else "postgresql"
    made = connect(empty_url(kind, tmp_path))
    METADATA.create_all(made)
    migrated, declared = inspect(empty), inspect(made)
    for table in METADATA.tables:
        assert migrated.get_check_constraints(table) == declared.get_check_constraints(table), table
    made.dispose()


def test_migrating_again_changes_nothing(empty: Engine) -> None:
    upgrade(empty)
    with Records(empty).write() as tx:
        tx.get_one(DeviceRevision, 1).revision = 7
    upgrade(empty)
    with Records(empty).read() as tx:
        assert [row.revision for row in tx.query(DeviceRevision)] == [7]


def test_processes_that_start_together_migrate_once(empty: Engine) -> None:
    failures: list[BaseException] = []
    gate = threading.Barrier(6)

    def start() -> None:
        gate.wait()
        try:
            upgrade(empty)
        except BaseException as error:  # noqa: BLE001  # reported below, whatever it was
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with empty.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM device_revision")) == 1


def test_a_newer_database_is_refused_untouched(empty: Engine) -> None:
    upgrade(empty)
    with Records(empty).write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerDatabase, match="9999"):
        upgrade(empty)


def test_references_are_enforced_after_a_migration(empty: Engine) -> None:
    upgrade(empty)
    for _ in range(3):
        with pytest.raises(IntegrityError), Records(empty).write() as tx:
            tx.execute(text("INSERT INTO series (probe_id, quantity) VALUES (4711, 't')"))


def _pair(tx: Session, table: str, subject: str, since: int, until: int | None) -> None:
    columns = [column.name for column in METADATA.tables[table].columns if column.name != "id"]
    other = next(column for column in columns if column.endswith("_id") and column != subject)
    tx.execute(
        text(f"INSERT INTO {table} ({subject}, {other}, since, until) VALUES (1, 1, :since, :until)"),
        {"since": since, "until": until},
    )


SUBJECTS = (
    "INSERT INTO unit (name, kind, level, path, timezone) VALUES ('u', 'cdc', 'county', '/1/', 'Asia/Shanghai')",
    "INSERT INTO equipment (code, name, kind) VALUES ('E1', 'e', 'fridge')",
    "INSERT INTO zone (equipment_id, kind, profile) VALUES (1, 'refrigerated', 'china-2017')",
    "INSERT INTO gateway (number, namespace) VALUES ('10001', 'cc')",
    "INSERT INTO probe (namespace, code, interval) VALUES ('cc', '208601', 60000)",
)


@pytest.mark.parametrize("table", TIMELINES)
@pytest.mark.parametrize(
    ("since", "until"), [(50, 150), (100, 200), (199, None), (120, 130), (0, None), (0, 101), (150, 250)]
)
def test_the_database_itself_refuses_overlap(records: Records, table: str, since: int, until: int | None) -> None:
    with records.write() as tx:
        for statement in SUBJECTS:
            tx.execute(text(statement))
        _pair(tx, table, TIMELINES[table], 100, 200)
    with pytest.raises(IntegrityError, match="overlap"), records.write() as tx:
        _pair(tx, table, TIMELINES[table], since, until)


@pytest.mark.parametrize("table", TIMELINES)
def test_touching_intervals_are_no_overlap_and_stretching_one_is(records: Records, table: str) -> None:
    with records.write() as tx:
        for statement in SUBJECTS:
            tx.execute(text(statement))
        _pair(tx, table, TIMELINES[table], 100, 200)
        _pair(tx, table, TIMELINES[table], 200, None)
        _pair(tx, table, TIMELINES[table], 50, 100)
        tx.execute(text(f"UPDATE {table} SET until = 300 WHERE until IS NULL"))
    with pytest.raises(IntegrityError, match="overlap"), records.write() as tx:
        tx.execute(text(f"UPDATE {table} SET until = 201 WHERE since = 100"))
    with pytest.raises(IntegrityError, match="span"), records.write() as tx:
        _pair(tx, table, TIMELINES[table], 400, 400)


@pytest.mark.parametrize("change", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"])
def test_an_audit_row_can_be_neither_edited_nor_removed(records: Records, change: str) -> None:
    with records.write() as tx:
        audit.record(tx, at=Instant(1), actor="operator", act="tried", subject="audit:1")
    with pytest.raises(IntegrityError, match="append only"), records.write() as tx:
        tx.execute(text(change))


@pytest.mark.parametrize("change", ["UPDATE alarm_event SET kind = 'x'", "DELETE FROM alarm_event"])
def test_neither_can_an_alarm_event(records: Records, change: str) -> None:
    with records.write() as tx:
        for statement in SUBJECTS:
            tx.execute(text(statement))
        required = [column.name for column in METADATA.tables["alarm"].columns if not column.nullable]
        alarm: dict[str, int | str] = dict.fromkeys(required, 1)
        alarm |= {"state": "open", "handling": "unacknowledged", "rule": "above", "snapshot": "{}", "origin": "live"}
        tx.execute(METADATA.tables["alarm"].insert().values(alarm))
        tx.execute(METADATA.tables["alarm_event"].insert().values(alarm_id=1, at=1, kind="opened"))
    with pytest.raises(IntegrityError, match="append only"), records.write() as tx:
        tx.execute(text(change))
