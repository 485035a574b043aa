"""paho's client, reading and acknowledging many packets a system call instead of several calls a packet.

paho reads the first bytes of a packet one by one and wakes its network thread for every acknowledgement. Each of these
calls lets go of Python's lock, and beside a thread that works the network thread waits up to 5 ms to get it back: half
of a collector's time went there (benchmarks/ingest.py). And for each message that it receives it makes objects, log
text and copies, and takes locks: several times the work of reading it. So a plain message that has come as a whole is
taken straight out of the block that was read; whatever else comes goes paho's way.

Some of paho's own methods are extended or replaced for this, the way paho itself wraps its sockets for TLS and
WebSocket. That both ways agree, and that paho is still the one this was written for: tests/unit/test_bus_blocks.py.
"""

import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from paho.mqtt.client import Client, MQTTMessage, time_func
from paho.mqtt.enums import CallbackAPIVersion, MessageType, MQTTErrorCode, MQTTProtocolVersion

from core.runtime.clock import monotonic

Publish = tuple[str, bytes, bool, int]
"""Topic (with replacement characters where it isn't UTF-8), payload, retain flag, and number: 0 of one with QoS 0."""

_BLOCK = 65_536
_PACKETS = 500
_TURN_S = 0.1
"""So many packets are read in a row at most, for so long, before what waits to be written has its turn: half of what
an MQTT 5 broker sends before it waits for acknowledgements (`IN_FLIGHT`), so that those go out while the rest comes."""
_PUBACK = struct.Struct("!BBH")
_SHORT = struct.Struct("!H")
_NOTHING_TO_DO = MessageType.PUBACK
"""Once a packet of this kind has been sent, paho has no more to do with it."""
_RETAIN = 0x01
_QOS_1 = 0x02
_PLAIN = frozenset((0x30, 0x31, 0x32, 0x33, 0x3A, 0x3B))
"""How a PUBLISH begins that is taken without paho: of QoS 0, and of QoS 1 sent for the first time or again."""


class BlockClient(Client):
    """A `Client` whose messages are acknowledged by hand, several at once."""

    def __init__(self, client_id: str, *, clean: bool, five: bool, heard: Callable[[Publish], None]) -> None:
        """Prepare one that speaks MQTT 3.1.1, or `five`.

        `heard` is called for each message, in the order they come, on the network thread. It lets no exception out.
        Callbacks for single topics, and what paho says to a log of its own, are not provided for.
        """
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if five else clean,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        self._five = five
        self._heard = heard
        self.on_message = self._hear

    def ack_all(self, mids: Sequence[int]) -> None:
        """Send a PUBACK of QoS 1 for each, in one piece; from any thread."""
        code = MessageType.PUBACK
        if mids:
            self._packet_queue(_NOTHING_TO_DO, b"".join(_PUBACK.pack(code, 2, mid) for mid in mids), mids[-1], 1)

    def signal_all(self, topics: Iterable[str]) -> None:
        """Publish an empty message with QoS 0 on each topic, in one piece; from any thread."""
        no_properties = b"\0" if self._five else b""
        signals = []
        for topic in topics:
            body = _SHORT.pack(len(topic)) + topic.encode("ascii") + no_properties
            signals.append(bytes((MessageType.PUBLISH, len(body))) + body)
        if signals:
            self._packet_queue(_NOTHING_TO_DO, b"".join(signals), 0, 0)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read a packet, and some of those that have come with it.

        paho's own reads as many as are in flight the other way, and more: however long their receiver takes for each,
        nothing would be acknowledged meanwhile, and no sign of life be sent.
        """
        ends = monotonic() + _TURN_S
        for _ in range(max(max_packets, _PACKETS)):
            if self._sock is None:
                return MQTTErrorCode.MQTT_ERR_NO_CONN
            result = self._packet_read()
            if result is MQTTErrorCode.MQTT_ERR_AGAIN:
                break
            if result is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                return self._loop_rc_handle(result)
            if not self._is_read_ahead() or monotonic() >= ends:
                break
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def loop_stop(self) -> MQTTErrorCode:
        """Wait for the end of the network thread, and close the two sockets that woke it: paho keeps them open."""
        result = super().loop_stop()
        with self._out_message_mutex:  # held by a `publish` that wakes it
            self._reset_sockets(sockpair_only=True)
        return result

    def _packet_read(self) -> MQTTErrorCode:
        """Read a packet: at once where it is plain and there, else paho's way, which goes on where it stopped."""
        ours: object = self._sock
        begun = self._in_packet
        if begun["command"] or begun["remaining_count"] or not isinstance(ours, _Blocks):
            return super()._packet_read()
        publish = ours.take_publish(five=self._five)
        if publish is None:
            return super()._packet_read()
        with self._in_callback_mutex:
            self._heard(publish)
        with self._msgtime_mutex:
            self._last_bytes_received = time_func()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError as error:
            topic = error.object.decode("utf-8", "replace")
        self._heard((topic, bytes(message.payload), message.retain, message.mid if message.qos else 0))

    def _is_read_ahead(self) -> bool:
        ours: object = self._sock
        return isinstance(ours, _Blocks) and ours.pending() > 0

    def _create_socket(self) -> "_Blocks":  # type: ignore[override]  # what paho asks of one, it has
        made = super()._create_socket()
        assert isinstance(made, socket.socket)  # noqa: S101  (neither WebSocket nor a Unix socket is asked for)
        # Small packets go without waiting for the acknowledgement of the last: that wait is 40 ms a message.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Blocks(made)


class _Blocks:
    """A socket read in blocks. `pending` is what paho asks TLS sockets for too: bytes that no `select` tells of."""

    def __init__(self, made: socket.socket) -> None:
        self._socket = made
        self._read = b""
        self._at = 0

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes; raises as the socket does, and nothing is lost by it."""
        if self._at == len(self._read):
            self._read, self._at = self._socket.recv(_BLOCK), 0
        begin = self._at
        self._at = min(begin + size, len(self._read))
        return self._read[begin : self._at]

    def take_publish(self, *, five: bool) -> Publish | None:
        """Take the packet that begins here if it is a plain PUBLISH and read ahead as a whole; else nothing is taken.

        Whoever calls knows that a packet begins here.
        """
        if self._at == len(self._read):
            # Where it doesn't come, paho asks again, and finds out why.
            with suppress(OSError):
                self._read, self._at = self._socket.recv(_BLOCK), 0
        found = _publish_at(self._read, self._at, five=five)
        if found is None:
            return None
        publish, self._at = found
        return publish

    def pending(self) -> int:
        """Return how many bytes were read and not asked for yet."""
        ahead = len(self._read) - self._at
        return ahead + self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else ahead

    def send(self, packet: bytes) -> int:
        """Send as the socket does."""
        return self._socket.send(packet)

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  (as a socket's)
        """As a socket's."""
        self._socket.setblocking(flag)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _publish_at(read: bytes, at: int, *, five: bool) -> tuple[Publish, int] | None:
    """Return the plain PUBLISH that begins at `at`, and where it ends; None for all that paho is to look at.

    That is: one that isn't whole yet, or not to be understood, or has MQTT 5 properties, or an alias for a topic.
    """
    if at == len(read) or (head := read[at]) not in _PLAIN or (body := _body_at(read, at)) is None:
        return None
    begin, end = body
    topic_at = begin + _SHORT.size
    if topic_at > end:
        return None
    mid_at = topic_at + _SHORT.unpack_from(read, begin)[0]
    mid_end = mid_at + _SHORT.size if head & _QOS_1 else mid_at
    payload_at = mid_end + 1 if five else mid_end
    if mid_at == topic_at or payload_at > end or (five and read[mid_end]):
        return None
    topic = read[topic_at:mid_at].decode("utf-8", "replace")
    mid: int = _SHORT.unpack_from(read, mid_at)[0] if head & _QOS_1 else 0
    return (topic, read[payload_at:end], bool(head & _RETAIN), mid), end


def _body_at(read: bytes, at: int) -> tuple[int, int] | None:
    """Return where the body of the packet at `at` begins and ends, if all of it was read.

    Its length stands before it in one to four bytes of seven bits each, the lowest first (MQTT 3.1.1, 2.2.3).
    """
    length = shift = 0
    for place in range(at + 1, min(at + 5, len(read))):
        length |= (read[place] & 127) << shift
        if read[place] < 128:  # noqa: PLR2004  (the eighth bit: whether another follows)
            begin = place + 1
            return (begin, begin + length) if begin + length <= len(read) else None
        shift += 7
    return None
