"""The collector when its log fails half-way, fills up or hangs: the broker is answered, and nobody waits for ever."""

import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from msgspec import json

from collector.receiving import inbox
from collector.receiving.inbox import Inbox
from core.health.gateway_troubles import troubles_of_gateways
from core.health.store_checks import check_log
from core.intake.port import AppendResult, DeadLetter, IntakeBatch, IntakeUnavailable, Life, Lost
from core.intake.sqlite import SqliteIntakeLog
from core.mqtt import client as bus_client
from core.mqtt.client import NEAR_S, MqttClient, MqttMessage
from core.runtime.instant import Instant
from core.runtime.trouble import TroubleKind
from core.wire.messages import MOST_LOST, Ack, ClockReport, Reading
from core.wire.shards import shard_of
from core.wire.topics import wake_topic
from tests.fixtures.broker import BROKERS, Client
from tests.fixtures.collecting import NOW, Line, collecting, line_in
from tests.fixtures.publisher import T0, Gateway
from tests.fixtures.waiting import until

FEW = 5
"""What the broker hands over before it is answered, so that one that is never answered is noticed."""


class FaultyLog(SqliteIntakeLog):
    """The log itself, which can be told what not to do."""

    readable = True
    poison = 0
    """A sequence number that an append fails at."""
    in_doubt = False
    """The next append is done, and its answer doesn't come."""

    def known(self, asked: Mapping[Life, Collection[int]], *, most: int) -> dict[Life, list[tuple[int, int]]]:
        if not self.readable:
            msg = "not readable now"
            raise IntakeUnavailable(msg)
        return super().known(asked, most=most)

    def append(
        self,
        batches: Sequence[IntakeBatch],
        lost: Sequence[Lost] = (),
        letters: Sequence[DeadLetter] = (),
    ) -> list[AppendResult]:
        assert self.poison not in {batch.seq for batch in batches}
        answers = super().append(batches, lost, letters)
        if self.in_doubt:
            self.in_doubt = False
            msg = "no answer for 8 s"
            raise IntakeUnavailable(msg)
        return answers


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.runtime.status.EVERY_S", 0.02)
    monkeypatch.setattr(bus_client, "IN_FLIGHT", FEW)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with line_in(tmp_path, "mosquitto") as line:
        yield line


@pytest.fixture
def log(line: Line, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyLog]:
    """Yield the log that collector and writer share here."""
    faulty = FaultyLog(line.folder / "intake.db")
    monkeypatch.setattr("collector.lifecycle.open_log", lambda *_: faulty)
    monkeypatch.setattr(FaultyLog, "close", lambda _self: None)
    yield faulty
    SqliteIntakeLog.close(faulty)


def test_what_was_appended_is_answered_to_the_broker_and_announced_though_the_log_cannot_be_read(
    line: Line, log: FaultyLog
) -> None:
    with collecting(line), Client(line.settings, None, "cc/v1/wake/#") as alerting, Gateway(line.settings) as gateway:
        alerting.connected()
        log.readable = False
        for seq in range(1, 4 * FEW + 1):
            gateway.say(gateway.batch(seq))
            until(lambda: line.seqs() == list(range(1, seq + 1)), "the batch in the log")  # noqa: B023  (used at once)
        assert {message.topic for message in alerting.heard} == {wake_topic(shard_of(gateway.number))}
        assert gateway.messages() == []
        until(lambda: "not readable" in str(line.facts().get("problem")), "its complaint")
        log.readable = True
        gateway.acknowledged(4 * FEW)  # which nobody has asked for again
        until(lambda: line.facts().get("problem") == "", "no more complaint")


def test_what_does_not_fit_is_answered_to_the_broker_and_taken_in_when_it_is_sent_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        monkeypatch.setattr(inbox, "MESSAGES", 0)
        monkeypatch.setattr(inbox, "FULL_WAIT_S", 0.1)
        for seq in range(1, 4 * FEW + 1):
            gateway.say(gateway.batch(seq))
        until(lambda: line.facts().get("refused_full") == 4 * FEW, "refusals")
        monkeypatch.undo()
        gateway.send_until_covered(range(1, 4 * FEW + 1))
        assert sorted(line.seqs()) == list(range(1, 4 * FEW + 1))


def test_a_message_that_no_append_takes_stops_no_other_and_stays_with_its_sender(line: Line, log: FaultyLog) -> None:
    log.poison = 7
    with collecting(line), Gateway(line.settings) as gateway:
        for _ in range(FEW + 1):
            gateway.say(gateway.batch(7))
        for seq in (*range(1, 7), 8, 9):
            gateway.say(gateway.batch(seq))
        gateway.acknowledged(6, [(8, 9)])
        until(lambda: line.facts().get("failed") == FEW + 1, "counts")
        log.poison = 0  # the program is mended
        gateway.say(gateway.batch(7))
        gateway.acknowledged(9)
        assert sorted(line.seqs()) == list(range(1, 10))


def test_a_gateway_whose_numbers_seen_are_damaged_is_held_up_alone_until_they_are_rebuilt(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway, Gateway(line.settings, "10002") as other:
        for each in (gateway, other):
            each.say(each.batch(1))
            each.acknowledged(1)
        with closing(sqlite3.connect(line.folder / "intake.db", isolation_level=None)) as db:
            assert db.execute("UPDATE seen SET last = 5 WHERE gw = '10001'").rowcount == 1
        for seq in (2, 3):
            gateway.say(gateway.batch(seq))
            other.say(other.batch(seq))
        other.acknowledged(3)
        until(lambda: line.facts().get("unknown") == 2, "batches that are not taken in")
        acks = [json.decode(message.payload, type=Ack) for message in gateway.messages()]
        assert {(ack.upto, len(ack.have)) for ack in acks} == {(1, 0)}, "nothing is acknowledged that may not be stored"
        assert line.seqs() == [1]
        assert line.facts().get("problem") == ""
        (trouble,) = troubles_of_gateways(check_log(line.log), Instant(NOW))
        assert trouble.kind is TroubleKind.NUMBERS_DAMAGED
        assert trouble.detail.startswith("10001: 2")
        for life in line.log.damaged_lives():
            line.log.rebuild_numbers_seen(life)
        gateway.send_until_covered(range(1, 4))
        assert line.seqs() == [1, 2, 3]


def test_an_append_whose_answer_did_not_come_is_repeated_and_its_readings_find_their_clock(
    line: Line, log: FaultyLog
) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        log.in_doubt = True
        gateway.say(gateway.batch(1, Reading("208601", 4_000, 4.0, 32), clk=ClockReport("none", None, 5_000)))
        gateway.acknowledged(1)
        assert line.facts().get("appended") == 0
        assert line.held() == [("208601", "unset_clock")]
        gateway.say(gateway.batch(2, clk=ClockReport("ntp", T0, 9_000)))
        until(lambda: line.stored() == [(T0 + 2000, 420), (T0 + 4000, 400)], "the released reading")


def test_a_box_that_declares_lost_what_cannot_be_is_told_of_once_and_taken_in(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1, lost=[(1, 2**53)]))
        gateway.say(gateway.batch(2, lost=[(1, 2**53)]))
        odd = [(seq, seq) for seq in range(5, 10_000, 2)]
        gateway.say(gateway.batch(20_000, lost=odd))
        gateway.acknowledged(2, [*odd[:MOST_LOST], (20_000, 20_000)])
        assert [letter.reason for letter in line.log.dead_letters()] == [
            "lost: [1, 9007199254740992] is no range of numbers below its own, 1"
        ]
        assert line.seqs() == [1, 2, 20_000]


@pytest.mark.parametrize("which", BROKERS)
def test_a_log_that_hangs_costs_no_connection(tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the full inbox that comes of it; times are a fifth of the real ones."""
    monkeypatch.setattr("collector.service.NEAR_S", NEAR_S // 5)
    monkeypatch.setattr(inbox, "FULL_WAIT_S", inbox.FULL_WAIT_S / 5)
    monkeypatch.setattr(inbox, "MESSAGES", 2)
    connections: list[MqttClient] = []
    monkeypatch.setattr("collector.service.MqttClient", partial(MqttClient, on_connect=connections.append))
    with line_in(tmp_path, which) as line, collecting(line), Gateway(line.settings) as gateway:
        thief = sqlite3.connect(line.folder / "intake.db", isolation_level=None)
        thief.execute("BEGIN IMMEDIATE")
        for seq in range(1, FEW + 1):
            gateway.say(gateway.batch(seq))
        threading.Event().wait(3.0)  # twice as long as a broker waits for a sign of life
        assert line.seqs() == []
        thief.execute("ROLLBACK")
        thief.close()
        gateway.send_until_covered(range(1, FEW + 1))
        assert len(connections) == 1


def test_a_full_inbox_lets_a_message_wait_until_something_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Inbox()
    monkeypatch.setattr(inbox, "MESSAGES", 1)
    first, second = (MqttMessage("t", b"x", retain=False, mid=mid, connection=1) for mid in (1, 2))
    assert box.put(first)
    fits: list[bool] = []
    network = threading.Thread(target=lambda: fits.append(box.put(second)))
    network.start()
    assert box.gather(10, 0) == [first]
    assert fits == [], "what is being committed takes room as well"
    box.done([first])
    network.join(inbox.FULL_WAIT_S)
    assert fits == [True]
    assert box.gather(10, 0) == [second]


def test_the_inbox_has_room_for_so_many_bytes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "FULL_WAIT_S", 0.01)
    box = Inbox()
    large = MqttMessage("t", b"x" * (inbox.BYTES // 4), retain=False, mid=1, connection=1)
    assert [box.put(large) for _ in range(5)] == [True] * 4 + [False]
    taken = [one for _ in range(3) for one in box.gather(3, 0)]  # a group is of about a megabyte
    assert not box.put(large), "what is being committed takes room as well"
    box.done(taken)
    assert [box.put(large) for _ in range(4)] == [True] * 3 + [False]
    for _ in range(4):
        box.done(box.gather(10, 0))
    assert box.is_empty
