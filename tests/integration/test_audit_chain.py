"""Seals of the audit log: whatever is changed afterwards is found, by the first row or seal that is not as it was.

The oracle of the property test is the list of rows as they were written.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from alerting.audit_sealing import AuditSealing
from core.db import audit, audit_chain
from core.db.audit import Audit, Change
from core.db.audit_chain import AuditSeal, ChainFault, ChainReport, FaultKind, chain_key
from core.db.engine import Records
from core.runtime.instant import DAY, HOUR, MINUTE, Instant
from tests.fixtures.alerting import HandClock

NOW = Instant(1_774_632_960_000)
KEY = chain_key("11" * 32)


def written(records: Records, rows: int, *, sealed: bool = True) -> None:
    changes = [Change("equipment renamed", f"equipment:{n}", {"name": f"冰箱 {n}"}) for n in range(rows)]
    with records.write() as tx:
        audit.record_all(tx, changes, at=NOW, actor="account:3")
    if sealed:
        with records.write() as tx:
            audit_chain.seal(tx, KEY, NOW)


def report(records: Records, head: str = "", key: bytes = KEY) -> ChainReport:
    with records.read() as tx:
        return audit_chain.verify(tx, key, head)


@contextmanager
def forger(records: Records) -> Iterator[Session]:
    """Yield a transaction of somebody who owns the database: the guards against changes don't stop them."""
    with records.write() as tx:
        if records.engine.dialect.name == "postgresql":
            tx.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for table in ("audit", "audit_seal"):
                for event in ("update", "delete"):
                    tx.execute(text(f"DROP TRIGGER IF EXISTS append_only_{table}_{event}"))
        yield tx


def run(records: Records, *statements: str, **values: object) -> None:
    with forger(records) as tx:
        for statement in statements:
            tx.execute(text(statement), values)


def ids(records: Records) -> list[int]:
    with records.read() as tx:
        return list(tx.scalars(select(Audit.id).order_by(Audit.id)))


def test_rows_that_nobody_touched_are_whole_and_those_since_are_counted(records: Records) -> None:
    assert report(records) == ChainReport(0, 0, 0, "", None)
    for rows in (3, 1, 5):
        written(records, rows)
    written(records, 2, sealed=False)
    found = report(records)
    assert (found.seals, found.rows, found.unsealed, found.fault) == (3, 9, 2, None)
    assert len(found.head) == 64


@pytest.mark.parametrize(
    ("column", "value"),
    [("at", 1), ("actor", "account:4"), ("act", "equipment moved"), ("subject", "equipment:9"), ("detail", "{}")],
)
def test_the_first_row_that_was_changed_is_named(records: Records, column: str, value: object) -> None:
    written(records, 5)
    written(records, 5)
    first = ids(records)[6]
    run(records, f"UPDATE audit SET {column} = :value WHERE id >= :first", value=value, first=first)
    found = report(records)
    assert found.fault == ChainFault(FaultKind.ROW_CHANGED, first)
    assert (found.seals, found.rows) == (2, 5)


def test_deleted_and_inserted_rows_are_named(records: Records) -> None:
    written(records, 6)
    third = ids(records)[2]
    with forger(records) as tx:
        row = tx.get_one(Audit, third)
        kept = {column.name: getattr(row, column.name) for column in Audit.__table__.columns}
        tx.execute(delete(Audit).where(Audit.id == third))
    assert report(records).fault == ChainFault(FaultKind.ROW_MISSING, third)
    with records.write() as tx:
        tx.add(Audit(**kept))
    assert report(records).fault is None
    with records.write() as tx:
        tx.add(Audit(**kept | {"id": -7}))
        tx.add(Audit(**kept | {"id": 0}))
    assert report(records).fault == ChainFault(FaultKind.ROW_INSERTED, -7)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_seal SET digest = (SELECT digest FROM audit_seal WHERE number = 1) WHERE number = 2",
        "UPDATE audit_seal SET at = at + 1 WHERE number = 2",
        "UPDATE audit_seal SET last_id = last_id + 1 WHERE number = 2",
        "UPDATE audit_seal SET gaps = '[[1,9,0]]' WHERE number = 2",
        "DELETE FROM audit_seal WHERE number = 2",
        "UPDATE audit_seal SET rows = (SELECT rows FROM audit_seal WHERE number = 1) WHERE number = 2",
    ],
)
def test_a_changed_or_deleted_seal_is_named(records: Records, change: str) -> None:
    for _ in range(3):
        written(records, 2)
    run(records, change)
    assert report(records).fault == ChainFault(FaultKind.SEAL_CHANGED, 2)


def test_a_chain_made_anew_without_the_key_is_found(records: Records) -> None:
    written(records, 3)
    run(records, "UPDATE audit SET actor = 'account:4'", "DELETE FROM audit_seal")
    with records.write() as tx:
        audit_chain.seal(tx, chain_key("22" * 32), NOW)
    assert report(records).fault == ChainFault(FaultKind.SEAL_CHANGED, 1)


def test_an_end_that_was_cut_off_is_found_by_a_head_that_was_noted(records: Records) -> None:
    written(records, 3)
    early = report(records).head
    written(records, 3)
    head = report(records).head
    written(records, 1)
    for noted in (early, head):
        assert report(records, noted).fault is None
    run(
        records,
        "DELETE FROM audit WHERE id > (SELECT last_id FROM audit_seal WHERE number = 1)",
        "DELETE FROM audit_seal WHERE number > 1",
    )
    assert report(records).fault is None
    assert report(records, early).fault is None
    assert report(records, head).fault == ChainFault(FaultKind.HEAD_UNKNOWN, 0)


@pytest.mark.parametrize("records", ["postgresql"], indirect=True)
def test_a_row_that_is_committed_after_later_ones_is_sealed_by_the_next_seal(records: Records) -> None:
    with records.write() as slow:
        audit.record(slow, at=NOW, actor="account:3", act="a", subject="s:1")
        slow.flush()
        written(records, 2)
        early = report(records)
        assert (early.rows, early.fault) == (2, None)
    committed = report(records)
    assert (committed.rows, committed.fault) == (2, None)
    with records.write() as tx:
        assert audit_chain.seal(tx, KEY, NOW) == 1
    late = report(records)
    assert (late.rows, late.unsealed, late.fault) == (3, 0, None)
    run(records, "UPDATE audit SET actor = 'account:4' WHERE id = 1")
    assert report(records).fault == ChainFault(FaultKind.ROW_CHANGED, 1)


@pytest.mark.parametrize("records", ["postgresql"], indirect=True)
def test_a_number_that_no_row_ever_had_is_given_up_after_a_day(records: Records) -> None:
    with records.write() as tx:
        audit.record(tx, at=NOW, actor="account:3", act="a", subject="s:1")
        tx.flush()
        tx.rollback()
    written(records, 1)
    written(records, 1)
    with records.read() as tx:
        assert tx.get_one(AuditSeal, 2).gaps == f"[[1,1,{NOW}]]"
    written(records, 1, sealed=False)
    with records.write() as tx:
        audit_chain.seal(tx, KEY, Instant(NOW + DAY))
    with records.read() as tx:
        assert tx.get_one(AuditSeal, 3).gaps == "[]"
    run(records, "INSERT INTO audit (id, at, actor, act, subject, detail) VALUES (1, 1, 'a', 'a', 's', '')")
    assert report(records).fault == ChainFault(FaultKind.ROW_INSERTED, 1)


def test_of_two_sealers_at_once_one_fails_and_no_row_is_sealed_twice(records: Records) -> None:
    written(records, 50, sealed=False)
    both = threading.Barrier(2)
    outcomes: list[object] = []

    def work() -> None:
        try:
            both.wait()
            with records.write() as tx:
                outcomes.append(audit_chain.seal(tx, KEY, NOW))
        except IntegrityError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(50) == 1
    assert set(outcomes) <= {50, 0, IntegrityError}
    assert report(records).fault is None


def test_any_single_change_is_found_and_no_later_row_is_blamed(records: Records) -> None:
    chance = random.Random(5)
    for _ in range(6):
        written(records, chance.randint(1, 9))
    known = ids(records)
    for _ in range(30):
        at = chance.choice(known)
        with forger(records) as tx:
            before = tx.get_one(Audit, at).detail
            place = chance.randrange(len(before))
            tx.execute(update(Audit).where(Audit.id == at).values(detail=f"{before[:place]}#{before[place + 1 :]}"))
        assert report(records).fault == ChainFault(FaultKind.ROW_CHANGED, at)
        with forger(records) as tx:
            tx.execute(update(Audit).where(Audit.id == at).values(detail=before))
    assert report(records).fault is None


def test_once_a_minute_one_worker_seals_all_that_was_written(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_chain, "ROWS", 10)
    clock = HandClock(NOW)
    first, second = (AuditSealing(records, KEY, clock) for _ in range(2))
    written(records, 25, sealed=False)
    assert (first.run(), second.run()) == (True, False)
    assert (report(records).rows, report(records).seals) == (25, 3)
    written(records, 1, sealed=False)
    assert not first.run()
    clock.time = Instant(NOW + MINUTE)
    assert (second.run(), first.run()) == (True, False)
    assert (report(records).rows, report(records).unsealed) == (26, 0)
    clock.time = Instant(NOW - HOUR)
    assert not first.run(), "a clock that jumped back waits for its next minute"


def test_records_of_before_the_chain_are_sealed_by_the_first_run(records: Records) -> None:
    written(records, 3, sealed=False)
    assert report(records).unsealed == 3
    assert AuditSealing(records, KEY, HandClock(NOW)).run()
    assert report(records).rows == 3
