"""How a process speaks MQTT: one connection that comes back by itself, QoS 1, acknowledged by hand.

What is promised, and what isn't (tests/integration/test_bus.py):
* `start` never fails because the broker is away, and a lost connection is tried again after 0.1 s, 0.2 s … at most 1 s.
* Filters are subscribed to again at every connection; then `on_connect` is called, to say again what must be known.
* Nothing waits in memory for a broker: `publish` without a connection is refused, and what was in flight when one ended
  is forgotten. Whoever needs more keeps it on disk and sends it again.
* An acknowledgement belongs to the connection that brought the message; a later one never carries it, since the broker
  gives its numbers anew.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Self

import msgspec
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from config.settings import Broker
from core.bus.blocks import BlockClient, Publish
from core.runtime.logs import logger

log = logger(__name__)

QOS = 1
KEEP_ALIVE_S = 30
NEAR_S = 5
"""Keep-alive of a service that is near the broker: one that hangs is noticed after twice that."""
IN_FLIGHT = 1000
"""Messages at most that wait for the broker's acknowledgement; and for ours, where it speaks MQTT 5."""
QUEUED = 10_000
SHORTEST_WAIT_S = 0.1
LONGEST_WAIT_S = 1
SESSION_S = 24 * 3600
"""How long an MQTT 5 broker keeps the session of a client that isn't `clean`."""
END_WITHIN_S = 2.0


class BrokerAddress(msgspec.Struct, frozen=True):
    """Where a broker is, and how it is spoken to."""

    host: str
    port: int
    tls_ca: str = ""
    """CA file; empty: no TLS."""
    tls_cert: str = ""
    tls_key: str = ""
    protocol: Literal["3.1.1", "5"] = "3.1.1"

    @classmethod
    def of(cls, broker: Broker) -> Self:
        """Take it from the settings."""
        return cls(broker.host, broker.port, broker.tls_ca, broker.tls_cert, broker.tls_key, broker.protocol)


class Message(msgspec.Struct, frozen=True):
    """A message as it came. A topic that isn't UTF-8 has replacement characters."""

    topic: str
    payload: bytes
    retain: bool
    """Kept by the broker, or queued by one that marks such messages so: says nothing about its age."""
    mid: int
    """0 when the broker delivered it with QoS 0: there is nothing to acknowledge."""
    connection: int
    """Which connection of the `Bus` brought it."""


class Bus:
    """One connection to the broker. Callbacks run on its network thread: they must be quick, and may call the bus."""

    def __init__(  # noqa: PLR0913  (all but one are named)
        self,
        address: BrokerAddress,
        *,
        client_id: str,
        username: str,
        password: str,
        clean: bool,
        on_message: Callable[[Message], None],
        subscriptions: Sequence[str] = (),
        on_connect: Callable[["Bus"], None] | None = None,
        will: tuple[str, bytes] | None = None,
        keep_alive_s: int = KEEP_ALIVE_S,
    ) -> None:
        """Prepare a connection; `will` is a topic and a retained message that the broker sends when this client dies.

        With `clean` the broker forgets subscriptions and queued messages when the connection ends.
        """
        self._address = address
        self._keep_alive_s = keep_alive_s
        self._clean = clean
        self._subscriptions = subscriptions
        self._told_connected = on_connect
        self._told_message = on_message
        self._lock = threading.Lock()
        self._connected = False
        self._connection = 0
        self._problem = "not connected yet"
        self._answered = False
        self._done: dict[int, Callable[[], None] | None] = {}
        self._done_early: set[int] = set()
        self._done_lock = threading.Lock()
        self._client = self._make(client_id, username, password, will)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection that stands now."""
        return self._connected

    @property
    def problem(self) -> str:
        """Why there is no connection; empty while there is one."""
        return self._problem

    def start(self) -> None:
        """Begin to connect, in the background."""
        asked = None
        if self._address.protocol == "5":
            asked = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
            asked.ReceiveMaximum = IN_FLIGHT
            if not self._clean:
                asked.SessionExpiryInterval = SESSION_S
        self._client.connect_async(
            self._address.host,
            self._address.port,
            self._keep_alive_s,
            clean_start=self._clean if self._address.protocol == "5" else 3,
            properties=asked,
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Say good-bye to the broker, so that no last will is sent, and end within two seconds."""
        self._client.disconnect()
        # loop_stop joins without a limit, and would wait for a broker that hangs.
        ending = threading.Thread(target=self._client.loop_stop, name="bus-ending", daemon=True)
        ending.start()
        ending.join(END_WITHIN_S)
        self._ended("stopped")

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, on_done: Callable[[], None] | None = None
    ) -> bool:
        """Hand a message over; returns False, keeping nothing, without a connection or when `QUEUED` already wait.

        `on_done` is called once the broker has taken it, on the network thread; never when the connection ends first.
        """
        if not self._connected:
            return False
        info = self._client.publish(topic, payload, QOS, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        with self._done_lock:
            early = info.mid in self._done_early
            self._done_early.discard(info.mid)
            if not early:
                self._done[info.mid] = on_done
        if early and on_done:
            on_done()
        return True

    def signal(self, topics: Iterable[str]) -> None:
        """Send an empty message to each of these short topics, with QoS 0; none is sent without a connection.

        For what may be lost. Many at once cost little more than one.
        """
        with self._lock:
            if self._connected:
                self._client.signal_all(topics)

    def ack(self, message: Message) -> None:
        """Tell the broker, from any thread, that a message is safe. One of an earlier connection is let go."""
        self.ack_all([message])

    def ack_all(self, messages: Iterable[Message]) -> None:
        """Tell the broker that messages are safe: many at once cost little more than one."""
        with self._lock:
            if self._connected:
                now = self._connection
                self._client.ack_all([one.mid for one in messages if one.mid and one.connection == now])

    def _make(self, client_id: str, username: str, password: str, will: tuple[str, bytes] | None) -> BlockClient:
        five = self._address.protocol == "5"
        client = BlockClient(client_id, clean=self._clean, five=five, heard=self._heard)
        client.username_pw_set(username, password)
        if self._address.tls_ca:
            client.tls_set(self._address.tls_ca, self._address.tls_cert or None, self._address.tls_key or None)
        if will:
            client.will_set(will[0], will[1], QOS, retain=True)
        client.max_inflight_messages = IN_FLIGHT
        client.max_queued_messages_set(QUEUED)
        client.reconnect_delay_set(SHORTEST_WAIT_S, LONGEST_WAIT_S)  # type: ignore[arg-type]  # it only sleeps this long
        client.suppress_exceptions = True
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        return client

    def _ended(self, why: str) -> None:
        with self._lock:
            if self._connected:
                log.info("broker connection ended", why=why)
            self._connected = False
            self._problem = why
        with self._done_lock:
            self._done.clear()
            self._done_early.clear()

    def _on_pre_connect(self, client: Client, _userdata: object) -> None:
        self._ended(self._problem)
        self._answered = False
        client.drop_out_messages()

    def _on_connect_fail(self, _client: Client, _userdata: object) -> None:
        self._not_reached(f"no broker at {self._address.host}:{self._address.port}")

    def _not_reached(self, problem: str) -> None:
        """Say it once: the log of a box in a clinic is all that anybody has."""
        if problem != self._problem:
            log.warning("broker not reached", why=problem)
        self._problem = problem

    def _on_connect(
        self,
        client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._answered = True
        if reason.is_failure:
            if self._problem != str(reason):
                log.warning("broker refused the connection", reason=str(reason))
            self._problem = str(reason)
            return
        # Before anybody may publish, so that no answer comes while it isn't listened to.
        if self._subscriptions:
            client.subscribe([(topic, QOS) for topic in self._subscriptions])
        with self._lock:
            self._connection += 1
            self._connected = True
            self._problem = ""
        log.info("broker connected", host=self._address.host, port=self._address.port)
        if self._told_connected:
            try:
                self._told_connected(self)
            except Exception:
                log.exception("what follows a connection failed")

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self._connected:
            self._ended(str(reason))
        elif not self._answered and reason.is_failure:
            where = f"{self._address.host}:{self._address.port}"
            perhaps = ": does it take this certificate?" if self._address.tls_cert else ""
            self._not_reached(f"{where} ends connections before it answers{perhaps}")

    def _on_subscribe(
        self,
        _client: Client,
        _userdata: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                log.error("broker refused a subscription", topics=list(self._subscriptions), reason=str(reason))

    def _on_publish(
        self, _client: Client, _userdata: object, mid: int, _reason: ReasonCode, _properties: Properties | None
    ) -> None:
        # paho holds a lock of its own here and in `publish`; holding `_lock` as well could end in a deadlock. The
        # broker may answer before `publish` knows the number that it was given.
        with self._done_lock:
            if mid not in self._done:
                self._done_early.add(mid)
                return
            done = self._done.pop(mid)
        if done:
            try:
                done()
            except Exception:
                log.exception("what follows a publish failed", mid=mid)

    def _heard(self, publish: Publish) -> None:
        message = Message(*publish, self._connection)
        try:
            self._told_message(message)
        except Exception:
            log.exception("a message was not handled", topic=message.topic)
