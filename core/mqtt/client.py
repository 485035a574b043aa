"""MQTT connection of a process: it reconnects by itself, uses QoS 1, and messages are acknowledged by hand.

Guarantees, tried by tests/integration/test_mqtt.py:
* `start` never fails because the broker is unreachable. A lost connection is retried after 0.1 s, 0.2 s … at most 1 s.
* At every connection the filters are subscribed to again. Then `on_connect` is called, to publish retained state again.
* Nothing is queued in memory for a later connection: `publish` without a connection is refused, and messages in flight
  are forgotten when it ends. A caller that needs more keeps messages on disk and sends them again.
* An acknowledgement is sent only on the connection that delivered the message, since the broker reuses its packet
  identifiers on the next one.
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

from config.settings import BrokerSettings
from core.mqtt.buffered_paho_client import BufferedPahoClient, Publish
from core.runtime.logs import logger

log = logger(__name__)

QOS = 1
KEEP_ALIVE_S = 30
NEAR_S = 5
"""Keep-alive of a service in the broker's network. A broker that hangs is noticed after twice that."""
IN_FLIGHT = 1000
"""Most messages that wait for the broker's acknowledgement and, with MQTT 5, for this client's."""
QUEUED = 10_000
SHORTEST_WAIT_S = 0.1
LONGEST_WAIT_S = 1
SESSION_S = 24 * 3600
"""Time that an MQTT 5 broker keeps the session of a client that isn't `clean`."""
END_WITHIN_S = 2.0


class BrokerAddress(msgspec.Struct, frozen=True):
    """Address of a broker, with TLS files and protocol version."""

    host: str
    port: int
    tls_ca: str = ""
    """CA file; empty for a connection without TLS."""
    tls_cert: str = ""
    tls_key: str = ""
    protocol: Literal["3.1.1", "5"] = "3.1.1"

    @classmethod
    def of(cls, broker: BrokerSettings) -> Self:
        """Return the address that the settings name."""
        return cls(broker.host, broker.port, broker.tls_ca, broker.tls_cert, broker.tls_key, broker.protocol)


class MqttMessage(msgspec.Struct, frozen=True, gc=False):
    """Received message. A topic that isn't UTF-8 has replacement characters."""

    topic: str
    payload: bytes
    retain: bool
    """Retained by the broker; some brokers set it on queued messages too. It says nothing about the message's age."""
    mid: int
    """Packet identifier; 0 with QoS 0, when there is nothing to acknowledge."""
    connection: int
    """Number of the connection of the `MqttClient` that delivered it."""


class MqttClient:
    """Connection to the broker. Callbacks run on its network thread; they must be quick, and may call the bus."""

    def __init__(  # noqa: PLR0913  (all but one are named)
        self,
        address: BrokerAddress,
        *,
        client_id: str,
        username: str,
        password: str,
        clean: bool,
        on_message: Callable[[MqttMessage], None],
        subscriptions: Sequence[str] = (),
        on_connect: Callable[["MqttClient"], None] | None = None,
        will: tuple[str, bytes] | None = None,
        keep_alive_s: int = KEEP_ALIVE_S,
    ) -> None:
        """Prepare a connection; `will` is the topic and payload of the last will, which is retained.

        With `clean` the broker forgets subscriptions and queued messages when the connection ends.
        """
        self._address = address
        self._keep_alive_s = keep_alive_s
        self._clean = clean
        self._subscriptions = subscriptions
        self._call_on_connect = on_connect
        self._call_on_message = on_message
        self._lock = threading.Lock()
        self._connected = False
        self._connection = 0
        self._problem = "not connected yet"
        self._answered = False
        self._on_done: dict[int, Callable[[], None] | None] = {}
        self._done_early: set[int] = set()
        self._done_lock = threading.Lock()
        self._client = self._make(client_id, username, password, will)

    @property
    def connected(self) -> bool:
        """Whether there is a connection that the broker has accepted."""
        return self._connected

    @property
    def problem(self) -> str:
        """Reason why there is no connection; empty while there is one."""
        return self._problem

    def start(self) -> None:
        """Start connecting in the background."""
        properties = None
        if self._address.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
            properties.ReceiveMaximum = IN_FLIGHT
            if not self._clean:
                properties.SessionExpiryInterval = SESSION_S
        self._client.connect_async(
            self._address.host,
            self._address.port,
            self._keep_alive_s,
            clean_start=self._clean if self._address.protocol == "5" else 3,
            properties=properties,
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect in order, so that no last will is sent, and end within two seconds."""
        self._client.disconnect()
        # loop_stop has no time limit, and would wait for a broker that hangs.
        ending = threading.Thread(target=self._client.loop_stop, name="bus-ending", daemon=True)
        ending.start()
        ending.join(END_WITHIN_S)
        self._ended("stopped")

    def publish(
        self, topic: str, payload: bytes, *, retain: bool = False, on_done: Callable[[], None] | None = None
    ) -> bool:
        """Publish a message; return False, and keep nothing, if there is no connection or `QUEUED` messages wait.

        `on_done` is called on the network thread once the broker has acknowledged it, unless the connection ends first.
        """
        if not self._connected:
            return False
        info = self._client.publish(topic, payload, QOS, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        with self._done_lock:
            is_done = info.mid in self._done_early
            self._done_early.discard(info.mid)
            if not is_done:
                self._on_done[info.mid] = on_done
        if is_done and on_done:
            on_done()
        return True

    def signal(self, topics: Iterable[str]) -> None:
        """Publish an empty message with QoS 0 to each of these short topics; none without a connection.

        Use it for signals that may be lost. Many at once cost little more than one.
        """
        with self._lock:
            if self._connected:
                self._client.signal_all(topics)

    def ack(self, message: MqttMessage) -> None:
        """Acknowledge a message that is stored. One of an earlier connection is ignored. Thread-safe."""
        self.ack_all([message])

    def ack_all(self, messages: Iterable[MqttMessage]) -> None:
        """Acknowledge messages that are stored. Many at once cost little more than one. Thread-safe."""
        with self._lock:
            if self._connected:
                current = self._connection
                mids = [message.mid for message in messages if message.mid and message.connection == current]
                self._client.ack_all(mids)

    def _make(self, client_id: str, username: str, password: str, will: tuple[str, bytes] | None) -> BufferedPahoClient:
        five = self._address.protocol == "5"
        client = BufferedPahoClient(client_id, clean=self._clean, five=five, on_received=self._on_received)
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
            self._on_done.clear()
            self._done_early.clear()

    def _on_pre_connect(self, client: Client, _userdata: object) -> None:
        self._ended(self._problem)
        self._answered = False
        client.drop_out_messages()

    def _on_connect_fail(self, _client: Client, _userdata: object) -> None:
        self._not_reached(f"no broker at {self._address.host}:{self._address.port}")

    def _not_reached(self, problem: str) -> None:
        """Log a problem once, since the log of a box in a clinic must not fill up."""
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
        # Subscribe before anything is published, so that no answer is missed.
        if self._subscriptions:
            client.subscribe([(topic, QOS) for topic in self._subscriptions])
        with self._lock:
            self._connection += 1
            self._connected = True
            self._problem = ""
        log.info("broker connected", host=self._address.host, port=self._address.port)
        if self._call_on_connect:
            try:
                self._call_on_connect(self)
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
        # paho holds a lock of its own here and in `publish`, so taking `_lock` too could deadlock. The broker may
        # answer before `publish` knows the packet identifier.
        with self._done_lock:
            if mid not in self._on_done:
                self._done_early.add(mid)
                return
            on_done = self._on_done.pop(mid)
        if on_done:
            try:
                on_done()
            except Exception:
                log.exception("what follows a publish failed", mid=mid)

    def _on_received(self, publish: Publish) -> None:
        message = MqttMessage(*publish, self._connection)
        try:
            self._call_on_message(message)
        except Exception:
            log.exception("a message was not handled", topic=message.topic)
