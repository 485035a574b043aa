"""Faulty messages through a running collector: what is good of them is stored, the rest kept where it can be seen.

And each that can be answered is: no sender repeats one for ever.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.intake.port import StampedReading
from core.runtime.clock import ClockKeeper
from core.runtime.instant import HOUR, SECOND, Instant
from core.wire.messages import ClockReport, Reading
from core.wire.shards import shard_of
from core.wire.topics import MessageKind
from tests.fixtures.collecting import NOW, Line, collecting, line_in
from tests.fixtures.publisher import T0, Gateway
from tests.fixtures.waiting import until


@pytest.fixture(autouse=True)
def _quick_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.runtime.status.EVERY_S", 0.02)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with line_in(tmp_path, "embedded") as line:
        yield line


def altered(body: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(body) | changes).encode()


GOOD = {"p": "208601", "ts": T0, "t": 4.3}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"p": "208602", "ts": T0, "t": "5.2"}, "malformed"),
        ({"p": "208602", "ts": T0 + 0.5, "t": 5.2}, "malformed"),
        ({"p": "208602", "ts": T0, "t": 5.2, "q": 65_536}, "malformed"),
        ({"p": "208602", "ts": T0, "k": "co2", "v": 412}, "unsupported"),
        ({"p": "208602", "ts": T0, "t": 5.2, "q": 4096}, "implausible"),
        ({"p": "208602", "ts": 2**53, "t": 5.2}, "implausible_time"),
    ],
)
def test_a_bad_reading_is_withheld_alone_and_the_batch_taken_in(line: Line, bad: dict[str, Any], reason: str) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(altered(gateway.batch(1), r=[GOOD, bad]))
        gateway.acknowledged(1)
        until(lambda: line.stored() == [(T0, 430)], "the good one in telemetry")
        (held,) = line.log.held()
        assert held.reason == reason
        if isinstance(held.reading, bytes):
            assert json.loads(held.reading) == bad
        else:
            assert (held.reading.p, held.reading.ts) == (bad["p"], bad["ts"])
        assert line.log.dead_letters() == []


def test_whatever_has_an_envelope_is_answered(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1).replace(b"4.1", b"NaN"))
        gateway.acknowledged(1)
        gateway.say(gateway.batch(2) + b"\0")
        gateway.acknowledged(2)
        gateway.say(altered(gateway.batch(3), gw=10001))
        gateway.acknowledged(3)
        gateway.say(gateway.batch(4).replace(b"4.4", b"1e999"))
        gateway.acknowledged(4)
        gateway.say(altered(gateway.batch(5), gw="10002"))
        gateway.acknowledged(5)
        gateway.say(altered(gateway.batch(6), padding="x" * 70_000))
        gateway.acknowledged(6)
        gateway.say(altered(gateway.batch(7), clk={"src": "gps"}, later={"a": 1}))
        gateway.acknowledged(7)
        gateway.say(gateway.batch(8)[: gateway.batch(8).index(b"}]")])
        gateway.acknowledged(8)
        until(lambda: line.stored() == [(T0 + n * 1000, 400 + 10 * n) for n in (2, 3, 7)], "telemetry")
        assert [one.reason for one in line.log.held()] == ["malformed"] * 3
        assert [letter.reason.split(";")[0] for letter in line.log.dead_letters()] == [
            "1 bytes stand behind the message",  # once a life: it says so in each of its messages
            "gw: the topic says 10001, the message '10002'",
            f"{len(altered(gateway.batch(6), padding='x' * 70_000))} bytes",
        ]


def test_a_birth_that_cannot_be_read_whole_is_answered(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1))
        gateway.acknowledged(1)
        heard = len(gateway.messages())
        gateway.say(altered(gateway.birth(1), probes=[{"p": 208601}], firmware=None), MessageKind.BIRTH)
        until(lambda: len(gateway.messages()) > heard, "an ack for the birth")
        assert [letter.reason[:10] for letter in line.log.dead_letters()] == ["Expected `"]


def test_a_reading_that_was_ahead_at_its_receipt_stays_held(line: Line) -> None:
    """Its clock says that it is right (off 0), and later that time has come: it is false all the same."""
    clock = ClockKeeper(Path(line.settings.virtual_clock), start=Instant(NOW), speed=0)
    with collecting(line), Gateway(line.settings) as gateway:
        for seq in range(1, 21):
            now = NOW + seq * 10 * SECOND
            clock.step_to(Instant(now))
            gateway.say(gateway.batch(seq, Reading("208601", now + 150_000, 9.4), sent=now))
            gateway.acknowledged(seq)
        clock.step_to(Instant(NOW + HOUR))
        gateway.say(gateway.batch(21, Reading("208601", NOW + HOUR, 4.0), sent=NOW + HOUR))
        gateway.acknowledged(21)
        until(lambda: line.stored() == [(NOW + HOUR, 400)], "the right one alone in telemetry")
        assert line.held() == [("208601", "implausible_time")] * 20


def test_of_an_unset_clock_only_what_says_so_is_released_and_a_time_ahead_is_not(line: Line) -> None:
    unset = ClockReport("none", None, 5_000)
    with collecting(line), Gateway(line.settings) as gateway:
        readings = [Reading("208601", 4_000, 4.0, 32), Reading("208601", 5_000, 5.0), Reading("208601", 10**9, 6.0, 32)]
        gateway.say(gateway.batch(1, *readings, sent=6_000, clk=unset))
        gateway.acknowledged(1)
        assert line.held() == [("208601", r) for r in ("unset_clock", "implausible_time", "unset_clock")]
        gateway.say(gateway.batch(2, Reading("208601", NOW, 4.2), sent=NOW, clk=ClockReport("ntp", NOW - 6_000, 7_000)))
        gateway.acknowledged(2)
        until(lambda: line.stored() == [(NOW - 2_000, 400), (NOW, 420)], "the released reading")
        held = [(one.reading.ts, one.reason) for one in line.log.held() if isinstance(one.reading, StampedReading)]
        assert held == [(5_000, "implausible_time"), (10**9, "implausible_time")]
        assert f"offset of its boot, {NOW - 6_000} ms" in line.log.held()[1].detail


def test_more_than_a_page_of_an_unset_clock_is_released_in_parts_before_the_gateway_is_told(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.receiving.ingest._PAGE", 3)
    unset = ClockReport("none", None, 5_000)
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1, *[Reading("208601", 1_000 + n, 4.0, 32) for n in range(20)], clk=unset))
        gateway.acknowledged(1)
        gateway.say(gateway.batch(2, Reading("208601", NOW, 4.2), sent=NOW, clk=ClockReport("ntp", NOW - 6_000, 7_000)))
        gateway.acknowledged(2)
        assert line.log.held() == []
        until(lambda: len(line.stored()) == 21, "all in telemetry")


def test_a_clock_that_runs_behind_is_found_applied_and_remembered(line: Line) -> None:
    behind = 3 * HOUR
    clock = ClockKeeper(Path(line.settings.virtual_clock), start=Instant(NOW), speed=0)

    def says(gateway: Gateway, seq: int, *, behind: int = behind, kind: MessageKind = MessageKind.DATA) -> None:
        now = NOW + seq * 60 * SECOND
        clock.step_to(Instant(now))
        gateway.say(gateway.batch(seq, Reading("208601", now - behind, 4.0), sent=now - behind), kind)
        gateway.acknowledged(seq)

    def moved() -> list[int]:
        entries = line.log.read(shard_of(gateway.number), 0, 100)
        return [-entry.batch.shifted for entry in entries]

    with collecting(line), Gateway(line.settings) as gateway:
        for seq in range(1, 5):
            says(gateway, seq)
        assert moved() == [0, 0, behind, behind]
        (kept,) = line.log.clocks().values()
        assert (kept.behind, kept.boot, kept.since) == (behind, gateway.boot, NOW + 180 * SECOND)
    with collecting(line), Gateway(line.settings) as gateway:  # the collector has been restarted meanwhile
        says(gateway, 5)
        says(gateway, 6, kind=MessageKind.BACKFILL)
        assert moved() == [0, 0, *[behind] * 4]
        minutes = [3, 4, 5, 6]
        until(lambda: len(line.stored()) == 6, "telemetry")
        assert line.stored()[2:] == [(NOW + n * 60 * SECOND, 400) for n in minutes], "rules and telemetry have one time"
        says(gateway, 7, behind=0)
        until(lambda: line.log.clocks() == {}, "the end of it")
        says(gateway, 8)
        assert moved()[-2:] == [0, 0]


def test_a_clone_is_kept_once_and_counted_each_time(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1))
        gateway.acknowledged(1)
        other = gateway.batch(1, Reading("208601", T0, 9.9))
        for _ in range(3):
            gateway.say(other)
        until(lambda: line.facts().get("clones") == 3, "count")
        gateway.say(gateway.batch(2))
        gateway.acknowledged(2)
        (letter,) = line.log.dead_letters()
        assert letter.body == other
        assert (
            letter.reason
            == f"cloned gateway: seq 1 of {gateway.ep} is in the log with other readings; not acknowledged"
        )
        assert [(fault.kind, fault.n) for fault in line.log.faults()] == [("clone", 3), ("dead_letter", 1)]
