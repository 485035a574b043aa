"""Executions killed with -9 before any of their statements: all effects or none, and the next try ends it."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from core.db.engine import Records, connect
from core.devices.tables import Equipment
from core.units.actor import OPERATOR
from core.workflow import execution
from core.workflow.form import DraftContent
from core.workflow.states import ApplicationState
from core.workflow.tables import Application, Execution
from tests.fixtures.applications import CODE, KINDS, NOW, ROW, Reviewers
from tests.fixtures.databases import DATABASES, fresh_url

ROOT = Path(__file__).resolve().parents[2]
KILLED = -9
MOST_STATEMENTS = 60
BEFORE, AFTER = ("美菱冰箱", "容声冰箱"), ("海尔冰箱", "新飞冰箱")
TWO_ROWS = DraftContent({"unit_code": CODE}, [ROW, {"code": "A-02", "before": BEFORE[1], "after": AFTER[1]}])


def names(records: Records) -> tuple[str, ...]:
    with records.read() as tx:
        return tuple(tx.scalars(select(Equipment.name).order_by(Equipment.code)))


def effects(records: Records) -> list[tuple[int, str]]:
    with records.read() as tx:
        rows = tx.execute(select(Execution.row, Execution.effect).order_by(Execution.row))
        return [(row, effect) for row, effect in rows]


def killed_at(url: str, application: int, statement: int) -> int:
    """Execute in a process that dies before a statement; return how it ended."""
    command = [sys.executable, "-m", "tests.fixtures.dying_execution", url, str(application), str(statement)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode


def try_to_break(database: str, folder: Path, *, first: int, step: int) -> int:
    """Kill an execution before every `step`-th statement; return how many were killed."""
    url = fresh_url(database, folder)
    records = Records(connect(url))
    people = Reviewers(records)
    with records.write() as tx:
        tx.add(Equipment(code="A-02", name=BEFORE[1], kind="fridge"))
    application = people.filed(TWO_ROWS)
    killed = 0
    for statement in range(first, MOST_STATEMENTS, step):
        ended = killed_at(url, application, statement)
        if ended != KILLED:
            assert ended == 0
            break
        killed += 1
        assert names(records) == BEFORE, "nothing, when it died before the commit"
        assert effects(records) == []
        with records.read() as tx:
            assert tx.get_one(Application, application).state is ApplicationState.FILED
    for _ in range(2):
        with records.write() as tx:
            row = execution.execute(tx, OPERATOR, KINDS, application, now=NOW)
            assert row.state is ApplicationState.EXECUTED
        assert names(records) == AFTER
        assert effects(records) == [(1, "rename:A-01"), (2, "rename:A-02")]
    records.close()
    return killed


def test_an_execution_that_dies_between_its_effects_leaves_none_of_them(tmp_path: Path) -> None:
    assert try_to_break("sqlite", tmp_path, first=16, step=6) >= 1


@pytest.mark.long
@pytest.mark.parametrize("database", DATABASES)
def test_an_execution_may_die_before_any_statement(database: str, tmp_path: Path) -> None:
    assert try_to_break(database, tmp_path, first=1, step=1) > 15
