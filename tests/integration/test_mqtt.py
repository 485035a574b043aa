"""Promises of a `MqttClient`, tried with both brokers, and with a server of our own where it must misbehave."""

import gc
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import BrokerSettings, Settings
from core.mqtt.client import BrokerAddress, MqttClient, MqttMessage
from core.wire.shards import GatewayNumber
from core.wire.topics import MessageKind, Topic
from tests.fixtures.broker import BROKERS, Client, broker, settings_in
from tests.fixtures.waiting import until

DATA = str(Topic(GatewayNumber("10001"), MessageKind.DATA))
OPEN = Path("/proc/self/fd")


@pytest.fixture(params=BROKERS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_in(tmp_path, "10001", broker=request.param)


def test_it_starts_without_a_broker_and_finds_one_that_comes(settings: Settings) -> None:
    with Client(settings, "10001") as gateway:
        until(lambda: "no broker at" in gateway.bus.problem, "the reason")
        assert not gateway.bus.connected
        began = time.monotonic()
        with broker(settings):
            gateway.connected()
        assert time.monotonic() - began < 3


def test_it_subscribes_again_and_says_so_at_each_connection(settings: Settings) -> None:
    with Client(settings, None, "cc/v1/+/+/up/#") as services, Client(settings, "10001") as gateway:
        for times in (1, 2):
            with broker(settings):
                until(lambda: services.connections == times, "connection")  # noqa: B023  (used at once)
                gateway.connected()
                until(lambda: gateway.bus.publish(DATA, b"%d" % times), "publish")  # noqa: B023
                until(lambda: services.payloads(DATA)[-1:] == [b"%d" % times], "message")  # noqa: B023
            until(lambda: not services.bus.connected and not gateway.bus.connected, "the end of the connections")


def test_a_stopped_one_leaves_nothing_open(settings: Settings) -> None:
    with broker(settings):
        gc.disable()  # which would close it by chance, and say that nobody did
        try:
            before = len(list(OPEN.iterdir()))
            with Client(settings, "10001") as gateway:
                gateway.connected()
                assert len(list(OPEN.iterdir())) > before
            until(lambda: len(list(OPEN.iterdir())) <= before, "as few open files and sockets as before")
        finally:
            gc.enable()


def test_without_a_connection_nothing_is_kept(settings: Settings) -> None:
    done: list[int] = []
    with Client(settings, None, "cc/v1/+/+/up/#") as services, Client(settings, "10001") as gateway:
        assert not gateway.bus.publish(DATA, b"before", on_done=lambda: done.append(0))
        with broker(settings):
            services.connected()
            gateway.connected()
            assert gateway.bus.publish(DATA, b"after", on_done=lambda: done.append(1))
            until(lambda: services.payloads() == [b"after"], "message")
            until(lambda: done == [1], "what follows it")


def test_every_publish_is_followed_once_even_when_the_answer_is_quicker(settings: Settings) -> None:
    done: list[int] = []
    with broker(settings), Client(settings, "10001") as gateway:
        gateway.connected()
        for number in range(300):
            gateway.bus.publish(DATA, b"x", on_done=lambda number=number: done.append(number))
            if number % 3 == 0:
                gateway.bus.publish(DATA, b"y")
        until(lambda: len(done) == 300, "all of them")
    assert sorted(done) == list(range(300))


class _FakeBroker:
    """Accepts any client; delivers what it is told, and keeps what it is sent."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.client: socket.socket | None = None

    def accept(self, *, five: bool = False) -> None:
        self.client, _ = self._server.accept()
        self.client.settimeout(5)
        assert self.packet()[0] >> 4 == 1
        self.client.sendall(b"\x20\x03\x00\x00\x00" if five else b"\x20\x02\x00\x00")

    def packet(self) -> bytes:
        assert self.client is not None
        head = self.client.recv(2)
        body = b""
        while len(body) < head[1]:
            body += self.client.recv(head[1] - len(body))
        return head + body

    def deliver(self, mid: int) -> None:
        assert self.client is not None
        self.client.sendall(b"\x32\x06\x00\x01t" + mid.to_bytes(2, "big") + b"x")

    def send(self, data: bytes) -> None:
        assert self.client is not None
        self.client.sendall(data)

    def drop(self) -> None:
        assert self.client is not None
        self.client.close()

    def close(self) -> None:
        self.drop()
        self._server.close()


@pytest.fixture
def fake() -> _FakeBroker:
    return _FakeBroker()


def _bus(port: int, heard: list[MqttMessage], *, five: bool = False) -> MqttClient:
    address = BrokerAddress.of(BrokerSettings(port=port, protocol="5" if five else "3.1.1"))
    return MqttClient(address, client_id="c", username="u", password="p", clean=True, on_message=heard.append)


@pytest.mark.parametrize("five", [False, True], ids=["3.1.1", "5"])
def test_a_message_is_handed_over_as_it_came(fake: _FakeBroker, five: bool) -> None:  # noqa: FBT001
    none = b"\x00" if five else b""
    expiry = b"\x05\x02\x00\x00\x00\x09" if five else b""
    bodies = [
        (0x32, b"\x00\x01t\x00\x07" + none + b"first"),
        (0x3A, b"\x00\x01t\x00\x08" + none + b"again"),
        (0x33, b"\x00\x01t\x00\x09" + none + b"kept"),
        (0x31, b"\x00\x01t" + none + b"kept, QoS 0"),
        (0x30, b"\x00\x04a/\xffb" + none),
        (0x33, b"\x00\x04a/\xffb\x00\x0a" + (expiry or none) + b"with properties"),
    ]
    heard: list[MqttMessage] = []
    bus = _bus(fake.port, heard, five=five)
    bus.start()
    fake.accept(five=five)
    fake.send(b"".join(bytes((head, len(body))) + body for head, body in bodies))
    until(lambda: len(heard) == len(bodies), "all of them")
    assert heard == [
        MqttMessage("t", b"first", False, 7, 1),
        MqttMessage("t", b"again", False, 8, 1),
        MqttMessage("t", b"kept", True, 9, 1),
        MqttMessage("t", b"kept, QoS 0", True, 0, 1),
        MqttMessage("a/\N{REPLACEMENT CHARACTER}b", b"", False, 0, 1),
        MqttMessage("a/\N{REPLACEMENT CHARACTER}b", b"with properties", True, 10, 1),
    ]
    bus.ack_all(heard)
    assert [fake.packet()[-1] for _ in range(4)] == [7, 8, 9, 10]
    bus.stop()
    fake.close()


def test_a_signal_belongs_to_the_connection_that_it_was_meant_for(fake: _FakeBroker) -> None:
    """Whether there is one is not asked long before it is sent: nothing may come in between."""
    bus = _bus(fake.port, [])
    bus.start()
    fake.accept()
    until(lambda: bus.connected, "connection")
    between: list[bool] = []

    def topics() -> Iterator[str]:
        between.append(bus._lock.acquire(blocking=False))
        yield "t"

    bus.signal(topics())
    assert fake.packet() == b"\x30\x03\x00\x01t"
    assert between == [False]
    bus.stop()
    fake.close()


def test_an_acknowledgement_never_reaches_a_later_connection(fake: _FakeBroker) -> None:
    heard: list[MqttMessage] = []
    bus = _bus(fake.port, heard)
    bus.start()
    fake.accept()
    fake.deliver(7)
    until(lambda: heard, "message")
    fake.drop()
    fake.accept()
    until(lambda: bus.connected, "second connection")
    bus.ack(heard[0])
    fake.deliver(7)
    until(lambda: len(heard) == 2, "message with the same number")
    assert heard[1].connection > heard[0].connection
    bus.ack(heard[0])
    thread = threading.Thread(target=bus.ack, args=(heard[1],))
    thread.start()
    thread.join()
    assert fake.packet() == b"\x40\x02\x00\x07"
    bus.stop()
    assert fake.packet()[0] >> 4 == 14, "nothing but the good-bye came after the one acknowledgement"
    fake.close()


def _publish(mid: int, payload: bytes) -> bytes:
    body = b"\x00\x01t" + mid.to_bytes(2, "big") + payload
    length, left = b"", len(body)
    while True:
        left, low = divmod(left, 128)
        length += bytes((low | (128 if left else 0),))
        if not left:
            return b"\x32" + length + body


@pytest.mark.parametrize("seed", range(3))
def test_messages_come_whole_and_in_order_in_whatever_pieces_they_are_sent(fake: _FakeBroker, seed: int) -> None:
    """Some are larger than a block, and blocks end anywhere; a connection that breaks leaves none of it to the next."""
    chance = random.Random(seed)
    sizes = [chance.choice((0, 1, 90, 121, 122, 16_383, 65_530, 65_536, 200_000)) for _ in range(120)]
    payloads = [mid.to_bytes(2, "big") * (size // 2) for mid, size in enumerate(sizes, start=1)]
    sent = b"".join(_publish(mid, payload) for mid, payload in enumerate(payloads, start=1))
    heard: list[MqttMessage] = []
    bus = _bus(fake.port, heard)
    bus.start()
    fake.accept()
    fake.send(_publish(1, b"first") + _publish(2, b"never whole")[: 3 + seed])
    until(lambda: heard, "the first message")
    fake.drop()
    fake.accept()
    until(lambda: bus.connected, "second connection")
    early = heard.pop()
    place = 0
    while place < len(sent):
        size = chance.choice((1, 2, 3, 7, 1_000, 65_535, 65_536, 65_537, 300_000))
        fake.send(sent[place : place + size])
        place += size
    until(lambda: len(heard) == len(payloads), "all messages")
    assert [(message.mid, message.payload) for message in heard] == list(enumerate(payloads, start=1))
    bus.ack_all([early, *heard])
    assert [fake.packet() for _ in payloads] == [b"\x40\x02" + message.mid.to_bytes(2, "big") for message in heard]
    bus.stop()
    assert fake.packet()[0] >> 4 == 14
    fake.close()


def test_a_backlog_that_is_taken_in_slowly_does_not_keep_acknowledgements_from_going_out(fake: _FakeBroker) -> None:
    """Nor the sign of life without which a broker gives the connection up, whatever is in flight the other way."""
    heard: list[MqttMessage] = []

    def slowly(message: MqttMessage) -> None:
        heard.append(message)
        bus.ack(message)
        threading.Event().wait(0.005)

    bus = MqttClient(
        BrokerAddress.of(BrokerSettings(port=fake.port)),
        client_id="c",
        username="u",
        password="p",
        clean=True,
        on_message=slowly,
    )
    bus.start()
    fake.accept()
    until(lambda: bus.connected, "connection")
    for _ in range(400):
        assert bus.publish("t", b"")
        fake.packet()
    fake.send(b"".join(_publish(mid, b"") for mid in range(1, 401)))
    assert fake.packet() == b"\x40\x02\x00\x01"
    assert len(heard) < 200
    fake.drop()
    bus.stop()
    fake.close()


def test_what_was_in_flight_is_not_sent_again_by_itself(fake: _FakeBroker) -> None:
    heard: list[MqttMessage] = []
    bus = _bus(fake.port, heard)
    done: list[int] = []
    bus.start()
    fake.accept()
    until(lambda: bus.connected, "connection")
    assert bus.publish("t", b"first", on_done=lambda: done.append(1))
    assert fake.packet()[-5:] == b"first"
    fake.drop()
    fake.accept()
    until(lambda: bus.publish("t", b"second"), "second connection")
    assert fake.packet()[-6:] == b"second"
    assert done == []
    bus.stop()
    fake.close()


def test_a_broker_that_hangs_does_not_keep_it_from_ending(fake: _FakeBroker) -> None:
    bus = _bus(fake.port, [])
    bus.start()
    fake.accept()
    until(lambda: bus.connected, "connection")
    while bus.publish("t", b"x" * 2_000):  # until socket, buffer and queue are full: nobody reads
        pass
    began = time.monotonic()
    bus.stop()
    assert time.monotonic() - began < 3
    fake.close()


def test_a_callback_that_fails_ends_neither_thread_nor_connection(settings: Settings) -> None:
    heard: list[bytes] = []

    def fail_first(message: MqttMessage) -> None:
        heard.append(message.payload)
        if len(heard) == 1:
            raise ValueError(message.payload)

    with broker(settings), Client(settings, None) as services:
        bus = MqttClient(
            BrokerAddress.of(settings.broker),
            client_id="frail",
            username="coldchain",
            password=services.password,
            clean=True,
            on_message=fail_first,
            subscriptions=["t"],
        )
        bus.start()
        services.connected()
        until(lambda: bus.connected, "connection")
        until(lambda: services.bus.publish("t", b"x") and len(heard) > 1, "messages after the failure")
        assert bus.connected
        bus.stop()
