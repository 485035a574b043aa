import shutil
import sqlite3
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collector.receiving.message_decoder import decode
from core.runtime.instant import DAY, Instant, Milliseconds
from core.wire.messages import MOST_LOST, Ack, Batch, Reading
from core.wire.shards import GatewayNumber
from core.wire.topics import MessageKind
from gateway_agent.message_encoder import GatewayIdentity, MessageEncoder
from gateway_agent.spool import CLOCK_WAS_SET, LARGEST_R, ROW_BYTES, VERSION, DamagedSpool, Spool, Spooled
from tests.fixtures.site import Standing

T0 = Instant(1_774_632_960_000)
BOOT = "7f3a9c21"


def a_reading(number: int, probe: str = "208601") -> Reading:
    return Reading(p=probe, ts=T0 + number, t=4.2)


def opened(path: Path | None, *, limit_bytes: int = 2**20, limit_age: Milliseconds = DAY) -> Spool:
    return Spool(path, limit_bytes=limit_bytes, limit_age=limit_age)


def numbers(spool: Spool) -> list[int]:
    """What the readings in the spool say, each once, in order."""
    rows = spool.after(0, 10_000)
    return [reading.ts - T0 for row in rows for reading in msgspec.json.decode(row.r, type=list[Reading])]


class SpoolMachine(RuleBasedStateMachine):
    """A spool beside a model of it: what was appended, and what an acknowledgement has covered."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "10001.db"
        self.spool = opened(self.path)
        self.ep = self.spool.ep
        self.kept: dict[int, int] = {}
        self.acked: set[int] = set()
        self.given = 0
        self.number = 0

    @rule(count=st.integers(0, 3))
    def append(self, count: int) -> None:
        readings = []
        for _ in range(count):
            self.number += 1
            readings.append(a_reading(self.number))
        rows = self.spool.append(readings, boot=BOOT, at=T0, polled={"bus": Instant(T0 + self.number)})
        assert [row.seq for row in rows] == list(range(self.given + 1, self.given + 1 + len(rows)))
        for row in rows:
            assert row.seq not in self.kept, "a number is given once"
            self.kept[row.seq] = len(msgspec.json.decode(row.r))
        self.given += len(rows)

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        sent = self.spool.may_send_upto
        upto = data.draw(st.integers(0, sent))
        have = data.draw(st.lists(st.tuples(st.integers(1, sent), st.integers(0, 3)), max_size=2)) if sent else []
        ranges = [(first, min(first + more, sent)) for first, more in have]
        assert self.spool.acknowledge(Ack(self.ep, upto, ranges))
        self.acked |= set(range(1, upto + 1))
        for first, last in ranges:
            self.acked |= set(range(first, last + 1))

    @rule()
    def flush(self) -> None:
        self.spool.flush()

    @rule()
    def close_and_reopen(self) -> None:
        self.spool.close()
        self.spool = opened(self.path)

    @rule()
    def die_and_reopen(self) -> None:
        """What a kill -9 leaves: the files as they are on disk, nothing of what was not committed."""
        left = self.folder / "left"
        left.mkdir()
        for file in self.folder.glob("10001.db*"):
            shutil.copy(file, left)
        self.spool.close()
        for file in self.folder.glob("10001.db*"):
            file.unlink()
        for file in left.iterdir():
            file.rename(self.folder / file.name)
        left.rmdir()
        self.spool = opened(self.path)

    @invariant()
    def nothing_leaves_unless_acknowledged_and_nothing_is_lost(self) -> None:
        if not hasattr(self, "spool"):
            return
        there = {row.seq for row in self.spool.after(0, 10_000)}
        assert set(self.kept) - self.acked <= there
        assert there <= set(self.kept)
        assert self.spool.ep == self.ep
        assert self.spool.seq == self.given
        assert self.spool.depth == len(there)
        assert self.spool.size == sum(len(row.r) + ROW_BYTES for row in self.spool.after(0, 10_000))
        assert self.spool.polled == ({"bus": T0 + self.number} if self.spool.polled else {})
        assert self.spool.lost == []

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close()
            shutil.rmtree(self.folder)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_an_acknowledgement_deletes_exactly_what_it_covers(tmp_path: Path) -> None:
    spool = opened(tmp_path / "s.db")
    for number in range(1, 11):
        spool.append([a_reading(number)], boot=BOOT, at=T0)
    spool.acknowledge(Ack(spool.ep, 2, [(4, 5), (9, 9)]))
    assert numbers(spool) == [3, 6, 7, 8, 10]
    assert spool.depth == 5
    spool.acknowledge(Ack(spool.ep, 0))
    assert spool.depth == 5
    spool.close()


def test_an_overflow_drops_the_oldest_and_declares_it_until_covered(tmp_path: Path) -> None:
    one = len(msgspec.json.encode([a_reading(1)])) + ROW_BYTES
    spool = opened(tmp_path / "s.db", limit_bytes=3 * one)
    for number in range(1, 7):
        spool.append([a_reading(number)], boot=BOOT, at=T0)
    assert numbers(spool) == [4, 5, 6]
    assert spool.lost == [(1, 3)]
    spool.close()
    spool = opened(tmp_path / "s.db", limit_bytes=3 * one)
    assert spool.lost == [(1, 3)], "also by the next process"
    spool.acknowledge(Ack(spool.ep, 2))
    assert spool.lost == [(1, 3)], "half covered is not covered"
    spool.acknowledge(Ack(spool.ep, 3))
    assert spool.lost == []
    spool.close()


def test_of_many_holes_so_many_are_declared_as_fit_a_message_and_the_rest_later(
    tmp_path: Path,
) -> None:
    spool = opened(tmp_path / "s.db")
    count = 2 * MOST_LOST + 20
    for number in range(1, count + 1):
        spool.append([a_reading(number)], boot=BOOT, at=T0)
    spool.acknowledge(Ack(spool.ep, 0, [(even, even) for even in range(2, count, 2)]))
    spool.append([a_reading(count + 1)], boot=BOOT, at=Instant(T0 + DAY + 1))  # all the others are too old
    odd = [(number, number) for number in range(1, count, 2)]
    assert spool.lost == odd[:MOST_LOST]
    spool.acknowledge(Ack(spool.ep, odd[MOST_LOST - 1][1]))
    assert spool.lost == [*odd[MOST_LOST:-1], (count - 1, count)]
    spool.close()


def test_what_is_too_old_is_dropped_but_never_what_was_read_with_the_clock_unset(tmp_path: Path) -> None:
    spool = opened(tmp_path / "s.db", limit_age=DAY)
    spool.append([a_reading(1)], boot=BOOT, at=Instant(86_400_000))  # 1970
    spool.append([a_reading(2)], boot=BOOT, at=T0)
    assert numbers(spool) == [1, 2]
    spool.close()
    spool = opened(tmp_path / "t.db", limit_age=DAY)
    spool.append([a_reading(1)], boot=BOOT, at=T0)
    spool.append([a_reading(2)], boot=BOOT, at=Instant(T0 + DAY))
    assert numbers(spool) == [1, 2]
    spool.append([a_reading(3)], boot=BOOT, at=Instant(T0 + DAY + 1))
    assert numbers(spool) == [2, 3]
    assert spool.lost == [(1, 1)]
    assert CLOCK_WAS_SET < T0
    spool.close()


def test_the_newest_stays_even_when_it_alone_is_too_big(tmp_path: Path) -> None:
    spool = opened(tmp_path / "s.db", limit_bytes=1)
    spool.append([a_reading(1)], boot=BOOT, at=T0)
    spool.append([a_reading(2)], boot=BOOT, at=T0)
    assert numbers(spool) == [2]
    spool.close()


def test_many_readings_become_batches_that_each_fit_a_message(tmp_path: Path) -> None:
    spool = opened(tmp_path / "s.db")
    rows = spool.append([a_reading(number, "p" * 64) for number in range(1, 1202)], boot=BOOT, at=T0)
    assert len(rows) > 2
    assert all(len(row.r) <= LARGEST_R and len(msgspec.json.decode(row.r)) <= 500 for row in rows)
    assert numbers(spool) == list(range(1, 1202))
    spool.close()


def test_an_old_copy_of_a_card_begins_a_new_life_and_keeps_everything(tmp_path: Path) -> None:
    spool = opened(tmp_path / "s.db")
    for number in range(1, 4):
        spool.append([a_reading(number)], boot=BOOT, at=T0)
    old = spool.ep
    assert not spool.acknowledge(Ack(old, 50)), "the collector has 50, this spool has given 3"
    assert spool.ep != old
    assert numbers(spool) == [1, 2, 3]
    assert spool.append([a_reading(4)], boot=BOOT, at=T0)[0].seq == 4
    spool.close()


def test_a_full_disk_leaves_the_spool_as_it_was(tmp_path: Path) -> None:
    spool = opened(tmp_path / "s.db")
    spool.append([a_reading(1)], boot=BOOT, at=T0)
    spool.flush()
    pages = spool._db.execute("PRAGMA page_count").fetchone()[0]
    spool._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        spool.append([a_reading(number, "p" * 64) for number in range(2, 300)], boot=BOOT, at=T0)
    assert (spool.seq, spool.depth, numbers(spool)) == (1, 1, [1])
    spool._db.execute("PRAGMA max_page_count = 100000")
    assert spool.append([a_reading(2)], boot=BOOT, at=T0)[0].seq == 2
    spool.close()


def test_what_is_no_spool_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(DamagedSpool, match="is not a spool"):
        opened(tmp_path / "s.db")
    assert (tmp_path / "s.db").read_bytes().startswith(b"rubbish")
    newer = sqlite3.connect(tmp_path / "t.db")
    newer.execute(f"PRAGMA user_version = {VERSION + 1}")
    newer.close()
    with pytest.raises(DamagedSpool, match=f"version {VERSION + 1}"):
        opened(tmp_path / "t.db")


def test_one_append_is_one_commit(tmp_path: Path) -> None:
    spool = opened(tmp_path / "s.db")
    commits: list[str] = []
    spool._db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    for number in range(1, 11):
        spool.append([a_reading(number)], boot=BOOT, at=T0)
        spool.acknowledge(Ack(spool.ep, number))
    assert len(commits) == 10
    assert spool._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert spool._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    spool.close()


def test_a_row_that_cannot_be_read_any_more_goes_out_as_it_is_and_keeps_none_behind_it() -> None:
    """Rotten, or spooled by a newer version: who receives it withholds what can't be read, reading by reading."""
    identity = GatewayIdentity(GatewayNumber("10001"), "7f3a9c21", "1", "", [])
    voice = MessageEncoder(identity, Standing(Instant(1_774_632_960_000)))
    spool = Spool(None, limit_bytes=10**6, limit_age=Milliseconds(10**9))
    good = b'{"p":"208601","ts":1774632960000,"t":4.2}'
    for strange in (b'{"p":"208601","ts":1,"k":"co2","v":4}', b'{"p":"2086\xff', b"\0\0"):
        said = voice.batch(spool, Spooled(7, "7f3a9c21", Instant(1), b"[" + good + b"," + strange + b"]"), [])
        heard = decode(voice.topic(MessageKind.DATA), said)
        assert isinstance(heard.heard, Batch)
        assert (heard.heard.seq, heard.heard.r) == (7, [Reading("208601", 1_774_632_960_000, 4.2)])
        assert heard.aside[0].raw.startswith(strange)
    spool.close()


def test_an_old_copy_that_has_counted_on_loses_nothing_to_an_acknowledgement_of_its_other_life(tmp_path: Path) -> None:
    """The card was put back, and the box read on for a while before it was connected."""
    file, copy = tmp_path / "10001.db", tmp_path / "copy.db"
    spool = opened(file)
    for n in range(5):
        spool.append([Reading(p="208601", ts=n, t=4.0)], boot="00000000", at=Instant(n))
    spool.close()
    shutil.copy(file, copy)
    again = opened(file)
    assert again.acknowledge(Ack(again.ep, 5, []))
    for n in range(10):
        again.append([Reading(p="208601", ts=100 + n, t=4.0)], boot="00000000", at=Instant(100 + n))
    assert again.may_send_upto == 15
    again.close()
    shutil.copy(copy, file)
    back = opened(file)
    first_ep = back.ep
    for n in range(30):
        back.append([Reading(p="208601", ts=500 + n, t=4.0)], boot="11111111", at=Instant(500 + n))
    assert back.may_send_upto == 5, "nothing goes out under a number that may be another's"
    assert not back.acknowledge(Ack(first_ep, 15, []))
    assert back.ep != first_ep
    assert (back.depth, back.may_send_upto) == (35, 35)
    back.close()


def test_a_spool_that_is_opened_again_sends_what_is_new_once_it_is_acknowledged_to(tmp_path: Path) -> None:
    spool = opened(tmp_path / "10001.db")
    spool.append([Reading(p="208601", ts=1, t=4.0)], boot="00000000", at=Instant(1))
    ep = spool.ep
    spool.close()
    again = opened(tmp_path / "10001.db")
    again.append([Reading(p="208601", ts=2, t=4.0)], boot="11111111", at=Instant(2))
    assert (again.may_send_upto, again.is_proven) == (1, False)
    assert again.acknowledge(Ack(ep, 1, []))
    assert (again.ep, again.may_send_upto, again.depth) == (ep, 2, 1)
    again.close()
