"""A spool on a memory card that turns bits: what was measured goes out as it was, or is known to be lost."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core.runtime.instant import DAY, Instant
from core.wire.messages import Ack, Reading
from gateway_agent.spool import DamagedSpool, Spool

T0 = Instant(1_774_632_960_000)
BOOT = "7f3a9c21"
ROWS = 40


def opened(path: Path) -> Spool:
    return Spool(path, limit_bytes=2**20, limit_age=DAY)


def filled(path: Path) -> dict[int, bytes]:
    """A spool with rows, a hole that is declared, and nothing left in its write-ahead log."""
    spool = opened(path)
    for number in range(ROWS):
        spool.append([Reading(p="208601", ts=T0 + number, t=4.0 + number / 100)], boot=BOOT, at=T0)
    spool.acknowledge(Ack(spool.ep, 3, [(10, 12)]))
    rows = {row.seq: row.r for row in spool.after(0, 1000)}
    spool.close()
    return rows


def turn(path: Path, where: bytes, to: bytes) -> None:
    raw = path.read_bytes()
    assert raw.count(where) == 1
    path.write_bytes(raw.replace(where, to))


def test_a_row_whose_bytes_have_changed_is_set_aside_and_declared_lost(tmp_path: Path) -> None:
    path = tmp_path / "10001.db"
    rows = filled(path)
    turn(path, b'"t":4.17', b'"t":9.17')
    spool = opened(path)
    assert {row.seq: row.r for row in spool.after(0, 1000)} == {seq: r for seq, r in rows.items() if seq != 18}
    assert spool.lost == [(18, 18)]
    assert spool.get(18) is None
    assert spool.depth == len(rows) - 1
    kept = spool._db.execute("SELECT seq, ep, r FROM damaged").fetchall()
    assert [(seq, ep, b"9.17" in r) for seq, ep, r in kept] == [(18, spool.ep, True)]
    spool.close()


def test_letters_that_are_none_any_more_are_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "10001.db"
    rows = filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE batch SET boot = CAST(x'ff' || boot AS TEXT) WHERE seq = 20")
    spool = opened(path)
    assert [row.seq for row in spool.after(0, 1000)] == [seq for seq in rows if seq != 20]
    assert spool.lost == [(20, 20)]
    spool.close()


def test_a_page_of_damaged_rows_hides_none_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "10001.db"
    rows = filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE batch SET crc = crc + 1 WHERE seq < 30")
    spool = opened(path)
    assert [row.seq for row in spool.after(0, 5)] == [30, 31, 32, 33, 34]
    assert spool.lost == [(first, last) for first, last in [(4, 9), (13, 29)]]
    assert spool.depth == sum(seq >= 30 for seq in rows)
    spool.close()


def test_numbers_that_rows_were_given_are_not_given_again(tmp_path: Path) -> None:
    path = tmp_path / "10001.db"
    filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        [[ep]] = db.execute("SELECT ep FROM life")
        db.execute("UPDATE life SET seq = 8")
    spool = opened(path)
    assert spool.ep != ep
    assert [row.seq for row in spool.append([Reading(p="1", ts=T0, t=5.0)], boot=BOOT, at=T0)] == [ROWS + 1]
    spool.close()


def test_a_life_that_nobody_could_acknowledge_ends(tmp_path: Path) -> None:
    path = tmp_path / "10001.db"
    rows = filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE life SET ep = 'q' || substr(ep, 2)")
    spool = opened(path)
    assert "q" not in spool.ep
    assert [row.seq for row in spool.after(0, 1000)] == list(rows)
    spool.close()


@pytest.mark.parametrize("false", [(5, 6), (1, 10**9), (9, 2), (-4, 2)])
def test_what_is_here_is_never_declared_lost(tmp_path: Path, false: tuple[int, int]) -> None:
    path = tmp_path / "10001.db"
    rows = filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("INSERT INTO lost VALUES (?, ?)", false)
    spool = opened(path)
    assert spool.lost == []
    assert [row.seq for row in spool.after(0, 1000)] == list(rows)
    spool.close()


def test_rows_of_a_spool_from_before_checksums_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "10001.db"
    rows = filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("ALTER TABLE batch DROP COLUMN crc")
        db.execute("DROP TABLE damaged")
        db.execute("PRAGMA user_version = 1")
    spool = opened(path)
    assert {row.seq: row.r for row in spool.after(0, 1000)} == rows
    assert spool.append([Reading(p="1", ts=T0, t=5.0)], boot=BOOT, at=T0)[0].seq == ROWS + 1
    spool.close()


def test_of_any_turned_bit_nothing_comes_out_that_was_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "10001.db"
    rows = filled(path)
    raw = path.read_bytes()
    bits = random.Random(8)
    outcomes = {"as it was": 0, "set aside": 0, "another file": 0}
    for number in range(300):
        copy = tmp_path / f"{number}.db"
        turned = bytearray(raw)
        turned[bits.randrange(len(raw))] ^= 1 << bits.randrange(8)
        copy.write_bytes(turned)
        try:
            spool = opened(copy)
            try:
                out = {row.seq: row.r for row in spool.after(0, 1000)}
                lost = {seq for first, last in spool.lost for seq in range(first, last + 1)}
            finally:
                spool.close()
        except sqlite3.OperationalError:  # which would be taken for the disk's fault, not the file's
            raise
        except (DamagedSpool, sqlite3.DatabaseError):
            outcomes["another file"] += 1  # it is set aside whole, and kept
        else:
            assert out.items() <= rows.items()
            assert not lost & set(out)
            missing = set(rows) - set(out)
            assert missing <= lost
            outcomes["set aside" if missing else "as it was"] += 1
        for left in tmp_path.glob(f"{number}.db*"):
            left.unlink()
    assert all(outcomes.values())
