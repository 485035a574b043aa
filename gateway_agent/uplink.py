"""One gateway's way up: takes readings from the pollers, keeps them, publishes them until they are acknowledged.

One thread owns the spool and decides what is published; pollers and the broker's network thread only put things in its
inbox. A memory card that stalls therefore stalls no bus.

At each connection: birth and state (retained) again, then all that is unacknowledged, since the broker may have
forgotten everything. A last will says `offline`, and so does an orderly end.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from config.settings import Agent
from core.bus.client import BrokerAddress, Bus, Message
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.runtime.trouble import Trouble, Troubles
from core.wire.messages import Ack, BusHealth, Ranges, Reading
from core.wire.topics import Kind, shard_of
from gateway_agent.lanes import Lanes
from gateway_agent.sending import Pace
from gateway_agent.voice import RETAINED, Identity, Voice

log = logger(__name__)

LINGER_S = 0.25
"""How long readings wait for those of the gateway's other buses, to be one commit and one batch with them."""
FLUSH_S = 5.0
STUMBLE_S = 1.0


class _Delivered(msgspec.Struct, frozen=True):
    readings: list[Reading]
    bus: str
    due: Instant | None


class _Connected:
    """The broker has accepted a connection."""


class _HealthDue:
    """It is time to say how the box is."""


class _Stop:
    """Finish what is at hand and end."""


_Item = _Delivered | Message | _Connected | _HealthDue | _Stop


class Uplink:
    """Spool and MQTT connection of one gateway."""

    def __init__(
        self,
        identity: Identity,
        *,
        folder: Path,
        agent: Agent,
        broker: BrokerAddress,
        password: str,
        clock: Clock,
        health: Callable[[], list[BusHealth]],
        polling: Callable[[], bool],
    ) -> None:
        """`polling` says whether a bus of the gateway is in the middle of a cycle; `health` how its buses are."""
        self.number = identity.number
        self._clock = clock
        self._broker = Troubles()
        self._health = health
        self._polling = polling
        self._voice = Voice(identity, clock)
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._gathered: list[_Delivered] = []
        self._gathered_since = 0.0
        self._delivered = self._kept = 0
        self._flush_at = 0.0
        self._health_due = False
        self._introduced = False
        self._ask_at = 0.0
        self._resend_after = agent.resend_after
        self._lanes = Lanes(
            folder / f"{identity.number}.db",
            Pace(agent.in_flight, agent.resend_after, agent.backfill_rate),
            limit_bytes=agent.spool_bytes,
            limit_age=Milliseconds(round(agent.spool_age * 1000)),
            now=clock.now(),
        )
        self._polled = dict(self._lanes.polled)
        self._depth = self._lanes.depth
        self._bus = Bus(
            broker,
            client_id=identity.number,
            username=identity.number,
            password=password,
            clean=True,
            will=(self._voice.topic(Kind.STATE), self._voice.state("offline")),
            on_connect=lambda _bus: self._inbox.put(_Connected()),
            on_message=self._inbox.put,
            subscriptions=[f"cc/v1/{shard_of(identity.number)}/{identity.number}/down/#"],
        )
        self._thread = threading.Thread(target=self._run, name=f"uplink-{identity.number}", daemon=True)

    @property
    def polled(self) -> Mapping[str, Instant]:
        """For each bus, the cycle whose readings had been kept when the process began."""
        return self._polled

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now."""
        return self._bus.connected

    @property
    def depth(self) -> int:
        """Batches that no acknowledgement has covered."""
        return self._depth

    @property
    def troubles(self) -> list[Trouble]:
        """What keeps readings from being kept on disk, or from being sent."""
        self._broker.note("broker", self._bus.problem)
        return [*self._lanes.troubles, *self._broker.now()]

    @property
    def is_idle(self) -> bool:
        """Whether all that was delivered is kept, sent and acknowledged."""
        return self._delivered == self._kept and self._depth == 0

    def start(self) -> None:
        """Begin to connect and to send what is in the spool."""
        self._bus.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to keep what it has been given, say `offline`, and end; `join` waits for it."""
        self._inbox.put(_Stop())

    def join(self, timeout: float) -> None:
        """Wait for the end that `stop` asked for."""
        self._thread.join(timeout)

    def deliver(self, readings: list[Reading], bus: str, due: Instant | None) -> None:
        """Take readings of a bus; `due` is the cycle that they complete. From the pollers' thread; never blocks."""
        self._delivered += 1
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
        self._say(Kind.STATE, self._voice.state("offline"))
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
        if self._introduced and (wait := self._lanes.wait(monotonic())) is not None:
            pauses.append(wait)
        return min(pauses)

    def _linger(self) -> float:
        """Return how much longer to wait for the gateway's other buses."""
        return max(0.0, self._gathered_since + LINGER_S - monotonic()) if self._polling() else 0.0

    def _work(self, items: Sequence[_Item], *, ending: bool) -> None:
        # Readings first: whatever fails afterwards, they are kept, or still gathered for the next time.
        for item in items:
            if isinstance(item, _Delivered):
                self._gathered_since = self._gathered_since if self._gathered else monotonic()
                self._gathered.append(item)
        kept = self._keep() if self._gathered and (ending or not self._linger()) else 0
        try:
            self._answer(items)
        finally:
            self._depth = self._lanes.depth
            self._kept += kept  # last: `is_idle` must not see it kept with the depth of before

    def _answer(self, items: Sequence[_Item]) -> None:
        for item in items:
            if isinstance(item, Message):
                self._heard(item)
            elif isinstance(item, _Connected):
                self._lanes.restart(self._clock.now())
                self._introduce()
                self._introduced = True
            elif isinstance(item, _HealthDue):
                self._health_due = True
        self._introduced = self._introduced and self._bus.connected
        if self._introduced:
            if self._lanes.wait_for_proof and monotonic() >= self._ask_at:
                self._introduce()
            self._publish()
            self._publish_health()
        if monotonic() >= self._flush_at:
            self._lanes.flush()
            self._flush_at = monotonic() + FLUSH_S

    def _keep(self) -> int:
        gathered = self._gathered
        readings = [reading for item in gathered for reading in item.readings]
        polled = {item.bus: item.due for item in gathered if item.due is not None}
        self._lanes.keep(readings, boot=self._voice.identity.boot, now=self._clock.now(), polled=polled)
        self._gathered = []
        log.debug("readings kept", gw=self.number, readings=len(readings), seq=self._lanes.main.seq)
        return len(gathered)

    def _heard(self, message: Message) -> None:
        if message.topic == self._voice.topic(Kind.ACK):
            try:
                ack = msgspec.json.decode(message.payload, type=Ack)
            except msgspec.MsgspecError as error:
                log.warning("acknowledgement not readable", gw=self.number, why=str(error))
            else:
                if self._lanes.acknowledge(ack, self._clock.now()):
                    self._introduce()
        self._bus.ack(message)

    def _publish(self) -> None:
        lost: dict[str, Ranges] = {}
        for spool, row, kind in self._lanes.next(self._clock.now(), monotonic()):
            if spool.ep not in lost:
                lost[spool.ep] = spool.lost
            if not self._say(kind, self._voice.batch(spool, row, lost[spool.ep])):
                return  # the connection is gone; the next one begins anew

    def _publish_health(self) -> None:
        if self._health_due:
            health = self._voice.health(self._lanes.depth, self._lanes.size, self._health())
            self._health_due = not self._say(Kind.HEALTH, health)

    def _introduce(self) -> None:
        self._ask_at = monotonic() + self._resend_after
        self._say(Kind.BIRTH, self._voice.birth(self._lanes.main))
        self._say(Kind.STATE, self._voice.state("online"))

    def _say(self, kind: Kind, body: bytes) -> bool:
        return self._bus.publish(self._voice.topic(kind), body, retain=kind in RETAINED)
