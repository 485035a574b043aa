"""Contract of the intake log: readings in quarantine, until they are released, discarded or dropped."""

import msgspec

from core.ids import Centi
from core.intake.port import IntakeLog, StampedReading, WithheldReading
from core.intake.states import UNREAD
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber, shard_of
from tests.fixtures.intake_logs import DUPLICATE, GW, NEW, NOW, SHARD, batch


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
