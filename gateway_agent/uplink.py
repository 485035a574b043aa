"""Uplink of a gateway: takes readings from the pollers, stores them, and publishes them until they are acknowledged.

One thread owns the spool and decides what is published; pollers and the MQTT network thread only put items into its
inbox. So a memory card that stalls doesn't stall a bus.

At each connection it publishes birth and state (retained) again, then everything unacknowledged, since the broker may
have lost it. `offline` is the last will, and is also published at an orderly end.
tests/integration/test_agent.py and tests/integration/test_agent_and_collector.py try to break it.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from config.settings import AgentSettings
from core.mqtt.client import BrokerAddress, MqttClient, MqttMessage
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.runtime.trouble import Trouble, Troubles
from core.wire.messages import Ack, BusHealth, Reading, SeqRanges
from core.wire.shards import shard_of
from core.wire.states import ConnectionState
from core.wire.topics import MessageKind
from gateway_agent.message_encoder import RETAINED, GatewayIdentity, MessageEncoder
from gateway_agent.send_order import SendPace
from gateway_agent.spool_failover import SpoolFailover

log = logger(__name__)

LINGER_S = 0.25
"""Longest wait of readings for those of the gateway's other buses, to share a commit and a batch with them."""
FLUSH_S = 5.0
STUMBLE_S = 1.0


class _Delivered(msgspec.Struct, frozen=True):
    readings: list[Reading]
    bus: str
    due: Instant | None


class _Connected:
    """Item: the broker has accepted a connection."""


class _HealthDue:
    """Item: health is due for publishing."""


class _Stop:
    """Item: store what was delivered, then end."""


_Item = _Delivered | MqttMessage | _Connected | _HealthDue | _Stop


class Uplink:
    """Spool and MQTT connection of one gateway."""

    def __init__(
        self,
        identity: GatewayIdentity,
        *,
        folder: Path,
        agent: AgentSettings,
        broker: BrokerAddress,
        password: str,
        clock: Clock,
        health: Callable[[], list[BusHealth]],
        polling: Callable[[], bool],
    ) -> None:
        """Take `polling`, which says whether a bus is within a cycle, and `health`, which returns the bus counters."""
        self.number = identity.number
        self._clock = clock
        self._broker = Troubles()
        self._health = health
        self._polling = polling
        self._messages = MessageEncoder(identity, clock)
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._gathered: list[_Delivered] = []
        self._gathered_since = 0.0
        self._delivered_count = self._stored_count = 0
        self._flush_at = 0.0
        self._health_due = False
        self._is_introduced = False
        self._birth_again_at = 0.0
        self._resend_after = agent.resend_after
        self._lanes = SpoolFailover(
            folder / f"{identity.number}.db",
            SendPace(agent.in_flight, agent.resend_after, agent.backfill_rate),
            limit_bytes=agent.spool_bytes,
            limit_age=Milliseconds(round(agent.spool_age * 1000)),
            now=clock.now(),
        )
        self._polled = dict(self._lanes.polled)
        self._depth = self._lanes.depth
        self._bus = MqttClient(
            broker,
            client_id=identity.number,
            username=identity.number,
            password=password,
            clean=True,
            will=(self._messages.topic(MessageKind.STATE), self._messages.state(ConnectionState.OFFLINE)),
            on_connect=lambda _bus: self._inbox.put(_Connected()),
            on_message=self._inbox.put,
            subscriptions=[f"cc/v1/{shard_of(identity.number)}/{identity.number}/down/#"],
        )
        self._thread = threading.Thread(target=self._run, name=f"uplink-{identity.number}", daemon=True)

    @property
    def polled(self) -> Mapping[str, Instant]:
        """Last cycle of each bus whose readings were stored when the process started."""
        return self._polled

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._bus.connected

    @property
    def depth(self) -> int:
        """Number of unacknowledged batches."""
        return self._depth

    @property
    def troubles(self) -> list[Trouble]:
        """Current troubles of the disk and of the broker."""
        self._broker.note("broker", self._bus.problem)
        return [*self._lanes.troubles, *self._broker.now()]

    @property
    def is_idle(self) -> bool:
        """Whether all delivered readings are stored, published and acknowledged."""
        return self._delivered_count == self._stored_count and self._depth == 0

    def start(self) -> None:
        """Start connecting, and publishing what is in the spool."""
        self._bus.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to store what was delivered, publish `offline`, and end; `join` waits for it."""
        self._inbox.put(_Stop())

    def join(self, timeout: float) -> None:
        """Wait for the end that `stop` asked for."""
        self._thread.join(timeout)

    def deliver(self, readings: list[Reading], bus: str, due: Instant | None) -> None:
        """Take readings of a bus; `due` is the cycle that they complete. The pollers call this; it never blocks."""
        self._delivered_count += 1
        self._inbox.put(_Delivered(readings, bus, due))

    def tell_health(self) -> None:
        """Publish `up/health` soon."""
        self._inbox.put(_HealthDue())

    def _run(self) -> None:
        running = True
        while running:
            items = self._take(self._pause())
            running = not any(isinstance(item, _Stop) for item in items)
            try:
                self._work(items, ending=not running)
            except Exception:
                log.exception("uplink stumbled", gw=self.number)
                time.sleep(STUMBLE_S)
        self._send(MessageKind.STATE, self._messages.state(ConnectionState.OFFLINE))
        self._bus.stop()
        self._lanes.close()

    def _take(self, pause: float) -> list[_Item]:
        items: list[_Item] = []
        try:
            items.append(self._inbox.get(timeout=pause))
            while True:
                items.append(self._inbox.get_nowait())
        except queue.Empty:
            return items

    def _pause(self) -> float:
        pauses = [FLUSH_S]
        if self._gathered:
            pauses.append(self._linger())
        if self._is_introduced and (wait := self._lanes.wait(monotonic())) is not None:
            pauses.append(wait)
        return min(pauses)

    def _linger(self) -> float:
        """Return the seconds left to wait for the gateway's other buses."""
        return max(0.0, self._gathered_since + LINGER_S - monotonic()) if self._polling() else 0.0

    def _work(self, items: Sequence[_Item], *, ending: bool) -> None:
        # Readings first: whatever fails afterwards, they are stored, or still gathered for the next time.
        for item in items:
            if isinstance(item, _Delivered):
                self._gathered_since = self._gathered_since if self._gathered else monotonic()
                self._gathered.append(item)
        kept = self._store_gathered() if self._gathered and (ending or not self._linger()) else 0
        try:
            self._handle(items)
        finally:
            self._depth = self._lanes.depth
            self._stored_count += kept  # last, so that `is_idle` never sees this count with the previous depth

    def _handle(self, items: Sequence[_Item]) -> None:
        for item in items:
            if isinstance(item, MqttMessage):
                self._on_message(item)
            elif isinstance(item, _Connected):
                self._lanes.restart(self._clock.now())
                self._publish_birth()
                self._is_introduced = True
            elif isinstance(item, _HealthDue):
                self._health_due = True
        self._is_introduced = self._is_introduced and self._bus.connected
        if self._is_introduced:
            if self._lanes.wait_for_proof and monotonic() >= self._birth_again_at:
                self._publish_birth()
            self._publish()
            self._publish_health()
        if monotonic() >= self._flush_at:
            self._lanes.flush()
            self._flush_at = monotonic() + FLUSH_S

    def _store_gathered(self) -> int:
        gathered = self._gathered
        readings = [reading for item in gathered for reading in item.readings]
        polled = {item.bus: item.due for item in gathered if item.due is not None}
        self._lanes.keep(readings, boot=self._messages.identity.boot, now=self._clock.now(), polled=polled)
        self._gathered = []
        log.debug("readings kept", gw=self.number, readings=len(readings), seq=self._lanes.main.seq)
        return len(gathered)

    def _on_message(self, message: MqttMessage) -> None:
        if message.topic == self._messages.topic(MessageKind.ACK):
            try:
                ack = msgspec.json.decode(message.payload, type=Ack)
            except msgspec.MsgspecError as error:
                log.warning("acknowledgement not readable", gw=self.number, why=str(error))
            else:
                if self._lanes.acknowledge(ack, self._clock.now()):
                    self._publish_birth()
        self._bus.ack(message)

    def _publish(self) -> None:
        lost: dict[str, SeqRanges] = {}
        for spool, row, kind in self._lanes.next(self._clock.now(), monotonic()):
            if spool.ep not in lost:
                lost[spool.ep] = spool.lost
            if not self._send(kind, self._messages.batch(spool, row, lost[spool.ep])):
                return  # the connection was lost; the next one starts again

    def _publish_health(self) -> None:
        if self._health_due:
            health = self._messages.health(self._lanes.depth, self._lanes.size, self._health())
            self._health_due = not self._send(MessageKind.HEALTH, health)

    def _publish_birth(self) -> None:
        self._birth_again_at = monotonic() + self._resend_after
        self._send(MessageKind.BIRTH, self._messages.birth(self._lanes.main))
        self._send(MessageKind.STATE, self._messages.state(ConnectionState.ONLINE))

    def _send(self, kind: MessageKind, body: bytes) -> bool:
        return self._bus.publish(self._messages.topic(kind), body, retain=kind in RETAINED)
