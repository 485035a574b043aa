"""What an intake log is: run on every adapter of `core.intake.port`."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count, pairwise
from pathlib import Path

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from core.ids import Centi
from core.intake import row_codec
from core.intake.identity import mark
from core.intake.port import (
    IN_PARTS,
    UNREAD,
    AppendResult,
    DeadLetter,
    GatewayClock,
    IntakeBatch,
    IntakeLog,
    LogReplaced,
    ShardClaim,
    ShardTaken,
    StampedReading,
    WithheldReading,
)
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber, Shard, shard_of
from tests.fixtures.broker import until
from tests.fixtures.intake_logs import EP, GW, OPEN, batch

SHARD = shard_of(GW)
NOW = Instant(1_774_633_000_000)
NEW, DUPLICATE, CLONE = AppendResult.NEW, AppendResult.DUPLICATE, AppendResult.CLONE


@pytest.fixture(params=OPEN)
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def log(adapter: str, tmp_path: Path) -> Iterator[IntakeLog]:
    log = OPEN[adapter](tmp_path)
    yield log
    log.close()


def seqs(log: IntakeLog, gw: GatewayNumber = GW) -> list[int]:
    return [entry.batch.seq for entry in log.read(shard_of(gw), 0, 10_000)]


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
            st.lists(st.integers(1, 30), min_size=1, max_size=6).map(lambda seqs: (seqs, None)),
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
    for seqs, lost in steps:
        expected = []
        for seq in seqs:
            expected.append(DUPLICATE if seq in known else NEW)
            known.add(seq)
        assert log.append([batch(seq, ep=ep) for seq in seqs], [(GW, ep, *lost)] if lost else []) == expected
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


def test_a_held_reading_is_released_once_and_read_again(log: IntakeLog) -> None:
    log.append([batch(1, probes=("208601", "208602", "208603"))])
    log.hold([(SHARD, 1, 1, "unknown_probe", "208602"), (SHARD, 1, 2, "foreign_gateway", "10002")], now=NOW)
    log.hold([(SHARD, 1, 1, "unknown_probe", "again, after a crash")], now=NOW)
    held = log.held()
    assert [(one.reading.p, one.reason, one.detail) for one in held] == [
        ("208602", "unknown_probe", "208602"),
        ("208603", "foreign_gateway", "10002"),
    ]
    assert dict(log.count_held()) == {"unknown_probe": 1, "foreign_gateway": 1}
    ids = [held[0].id]
    assert log.release(ids, now=NOW, shift=Milliseconds(-50)) == 1
    assert log.release(ids, now=NOW) == 0
    (entry,) = log.read(SHARD, 1, 10)
    assert isinstance(held[0].reading, StampedReading)
    expected = msgspec.structs.replace(held[0].reading, at=Instant(held[0].reading.at - 50))
    assert (entry.batch.origin, entry.batch.readings, entry.batch.gw) == ("released", (expected,), GW)
    assert [one.id for one in log.held(state="released")] == ids
    assert log.append([batch(1)]) == [DUPLICATE]


def test_readings_of_one_message_are_released_as_one_entry(log: IntakeLog) -> None:
    log.append([batch(seq, probes=("a", "b")) for seq in (1, 2)])
    for n in (1, 2):
        log.hold([(SHARD, n, 0, "unknown_probe", ""), (SHARD, n, 1, "unknown_probe", "")], now=NOW)
    assert log.release([one.id for one in log.held()], now=NOW) == 4
    assert [(entry.batch.seq, len(entry.batch.readings)) for entry in log.read(SHARD, 2, 10)] == [(1, 2), (2, 2)]


def test_what_is_withheld_goes_into_quarantine_with_its_batch(log: IntakeLog) -> None:
    unset = StampedReading("208609", "t", Instant(5), Centi(400), 32, Instant(5))
    whole = msgspec.structs.replace(batch(1), held=(WithheldReading(unset, "unset_clock", "no offset yet"),))
    assert log.append([whole, whole]) == [NEW, DUPLICATE]
    (entry,) = log.read(SHARD, 0, 10)
    assert entry.batch.readings == batch(1).readings
    (held,) = log.held(reason="unset_clock", boot="7f3a9c21")
    assert (held.reading, held.gw, held.boot, held.detail) == (unset, GW, "7f3a9c21", "no offset yet")
    assert log.held(boot="00000000") == []
    assert log.release([held.id], now=NOW, shift=Milliseconds(10)) == 1
    assert [entry.batch.readings[0].at for entry in log.read(SHARD, 1, 10)] == [15]


def test_a_discarded_reading_is_not_stored_and_stays_visible(log: IntakeLog) -> None:
    log.append([batch(1)])
    log.hold([(SHARD, 1, 0, "unknown_probe", "")], now=NOW)
    (held,) = log.held()
    assert log.discard([held.id], by="王", why="a test device", now=NOW) == 1
    assert log.discard([held.id], by="李", why="again", now=NOW) == 0
    assert log.release([held.id], now=NOW) == 0
    assert log.held() == []
    (gone,) = log.held(state="discarded")
    assert (gone.by, gone.why, gone.ended, gone.reading) == ("王", "a test device", NOW, held.reading)
    assert log.head(SHARD) == 1


def test_quarantine_is_asked_page_by_page_and_by_gateway(log: IntakeLog) -> None:
    other = GatewayNumber("10002")
    log.append([batch(1, probes=("a", "b", "c")), batch(1, gw=other)])
    log.hold([(SHARD, 1, place, "unknown_probe", "") for place in range(3)], now=NOW)
    log.hold([(shard_of(other), 1, 0, "unknown_probe", "")], now=NOW)
    first = log.held(limit=2)
    rest = log.held(after=first[-1].id)
    assert [one.reading.p for one in first + rest] == ["a", "b", "c", "208601"]
    assert [one.gw for one in log.held(gw=other)] == [other]


def test_dead_letters_are_kept_as_they_came(log: IntakeLog) -> None:
    log.append([], [], [DeadLetter(0, NOW, "cc/v1/x", "no such kind", b"\xff\x00"), DeadLetter(0, NOW, "y", "z", b"")])
    first, second = log.dead_letters()
    assert (first.topic, first.reason, first.body, first.at) == ("cc/v1/x", "no such kind", b"\xff\x00", NOW)
    assert log.dead_letters(after=first.id) == [second]
    assert log.count_dead_letters() == 2


def letter(gw: str, n: int) -> DeadLetter:
    return DeadLetter(0, Instant(NOW + n), f"cc/v1/00/{gw}/up/data", f"reason {n}", b"x")


def test_a_gateway_with_many_dead_letters_displaces_nobodys(log: IntakeLog) -> None:
    log.append([], [], [letter("10002", 0), DeadLetter(0, NOW, "nonsense", "no such topic", b"y")])
    for first in range(0, 2_100, 300):
        log.append([], [], [letter("10001", n) for n in range(first, first + 300)])
    kept = log.dead_letters(limit=1_000)
    assert [one.topic for one in kept[:2]] == ["cc/v1/00/10002/up/data", "nonsense"]
    assert [one.reason for one in kept[2:]] == [f"reason {n}" for n in range(2_000, 2_100)], "the newest stay"
    assert log.count_dead_letters() == 102
    counted = [(one.gw, one.kind, one.n, one.first - NOW, one.last - NOW, one.detail) for one in log.faults()]
    assert counted == [
        ("", "dead_letter", 1, 0, 0, "no such topic"),
        ("10001", "dead_letter", 2_100, 0, 2_099, "reason 2099"),
        ("10002", "dead_letter", 1, 0, 0, "reason 0"),
    ]


def test_dead_letters_of_many_gateways_have_a_bound_in_all(log: IntakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_codec, "DEAD_LETTERS_KEPT", 50)
    for n in range(60):
        log.append([], [], [letter(str(n), n)])
    assert [one.reason for one in log.dead_letters()] == [f"reason {n}" for n in range(10, 60)]


def test_clones_are_counted(log: IntakeLog) -> None:
    log.append([batch(1)])
    for _ in range(3):
        assert log.append([batch(1, frozen=b"another"), batch(2)])[0] == CLONE
    (fault,) = log.faults()
    assert (fault.gw, fault.kind, fault.n, fault.detail) == (GW, "clone", 3, f"ep {EP}, seq 1, boot 7f3a9c21")


def test_what_was_read_in_parts_is_compared_with_its_like_alone(log: IntakeLog) -> None:
    """A version that knows more reads whole what an older one read in parts: the same batch, and no clone."""
    log.append([batch(1, frozen=IN_PARTS + b"a")])
    assert log.append([batch(1, frozen=IN_PARTS + b"a"), batch(1, frozen=b"a")]) == [DUPLICATE, DUPLICATE]
    assert log.append([batch(1, frozen=IN_PARTS + b"b")]) == [CLONE]


def test_a_reading_that_nobody_could_read_is_kept_as_it_came_and_never_released(log: IntakeLog) -> None:
    raw = (b'{"p":"208601","ts":1,"t":"4.2"}', b'{"k":"co2"}\x00\xff')
    kept = tuple(WithheldReading(each, reason, "why") for each, reason in zip(raw, UNREAD, strict=True))
    log.append([msgspec.structs.replace(batch(1), held=kept)])
    held = log.held()
    assert [(one.reading, one.reason) for one in held] == list(zip(raw, UNREAD, strict=True))
    assert log.release([one.id for one in held], now=NOW) == 0
    assert log.held() == held
    assert log.discard([held[0].id], by="王", why="a test device", now=NOW) == 1


def held_of(log: IntakeLog, gw: GatewayNumber, times: list[int], *, boot: str = "7f3a9c21") -> None:
    for at in times:
        reading = StampedReading("a", "t", Instant(at), None, 4, Instant(at))
        log.append(
            [
                msgspec.structs.replace(
                    batch(at, gw=gw, ep=boot * 2, boot=boot, received=at),
                    held=(WithheldReading(reading, "implausible", "why"),),
                )
            ]
        )


def test_of_a_crowded_quarantine_the_oldest_go_and_are_counted(log: IntakeLog) -> None:
    other = GatewayNumber("10002")
    held_of(log, GW, list(range(1, 13)))
    held_of(log, other, [3, 20])
    assert [(one.gw, one.n, one.first, one.last) for one in log.backlogs(least=1)] == [
        (GW, 12, 1, 12),
        (other, 2, 3, 20),
    ]
    assert [one.gw for one in log.backlogs(least=3)] == [GW]
    assert log.prune_held(before=Instant(4), most=5, now=NOW) == 3 + 1 + 4, (
        "three and one are too old, and of nine that are left four too much"
    )
    assert [(one.gw, one.since) for one in log.held()] == [(GW, at) for at in range(8, 13)] + [(other, 20)]
    assert [(one.gw, one.kind, one.n, one.last) for one in log.faults()] == [
        (GW, "dropped", 7, NOW),
        (other, "dropped", 1, NOW),
    ]
    assert "more than 5 were held; the most of them implausible" in log.faults()[0].detail
    assert "held for too long" in log.faults()[1].detail
    assert log.prune_held(before=Instant(4), most=5, now=NOW) == 0


def test_pruning_a_quarantine_leaves_what_was_released_or_discarded(log: IntakeLog) -> None:
    held_of(log, GW, [1, 2, 3, 4])
    ids = [one.id for one in log.held()]
    log.release(ids[:1], now=NOW)
    log.discard(ids[1:2], by="王", why="", now=NOW)
    assert log.prune_held(before=NOW, most=0, now=NOW) == 2
    assert (len(log.held(state="released")), len(log.held(state="discarded")), log.held()) == (1, 1, [])


def test_boots_with_something_held_and_a_change_of_reason(log: IntakeLog) -> None:
    held_of(log, GW, [1, 2])
    held_of(log, GW, [3], boot="00000000")
    assert log.boots_held("implausible") == {(GW, "7f3a9c21"), (GW, "00000000")}
    assert log.boots_held("unset_clock") == set()
    ids = [one.id for one in log.held()]
    log.discard(ids[:1], by="王", why="", now=NOW)
    log.change_reason(ids, "implausible_time", "no believable time")
    assert [(one.id, one.reason, one.detail) for one in log.held()] == [
        (id_, "implausible_time", "no believable time") for id_ in ids[1:]
    ]
    assert log.held(state="discarded")[0].reason == "implausible"
    assert dict(log.count_held()) == {"implausible_time": 2}


def test_clocks_that_run_behind_are_remembered_until_they_are_right(
    adapter: str, log: IntakeLog, tmp_path: Path
) -> None:
    clock = GatewayClock("7f3a9c21", Milliseconds(10_800_000), NOW)
    other = GatewayNumber("10002")
    log.note_clocks({GW: msgspec.structs.replace(clock, behind=Milliseconds(1)), other: clock})
    log.note_clocks({GW: clock})
    again = OPEN[adapter](tmp_path)
    assert again.clocks() == {GW: clock, other: clock}
    again.note_clocks({other: msgspec.structs.replace(clock, behind=Milliseconds(0))})
    again.close()
    assert log.clocks() == {GW: clock}
    log.note_clocks({})
    assert log.clocks() == {GW: clock}


def test_no_message_is_too_strange_to_be_kept(log: IntakeLog) -> None:
    odd = StampedReading("20\x0086", "t", Instant(1), Centi(1), 0, Instant(1))
    whole = msgspec.structs.replace(
        batch(1), readings=(odd,), held=(WithheldReading(odd, "unknown_probe", "20\x0086"),)
    )
    assert log.append([whole], [], [DeadLetter(0, NOW, "a\x00b", "c\x00d", b"\x00")]) == [NEW]
    assert log.read(SHARD, 0, 1)[0].batch.readings == (odd,)
    assert [one.reading for one in log.held()] == [odd]
    assert [letter.body for letter in log.dead_letters()] == [b"\x00"]


LEASE = Milliseconds(60_000)
MINE = ShardClaim("collector", "collector-1", Shard("00"), Shard("7f"), "here")


@pytest.mark.parametrize(
    "other",
    [
        ShardClaim("collector", "collector-2", Shard("7f"), Shard("ff"), "here"),
        ShardClaim("collector", "collector-2", Shard("00"), Shard("00"), "there"),
        ShardClaim("collector", "collector-2", Shard("40"), Shard("41"), "there"),
        ShardClaim("collector", "collector-1", Shard("00"), Shard("7f"), "there"),
        ShardClaim("collector", "collector-1", Shard("80"), Shard("ff"), "there"),
    ],
)
def test_a_shard_and_a_name_belong_to_one_living_worker(log: IntakeLog, other: ShardClaim) -> None:
    log.claim(MINE, lease=LEASE)
    with pytest.raises(ShardTaken, match="collector-1 has 00-7f, on here") as refused:
        log.claim(other, lease=LEASE)
    assert refused.value.by == MINE
    log.give_up(other)
    with pytest.raises(ShardTaken):
        log.claim(other, lease=LEASE)
    log.give_up(MINE)
    log.claim(other, lease=LEASE)


def test_who_comes_again_has_other_shards_or_serves_otherwise_is_let_in(log: IntakeLog) -> None:
    log.claim(MINE, lease=LEASE)
    log.claim(msgspec.structs.replace(MINE, last=Shard("6f")), lease=LEASE)
    log.claim(ShardClaim("collector", "collector-2", Shard("70"), Shard("ff"), "there"), lease=LEASE)
    alerting = ShardClaim("alerting", "alerting-1", Shard("00"), Shard("ff"), "there")
    log.claim(alerting, lease=LEASE)
    with pytest.raises(ShardTaken):
        log.claim(MINE, lease=LEASE)
    assert [(claim.worker, claim.first) for claim in log.claims()] == [
        ("alerting-1", "00"),
        ("collector-1", "00"),
        ("collector-2", "70"),
    ]
    assert log.claims()[0] == alerting


def test_a_worker_that_is_no_longer_heard_of_is_followed_by_another(log: IntakeLog) -> None:
    log.claim(MINE, lease=Milliseconds(50))
    until(lambda: not log.claims(), "a list without the dead")
    heir = ShardClaim("collector", "collector-9", Shard("00"), Shard("ff"), "there")

    def inherits() -> bool:
        try:
            log.claim(heir, lease=LEASE)
        except ShardTaken:
            return False
        return True

    until(inherits, "the end of the lease")
    with pytest.raises(ShardTaken, match="collector-9"):
        log.claim(MINE, lease=LEASE)


@pytest.mark.usefixtures("log")
def test_of_many_that_claim_at_once_one_has_it(adapter: str, tmp_path: Path) -> None:
    won: list[str] = []
    ready = threading.Barrier(4)

    def claim(name: str) -> None:
        own = OPEN[adapter](tmp_path)
        ready.wait()
        try:
            own.claim(ShardClaim("collector", name, Shard("00"), Shard("ff"), name), lease=LEASE)
            won.append(name)
        except ShardTaken:
            pass
        own.close()

    threads = [threading.Thread(target=claim, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


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
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
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


def test_a_log_keeps_its_name_and_has_another_once_it_was_realigned(
    adapter: str, tmp_path: Path, log: IntakeLog
) -> None:
    (first,) = log.names()
    assert len(first) == 16
    again = OPEN[adapter](tmp_path)
    assert again.names() == [first]
    second = again.rename()
    assert log.names() == again.names() == [first, second]
    again.close()
    assert log.append([batch(1)]) == [NEW], "an open log goes on under its new name"


def test_a_mark_names_the_log_and_tells_the_entry_at_a_position_from_any_other(log: IntakeLog) -> None:
    log.append([batch(1), batch(2)])
    (name,) = log.names()
    marks = [log.marks({SHARD: n})[SHARD] for n in range(4)]
    assert marks[0] == marks[3] == f"{name}/"
    assert marks[1] != marks[2]
    for n, entry in enumerate(log.read(SHARD, 0, 10), start=1):
        assert mark(name, entry.batch) == marks[n]
    log.prune(before=Instant(2**52), readers=[])
    assert log.marks({SHARD: 2}) == {SHARD: f"{name}/"}


def test_the_first_positions_that_are_still_there_are_told(log: IntakeLog) -> None:
    assert log.firsts() == {}
    log.append([batch(1, received=1), batch(2, received=2), batch(3, received=3)])
    assert log.firsts() == {SHARD: 1}
    log.prune(before=Instant(3), readers=[])
    assert log.firsts() == {SHARD: 3}
    log.prune(before=Instant(4), readers=[])
    assert log.firsts() == {}


def test_a_cursor_is_placed_backwards_by_name_alone(log: IntakeLog) -> None:
    other = Shard("0a")
    log.move_cursor("telemetry", {SHARD: 7, other: 2})
    log.move_cursor("alerting", {SHARD: 9})
    log.place_cursor("telemetry", {SHARD: 3})
    assert (log.cursor("telemetry"), log.cursor("alerting")) == ({SHARD: 3}, {SHARD: 9})


def test_a_log_that_ends_before_what_was_appended_to_it_takes_nothing_until_it_is_realigned(
    adapter: str, tmp_path: Path, log: IntakeLog
) -> None:
    log.append([batch(1), batch(2)])
    took_back(adapter, tmp_path)
    with pytest.raises(LogReplaced, match="ends at 1"):
        log.append([batch(3)])
    assert seqs(log) == [1]
    with pytest.raises(LogReplaced):
        log.append([batch(3)])
    log.rename()
    assert log.append([batch(3)]) == [NEW]
    assert seqs(log) == [1, 3]


def test_another_log_in_the_place_of_an_open_one_takes_nothing_until_it_is_realigned(
    adapter: str, tmp_path: Path, log: IntakeLog
) -> None:
    log.append([batch(1)])
    made_anew(adapter, tmp_path)
    with pytest.raises(LogReplaced, match="another log"):
        log.append([batch(2)])
    assert log.heads().get(SHARD, 0) == 0
    log.rename()
    assert log.append([batch(2)]) == [NEW]


def took_back(adapter: str, folder: Path) -> None:
    """Bring the log of a folder back to its first entry, as an older copy has it."""
    if adapter == "sqlite":
        with closing(sqlite3.connect(folder / "intake.db", isolation_level=None)) as db:
            db.execute("DELETE FROM entry WHERE n > 1")
            db.execute("UPDATE head SET n = 1")
            db.execute("UPDATE seen SET last = 1, crc = NULL")
    else:
        with psycopg.connect(url_of(folder)) as server:
            server.execute("DELETE FROM intake.entry WHERE n > 1")
            server.execute("UPDATE intake.head SET n = 1 WHERE n > 1")
            server.execute("UPDATE intake.seen SET last = 1, crc = NULL")


def made_anew(adapter: str, folder: Path) -> None:
    """Put a new log in the place of a folder's."""
    if adapter == "sqlite":
        for file in folder.glob("intake.db*"):
            file.unlink()
    else:
        with psycopg.connect(url_of(folder)) as server:
            server.execute("DROP SCHEMA intake CASCADE")
        OPEN[adapter](folder).close()


def url_of(folder: Path) -> str:
    return make_url((folder / "intake.url").read_text()).set(drivername="postgresql").render_as_string(False)
