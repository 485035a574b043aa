"""Contract of the intake log, on every adapter of `core.intake.port`: what an append promises, and what is read."""

import os
import random
import subprocess
import sys
import threading
from itertools import count, pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.ids import Centi
from core.intake.port import IN_PARTS, AppendResult, DeadLetter, IntakeBatch, IntakeLog, StampedReading, WithheldReading
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber, Shard, shard_of
from tests.fixtures.intake_logs import CLONE, DUPLICATE, EP, GW, NEW, NOW, OPEN, SHARD, batch, seqs
from tests.fixtures.waiting import until


def test_what_was_appended_is_read_back_as_it_was(log: IntakeLog) -> None:
    readings = (
        StampedReading("208601", "t", Instant(1), Centi(-1823), 64, Instant(2)),
        StampedReading("208601", "h", Instant(3), Centi(5512), 0, Instant(3)),
        StampedReading("208604", "t", Instant(5), None, 4, Instant(5)),
    )
    sent = IntakeBatch(SHARD, GW, EP, "7f3a9c21", 7, b"\x00\xff", NOW, "backfill", readings, Milliseconds(120_001))
    assert log.append([sent]) == [NEW]
    (entry,) = log.read(SHARD, 0, 10)
    assert (entry.n, entry.batch) == (1, sent)


def test_positions_count_each_shard_by_itself_without_gaps(log: IntakeLog) -> None:
    other = GatewayNumber("10002")
    assert shard_of(other) != SHARD
    log.append([batch(1), batch(1, gw=other), batch(2)])
    log.append([batch(2), batch(3)])
    assert [entry.n for entry in log.read(SHARD, 0, 10)] == [1, 2, 3]
    assert [entry.n for entry in log.read(SHARD, 1, 1)] == [2]
    assert log.read(SHARD, 3, 10) == []
    assert (log.head(SHARD), log.head(shard_of(other)), log.head(shard_of(GatewayNumber("none")))) == (3, 1, 0)
    assert dict(log.heads()) == {SHARD: 3, shard_of(other): 1}
    assert set(log.shards()) == {SHARD, shard_of(other)}


def test_several_shards_are_read_at_once_as_each_by_itself(log: IntakeLog) -> None:
    gateways = [GatewayNumber(f"g{n}") for n in range(40)]
    for n, gw in enumerate(gateways):
        log.append([batch(seq, gw=gw) for seq in range(1, 1 + n % 7)])
    shards = [*log.heads(), next(Shard(f"{n:02x}") for n in range(256) if f"{n:02x}" not in log.heads())]
    after = {shard: n % 4 for n, shard in enumerate(shards)}
    found = log.read_each(after, 3)
    assert found == {shard: log.read(shard, n, 3) for shard, n in after.items()}
    assert list(found) == shards
    assert sum(map(len, found.values())) > len(shards)
    assert log.read_each({}, 3) == {}


def test_a_batch_enters_once_however_often_it_comes(log: IntakeLog) -> None:
    assert log.append([batch(5), batch(5)]) == [NEW, DUPLICATE]
    assert log.append([batch(5), batch(4)]) == [DUPLICATE, NEW]
    assert log.append([batch(5, ep="0" * 16), batch(5, gw=GatewayNumber("other"))]) == [NEW, NEW]
    assert seqs(log) == [5, 4, 5]


def test_a_cloned_box_is_told_from_a_duplicate_while_the_row_is_there(log: IntakeLog) -> None:
    assert log.append([batch(1), batch(1, frozen=b"another")]) == [NEW, CLONE]
    assert log.append([batch(1, frozen=b"another"), batch(2)]) == [CLONE, NEW]
    assert seqs(log) == [1, 2]
    log.move_cursor("reader", log.heads())
    assert log.prune(before=NOW, readers=["reader"]) == 2
    assert log.append([batch(1, frozen=b"another")]) == [DUPLICATE]


def test_seen_ranges_merge_in_any_order(log: IntakeLog) -> None:
    for seq, ranges in ((5, [(5, 5)]), (3, [(3, 3), (5, 5)]), (4, [(3, 5)]), (1, [(1, 1), (3, 5)]), (2, [(1, 5)])):
        log.append([batch(seq)])
        assert log.have(GW, EP) == ranges
    assert log.have(GW, "0" * 16) == []


def test_lost_ranges_count_as_seen_and_are_never_stored(log: IntakeLog) -> None:
    log.append([batch(10)], [(GW, EP, 1, 4), (GW, EP, 7, 12)])
    assert log.have(GW, EP) == [(1, 4), (7, 12)]
    assert log.append([batch(3), batch(8), batch(5)], [(GW, EP, 6, 6)]) == [DUPLICATE, DUPLICATE, NEW]
    assert log.have(GW, EP) == [(1, 12)]
    assert seqs(log) == [10, 5]


def test_of_a_life_with_many_ranges_only_those_that_matter_are_known(log: IntakeLog) -> None:
    """What a box in error sends, that leaves out every other number."""
    log.append([batch(seq) for seq in range(1, 2_000, 2)] + [batch(1, ep="0" * 16)])
    assert len(log.have(GW, EP)) == 1_000
    asked = {(GW, EP): {1_001, 1_002, 5_000}, (GW, "0" * 16): {7}, (GW, "f" * 16): {1}}
    known = log.known(asked, most=3)
    highest = [(1_995, 1_995), (1_997, 1_997), (1_999, 1_999)]
    assert known[GW, EP] == [(1, 1), (1_001, 1_001), *highest]
    assert (known[GW, "0" * 16], known[GW, "f" * 16]) == ([(1, 1)], [])
    assert log.known({(GW, EP): set()}, most=1_001) == {(GW, EP): log.have(GW, EP)}
    log.append([], [(GW, EP, 2, 1_999)])
    assert log.known(asked, most=3)[GW, EP] == log.have(GW, EP) == [(1, 1_999)]


def test_numbers_far_apart_in_one_append_are_all_looked_up(log: IntakeLog) -> None:
    far = [1, 3, 900, 5_000, 5_001, 2**40, 2**53]
    assert log.append([batch(seq) for seq in far]) == [NEW] * len(far)
    again = [*far, 2, 901, 5_002, 2**40 + 1]
    assert log.append([batch(seq) for seq in again], [(GW, EP, 10, 20)]) == [DUPLICATE] * len(far) + [NEW] * 4
    assert log.have(GW, EP) == [
        (1, 3), (10, 20), (900, 901), (5_000, 5_002), (2**40, 2**40 + 1), (2**53, 2**53),
    ]  # fmt: skip


_lives = count(1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.lists(st.integers(1, 30), min_size=1, max_size=6).map(lambda batch_seqs: (batch_seqs, None)),
            st.tuples(st.integers(1, 30), st.integers(0, 12)).map(lambda r: ([], (r[0], r[0] + r[1]))),
        ),
        max_size=25,
    )
)
def test_seen_ranges_are_exactly_what_was_seen(
    log: IntakeLog, steps: list[tuple[list[int], tuple[int, int] | None]]
) -> None:
    ep = f"{next(_lives):016x}"  # each example is another life of the spool, in the same log
    known: set[int] = set()
    for batch_seqs, lost in steps:
        expected = []
        for seq in batch_seqs:
            expected.append(DUPLICATE if seq in known else NEW)
            known.add(seq)
        assert log.append([batch(seq, ep=ep) for seq in batch_seqs], [(GW, ep, *lost)] if lost else []) == expected
        known |= set(range(lost[0], lost[1] + 1)) if lost else set()
        ranges = log.have(GW, ep)
        assert {seq for a, b in ranges for seq in range(a, b + 1)} == known
        assert all(b + 1 < c for (_, b), (c, _) in pairwise(ranges)), ranges


def test_pruning_waits_for_all_readers_and_forgets_nothing_seen(log: IntakeLog) -> None:
    old, late = NOW - 100, NOW + 100
    log.append([batch(seq, received=old) for seq in (1, 2, 3)] + [batch(4, received=late), batch(5, received=old)])
    readers = ["telemetry", "alerting"]
    log.move_cursor("telemetry", {SHARD: 5})
    assert log.prune(before=NOW, readers=readers) == 0
    log.move_cursor("alerting", {SHARD: 2})
    assert log.prune(before=NOW, readers=readers) == 2
    assert seqs(log) == [3, 4, 5]
    log.move_cursor("alerting", {SHARD: 5})
    assert log.prune(before=NOW, readers=readers) == 2
    assert seqs(log) == [4]
    assert log.have(GW, EP) == [(1, 5)]
    assert log.head(SHARD) == 5
    assert log.append([batch(1), batch(6)]) == [DUPLICATE, NEW]
    assert [entry.n for entry in log.read(SHARD, 0, 10)] == [4, 6]


def test_a_cursor_never_goes_back(log: IntakeLog) -> None:
    assert dict(log.cursor("telemetry")) == {}
    log.move_cursor("telemetry", {SHARD: 4})
    log.move_cursor("telemetry", {SHARD: 3, shard_of(GatewayNumber("10002")): 1})
    log.move_cursor("alerting", {SHARD: 1})
    assert dict(log.cursor("telemetry")) == {SHARD: 4, shard_of(GatewayNumber("10002")): 1}


def test_what_was_read_in_parts_is_compared_with_its_like_alone(log: IntakeLog) -> None:
    """A version that knows more reads whole what an older one read in parts: the same batch, and no clone."""
    log.append([batch(1, frozen=IN_PARTS + b"a")])
    assert log.append([batch(1, frozen=IN_PARTS + b"a"), batch(1, frozen=b"a")]) == [DUPLICATE, DUPLICATE]
    assert log.append([batch(1, frozen=IN_PARTS + b"b")]) == [CLONE]


def test_no_message_is_too_strange_to_be_kept(log: IntakeLog) -> None:
    odd = StampedReading("20\x0086", "t", Instant(1), Centi(1), 0, Instant(1))
    whole = msgspec.structs.replace(
        batch(1), readings=(odd,), held=(WithheldReading(odd, "unknown_probe", "20\x0086"),)
    )
    assert log.append([whole], [], [DeadLetter(0, NOW, "a\x00b", "c\x00d", b"\x00")]) == [NEW]
    assert log.read(SHARD, 0, 1)[0].batch.readings == (odd,)
    assert [one.reading for one in log.held()] == [odd]
    assert [letter.body for letter in log.dead_letters()] == [b"\x00"]


def test_an_append_that_fails_leaves_nothing(log: IntakeLog) -> None:
    wrong = msgspec.structs.replace(batch(2), readings=(object(),))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        log.append([batch(1), wrong])
    assert (log.head(SHARD), log.have(GW, EP)) == (0, [])
    assert log.append([batch(1), batch(2)]) == [NEW, NEW]


def test_everything_is_there_after_reopening(adapter: str, tmp_path: Path, log: IntakeLog) -> None:
    log.append([batch(1)], [(GW, EP, 2, 3)], [DeadLetter(0, NOW, "t", "r", b"b")])
    log.hold([(SHARD, 1, 0, "unknown_probe", "")], now=NOW)
    log.move_cursor("telemetry", {SHARD: 1})
    log.close()
    again = OPEN[adapter](tmp_path)
    assert (seqs(again), again.have(GW, EP), len(again.held()), dict(again.cursor("telemetry"))) == (
        [1],
        [(1, 3)],
        1,
        {SHARD: 1},
    )
    again.close()


def test_threads_that_come_and_go_leave_nothing_open(log: IntakeLog) -> None:
    def look() -> None:
        thread = threading.Thread(target=log.heads)
        thread.start()
        thread.join()

    look()
    there = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        look()
    assert len(list(Path("/proc/self/fd").iterdir())) <= there + 2


def test_many_threads_append_and_every_batch_enters_once(log: IntakeLog) -> None:
    answers: list[AppendResult] = []

    def append_all(order: list[int]) -> None:
        for start in range(0, 120, 6):
            answers.extend(log.append([batch(seq) for seq in order[start : start + 6]]))

    threads = []
    for seed in range(3):
        order = list(range(1, 121))
        random.Random(seed).shuffle(order)
        threads.append(threading.Thread(target=append_all, args=(order,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (answers.count(NEW), answers.count(DUPLICATE)) == (120, 240)
    assert sorted(seqs(log)) == list(range(1, 121))
    assert [entry.n for entry in log.read(SHARD, 0, 1000)] == list(range(1, 121))


_FOLLOWER = """
import sys
from pathlib import Path
from tests.fixtures.intake_logs import GW, OPEN
from core.wire.shards import shard_of
log = OPEN[sys.argv[1]](Path(sys.argv[2]))
n = 0
while n < int(sys.argv[3]):
    for entry in log.read(shard_of(GW), n, 7):
        n = entry.n
        print(n, flush=True)
"""


def test_a_reader_in_another_process_never_misses_a_row(adapter: str, tmp_path: Path, log: IntakeLog) -> None:
    """It follows while two threads append; each n it sees comes exactly once and in order."""
    with _child(_FOLLOWER, adapter, tmp_path, 300) as follower:
        writers = [
            threading.Thread(target=lambda ep=ep: [log.append([batch(seq, ep=ep)]) for seq in range(1, 151)])
            for ep in ("1" * 16, "2" * 16)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        out, _ = follower.communicate(timeout=20)
    assert [int(line) for line in out.split()] == list(range(1, 301))


_APPENDER = """
import sys
from pathlib import Path
from tests.fixtures.intake_logs import OPEN, batch
log = OPEN[sys.argv[1]](Path(sys.argv[2]))
start = int(sys.argv[3])
while True:
    log.append([batch(seq) for seq in range(start, start + 20)], [("10001", "e" * 16, start, start)])
    start += 20
    print(start, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9_in_mid_append(adapter: str, tmp_path: Path, log: IntakeLog) -> None:
    """Killed at random: what it said was appended is there, and what it didn't say is all there or not at all."""
    moments = random.Random(7)
    start = 1
    for _ in range(4):
        with _child(_APPENDER, adapter, tmp_path, start) as child:
            assert child.stdout is not None
            said = [int(child.stdout.readline()) for _line in range(moments.randint(1, 12))][-1]
            threading.Event().wait(moments.random() * 0.01)
            child.kill()
            rest = child.stdout.read().split()
            said = int(rest[-1]) if rest else said
        ((first, last),) = log.have(GW, EP)
        assert (first, last % 20) == (1, 0)
        assert last >= said - 1
        assert seqs(log) == list(range(1, last + 1))
        assert {seq for _, seq in log.have(GW, "e" * 16)} == set(range(1, last, 20))
        start = last + 1


def _child(script: str, *arguments: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )


def test_pruning_lets_appends_through(log: IntakeLog) -> None:
    log.append([batch(seq) for seq in range(1, 3001)])
    log.move_cursor("telemetry", log.heads())
    pruned: list[int] = []
    thread = threading.Thread(target=lambda: pruned.append(log.prune(before=NOW, readers=["telemetry"])))
    thread.start()
    log.append([batch(3001, received=NOW)])
    until(lambda: pruned, "the pruner's end")
    thread.join()
    assert (pruned, seqs(log)) == ([3000], [3001])
