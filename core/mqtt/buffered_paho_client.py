"""paho client with buffered I/O: it reads and acknowledges many packets in one system call.

paho alone reads the first bytes of a packet one by one, and wakes its network thread for every acknowledgement. Each of
these calls releases the GIL, and beside a busy thread the network thread waits up to 5 ms to get it back: half of a
collector's time was lost there (benchmarks/ingest.py). For each received message paho also creates objects, log text
and copies, and takes locks, which costs several times as much as reading it. So a plain PUBLISH that has been read
completely is taken directly from the buffer; paho handles everything else.

This extends or replaces some of paho's own methods, in the same way as paho wraps its sockets for TLS and WebSocket.
tests/unit/test_mqtt_buffered_paho_client.py checks that both ways give the same result, and that paho's methods are
unchanged.

PUBLISH packet that is taken without paho (MQTT 3.1.1, 3.3; MQTT 5, 3.3):

| offset | size | meaning |
|---|---|---|
| 0 | 1 | type 3 in the high half; DUP (bit 3), QoS (bits 1–2), RETAIN (bit 0) |
| 1 | 1–4 | length of the rest: seven bits a byte, lowest first; the high bit is set in every byte but the last |
| … | 2 | length of the topic, big-endian |
| … | length | topic, UTF-8 |
| … | 2 | packet identifier, big-endian; with QoS 1 only |
| … | 1 | length of the properties, here always 0; with MQTT 5 only |
| … | rest | payload |
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
"""Topic (with replacement characters if it isn't UTF-8), payload, retain flag, packet identifier (0 with QoS 0)."""

_BUFFER_BYTES = 65_536
_PACKETS = 500
_READ_FOR_S = 0.1
"""Most packets, and longest time, that are read in a row before waiting packets are written. The number is half of what
an MQTT 5 broker sends before it waits for acknowledgements (`IN_FLIGHT`), so that they go out early enough."""
_PUBACK = struct.Struct("!BBH")
_SHORT = struct.Struct("!H")
_FIRE_AND_FORGET = MessageType.PUBACK
"""Type under which packets are queued: paho does nothing more after it has sent a PUBACK."""
_RETAIN = 0x01
_QOS_1 = 0x02
_PLAIN = frozenset((0x30, 0x31, 0x32, 0x33, 0x3A, 0x3B))
"""First byte of a PUBLISH that is taken without paho: QoS 0, or QoS 1 with or without DUP."""


class BufferedPahoClient(Client):
    """paho `Client` whose messages are acknowledged by hand, many at once."""

    def __init__(self, client_id: str, *, clean: bool, five: bool, on_received: Callable[[Publish], None]) -> None:
        """Prepare a client for MQTT 3.1.1, or for MQTT 5 if `five`.

        `on_received` is called for each message in order of arrival, on the network thread. It must not raise.
        Callbacks for single topics and paho's own logger are not supported.
        """
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if five else clean,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        self._five = five
        self._on_received = on_received
        self.on_message = self._on_paho_message

    def ack_all(self, mids: Sequence[int]) -> None:
        """Send a PUBACK for each packet identifier, all in one write. Thread-safe."""
        code = MessageType.PUBACK
        if mids:
            self._packet_queue(_FIRE_AND_FORGET, b"".join(_PUBACK.pack(code, 2, mid) for mid in mids), mids[-1], 1)

    def signal_all(self, topics: Iterable[str]) -> None:
        """Publish an empty message with QoS 0 to each topic, all in one write. Thread-safe."""
        no_properties = b"\0" if self._five else b""
        signals = []
        for topic in topics:
            body = _SHORT.pack(len(topic)) + topic.encode("ascii") + no_properties
            signals.append(bytes((MessageType.PUBLISH, len(body))) + body)
        if signals:
            self._packet_queue(_FIRE_AND_FORGET, b"".join(signals), 0, 0)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read a packet, and some of those that have arrived with it.

        paho's own method reads at least as many as are in flight in the other direction. If the receiver takes long for
        each, no acknowledgement and no PINGREQ would be sent in the meantime.
        """
        deadline = monotonic() + _READ_FOR_S
        for _ in range(max(max_packets, _PACKETS)):
            if self._sock is None:
                return MQTTErrorCode.MQTT_ERR_NO_CONN
            result = self._packet_read()
            if result is MQTTErrorCode.MQTT_ERR_AGAIN:
                break
            if result is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                return self._loop_rc_handle(result)
            if not self._is_read_ahead() or monotonic() >= deadline:
                break
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def loop_stop(self) -> MQTTErrorCode:
        """Wait for the end of the network thread, and close the socket pair that wakes it, which paho leaves open."""
        result = super().loop_stop()
        with self._out_message_mutex:  # a `publish` that wakes the thread holds it
            self._reset_sockets(sockpair_only=True)
        return result

    def _packet_read(self) -> MQTTErrorCode:
        """Read a packet: directly if it is a complete plain PUBLISH, otherwise by paho, which keeps partial packets."""
        buffered: object = self._sock
        partial = self._in_packet
        if partial["command"] or partial["remaining_count"] or not isinstance(buffered, _BufferedSocket):
            return super()._packet_read()
        publish = buffered.take_publish(five=self._five)
        if publish is None:
            return super()._packet_read()
        with self._in_callback_mutex:
            self._on_received(publish)
        with self._msgtime_mutex:
            self._last_bytes_received = time_func()
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _update_inflight(self) -> MQTTErrorCode:
        """Send queued messages. For each PUBACK, paho looks for them among all that are in flight, even without any."""
        if self._inflight_messages == len(self._out_messages):
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return super()._update_inflight()

    def _on_paho_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError as error:
            topic = error.object.decode("utf-8", "replace")
        self._on_received((topic, bytes(message.payload), message.retain, message.mid if message.qos else 0))

    def _is_read_ahead(self) -> bool:
        buffered: object = self._sock
        return isinstance(buffered, _BufferedSocket) and buffered.pending() > 0

    def _create_socket(self) -> "_BufferedSocket":  # type: ignore[override]  # it has the methods that paho uses
        created = super()._create_socket()
        assert isinstance(created, socket.socket)  # noqa: S101  (neither WebSocket nor a Unix socket is configured)
        # Without Nagle's algorithm, which delays small packets by up to 40 ms each.
        created.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _BufferedSocket(created)


class _BufferedSocket:
    """Socket with a read buffer. paho calls `pending` as on a TLS socket, for bytes that `select` doesn't see."""

    def __init__(self, created: socket.socket) -> None:
        self._socket = created
        self._buffer = b""
        self._offset = 0

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes. An exception of the socket is passed on, and no bytes are lost."""
        if self._offset == len(self._buffer):
            self._buffer, self._offset = self._socket.recv(_BUFFER_BYTES), 0
        begin = self._offset
        self._offset = min(begin + size, len(self._buffer))
        return self._buffer[begin : self._offset]

    def take_publish(self, *, five: bool) -> Publish | None:
        """Take the next packet if it is a complete plain PUBLISH; otherwise take nothing.

        The caller knows that a packet begins at this offset.
        """
        if self._offset == len(self._buffer):
            # If this fails paho reads again, and handles the error.
            with suppress(OSError):
                self._buffer, self._offset = self._socket.recv(_BUFFER_BYTES), 0
        publish_and_end = _publish_at(self._buffer, self._offset, five=five)
        if publish_and_end is None:
            return None
        publish, self._offset = publish_and_end
        return publish

    def pending(self) -> int:
        """Return the number of bytes that were read from the socket and not returned yet."""
        ahead = len(self._buffer) - self._offset
        return ahead + self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else ahead

    def send(self, packet: bytes) -> int:
        """Send bytes, as `socket.send` does."""
        return self._socket.send(packet)

    def fileno(self) -> int:
        """Return the file descriptor, for `select`."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  (as a socket's)
        """Set the blocking mode of the socket."""
        self._socket.setblocking(flag)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _publish_at(buffer: bytes, at: int, *, five: bool) -> tuple[Publish, int] | None:
    """Return the plain PUBLISH at offset `at`, and the offset behind it; None for a packet that paho must handle.

    These are incomplete and invalid packets, and those with MQTT 5 properties or a topic alias.
    """
    if at == len(buffer) or (head := buffer[at]) not in _PLAIN or (body := _body_at(buffer, at)) is None:
        return None
    begin, end = body
    topic_at = begin + _SHORT.size
    if topic_at > end:
        return None
    mid_at = topic_at + _SHORT.unpack_from(buffer, begin)[0]
    mid_end = mid_at + _SHORT.size if head & _QOS_1 else mid_at
    payload_at = mid_end + 1 if five else mid_end
    if mid_at == topic_at or payload_at > end or (five and buffer[mid_end]):
        return None
    topic = buffer[topic_at:mid_at].decode("utf-8", "replace")
    mid: int = _SHORT.unpack_from(buffer, mid_at)[0] if head & _QOS_1 else 0
    return (topic, buffer[payload_at:end], bool(head & _RETAIN), mid), end


def _body_at(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Return the offsets of begin and end of the body of the packet at offset `at`, None if it is incomplete."""
    length = shift = 0
    for offset in range(at + 1, min(at + 5, len(buffer))):
        length |= (buffer[offset] & 127) << shift
        if buffer[offset] < 128:  # noqa: PLR2004  (the high bit: another byte follows)
            begin = offset + 1
            return (begin, begin + length) if begin + length <= len(buffer) else None
        shift += 7
    return None
