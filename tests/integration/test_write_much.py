"""Long transactions in a row, and those who wait for their turn meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from core.db import engine
from core.db.engine import LONGEST_PAUSE_S, Records, connect

HELD_S = 0.05


@contextmanager
def busy(records: Records) -> Iterator[None]:
    """Keep writing, a long transaction after the other."""
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            with records.write_much():
                over.wait(HELD_S)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


def test_on_sqlite_others_get_their_turn(sqlite_records: Records) -> None:
    other = Records(connect(str(sqlite_records.engine.url)))
    with busy(sqlite_records):
        for _ in range(10):  # without a pause one waits five seconds, and fails
            with other.write() as tx:
                tx.execute(text("SELECT 1"))
    other.close()


def test_the_pause_is_as_long_as_what_was_held_but_no_longer_than_allowed(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    slept: list[float] = []
    monkeypatch.setattr(engine, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", slept.append)
    for held in (0.01, 10.0, 0.0):
        with records.write_much() as tx:
            tx.execute(text("SELECT 1"))
            now[0] += held
    assert slept == pytest.approx([0.01, LONGEST_PAUSE_S] if records.is_sqlite else [])


def test_time_spent_waiting_for_others_is_not_time_held(sqlite_records: Records) -> None:
    other = Records(connect(str(sqlite_records.engine.url)))
    held = threading.Event()

    def hold() -> None:
        with other.write() as tx:
            tx.execute(text("SELECT 1"))
            held.set()
            time.sleep(0.3)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    with sqlite_records.write_much():
        pass
    holder.join()
    other.close()
    assert sqlite_records._pause_until - engine.monotonic() < LONGEST_PAUSE_S / 2
