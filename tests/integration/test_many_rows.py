"""Many rows at a time, written and asked for, on both databases."""

from contextlib import suppress
from datetime import date

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from core.alarms.tables import OutboxMessage, PeriodicJob, RuleState
from core.db.engine import Records
from core.db.in_values import in_values
from core.db.insert import insert_all, insert_missing, upsert
from core.figures.tables import DueDay
from core.rules.rule_types import Condition, Rule
from tests.fixtures.county import add_contact, add_fridge, add_gateway, add_probe, add_unit

MANY = 3_000


def ticks(tx: Session) -> list[tuple[str, int, int | None, str]]:
    return [
        (row.name, row.due_at, row.ran_at, row.detail)
        for row in tx.scalars(select(PeriodicJob).order_by(PeriodicJob.name))
    ]


def test_columns_that_are_left_out_get_their_defaults(records: Records) -> None:
    with records.write() as tx:
        insert_all(tx, PeriodicJob, [{"name": "a", "due_at": 1}])
        insert_missing(tx, PeriodicJob, [{"name": "a", "due_at": 2}, {"name": "b", "due_at": 2}])
        upsert(tx, PeriodicJob, [{"name": "b", "due_at": 3}, {"name": "c", "due_at": 3}])
        assert ticks(tx) == [("a", 1, None, ""), ("b", 3, None, ""), ("c", 3, None, "")]


def test_replacing_leaves_the_columns_that_are_not_given(records: Records) -> None:
    with records.write() as tx:
        insert_all(tx, PeriodicJob, [{"name": "a", "due_at": 1, "ran_at": 7, "detail": "said"}])
        upsert(tx, PeriodicJob, [{"name": "a", "due_at": 2}])
        assert ticks(tx) == [("a", 2, 7, "said")]


def test_of_two_with_one_key_the_first_is_missing_and_the_last_replaces(records: Records) -> None:
    twice = [{"name": "a", "due_at": 1}, {"name": "a", "due_at": 2}]
    with records.write() as tx:
        insert_missing(tx, PeriodicJob, twice)
        assert ticks(tx) == [("a", 1, None, "")]
        upsert(tx, PeriodicJob, twice)
        assert ticks(tx) == [("a", 2, None, "")]


def test_one_that_is_there_is_an_error_where_all_are_new(records: Records) -> None:
    with records.write() as tx:
        insert_all(tx, PeriodicJob, [{"name": "a", "due_at": 1}])
    with pytest.raises(IntegrityError), records.write() as tx:
        insert_all(tx, PeriodicJob, [{"name": "b", "due_at": 1}, {"name": "a", "due_at": 2}])
    with records.read() as tx:
        assert ticks(tx) == [("a", 1, None, "")]


def messages(tx: Session, *changes: dict[str, object]) -> list[dict[str, object]]:
    """Return rows of messages to somebody who is there from now on."""
    person = add_contact(tx, 1, "王小梅", add_unit(tx, "县疾控")).id
    same = {"kind": "alarm", "person_id": person, "channel": "wechat", "address": "o", "created_at": 0, "next_at": 0}
    return [{**same, "key": f"{n}", "body": b"", **changed} for n, changed in enumerate(changes)]


def test_every_kind_of_value_comes_back_as_it_went(records: Records) -> None:
    with records.write() as tx:
        rows = messages(
            tx,
            {"address": "o'1\"{,}\\ NULL", "body": b"\x00\xff'{}", "receipt": None, "created_at": 2**52},
            {"address": "锡林郭勒 ℃ 😀", "body": b"", "receipt": "9007199254740993", "created_at": -1},
        )
        insert_missing(tx, OutboxMessage, rows)
        found = tx.execute(select(*OutboxMessage.__table__.c).order_by(OutboxMessage.key)).mappings()
        assert [{name: row[name] for name in rows[0]} for row in found] == rows


def test_rows_get_their_numbers_in_the_order_they_are_given(records: Records) -> None:
    with records.write() as tx:
        insert_missing(tx, OutboxMessage, messages(tx, *({"created_at": MANY - n} for n in range(MANY))))
        assert tx.scalars(select(OutboxMessage.created_at).order_by(OutboxMessage.id)).all() == list(range(MANY, 0, -1))


def test_an_enumeration_is_written_as_its_value(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "县疾控")
        _, [zone] = add_fridge(tx, "F1", unit)
        add_probe(tx, "208601", add_gateway(tx, "10001", unit), zone)
        row = {"series_id": 1, "zone_id": zone, "due_at": None, "memory": b"", "changed_at": 0}
        upsert(tx, RuleState, [{**row, "rule": Rule.BELOW, "condition": Condition.ACTIVE}])
        assert tx.execute(select(RuleState.rule, RuleState.condition)).all() == [("below", "active")]


def test_a_day_comes_back_as_a_day(records: Records) -> None:
    row = {"day": date(2026, 11, 21), "series_id": 1, "stamp": 7}
    with records.write() as tx:
        unit = add_unit(tx, "县疾控")
        add_probe(tx, "208601", add_gateway(tx, "10001", unit), None)
        for _ in range(2):
            upsert(tx, DueDay, [row])
        assert [dict(found) for found in tx.execute(select(*DueDay.__table__.c)).mappings()] == [row]
        assert tx.scalar(text("SELECT CAST(day AS TEXT) FROM due_day")) == "2026-11-21"


def test_rows_with_different_columns_are_refused(records: Records) -> None:
    for other in ({"name": "b"}, {"name": "b", "due_at": 1, "detail": "x"}, {"name": "b", "ran_at": 1}):
        with pytest.raises((ValueError, KeyError)), records.write() as tx:
            insert_missing(tx, PeriodicJob, [{"name": "a", "due_at": 1}, other])
    with records.read() as tx:
        assert ticks(tx) == []


def test_text_that_is_too_long_is_refused_or_kept_whole_but_never_cut(records: Records) -> None:
    name = "x" * 31
    with suppress(DBAPIError), records.write() as tx:
        insert_missing(tx, PeriodicJob, [{"name": name, "due_at": 1}])
    with records.read() as tx:
        assert [row[0] for row in ticks(tx)] == ([name] if records.is_sqlite else [])  # SQLite knows no lengths


def test_rows_are_asked_for_by_any_number_of_values(records: Records) -> None:
    with records.write() as tx:
        insert_all(tx, PeriodicJob, [{"name": f"{n}", "due_at": n} for n in range(MANY)])
        for wanted in ([], [7], list(range(0, MANY, 2)), [2**52, -1]):
            found = tx.scalars(
                select(PeriodicJob.due_at).where(in_values(tx, PeriodicJob.due_at, wanted)).order_by(PeriodicJob.due_at)
            ).all()
            assert found == [n for n in wanted if 0 <= n < MANY]
