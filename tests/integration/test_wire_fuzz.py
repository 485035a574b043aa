"""Whatever gateways send: never a traceback, never a silent loss, and an answer wherever there is an envelope.

What comes in is stored, withheld with a reason, or refused as a dead letter; the oracle is what the log gives back and
what the gateway hears.
"""

import json
import math
import tempfile
import threading
from collections.abc import Collection, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.counters import RECEIVING, Counters
from collector.receiving.ingest import Ingest
from core.intake.port import DeadLetter, IntakeBatch, QuarantinedReading, StampedReading
from core.intake.sqlite import SqliteIntakeLog
from core.intake.states import UNREAD
from core.mqtt.client import MqttMessage
from core.runtime.instant import Instant
from core.wire.messages import LARGEST_MESSAGE, Ack
from core.wire.shards import GatewayNumber, shard_of
from core.wire.topics import MessageKind, Topic
from tests.fixtures.site import Standing

pytestmark = pytest.mark.long

GW = GatewayNumber("10001")
NOW = Instant(1_774_632_960_000)


class Broker:
    """What reaches the gateways."""

    def __init__(self) -> None:
        self.acks: list[Ack] = []
        self.open = 0

    def publish(self, _topic: str, payload: bytes) -> bool:
        self.acks.append(msgspec.json.decode(payload, type=Ack))
        return True

    def signal(self, _topics: Iterable[str]) -> None:
        pass

    def ack(self, _message: MqttMessage) -> None:
        self.open -= 1

    def ack_all(self, taken: Collection[MqttMessage]) -> None:
        self.open -= len(taken)


class Line:
    """A collector's ingest over a log, and what each message came to."""

    def __init__(self) -> None:
        self.log = SqliteIntakeLog(Path(tempfile.mkdtemp()) / "intake.db")
        self.counts = Counters(RECEIVING)
        self._lives = count(1)
        self._ingest = Ingest(self.log, Standing(NOW), self.counts, group=100, linger=0)

    def new_life(self) -> str:
        """Return the life of a spool that was never heard; what is asked later is asked of what comes from now on."""
        held, letters = self.log.held(limit=100_000), self.log.dead_letters(limit=100_000)
        self._before = held[-1].id if held else 0
        self._letters = letters[-1].id if letters else 0
        return f"{next(self._lives):016x}"

    def hears(self, topic: str, payload: bytes) -> Broker:
        broker = Broker()
        broker.open += 1
        message = MqttMessage(topic, payload, retain=False, mid=1, connection=1)
        failed = self._ingest._finish_all(broker, [message], threading.Event())  # type: ignore[arg-type]
        assert failed == 0
        assert broker.open == 0, "the broker must get its acknowledgement"
        return broker

    def entry(self, ep: str) -> IntakeBatch | None:
        shard = shard_of(GW)
        last = self.log.read(shard, self.log.head(shard) - 1, 1)
        return last[0].batch if last and last[0].batch.ep == ep else None

    def held(self) -> list[QuarantinedReading]:
        return self.log.held(after=self._before, limit=100_000)

    def letters(self) -> list[DeadLetter]:
        return self.log.dead_letters(after=self._letters, limit=1_000)


ODD = st.sampled_from([None, True, [], {}, "", "4.2", -1, 0, 2**53, 2**53 + 1, 2**70, 1e300, 0.5, "\0", "\ud83d\ude00"])
NUMBER = st.floats(-300, 400).map(lambda number: round(number, 2)) | st.sampled_from([math.nan, math.inf, -0.0, 1e999])
READING = st.fixed_dictionaries(
    {"p": st.just("208601") | ODD, "ts": st.sampled_from([NOW, NOW - 5_000, NOW + 150_000, 5_000]) | ODD},
    optional={
        "t": NUMBER | ODD,
        "q": st.sampled_from([0, 4, 32, 64, 256, 1024, 2048, 65_535, 65_536]) | ODD,
        "k": st.sampled_from(["h", "door", "co2"]) | ODD,
        "v": NUMBER | ODD,
        "later": ODD,
    },
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "v": st.just(2) | ODD,
        "gw": st.sampled_from([10001, "10002", "10001"]) | ODD,
        "boot": st.just("7f3a9c21") | ODD,
        "sent": st.sampled_from([NOW, NOW + 10**7, NOW - 10**7, 5_000]) | ODD,
        "clk": st.fixed_dictionaries({"src": st.sampled_from(["ntp", "none", "gps"])}, optional={"off": ODD}) | ODD,
        "lost": st.lists(st.lists(st.integers(-1, 9), max_size=3), max_size=3) | ODD,
        "later": ODD,
    },
)


def whole(ep: str, readings: Any, fields: dict[str, Any]) -> bytes:
    message = {"v": 1, "gw": GW, "ep": ep, "boot": "7f3a9c21", "seq": 1, "sent": NOW, "clk": {"src": "ntp", "off": 0}}
    return json.dumps(message | {"r": readings} | fields).encode("utf-8", "surrogatepass")


LINE = Line()
FUZZ = settings(max_examples=400, deadline=None)


@FUZZ
@given(st.lists(READING | ODD, max_size=6), FIELDS, st.sampled_from([MessageKind.DATA, MessageKind.BACKFILL]))
@example([{"p": "208601", "ts": NOW, "t": 4.3}, {"p": "208602", "ts": NOW, "t": "5.2"}], {}, MessageKind.DATA)
@example([{"p": "208601", "ts": NOW, "t": math.nan}], {"gw": 10001}, MessageKind.DATA)
@example([7] * 150, {"lost": 7}, MessageKind.DATA)
def test_every_reading_of_a_message_is_stored_or_withheld_or_stands_in_a_dead_letter(
    readings: list[Any], fields: dict[str, Any], kind: MessageKind
) -> None:
    ep = LINE.new_life()
    payload = whole(ep, readings, fields)
    heard = LINE.hears(str(Topic(GW, kind)), payload)
    assert heard.acks == [Ack(ep, 1)], "its envelope is whole: it is answered"
    entry, held, letters = LINE.entry(ep), LINE.held(), LINE.letters()
    if entry is None:
        assert [letter.body for letter in letters] == [payload]
        assert letters[0].reason
        return
    assert not letters or letters[0].body == payload
    kept = len(entry.readings) + len(held)
    assert kept == len(readings) or (letters and "more readings can't be read" in letters[0].reason)
    for reading in entry.readings:
        assert reading.value is None or abs(reading.value) < 2**15
        assert NOW - 2 * 10**7 <= reading.at <= NOW + 120_000 or reading.q & 32
    for one in held:
        assert one.reason
        assert one.detail
        assert isinstance(one.reading, StampedReading) != (one.reason in UNREAD)


@FUZZ
@given(st.lists(READING, min_size=1, max_size=4), st.data())
def test_a_message_that_was_damaged_on_its_way_is_never_lost_silently(readings: list[Any], data: st.DataObject) -> None:
    ep = LINE.new_life()
    payload = bytearray(whole(ep, readings, {}))
    behind = payload.index(b'"sent"')  # the envelope stands before
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(behind, len(payload)))
        payload[place : place + data.draw(st.integers(0, 9))] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"\0", b"}", b"]", b'"', b"{", b"[", b",", b"\\", b"NaN"])
        )
    if data.draw(st.booleans()):
        del payload[data.draw(st.integers(behind, len(payload))) :]
    heard = LINE.hears(str(Topic(GW, MessageKind.DATA)), bytes(payload))
    entry, letters = LINE.entry(ep), LINE.letters()
    assert entry is not None or [letter.body for letter in letters] == [bytes(payload)]
    assert heard.acks == [Ack(ep, 1)], "its envelope is whole: it is answered"


@FUZZ
@given(
    st.sampled_from([str(Topic(GW, kind)) for kind in MessageKind]) | st.text(),
    st.binary(max_size=300) | st.binary(max_size=40).map(lambda some: b'{"v":1,"ep":"' + some),
)
@example(str(Topic(GW, MessageKind.DATA)), b"[" * 60_000)
@example(str(Topic(GW, MessageKind.DATA)), b'{"v":' * 12_000)
@example(str(Topic(GW, MessageKind.DATA)), b'{"' + b'\\"' * 32_000)
@example(str(Topic(GW, MessageKind.DATA)), b"x" * (LARGEST_MESSAGE + 1))
def test_what_is_no_message_is_kept_with_its_reason(topic: str, payload: bytes) -> None:
    LINE.new_life()
    LINE.hears(topic, payload)
    letters = LINE.letters()
    if payload or not topic.endswith((MessageKind.BIRTH, MessageKind.STATE)):
        (letter,) = letters
        assert letter.body == payload[:LARGEST_MESSAGE]
        assert letter.reason


def test_all_of_it_was_understood() -> None:
    """A message that finds an error in this program is a dead letter as well, and one that must not be."""
    assert not [letter for letter in LINE.log.dead_letters(limit=100_000) if "not understood" in letter.reason]
    assert LINE.counts.facts()["failed"] == 0
