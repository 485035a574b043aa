"""paho's client, reading and acknowledging many packets a system call instead of several calls a packet.

paho reads the first bytes of a packet one by one and wakes its network thread for every acknowledgement. Each of these
calls lets go of Python's lock, and beside a thread that works the network thread waits up to 5 ms to get it back: half
of a collector's time went there (benchmarks/ingest.py). Some of paho's own methods are extended or replaced for it, the
way paho itself wraps its sockets for TLS and WebSocket.
"""

import socket
import ssl
import struct
from collections.abc import Iterable, Sequence

from paho.mqtt.client import Client
from paho.mqtt.enums import MessageType, MQTTErrorCode, MQTTProtocolVersion

from core.runtime.clock import monotonic

_BLOCK = 65_536
_PACKETS = 100
_TURN_S = 0.1
"""So many packets are read in a row at most, for so long, before what waits to be written has its turn."""
_PUBACK = struct.Struct("!BBH")
_TOPIC = struct.Struct("!H")
_NOTHING_TO_DO = MessageType.PUBACK
"""Once a packet of this kind has been sent, paho has no more to do with it."""


class BlockClient(Client):
    """A `Client` that may acknowledge several messages at once."""

    def ack_all(self, mids: Sequence[int]) -> None:
        """Send a PUBACK of QoS 1 for each, in one piece; from any thread."""
        code = MessageType.PUBACK
        if mids:
            self._packet_queue(_NOTHING_TO_DO, b"".join(_PUBACK.pack(code, 2, mid) for mid in mids), mids[-1], 1)

    def signal_all(self, topics: Iterable[str]) -> None:
        """Publish an empty message with QoS 0 on each topic, in one piece; from any thread."""
        no_properties = b"\0" if self.protocol == MQTTProtocolVersion.MQTTv5 else b""
        signals = []
        for topic in topics:
            body = _TOPIC.pack(len(topic)) + topic.encode("ascii") + no_properties
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
