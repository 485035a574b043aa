"""A backlog from the broker: all of it is in the log, and a gateway is told once of much, not often of little."""

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from collector.counters import Counters
from collector.receiving import ingest
from collector.receiving.ingest import Ingest
from core.intake.port import QuarantinedReading
from core.intake.sqlite import SqliteIntakeLog
from core.mqtt.client import MqttClient, MqttMessage
from core.runtime.clock import SystemClock, real_now
from core.wire.messages import Ack, Batch, ClockReport, Reading
from core.wire.shards import GatewayNumber, shard_of
from core.wire.topics import MessageKind, Topic
from tests.fixtures.waiting import until

GROUP = 10
BACKLOG = 4 * GROUP
EP = "9f3c02d1a47be865"
GW = GatewayNumber("10001")


class Broker:
    """What the collector says to it."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.taken: list[int] = []
        self.grown: Callable[[], object] = list
        """Called when it is signalled that the log has grown."""

    def publish(self, _topic: str, payload: bytes) -> bool:
        self.told.append(msgspec.json.decode(payload, type=Ack).upto)
        return True

    def signal(self, topics: Iterable[str]) -> None:
        list(topics)
        self.grown()

    def ack_all(self, messages: Sequence[MqttMessage]) -> None:
        self.taken += [message.mid for message in messages]


def test_while_a_backlog_comes_in_a_gateway_is_told_now_and_then_and_of_all_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "TELL_S", 60.0)
    log, broker, stop = SqliteIntakeLog(tmp_path / "intake.db"), Broker(), threading.Event()
    taker = Ingest(log, SystemClock(), Counters(), group=GROUP, linger=0.0)
    for seq in range(1, BACKLOG + 1):
        taker.take(message(seq))
    work = threading.Thread(target=taker.run, args=(cast("MqttClient", broker), stop))
    work.start()
    until(lambda: BACKLOG in broker.told, "the last acknowledgement")
    assert broker.told == [GROUP, BACKLOG]
    until(lambda: taker.is_idle, "the end of its work")
    assert broker.taken == list(range(1, BACKLOG + 1)), "the broker isn't kept waiting"
    taker.take(message(BACKLOG + 1))
    until(lambda: BACKLOG + 1 in broker.told, "an answer at once to what is no backlog")
    stop.set()
    work.join()
    log.close()


def test_who_was_not_told_yet_is_told_at_an_orderly_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "TELL_S", 60.0)
    log, broker, stop = SqliteIntakeLog(tmp_path / "intake.db"), Broker(), threading.Event()
    broker.grown = lambda: stop.set() if broker.taken else None
    taker = Ingest(log, SystemClock(), Counters(), group=GROUP, linger=0.0)
    for seq in range(1, BACKLOG + 1):
        taker.take(message(seq))
    taker.run(cast("MqttClient", broker), stop)
    assert broker.told == [GROUP, 2 * GROUP], "it stopped behind the second group"
    log.close()


class WatchedLog(SqliteIntakeLog):
    """The log itself, and how many rows of its quarantine were looked at."""

    looked_at = 0

    def held(self, **asked: Any) -> list[QuarantinedReading]:
        found = super().held(**asked)
        self.looked_at += len(found)
        return found


def test_a_full_quarantine_of_a_gateway_makes_no_message_dearer(tmp_path: Path) -> None:
    """Thirty thousand readings of it are ahead, or wait for an offset that was never known: nobody looks at them again.

    Only those that an offset resolves are, once, a bounded part at a time.
    """
    log, broker, stop = WatchedLog(tmp_path / "intake.db"), Broker(), threading.Event()
    taker = Ingest(log, SystemClock(), Counters(), group=1, linger=0.0)
    work = threading.Thread(target=taker.run, args=(cast("MqttClient", broker), stop))
    work.start()

    def says(seq: int, *readings: Reading, clk: ClockReport = SYNCED, boot: str = "7f3a9c21") -> int:
        """Return how many rows of the quarantine it took to answer a message."""
        before = log.looked_at
        taker.take(message(seq, *readings, clk=clk, boot=boot))
        until(lambda: broker.told and broker.told[-1] == seq, "its acknowledgement")
        until(lambda: taker.is_idle, "the end of the work")
        return log.looked_at - before

    ahead = [Reading("208601", real_now() + 10**8 + n, 4.0) for n in range(500)]
    unset = [Reading("208601", 5_000 + n, 4.0, 32) for n in range(500)]
    for seq in range(1, 59, 2):
        assert says(seq, *ahead) == 0
        assert says(seq + 1, *unset, clk=ClockReport("none"), boot="00000000") == 0
    assert says(59, *ahead) == 0
    assert says(60, *unset, clk=ClockReport("none")) == 0
    assert sum(log.count_held().values()) == 30_000
    assert says(61, Reading("208601", real_now(), 4.0)) == 500, "of its own boot alone"
    assert says(62, Reading("208601", real_now(), 4.0)) == 0
    assert dict(log.count_held()) == {"implausible_time": 15_000 + 500, "unset_clock": 14_500}
    stop.set()
    work.join()
    log.close()


def test_a_back_fill_of_another_gateway_lets_a_live_message_through(tmp_path: Path) -> None:
    """Of 431 000 readings that came before it, one group at most is taken in before it."""
    log, broker, stop = SqliteIntakeLog(tmp_path / "intake.db"), Broker(), threading.Event()
    taker = Ingest(log, SystemClock(), Counters(), group=1000, linger=0.0)
    other = GatewayNumber("10002")
    readings = [Reading(f"{208601 + n % 8}", real_now() - 10**7 - n, 4.0) for n in range(500)]
    for seq in range(1, 863):
        assert taker.take(message(seq, *readings, gw=other, kind=MessageKind.BACKFILL))
    behind = []

    def grown() -> None:
        behind.append(log.head(shard_of(other)))
        if log.head(shard_of(GW)):
            stop.set()

    broker.grown = grown
    work = threading.Thread(target=taker.run, args=(cast("MqttClient", broker), stop))
    work.start()
    until(lambda: behind, "a first group")
    taker.take(message(1, Reading("208601", real_now(), 9.4)))
    work.join()
    assert 0 < behind[0] <= 60, "a group of back-fill is small"
    assert behind[-1] - behind[0] <= 2 * 60, "live goes with the next, or with the one behind it"
    log.close()


SYNCED = ClockReport("ntp", 0, 1)


def message(
    seq: int,
    *readings: Reading,
    clk: ClockReport = SYNCED,
    boot: str = "7f3a9c21",
    gw: GatewayNumber = GW,
    kind: MessageKind = MessageKind.DATA,
) -> MqttMessage:
    now = real_now()
    said = Batch(1, gw, EP, boot, seq, now, clk, list(readings or (Reading("208601", now - seq, 4.0),)))
    topic = str(Topic(gw, kind))
    return MqttMessage(topic, msgspec.json.encode(said), retain=False, mid=seq, connection=1)
