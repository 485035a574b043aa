"""Buffered MQTT client: it takes from its buffer what paho would have made of the same bytes, in whatever pieces."""

import hashlib
import inspect
import itertools

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTProtocolVersion

from core.mqtt import buffered_paho_client
from core.mqtt.buffered_paho_client import BufferedPahoClient
from tests.fixtures.mqtt_clients import (
    EXPIRY,
    PINGREQ,
    PINGRESP,
    WHOLE,
    Ours,
    Run,
    Theirs,
    cut_at,
    publish_packet,
    run_of,
    streams,
)


@settings(deadline=None)
@given(streams(), st.one_of(st.just(WHOLE), st.integers(1, 40)))
def test_whatever_comes_in_whatever_pieces_it_is_what_paho_makes_of_it(
    stream: tuple[bool, list[bytes]], most: int
) -> None:
    five, pieces = stream
    told = run_of(Ours, pieces, five=five, most=most).told
    assert told == run_of(Theirs, pieces, five=five, most=most).told


@pytest.fixture(params=[False, True], ids=["3.1.1", "5"])
def five(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def by_paho(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the packets that paho decoded."""
    decode = _packet.decode_publish
    mids: list[int] = []

    def noted(header: int, packet: bytes, protocol: MQTTProtocolVersion) -> _packet.PublishPacket:
        mids.append((made := decode(header, packet, protocol)).mid)
        return made

    monkeypatch.setattr(_packet, "decode_publish", noted)
    return mids


def _mixed(*, five: bool) -> bytes:
    """Numbers 1 to 10, with what a broker says in between."""
    return b"".join(
        (
            publish_packet(five=five, mid=1, payload=b"one"),
            b"\x40\x02\x00\x01",
            publish_packet(five=five, mid=2, payload=b"again", flags=10),
            publish_packet(five=five, mid=3, payload=b"kept", flags=3),
            PINGRESP,
            publish_packet(five=five, mid=4, topic=b"not \xff UTF-8"),
            publish_packet(five=five, flags=1, payload=b"unnumbered"),
            publish_packet(five=five, mid=5, flags=4, payload=b"exactly once"),
            b"\x62\x02\x00\x05",
            b"\x90\x04\x00\x04\x00\x01" if five else b"\x90\x03\x00\x04\x01",
            publish_packet(five=five, mid=6, properties=EXPIRY, payload=b"for a while"),
            publish_packet(five=five, mid=7, size=4, payload=b"long length"),
            publish_packet(five=five, mid=8, payload=b"x" * 200),
            b"\x40\x02\x00\x02",
            publish_packet(five=five, mid=9, payload=b"kept, again", flags=11),
            publish_packet(five=five, mid=10, topic=b"cc/v1/3f/10001/up/data", payload=b"last"),
        )
    )


MIXED = [
    ("t", b"one", False, 1),
    ("t", b"again", False, 2),
    ("t", b"kept", True, 3),
    ("not \N{REPLACEMENT CHARACTER} UTF-8", b"", False, 4),
    ("t", b"unnumbered", True, 0),
    ("t", b"exactly once", False, 5),
    ("t", b"for a while", False, 6),
    ("t", b"long length", False, 7),
    ("t", b"x" * 200, False, 8),
    ("t", b"kept, again", True, 9),
    ("cc/v1/3f/10001/up/data", b"last", False, 10),
]


def test_what_is_plain_and_whole_is_taken_without_paho(five: bool, by_paho: list[int]) -> None:  # noqa: FBT001
    run = run_of(Ours, [_mixed(five=five)], five=five)
    assert run.messages == MIXED
    assert by_paho == ([5, 6] if five else [5])


def test_it_is_the_same_wherever_the_stream_is_cut(five: bool) -> None:  # noqa: FBT001
    data = _mixed(five=five)
    whole = run_of(Theirs, [data], five=five)
    assert whole.messages == MIXED
    for cut in range(1, len(data)):
        run = run_of(Ours, cut_at(data, [cut]), five=five)
        assert run.told == whole.told, f"cut at {cut}"
    run = run_of(Ours, cut_at(data, range(1, len(data))), five=five)
    assert run.told == whole.told, "byte by byte"


@pytest.mark.parametrize("size", [0, 121, 122, 125, 16_376, 16_380, 65_600, 2_097_145, 2_097_160])
def test_a_length_of_one_to_four_bytes(five: bool, size: int) -> None:  # noqa: FBT001
    data = b"".join(publish_packet(five=five, mid=mid, payload=bytes((mid,)) * size) for mid in (1, 2, 3))
    run = run_of(Ours, [data], five=five)
    assert run.messages == [("t", bytes((mid,)) * size, False, mid) for mid in (1, 2, 3)]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"\x32\x04\x00\x09to", id="topic longer than the packet"),
        pytest.param(b"\x30\x01\x00", id="no room for the length of a topic"),
        pytest.param(b"\x32\x03\x00\x01t", id="no number"),
        pytest.param(b"\x32\x04\x00\x01t\x00", id="half a number"),
        pytest.param(b"\x36\x06\x00\x01t\x00\x01\x00", id="QoS 3"),
        pytest.param(b"\x32\x80\x80\x80\x80\x01", id="length of five bytes"),
        pytest.param(b"\x32\x86\x80\x80\x80\x00\x00\x01t\x00\x01\x00", id="short length of five bytes"),
        pytest.param(b"\xf0\x00", id="no kind of packet"),
    ],
)
def test_a_packet_that_cannot_be_ends_the_connection_after_what_came_before_it(five: bool, bad: bytes) -> None:  # noqa: FBT001
    good = publish_packet(five=five, mid=7, payload=b"good")
    for after in (good, b"", b"\x00"):
        ours = run_of(Ours, [good + bad + after], five=five)
        assert ours.messages == [("t", b"good", False, 7)]
        assert ours.told == run_of(Theirs, [good + bad + after], five=five).told
        assert ours.client.socket() is None


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(b"\x00\x85", id="no packet's first byte, which paho takes for none"),
        pytest.param(b"\x32\x05\x00\x01t\x00\x01", id="without the properties of MQTT 5"),
        pytest.param(b"\x32\x05\x00\x00\x00\x01\x00", id="without a topic"),
        pytest.param(b"\x90\x30\x05\x00\x01t\x00x" + bytes(42), id="goes on like a message after its first byte"),
    ],
)
def test_oddities_are_left_to_paho(five: bool, begun: bytes) -> None:  # noqa: FBT001
    good = publish_packet(five=five, mid=7, payload=b"good")
    for pieces in ([begun, good, good], [begun[:1], begun[1:] + good], [begun + good, good], [begun + b"\x00", good]):
        assert run_of(Ours, pieces, five=five).told == run_of(Theirs, pieces, five=five).told


@pytest.mark.parametrize(
    ("later_by", "expected"), [(0.0, [500, 1_000, 1_200]), (1 / 1024, [*range(103, 1_200, 103), 1_200])]
)
def test_a_turn_ends_so_that_what_waits_is_sent(
    five: bool,  # noqa: FBT001
    later_by: float,
    expected: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By number, and by the time that they take: here each takes `later_by`."""
    clock = itertools.count()
    monkeypatch.setattr(buffered_paho_client, "monotonic", lambda: next(clock) * later_by)
    run = Run(Ours, five=five)
    run.wire.come = b"".join(publish_packet(five=five, mid=mid) for mid in range(1, 1_201))
    turns = []
    while len(run.messages) < 1_200:
        run.client.loop_read()
        turns.append(len(run.messages))
    assert turns == expected


def test_what_comes_is_a_sign_of_life(five: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """A broker whose answer to a ping is behind a backlog has not gone; one that says nothing at all has."""
    now = [100.0]
    for module in (paho, buffered_paho_client):
        monkeypatch.setattr(module, "time_func", lambda: now[0])
    run = Run(Ours, five=five)
    for _ in range(10):
        now[0] += 6
        run.comes(publish_packet(five=five, mid=7))
        run.client.loop_misc()
    assert PINGREQ in run.wire.sent
    assert run.client.socket() is not None
    now[0] += 10
    run.client.loop_misc()
    assert run.client.socket() is None


def test_a_message_beyond_those_in_flight_is_sent_when_one_of_them_is_acknowledged(five: bool) -> None:  # noqa: FBT001
    told = {}
    for kind in (Ours, Theirs):
        run = Run(kind, five=five)
        run.client._max_inflight_messages = 3  # as many as have been published
        run.client.publish("t", b"fourth", qos=1)
        run.comes(PINGRESP)
        assert not [event for event in run.told if event[0] == "sends"], "it waits"
        run.comes(b"\x40\x02\x00\x01")
        run.comes(b"\x40\x02\x00\x02")
        told[kind] = run.told
    assert told[Ours] == told[Theirs]
    assert ["fourth" in str(event[1]) for event in told[Ours] if event[0] == "sends"] == [True]


RELIED_ON = {
    "Client.loop_read": "4fa11ca2d451dbec",
    "Client._loop": "7372a4c2fc81b7f4",
    "Client._loop_rc_handle": "ee5ad3b7849433a4",
    "Client._packet_read": "bbe32d8af1e37955",
    "Client._packet_handle": "ac4c129ed409db42",
    "Client._handle_publish": "1bbaa3ef0e3afc6d",
    "Client._handle_on_message": "8ccc46fdb090aead",
    "Client._update_inflight": "d11feb21cf855b12",
    "Client._do_on_publish": "5bbcad6f9447107a",
    "Client.publish": "5c00cd3dcebceaae",
    "Client.loop_stop": "47bbc1e81b618d1e",
    "Client._reset_sockets": "b989a66fdd993c53",
    "Client._packet_queue": "e298fa9ab31e5f79",
    "Client._packet_write": "d097b7b51bed128d",
    "Client._sock_recv": "c3b9043a46dd81b7",
    "Client._sock_close": "638e9c4e5a7f32ae",
    "Client._create_socket": "3043436f2eb23690",
    "Client.reconnect": "3ecdf1a8299e8c8a",
    "Client._check_keepalive": "162b7cd2a4d56585",
    "_packet.decode_publish": "50c158487fa3d96e",
}


def test_paho_is_the_one_that_ours_was_written_for() -> None:
    """`BufferedPahoClient` replaces, extends or goes round these. What they do is tried above; the rest isn't."""
    inside = {"Client": Client, "_packet": _packet}
    found = {}
    for name in RELIED_ON:
        place, _, function = name.partition(".")
        text = inspect.getsource(getattr(inside[place], function))
        found[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert found == RELIED_ON, (
        "paho-mqtt has changed: read how, see that buffered_paho_client.py still works, and note the new digests"
    )


def test_no_name_of_ours_is_one_of_paho() -> None:
    """Save those of the methods that are meant to be replaced."""
    theirs = {*dir(Client), *vars(Run(Theirs, five=False).client)}
    ours = {*vars(BufferedPahoClient), *vars(Run(Ours, five=False).client)}
    added = {"ack_all", "signal_all", "_is_read_ahead", "_on_paho_message", "_five", "_on_received"}
    replaced = {"loop_read", "loop_stop", "_packet_read", "_update_inflight", "_create_socket", "__init__"}
    assert not added & theirs
    assert {name for name in vars(BufferedPahoClient) if not name.startswith("__")} <= added | replaced
    assert added <= ours
    assert replaced <= theirs
