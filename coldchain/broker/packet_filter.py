"""Packet filter between a socket and amqtt: it checks every packet on its way into the broker and out of it.

It makes these defects of amqtt 0.12 harmless; tests/integration/test_broker.py tries each:
* amqtt ends the session of a client id *before* it checks the password. So the password is checked here, and client ids
  are kept apart by user.
* It sends last wills without checking the topic. Such a will is refused at CONNECT.
* It sends every new client the retained messages of *everybody's* subscriptions. They are dropped on the way out.
* It never ends a connection whose keep-alive has passed, and buffers without limit for a client that stopped reading.
  Both connections are ended here.
* Its take-over leaves the old connection half open, and the will comes late. The old connection is ended first.
* It silently drops messages on a forbidden topic, like most brokers. Here the connection ends, and the log says why.
* It parses the bytes behind a packet that is too short as the next packet. Only whole, well-formed packets pass.
"""

import asyncio
import ssl

from amqtt.adapters import BufferReader
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.connack import IDENTIFIER_REJECTED, NOT_AUTHORIZED, UNACCEPTABLE_PROTOCOL_VERSION, ConnackPacket
from amqtt.mqtt.connect import ConnectPacket, ConnectVariableHeader
from amqtt.mqtt.packet import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MQTTFixedHeader,
)
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from coldchain.broker.access import BrokerAccess
from core.runtime.logs import logger

log = logger(__name__)

LARGEST_PACKET = 256 * 1024
"""Larger than any message of the wire contract, so that the collector sees a message that is too long and can
dead-letter it."""
SIGN_IN_WITHIN_S = 10.0
READ_WITHIN_S = 10.0
"""Time for which a client may leave its socket full."""

_LEVEL_3_1_1 = 4
_LEVEL_5 = 5
_REFUSED_IN_5 = bytes((0x20, 3, 0, 0x84, 0))
_NO_SUCH_FILTER = "#/refused"
"""Filter that amqtt answers with a failure code, since # is not at its end. It replaces a forbidden filter."""
_BODY_LENGTH = {PINGREQ: 0, DISCONNECT: 0, PUBACK: 2, PUBREC: 2, PUBREL: 2, PUBCOMP: 2}
_LONGEST_LENGTH = 4


class PacketRefused(Exception):
    """End of a connection that broke a rule; the text says which."""


class PacketFilter:
    """One connection, as reader and writer of amqtt (its ReaderAdapter and WriterAdapter)."""

    def __init__(self, access: BrokerAccess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._access = access
        self._reader = reader
        self._writer = writer
        self._packet = b""
        self._at = 0
        self._closed = False
        self._deadline: float | None = None
        self.user = ""
        self.client_id = ""
        self.keep_alive = 0

    async def sign_in(self) -> None:
        """Read and check the CONNECT packet, and keep a changed copy for amqtt.

        In the copy the client id begins with the user name, the session is clean and there is no keep-alive. amqtt
        keeps the queue of an absent client in memory without limit, loses it at a restart and marks its messages as
        retained; so kept sessions are not used.
        Raises: PacketRefused, after the client was sent the reason where MQTT has a code for it.
        """
        async with asyncio.timeout(SIGN_IN_WITHIN_S):
            kind, _flags, body = await self._whole_packet()
        if kind != CONNECT:
            msg = "the first packet is not CONNECT"
            raise PacketRefused(msg)
        level = (await ConnectVariableHeader.from_stream(BufferReader(body), MQTTFixedHeader(CONNECT))).proto_level
        if level != _LEVEL_3_1_1:
            in_5 = level == _LEVEL_5
            await self._tell(
                _REFUSED_IN_5 if in_5 else ConnackPacket.build(0, UNACCEPTABLE_PROTOCOL_VERSION).to_bytes()
            )
            msg = "speaks MQTT 5; set broker.protocol to 3.1.1" if in_5 else f"speaks MQTT protocol level {level}"
            raise PacketRefused(msg)
        connect = await ConnectPacket.from_stream(
            BufferReader(body), fixed_header=MQTTFixedHeader(CONNECT, 0, len(body))
        )
        self.user = connect.username or ""
        if not self._access.may_sign_in(connect.username, connect.password):
            await self._tell(ConnackPacket.build(0, NOT_AUTHORIZED).to_bytes())
            msg = f"user {self.user!r}: no such user and password"
            raise PacketRefused(msg)
        if connect.client_id_is_random and not connect.clean_session_flag:
            await self._tell(ConnackPacket.build(0, IDENTIFIER_REJECTED).to_bytes())
            msg = f"user {self.user!r} wants a session kept under no client id (MQTT-3.1.3-8)"
            raise PacketRefused(msg)
        if connect.will_flag and not self._access.may_say(self.user, connect.will_topic or ""):
            await self._tell(ConnackPacket.build(0, NOT_AUTHORIZED).to_bytes())
            msg = f"user {self.user!r} may not leave a will on {connect.will_topic!r}"
            raise PacketRefused(msg)
        self.client_id = connect.client_id = f"{self.user}/{connect.client_id}"
        self.keep_alive = connect.keep_alive
        connect.keep_alive = 0
        connect.clean_session_flag = True
        connect.client_id_is_random = False
        self._packet, self._at = connect.to_bytes(), 0
        self._heard()

    def overdue(self, now: float) -> bool:
        """Return whether nothing came for one and a half times the keep-alive; `now` is the event loop's time."""
        return self._deadline is not None and now > self._deadline

    def end(self) -> None:
        """Close the connection at once; amqtt sees the end of the stream and sends the last will."""
        self._closed = True
        self._writer.transport.abort()
        self._reader.feed_eof()

    async def read(self, n: int = -1) -> bytes:
        """Return exactly n bytes of a packet that passed the checks.

        Raises: ConnectionResetError when the connection has ended or a packet is shorter than it says.
        """
        if self._at == len(self._packet):
            await self._next_packet()
        self._at, start = self._at + n, self._at
        if n < 0 or self._at > len(self._packet):
            self.end()
            msg = "a packet is shorter than it says"
            raise ConnectionResetError(msg)
        return self._packet[start : self._at]

    def feed_eof(self) -> None:
        """Signal the end of the stream to the reader; amqtt calls it."""
        self._reader.feed_eof()

    def write(self, data: bytes) -> None:
        """Send a packet, unless it is a message on a topic that this user may not hear.

        amqtt passes one whole packet at each call.
        """
        if self._closed:
            return
        if data[0] >> 4 == PUBLISH:
            start = next(i for i in range(1, _LONGEST_LENGTH + 1) if data[i] < 0x80) + 1  # noqa: PLR2004
            length = int.from_bytes(data[start : start + 2], "big")
            topic = data[start + 2 : start + 2 + length].decode("utf-8", "replace")
            if not self._access.may_hear(self.user, topic):
                return
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the client has read; end the connection of one that doesn't read within `READ_WITHIN_S`."""
        if self._closed:
            return
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                await self._writer.drain()
        except TimeoutError:
            log.warning("broker client did not read", client=self.client_id)
            self.end()

    def get_peer_info(self) -> tuple[str, int] | None:
        """Return address and port of the client, or None when they are unknown."""
        peer = self._writer.get_extra_info("peername")
        return (str(peer[0]), int(peer[1])) if peer else None

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """Return None: the embedded broker has no TLS."""
        return None

    async def close(self) -> None:
        """Close the connection after what was written has been sent."""
        self._closed = True
        self._writer.close()

    async def _next_packet(self) -> None:
        try:
            kind, flags, body = await self._whole_packet()
            self._packet, self._at = await self._screened(kind, flags, body), 0
        except (PacketRefused, MQTTError, AMQTTError, NoDataError, ValueError) as error:
            log.warning("broker connection refused", client=self.client_id, reason=str(error))
            self.end()
            msg = str(error)
            raise ConnectionResetError(msg) from None
        self._heard()

    async def _whole_packet(self) -> tuple[int, int, bytes]:
        first = (await self._reader.readexactly(1))[0]
        length = 0
        for place in range(_LONGEST_LENGTH):
            digit = (await self._reader.readexactly(1))[0]
            length |= (digit & 0x7F) << (7 * place)
            if digit < 0x80:  # noqa: PLR2004  (the top bit says that another digit follows)
                break
        else:
            msg = "a packet's length has more than four digits"
            raise PacketRefused(msg)
        if length > LARGEST_PACKET:
            msg = f"a packet of {length} bytes; the largest is {LARGEST_PACKET}"
            raise PacketRefused(msg)
        return first >> 4, first & 0x0F, await self._reader.readexactly(length)

    async def _screened(self, kind: int, flags: int, body: bytes) -> bytes:
        header = MQTTFixedHeader(kind, flags, len(body))
        if kind == PUBLISH:
            self._check_publish(flags, body)
        elif kind in (SUBSCRIBE, UNSUBSCRIBE):
            packet = await (SubscribePacket if kind == SUBSCRIBE else UnsubscribePacket).from_stream(
                BufferReader(body), fixed_header=header
            )
            if bytes(packet.to_bytes()) != bytes(header.to_bytes()) + body:
                msg = f"a malformed packet of type {kind}"
                raise PacketRefused(msg)
            if kind == SUBSCRIBE:
                topics = packet.payload.topics
                packet.payload.topics = [(name if self._hears(name) else _NO_SUCH_FILTER, qos) for name, qos in topics]
                return bytes(packet.to_bytes())
        elif _BODY_LENGTH.get(kind) != len(body):
            msg = f"a packet of type {kind} with {len(body)} bytes"
            raise PacketRefused(msg)
        return bytes(header.to_bytes()) + body

    def _check_publish(self, flags: int, body: bytes) -> None:
        qos = flags >> 1 & 3
        length = int.from_bytes(body[:2], "big")
        if qos > 2 or len(body) < 2 + length + (2 if qos else 0):  # noqa: PLR2004  (MQTT's three levels)
            msg = "a malformed PUBLISH"
            raise PacketRefused(msg)
        topic = body[2 : 2 + length].decode()
        if not self._access.may_say(self.user, topic):
            msg = f"user {self.user} may not publish on {topic!r}"
            raise PacketRefused(msg)

    def _hears(self, topic: str) -> bool:
        allowed = self._access.may_hear(self.user, topic)
        if not allowed:
            log.warning("broker subscription refused", client=self.client_id, topic=topic)
        return allowed

    def _heard(self) -> None:
        if self.keep_alive:
            self._deadline = asyncio.get_running_loop().time() + 1.5 * self.keep_alive

    async def _tell(self, packet: bytes) -> None:
        self._writer.write(packet)
        await self._writer.drain()
