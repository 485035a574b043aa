"""What `BlockClient` takes out of a block itself is what paho would have made of the same bytes, in whatever pieces."""

import hashlib
import inspect
import itertools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from core.mqtt import block_client
from core.mqtt.block_client import BlockClient, Publish

CONNACK = {False: b"\x20\x02\x00\x00", True: b"\x20\x03\x00\x00\x00"}
PINGRESP = b"\xd0\x00"
PINGREQ = b"\xc0\x00"
WHOLE = 1_000_000

Event = tuple[object, ...]


class _Wire:
    """The socket of a client: gives `most` bytes at a time of what has come, and keeps what was sent."""

    def __init__(self, most: int = WHOLE) -> None:
        self.come = b""
        self.ended = False
        self.sent = b""
        self._most = most
        self._used = False

    def connect(self) -> "_Wire":
        if self._used:
            raise ConnectionRefusedError
        self._used = True
        return self

    def recv(self, size: int) -> bytes:
        if not self.come and not self.ended:
            raise BlockingIOError
        size = min(size, self._most)
        given, self.come = self.come[:size], self.come[size:]
        return given

    def send(self, packet: bytes) -> int:
        self.sent += packet
        return len(packet)

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  (as a socket's)
        pass

    def close(self) -> None:
        pass


class _Ours(BlockClient):
    def __init__(self, wire: _Wire, heard: Callable[[Publish], None], *, five: bool) -> None:
        super().__init__("c", clean=True, five=five, on_received=heard)
        self._wire = wire

    def _create_socket(self) -> Any:
        return block_client._Blocks(cast("Any", self._wire.connect()))


class _Theirs(Client):
    def __init__(self, wire: _Wire, heard: Callable[[Publish], None], *, five: bool) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            "c",
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        self._wire = wire

        def hear(_client: Client, _userdata: object, message: MQTTMessage) -> None:
            topic = message._topic.decode("utf-8", "replace")
            heard((topic, bytes(message.payload), message.retain, message.mid if message.qos else 0))

        self.on_message = hear

    def _create_socket(self) -> Any:
        return self._wire.connect()


class _Run:
    """A client that has subscribed and published, and all that it hears, says and sends from then on."""

    def __init__(self, kind: type[_Ours | _Theirs], *, five: bool, most: int = WHOLE) -> None:
        self.told: list[Event] = []
        self.wire = _Wire(most)
        self.client = client = kind(self.wire, self._heard, five=five)
        client.suppress_exceptions = True
        queue = client._packet_queue

        def queued(
            command: int, packet: bytes, mid: int, qos: int, info: MQTTMessageInfo | None = None
        ) -> MQTTErrorCode:
            self.told.append(("sends", bytes(packet)))
            return queue(command, packet, mid, qos, info)

        client.on_publish = lambda _client, _userdata, mid, _reason, _properties: self.told.append(("published", mid))
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self.told.append(("subscribed", mid, str(reasons)))
        client.on_disconnect = lambda _c, _u, _flags, reason, _p: self.told.append(("ended", str(reason)))
        client.connect("broker", keepalive=10)
        self.comes(CONNACK[five])
        for _ in range(3):
            client.publish("t", b"x", qos=1)
        client.subscribe("t", qos=1)
        self.wire.sent = b""
        client._packet_queue = queued  # type: ignore[assignment,method-assign]

    @property
    def messages(self) -> list[Event]:
        return [event[1:] for event in self.told if event[0] == "message"]

    def comes(self, data: bytes) -> None:
        self.wire.come += data
        while (sock := self.client.socket()) is not None and (self.wire.come or getattr(sock, "pending", int)()):
            self._turn()

    def ends(self) -> None:
        self.wire.ended = True
        if self.client.socket() is not None:
            self._turn()

    def _turn(self) -> None:
        try:
            result = self.client.loop_read()
        except Exception as error:  # noqa: BLE001  (paho's own failures are to be the same as well)
            self.told.append(("failed", type(error)))
            self.client._sock_close()
        else:
            if result not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
                self.told.append(("result", result))
            if self.client.want_write():
                self.client.loop_write()

    def _heard(self, publish: Publish) -> None:
        self.told.append(("message", *publish))
        if publish[-1]:
            self.client.ack(publish[-1], 1)


def _length(length: int, size: int = 0) -> bytes:
    """Encode it in as few bytes as it needs, or `size` where that is more."""
    encoded: list[int] = []
    while length or len(encoded) < max(size, 1):
        encoded.append(length & 127 | 128)
        length >>= 7
    encoded[-1] &= 127
    return bytes(encoded)


def _publish(
    *,
    five: bool,
    topic: bytes = b"t",
    payload: bytes = b"",
    mid: int = 1,
    flags: int = 2,
    properties: bytes = b"\x00",
    size: int = 0,
    missing: int = 0,
) -> bytes:
    """Make one whose length takes `size` bytes at least, and says `missing` less than there is."""
    body = len(topic).to_bytes(2, "big") + topic
    if flags & 6:
        body += mid.to_bytes(2, "big")
    if five:
        body += properties
    body += payload
    return bytes((0x30 | flags,)) + _length(max(0, len(body) - missing), size) + body


_MIDS = st.integers(0, 65_535)
_TOPICS = st.one_of(st.just(b"cc/v1/3f/10001/up/data"), st.text(max_size=4).map(str.encode), st.binary(max_size=4))
_PAYLOADS = st.one_of(
    st.binary(max_size=8),
    st.builds(bytes.__mul__, st.binary(min_size=1, max_size=1), st.sampled_from((110, 122, 128, 16_370, 16_390))),
)
_EXPIRY = b"\x05\x02\x00\x00\x00\x09"
_ALIAS = b"\x03\x23\x00\x01"


def _packets(*, five: bool) -> st.SearchStrategy[bytes]:
    plain = st.builds(
        _publish,
        five=st.just(five),
        topic=_TOPICS,
        payload=_PAYLOADS,
        mid=_MIDS,
        flags=st.sampled_from((0, 1, 2, 3, 10, 11)),
    )
    any_publish = st.builds(
        _publish,
        five=st.just(five),
        topic=_TOPICS,
        payload=_PAYLOADS,
        mid=_MIDS,
        flags=st.integers(0, 15),
        properties=st.sampled_from((b"\x00", _EXPIRY, _ALIAS, b"\x80\x00", b"\x7f", b"")),
        size=st.integers(0, 5),
        missing=st.sampled_from((0, 0, 0, 1, 2, 5)),
    )
    answers = st.one_of(
        st.builds(lambda mid: b"\x40\x02" + mid.to_bytes(2, "big"), st.integers(1, 4)),
        st.builds(lambda mid: b"\x62\x02" + mid.to_bytes(2, "big"), _MIDS),
        st.sampled_from((PINGRESP, b"\x90\x04\x00\x04\x00\x01" if five else b"\x90\x03\x00\x04\x01")),
    )
    junk = st.one_of(st.binary(min_size=1, max_size=6), st.just(b"\x00\x85"), st.just(b"\xe0\x00"))
    return st.one_of(plain, plain, plain, any_publish, answers, junk)


@st.composite
def _streams(draw: st.DrawFn) -> tuple[bool, list[bytes]]:
    """Return whether it is MQTT 5, and what comes, in pieces."""
    five = draw(st.booleans())
    data = b"".join(draw(st.lists(_packets(five=five), min_size=1, max_size=12)))
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=6))
    return five, _cut(data, cuts)


def _cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    return [data[begin:end] for begin, end in pairwise((0, *sorted(cuts), len(data)))]


def _hears(kind: type[_Ours | _Theirs], pieces: Sequence[bytes], *, five: bool, most: int = WHOLE) -> _Run:
    run = _Run(kind, five=five, most=most)
    for piece in pieces:
        run.comes(piece)
    run.ends()
    return run


@settings(deadline=None)
@given(_streams(), st.one_of(st.just(WHOLE), st.integers(1, 40)))
def test_whatever_comes_in_whatever_pieces_it_is_what_paho_makes_of_it(
    stream: tuple[bool, list[bytes]], most: int
) -> None:
    five, pieces = stream
    told = _hears(_Ours, pieces, five=five, most=most).told
    assert told == _hears(_Theirs, pieces, five=five, most=most).told


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
            _publish(five=five, mid=1, payload=b"one"),
            b"\x40\x02\x00\x01",
            _publish(five=five, mid=2, payload=b"again", flags=10),
            _publish(five=five, mid=3, payload=b"kept", flags=3),
            PINGRESP,
            _publish(five=five, mid=4, topic=b"not \xff UTF-8"),
            _publish(five=five, flags=1, payload=b"unnumbered"),
            _publish(five=five, mid=5, flags=4, payload=b"exactly once"),
            b"\x62\x02\x00\x05",
            b"\x90\x04\x00\x04\x00\x01" if five else b"\x90\x03\x00\x04\x01",
            _publish(five=five, mid=6, properties=_EXPIRY, payload=b"for a while"),
            _publish(five=five, mid=7, size=4, payload=b"long length"),
            _publish(five=five, mid=8, payload=b"x" * 200),
            b"\x40\x02\x00\x02",
            _publish(five=five, mid=9, payload=b"kept, again", flags=11),
            _publish(five=five, mid=10, topic=b"cc/v1/3f/10001/up/data", payload=b"last"),
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
    run = _hears(_Ours, [_mixed(five=five)], five=five)
    assert run.messages == MIXED
    assert by_paho == ([5, 6] if five else [5])


def test_it_is_the_same_wherever_the_stream_is_cut(five: bool) -> None:  # noqa: FBT001
    data = _mixed(five=five)
    whole = _hears(_Theirs, [data], five=five)
    assert whole.messages == MIXED
    for cut in range(1, len(data)):
        run = _hears(_Ours, _cut(data, [cut]), five=five)
        assert run.told == whole.told, f"cut at {cut}"
    run = _hears(_Ours, _cut(data, range(1, len(data))), five=five)
    assert run.told == whole.told, "byte by byte"


@pytest.mark.parametrize("size", [0, 121, 122, 125, 16_376, 16_380, 65_600, 2_097_145, 2_097_160])
def test_a_length_of_one_to_four_bytes(five: bool, size: int) -> None:  # noqa: FBT001
    data = b"".join(_publish(five=five, mid=mid, payload=bytes((mid,)) * size) for mid in (1, 2, 3))
    run = _hears(_Ours, [data], five=five)
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
    good = _publish(five=five, mid=7, payload=b"good")
    for after in (good, b"", b"\x00"):
        ours = _hears(_Ours, [good + bad + after], five=five)
        assert ours.messages == [("t", b"good", False, 7)]
        assert ours.told == _hears(_Theirs, [good + bad + after], five=five).told
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
    good = _publish(five=five, mid=7, payload=b"good")
    for pieces in ([begun, good, good], [begun[:1], begun[1:] + good], [begun + good, good], [begun + b"\x00", good]):
        assert _hears(_Ours, pieces, five=five).told == _hears(_Theirs, pieces, five=five).told


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
    monkeypatch.setattr(block_client, "monotonic", lambda: next(clock) * later_by)
    run = _Run(_Ours, five=five)
    run.wire.come = b"".join(_publish(five=five, mid=mid) for mid in range(1, 1_201))
    turns = []
    while len(run.messages) < 1_200:
        run.client.loop_read()
        turns.append(len(run.messages))
    assert turns == expected


def test_what_comes_is_a_sign_of_life(five: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """A broker whose answer to a ping is behind a backlog has not gone; one that says nothing at all has."""
    now = [100.0]
    for module in (paho, block_client):
        monkeypatch.setattr(module, "time_func", lambda: now[0])
    run = _Run(_Ours, five=five)
    for _ in range(10):
        now[0] += 6
        run.comes(_publish(five=five, mid=7))
        run.client.loop_misc()
    assert PINGREQ in run.wire.sent
    assert run.client.socket() is not None
    now[0] += 10
    run.client.loop_misc()
    assert run.client.socket() is None


RELIED_ON = {
    "Client.loop_read": "4fa11ca2d451dbec",
    "Client._loop": "7372a4c2fc81b7f4",
    "Client._loop_rc_handle": "ee5ad3b7849433a4",
    "Client._packet_read": "bbe32d8af1e37955",
    "Client._packet_handle": "ac4c129ed409db42",
    "Client._handle_publish": "1bbaa3ef0e3afc6d",
    "Client._handle_on_message": "8ccc46fdb090aead",
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
    """`BlockClient` replaces, extends or goes round these. What they do is tried above; what they do besides isn't."""
    inside = {"Client": Client, "_packet": _packet}
    found = {}
    for name in RELIED_ON:
        place, _, function = name.partition(".")
        text = inspect.getsource(getattr(inside[place], function))
        found[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert found == RELIED_ON, (
        "paho-mqtt has changed: read how, see that core/mqtt/block_client.py still works, and note the new digests"
    )


def test_no_name_of_ours_is_one_of_paho() -> None:
    """Save those of the methods that are meant to be replaced."""
    theirs = {*dir(Client), *vars(_Run(_Theirs, five=False).client)}
    ours = {*vars(BlockClient), *vars(_Run(_Ours, five=False).client)}
    added = {"ack_all", "signal_all", "_is_read_ahead", "_on_paho_message", "_five", "_on_received"}
    replaced = {"loop_read", "loop_stop", "_packet_read", "_create_socket", "__init__"}
    assert not added & theirs
    assert {name for name in vars(BlockClient) if not name.startswith("__")} <= added | replaced
    assert added <= ours
    assert replaced <= theirs
