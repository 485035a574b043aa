"""A backlog from the broker: all of it is in the log, and a gateway is told once of much, not often of little."""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import msgspec
import pytest

from collector import ingest
from collector.counts import Counts
from collector.ingest import Ingest
from core.bus.client import Bus, Message
from core.intake.sqlite import SqliteIntakeLog
from core.runtime.clock import SystemClock, real_now
from core.wire.messages import Ack, Batch, ClockReport, Reading
from core.wire.topics import GatewayNumber, Kind, Topic
from tests.fixtures.broker import until

GROUP = 10
BACKLOG = 4 * GROUP
EP = "9f3c02d1a47be865"
GW = GatewayNumber("10001")


class Broker:
    """What the collector says to it."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.taken: list[int] = []

    def publish(self, _topic: str, payload: bytes) -> bool:
        self.told.append(msgspec.json.decode(payload, type=Ack).upto)
        return True

    def signal(self, topics: Iterable[str]) -> None:
        list(topics)

    def ack_all(self, messages: Sequence[Message]) -> None:
        self.taken += [message.mid for message in messages]


def test_while_a_backlog_comes_in_a_gateway_is_told_now_and_then_and_of_all_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "TELL_S", 60.0)
    log, broker, stop = SqliteIntakeLog(tmp_path / "intake.db"), Broker(), threading.Event()
    taker = Ingest(log, SystemClock(), Counts(), group=GROUP, linger=0.0, grown=lambda: None)
    for seq in range(1, BACKLOG + 1):
        taker.take(message(seq))
    work = threading.Thread(target=taker.run, args=(cast("Bus", broker), stop))
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
    taker = Ingest(
        log, SystemClock(), Counts(), group=GROUP, linger=0.0, grown=lambda: stop.set() if broker.taken else None
    )
    for seq in range(1, BACKLOG + 1):
        taker.take(message(seq))
    taker.run(cast("Bus", broker), stop)
    assert broker.told == [GROUP, 2 * GROUP], "it stopped behind the second group"
    log.close()


def message(seq: int) -> Message:
    now = real_now()
    said = Batch(1, GW, EP, "7f3a9c21", seq, now, ClockReport("ntp", 0, 1), [Reading("208601", now - seq, 4.0)])
    topic = str(Topic(GW, Kind.DATA))
    return Message(topic, msgspec.json.encode(said), retain=False, mid=seq, connection=1)
