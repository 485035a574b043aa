"""The embedded broker, tried with real clients, and with raw sockets where a client is too well-behaved."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from coldchain.broker import packet_filter, service
from config import secrets
from config.settings import Settings
from core.wire.shards import GatewayNumber
from core.wire.topics import MessageKind, Topic
from tests.fixtures.broker import Client, broker, running, settings_in
from tests.fixtures.waiting import until

DATA = str(Topic(GatewayNumber("10001"), MessageKind.DATA))
STATE = str(Topic(GatewayNumber("10001"), MessageKind.STATE))
ACK = str(Topic(GatewayNumber("10001"), MessageKind.ACK))
OTHER_DATA = str(Topic(GatewayNumber("10002"), MessageKind.DATA))
OTHER_ACK = str(Topic(GatewayNumber("10002"), MessageKind.ACK))
OTHER_STATE = str(Topic(GatewayNumber("10002"), MessageKind.STATE))
UP = "cc/v1/+/+/up/#"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, "10001", "10002")


def test_a_batch_goes_up_and_an_ack_comes_down(settings: Settings) -> None:
    with broker(settings), Client(settings, None, UP) as services, Client(settings, "10001", ACK) as gateway:
        services.connected()
        gateway.connected()
        taken = threading.Event()
        assert gateway.bus.publish(DATA, b"batch", on_done=taken.set)
        until(lambda: services.payloads(DATA) == [b"batch"], "batch")
        assert taken.wait(5)
        assert services.bus.publish(ACK, b"ack")
        until(lambda: gateway.payloads(ACK) == [b"ack"], "ack")


@pytest.mark.parametrize(("user", "password"), [("", ""), ("10001", "wrong"), ("nobody", ""), ("coldchain", "wrong")])
def test_nobody_signs_in_without_the_right_name_and_password(settings: Settings, user: str, password: str) -> None:
    with broker(settings), Client(settings, user, password=password) as stranger:
        until(lambda: stranger.bus.problem == "Not authorized", "refusal")
        assert not stranger.bus.connected


def test_a_gateway_issued_while_the_broker_runs_signs_in(settings: Settings) -> None:
    with broker(settings), Client(settings, "10001") as known:
        known.connected()
        password = secrets.gateway_password(settings.data_dir, "10003")
        with Client(settings, "10003", password=password) as new:
            new.connected()


def test_a_gateway_says_nothing_for_another_and_hears_nothing_of_it(settings: Settings) -> None:
    with broker(settings), Client(settings, None, UP) as services, Client(settings, "10001", OTHER_ACK, ACK) as rogue:
        services.connected()
        rogue.connected()
        rogue.bus.publish(OTHER_DATA, b"forged")
        until(lambda: rogue.connections > 1, "its connection to be ended")
        rogue.connected()
        services.bus.publish(OTHER_ACK, b"of another")
        services.bus.publish(ACK, b"own")
        until(lambda: rogue.payloads(ACK) == [b"own"], "its own ack")
        assert rogue.payloads(OTHER_ACK) == []
        assert services.payloads(OTHER_DATA) == []


def test_a_will_comes_when_a_gateway_dies_and_never_in_anothers_name(settings: Settings) -> None:
    with broker(settings), Client(settings, None, UP) as services:
        services.connected()
        with Client(settings, "10001", will=(OTHER_STATE, b"offline")) as rogue:
            until(lambda: rogue.bus.problem == "Not authorized", "refusal")
        dying = _connect(settings, "10001", will=(STATE, b"offline"))
        dying.close()
        until(lambda: services.payloads(STATE) == [b"offline"], "last will")
        assert services.payloads(OTHER_STATE) == []


def test_retained_messages_of_others_are_not_handed_out(settings: Settings) -> None:
    with broker(settings), Client(settings, None, UP) as services, Client(settings, "10001") as one:
        services.connected()
        one.connected().bus.publish(STATE, b"online", retain=True)
        until(lambda: services.payloads(STATE) == [b"online"], "state")
        with Client(settings, "10002", OTHER_ACK) as two, Client(settings, None, UP, client_id="late") as late:
            two.connected()
            until(lambda: b"online" in late.payloads(STATE), "what was retained")
            services.bus.publish(OTHER_ACK, b"for two")
            until(lambda: two.payloads() == [b"for two"], "only what is for it")


def test_a_stranger_with_the_collectors_client_id_does_not_throw_it_out(settings: Settings) -> None:
    with broker(settings), Client(settings, None, UP, client_id="collector-1") as collector:
        collector.connected()
        with Client(settings, "10002", client_id="collector-1") as gateway:
            gateway.connected()
            for password in ("wrong", ""):
                with Client(settings, None, client_id="collector-1", password=password) as stranger:
                    until(lambda: stranger.bus.problem == "Not authorized", "refusal")
            gateway.bus.publish(OTHER_DATA, b"still heard")
            until(lambda: collector.payloads(OTHER_DATA) == [b"still heard"], "message")
        assert collector.connections == 1


def test_the_same_client_again_takes_over_and_the_old_will_comes_first(settings: Settings) -> None:
    with broker(settings), Client(settings, None, UP) as services:
        services.connected()
        half_open = _connect(settings, "10001", client_id=b"agent", will=(STATE, b"offline"))
        with Client(settings, "10001", client_id="agent") as again:
            again.connected().bus.publish(STATE, b"online", retain=True)
            until(lambda: services.payloads(STATE) == [b"offline", b"online"], "offline, then online")
        half_open.close()


def test_a_client_that_falls_silent_is_let_go(settings: Settings) -> None:
    with broker(settings), Client(settings, None, UP) as services:
        services.connected()
        silent = _connect(settings, "10001", will=(STATE, b"offline"), keep_alive=1)
        until(lambda: services.payloads(STATE) == [b"offline"], "last will")
        silent.close()


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\xc0\x05" + b"\x30\x03\x00\x01x",  # a PINGREQ with a PUBLISH hidden in it
        b"\x32\x03\x00\x09x",  # a topic longer than its packet
        b"\x36\x05\x00\x01x\x00\x01",  # QoS 3
        b"\x30\xff\xff\xff\xff\x01",  # a length of five digits
        b"\x32\xff\xff\xff\x7f",  # a length of 256 MiB
        b"\x10\x00",  # a second CONNECT
        b"\x00\x00",
        b"\x82\x04\x00\x01\x00\x09",  # SUBSCRIBE that is cut short
    ],
)
def test_what_is_not_mqtt_ends_the_connection_and_nothing_else(settings: Settings, bytes_sent: bytes) -> None:
    with broker(settings), Client(settings, None, "#") as services:
        services.connected()
        raw = _connect(settings, "10001")
        raw.sendall(bytes_sent)
        raw.settimeout(5)
        while raw.recv(100):
            pass
        raw.close()
        with Client(settings, "10001") as good:
            good.connected().bus.publish(DATA, b"batch")
            until(lambda: services.payloads() == [b"batch"], "nothing but the batch")


def test_one_that_never_says_who_it_is_is_let_go(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_filter, "SIGN_IN_WITHIN_S", 0.1)
    with broker(settings), Client(settings, None) as services:
        services.connected()
        with socket.create_connection(("127.0.0.1", settings.broker.port)) as mute:
            mute.settimeout(5)
            assert mute.recv(1) == b""


def test_a_session_kept_under_no_client_id_is_refused_as_the_standard_says(settings: Settings) -> None:
    with broker(settings), Client(settings, None) as services:
        services.connected()
        with socket.create_connection(("127.0.0.1", settings.broker.port), 5) as raw:
            raw.sendall(_connect_packet(settings, "10001", client_id=b"", clean=False))
            assert raw.recv(4) == b"\x20\x02\x00\x02"
            assert raw.recv(4) == b""
        _connect(settings, "10001", client_id=b"").close()  # one that is not to be kept needs no name


def test_however_many_strangers_come_gateways_stay_and_new_ones_get_in(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_CONNECTIONS", 12)
    with broker(settings), Client(settings, None, UP) as services, capture_logs() as lines:
        services.connected()
        gateway = _connect(settings, "10002")
        strangers = [socket.create_connection(("127.0.0.1", settings.broker.port), 5) for _ in range(60)]
        for stranger in strangers[:45]:
            assert stranger.recv(1) == b"", "the oldest make room"
        with Client(settings, "10001") as late:
            late.connected().bus.publish(DATA, b"batch")
            until(lambda: services.payloads() == [b"batch"], "batch")
        gateway.sendall(b"\xc0\x00")
        assert gateway.recv(2) == b"\xd0\x00", "who has signed in is given up for nobody"
        for one in (gateway, *strangers):
            one.close()
    told = [line for line in lines if line["log_level"] == "warning" and line["event"].startswith("more broker")]
    assert len(told) == 1


def test_mqtt_5_is_told_what_is_wrong(settings: Settings) -> None:
    with broker(settings), Client(settings, "10001", protocol="5") as modern:
        until(lambda: modern.bus.problem == "Unsupported protocol version", "reason")


def test_it_waits_for_its_port(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.broker.port)) as squatter, broker(settings):
        time.sleep(0.3)  # long enough for a first attempt, which must not be the last
        squatter.close()
        with Client(settings, "10001") as gateway:
            gateway.connected()


def test_it_ends_in_time_with_clients_connected(settings: Settings) -> None:
    with Client(settings, "10001") as gateway:
        with running(service.run, settings):
            gateway.connected()
            began = time.monotonic()
        assert time.monotonic() - began < 3


def test_a_county_in_backfill_goes_through(settings: Settings) -> None:
    """600 messages of 4 readings' size: two orders above what a county of 40 gateways says in a second."""
    with broker(settings), Client(settings, None, UP) as services, Client(settings, "10001") as gateway:
        services.connected()
        gateway.connected()
        for number in range(600):
            gateway.bus.publish(DATA, b"%04d" % number + b"." * 600)
        until(lambda: len(services.heard) == 600, "all of them", within_s=20)
        assert [payload[:4] for payload in services.payloads()] == [b"%04d" % number for number in range(600)]


def _connect(settings: Settings, user: str, **more: Any) -> socket.socket:
    """Sign in by hand, so that a test can misbehave."""
    raw = socket.create_connection(("127.0.0.1", settings.broker.port), 5)
    raw.sendall(_connect_packet(settings, user, **more))
    assert raw.recv(4) == b"\x20\x02\x00\x00"
    return raw


def _connect_packet(
    settings: Settings,
    user: str,
    *,
    client_id: bytes = b"raw",
    will: tuple[str, bytes] | None = None,
    keep_alive: int = 60,
    clean: bool = True,
) -> bytes:

    def text(value: bytes) -> bytes:
        return len(value).to_bytes(2, "big") + value

    password = secrets.read(settings.data_dir).broker[user]
    flags = 0xC0 | (0x02 if clean else 0) | (0x0C if will else 0)
    body = text(b"MQTT") + bytes([4, flags]) + keep_alive.to_bytes(2, "big") + text(client_id)
    if will:
        body += text(will[0].encode()) + text(will[1])
    body += text(user.encode()) + text(password.encode())
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
    return b"\x10" + length + body
