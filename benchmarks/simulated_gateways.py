"""Gateways for `ingest.py`: their messages, a publisher, and a bare subscriber to compare the collector with.

Publisher and subscriber are processes that `ingest.py` starts: `python simulated_gateways.py publish|count …`. The
publisher builds the packets itself, since a client library would need more CPU time than what is measured.
"""

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from core.runtime.clock import real_now
from core.runtime.instant import MINUTE, Instant
from core.wire.messages import Batch, ClockReport, Reading
from core.wire.shards import GatewayNumber
from core.wire.topics import UP, MessageKind, Topic

READINGS = 8
"""Readings in a message: an R4DCB08 has eight channels."""
SINCE = "2020-01-01T00:00:00+08:00"
_IN_FLIGHT = 500
_PUBLISH, _PUBACK = 0x32, 4
_OVER = b"over"
"""Last message, which tells the counting subscriber to stop."""


def numbers(gateways: int) -> list[GatewayNumber]:
    return [GatewayNumber(f"g{number:04d}") for number in range(gateways)]


def probe(gateway: int, place: int) -> str:
    return f"2{gateway:04d}{place}"


def messages(gateways: int, batches: int, now: Instant, life: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield topic and payload of all messages in order of time: one batch of every gateway, then the next."""
    names = numbers(gateways)
    for seq in range(1, batches + 1):
        at = now - (batches - seq) * MINUTE // 4
        for gateway, gw in enumerate(names):
            readings = [
                Reading(probe(gateway, place), at - 50 * place, round(4 + (seq * (place + 1) % 30) / 10, 1))
                for place in range(READINGS)
            ]
            batch = Batch(1, gw, f"{life:08x}{gateway:08x}", "7f3a9c21", seq, at, ClockReport("ntp", 0, 1), readings)
            yield str(Topic(gw, MessageKind.DATA)), msgspec.json.encode(batch)


def county(gateways: int) -> str:
    """Return the import file: a unit, its gateways, and a fridge with a probe for each channel."""
    parts = [f'since = {SINCE}\n[[unit]]\ncode = "610103"\nname = "碑林区疾控中心"\nkind = "cdc"\nlevel = "county"\n']
    for gateway, gw in enumerate(numbers(gateways)):
        parts.append(f'[[gateway]]\nnumber = "{gw}"\nunit = "610103"\n')
        parts += [
            f'[[equipment]]\ncode = "E{gateway}-{place}"\nname = "冰箱{gateway}-{place}"\nkind = "冰箱"\n'
            'unit = "610103"\nzones = ["冷藏"]\n'
            f'[[probe]]\ncode = "{probe(gateway, place)}冷藏"\ngateway = "{gw}"\nequipment = "E{gateway}-{place}"\n'
            'interval = "15s"\n'
            for place in range(READINGS)
        ]
    return "\n".join(parts)


def publish(port: int, password: str, gateways: int, batches: int, life: int) -> None:
    """Publish all messages as fast as the broker takes them, and wait for every PUBACK."""
    with _signed_in(port, "coldchain", password, "bench-publisher") as broker:
        packets: list[bytes] = []
        number = 0
        for topic, payload in [*messages(gateways, batches, real_now(), life), ("cc/v1/bench/over", _OVER)]:
            number = number % 60_000 + 1
            packets.append(_publish_packet(topic, payload, number))
            if len(packets) == _IN_FLIGHT:
                _deliver(broker, packets)
        _deliver(broker, packets)


def count(port: int, password: str) -> None:
    """Count the messages for client `bench-bare` with plain paho: no decoding, no store, acknowledged by the library.

    Without `count` on standard input it disconnects once it has subscribed; its session stays on the broker.
    """
    heard, began, used, subscribed, over = 0, 0.0, 0.0, threading.Event(), threading.Event()

    def on_message(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        nonlocal heard, began, used
        if message.payload == _OVER:
            over.set()
            return
        heard += 1
        if heard == 1:
            began, used = time.monotonic(), time.process_time()

    client = Client(CallbackAPIVersion.VERSION2, "bench-bare", protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set("coldchain", password)
    client.max_inflight_messages = 1000
    client.on_message = on_message
    client.on_connect = lambda *_: client.subscribe([(UP, 1), ("cc/v1/bench/over", 1)])
    client.on_subscribe = lambda *_: subscribed.set()
    kept = Properties(PacketTypes.CONNECT)
    kept.SessionExpiryInterval = 3600
    client.connect("127.0.0.1", port, clean_start=False, properties=kept)
    client.loop_start()
    subscribed.wait()
    if sys.stdin.readline().startswith("count"):
        over.wait()
        took, used = time.monotonic() - began, time.process_time() - used
        print(json.dumps({"heard": heard, "s": took, "processor_s": used}), flush=True)
        ended = Properties(PacketTypes.DISCONNECT)
        ended.SessionExpiryInterval = 0  # otherwise the broker would go on to queue messages for this session
        client.disconnect(properties=ended)
    client.disconnect()
    client.loop_stop()


def forget(port: int, password: str, client_id: str) -> None:
    """End the session that the broker keeps for a client, with all that waits in it."""
    _signed_in(port, "coldchain", password, client_id).close()


def _signed_in(port: int, user: str, password: str, client_id: str) -> socket.socket:
    broker = socket.create_connection(("127.0.0.1", port))
    broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = _text("MQTT") + bytes([4, 0xC2]) + struct.pack("!H", 600) + _text(client_id) + _text(user) + _text(password)
    broker.sendall(bytes([0x10]) + _length(len(body)) + body)
    answer = broker.recv(4)
    assert answer == b"\x20\x02\x00\x00", f"the broker refused the publisher: {answer!r}"
    return broker


def _deliver(broker: socket.socket, packets: list[bytes]) -> None:
    """Send packets at once, wait until all are acknowledged, and empty the list."""
    broker.sendall(b"".join(packets))
    bytes_left = _PUBACK * len(packets)
    while bytes_left:
        received = len(broker.recv(65_536))
        assert received, "the broker ended the publisher's connection"
        bytes_left -= received
    packets.clear()


def _publish_packet(topic: str, payload: bytes, number: int) -> bytes:
    body = _text(topic) + struct.pack("!H", number) + payload
    return bytes([_PUBLISH]) + _length(len(body)) + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("!H", len(encoded)) + encoded


def _length(n: int) -> bytes:
    digits = bytearray()
    while True:
        n, digit = divmod(n, 128)
        digits.append(digit | (0x80 if n else 0))
        if not n:
            return bytes(digits)


if __name__ == "__main__":
    what, port_, secrets_file, *rest = sys.argv[1:]
    secret = msgspec.json.decode(Path(secrets_file).read_bytes())["broker"]["coldchain"]
    if what == "publish":
        publish(int(port_), secret, *map(int, rest))
    elif what == "forget":
        forget(int(port_), secret, *rest)
    else:
        count(int(port_), secret)
