"""From the broker into the intake log: one thread empties a queue, a group of messages a commit.

The order is the promise: append (durable), then `down/ack`, then the broker's acknowledgement. Killed anywhere between,
the gateway sends again, and the log knows what it has. While the log can't be written nothing is acknowledged and the
same group is tried again; what no longer fits the queue is refused, which a sender survives in the same way.
"""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from collector.acks import ack_of
from collector.counts import Counts
from collector.decode import Heard, Unreadable, decode
from collector.stamp import UNSET_CLOCK, believable, boot_offset, lost_ranges, stamp
from core.bus.client import Bus, Message
from core.intake.port import Appended, Batch, DeadLetter, IntakeLog, Unavailable
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.wire import messages
from core.wire.topics import GatewayNumber, Kind, Shard, Topic, shard_of, wake

log = logger(__name__)

WAITING = 20_000
"""Messages that may wait for their commit."""
SHORTEST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
_LOOK_S = 0.2
_PAGE = 1_000


class _Group:
    """What one commit is made of, and whom it is to be told to."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.lost: list[tuple[GatewayNumber, str, int, int]] = []
        self.letters: list[DeadLetter] = []
        self.offsets: dict[tuple[GatewayNumber, str], Milliseconds] = {}
        self.asked: dict[tuple[GatewayNumber, str], set[int]] = defaultdict(set)


class Ingest:
    """Takes messages as they come, from any thread."""

    def __init__(
        self,
        intake: IntakeLog,
        clock: Clock,
        counts: Counts,
        *,
        group: int,
        linger: float,
        grown: Callable[[], None],
    ) -> None:
        """`group` messages at most share a commit, which waits `linger` seconds for more; `grown` wakes the writer."""
        self._intake = intake
        self._clock = clock
        self._counts = counts
        self._most = group
        self._linger = linger
        self._grown = grown
        self._queue: queue.Queue[Message] = queue.Queue(WAITING)
        self._unset: set[tuple[GatewayNumber, str]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether everything that was received has been committed and acknowledged."""
        return self._queue.unfinished_tasks == 0

    def take(self, message: Message) -> None:
        """Put a message into the queue; from the network thread."""
        self._counts.add("received")
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._counts.add("refused_full")

    def run(self, bus: Bus, stop: threading.Event) -> None:
        """Work until `stop`; what is in hand then is finished if the log allows."""
        self._remember_unset(stop)
        while not stop.is_set():
            taken = self._gather()
            if not taken:
                continue
            try:
                self._finish(bus, taken, stop)
            except Exception:
                # Nothing of it was acknowledged, so it will come again; the others must go on.
                self._counts.problem("ingest", "a group of messages failed; see the log of this service")
                log.exception("a group of messages failed", messages=len(taken))
            finally:
                for _ in taken:
                    self._queue.task_done()

    def _gather(self) -> list[Message]:
        taken: list[Message] = []
        try:
            taken.append(self._queue.get(timeout=_LOOK_S))
            ends = monotonic() + self._linger
            while len(taken) < self._most:
                left = ends - monotonic()
                taken.append(self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait())
        except queue.Empty:
            pass
        return taken

    def _finish(self, bus: Bus, taken: Sequence[Message], stop: threading.Event) -> None:
        group = _Group()
        now = self._clock.now()
        for message in taken:
            self._sort(group, message, now)
        answers = self._append(group, stop)
        if answers is None:
            return
        grown = {batch.shard for batch, answer in zip(group.batches, answers, strict=True) if answer is Appended.NEW}
        grown |= self._release(group, now)
        self._acknowledge(bus, group)
        for message in taken:
            bus.ack(message)
        if grown:
            self._grown()
            for shard in grown:
                bus.publish(wake(shard), b"")
        self._counts.problem("ingest", "")

    def _sort(self, group: _Group, message: Message, now: Instant) -> None:
        """Add a message to the group: as a batch, as a question to be answered, or as a dead letter."""
        if not message.payload and message.topic.endswith((Kind.BIRTH, Kind.STATE)):
            return  # how a retained message is cleared; it says nothing
        try:
            topic, heard = decode(message.topic, message.payload)
            self._add(group, topic, heard, now)
        except Unreadable as error:
            group.letters.append(DeadLetter(0, now, message.topic, str(error), message.payload))
            if error.envelope:
                gw, ep, seq = error.envelope.gw, error.envelope.ep, error.envelope.seq
                group.lost.append((gw, ep, seq, seq))
                group.asked[gw, ep].add(seq)
        except Exception as error:
            # A message that finds an error in this program must not stop those that came with it.
            log.exception("message not understood", topic=message.topic)
            group.letters.append(DeadLetter(0, now, message.topic, f"not understood: {error!r}", message.payload))

    def _add(self, group: _Group, topic: Topic, heard: Heard, now: Instant) -> None:
        if isinstance(heard, messages.Batch):
            group.batches.append(stamp(topic, heard, now))
            for first, last in lost_ranges(heard):
                group.lost.append((topic.gw, heard.ep, first, last))
            offset = boot_offset(heard.clk)
            if offset is not None:
                group.offsets[topic.gw, heard.boot] = offset
        elif isinstance(heard, messages.Birth):
            group.asked[topic.gw, heard.ep].add(heard.seq)

    def _append(self, group: _Group, stop: threading.Event) -> list[Appended] | None:
        """Append until it has worked; None when `stop` came first."""
        pause = SHORTEST_WAIT_S
        while True:
            try:
                answers = self._intake.append(group.batches, group.lost, group.letters)
            except Unavailable as error:
                if self._counts.problem("intake log", str(error)):
                    log.exception("intake log could not be written")
                if stop.wait(pause):
                    return None
                pause = min(LONGEST_WAIT_S, pause * 2)
                continue
            self._counts.problem("intake log", "")
            self._count(group, answers)
            return answers

    def _count(self, group: _Group, answers: Sequence[Appended]) -> None:
        for batch, answer in zip(group.batches, answers, strict=True):
            if answer is Appended.CLONE:
                self._counts.add("clones")
                log.error("cloned gateway heard", gw=batch.gw, ep=batch.ep, seq=batch.seq)
                continue
            group.asked[batch.gw, batch.ep].add(batch.seq)
            if answer is Appended.DUPLICATE:
                self._counts.add("duplicates")
                continue
            self._counts.add("appended")
            self._counts.add("readings", len(batch.readings))
            if batch.shifted:
                log.warning("batch from the future moved", gw=batch.gw, seq=batch.seq, by_ms=batch.shifted)
            if batch.held:
                self._counts.add("withheld", len(batch.held))
                self._unset.update((batch.gw, batch.boot) for one in batch.held if one.reason == UNSET_CLOCK)
        for letter in group.letters:
            self._counts.add("dead_letters")
            log.warning("message not readable", topic=letter.topic, reason=letter.reason)
        self._counts.add("lost", sum(last - first + 1 for _gw, _ep, first, last in group.lost))

    def _release(self, group: _Group, now: Instant) -> set[Shard]:
        """Release what waited for the offset of its boot; returns the shards that grew."""
        grown: set[Shard] = set()
        for gw, boot in self._unset & group.offsets.keys():
            shift = group.offsets[gw, boot]
            after = 0
            while page := self._intake.held(gw=gw, boot=boot, reason=UNSET_CLOCK, after=after, limit=_PAGE):
                after = page[-1].id
                ids = [one.id for one in page if believable(Instant(one.reading.ts + shift), now)]
                if ids:
                    self._counts.add("released", self._intake.release(ids, now=now, shift=shift))
                    grown.add(shard_of(gw))
            log.info("clock of a boot known", gw=gw, boot=boot, offset_ms=shift)
            self._unset.discard((gw, boot))
        return grown

    def _acknowledge(self, bus: Bus, group: _Group) -> None:
        for (gw, ep), asked in group.asked.items():
            ack = ack_of(ep, self._intake.have(gw, ep), asked)
            if bus.publish(str(Topic(gw, Kind.ACK)), msgspec.json.encode(ack)):
                self._counts.add("acks")

    def _remember_unset(self, stop: threading.Event) -> None:
        """Find again which boots have readings that wait for their offset."""
        after = 0
        while not stop.is_set():
            try:
                page = self._intake.held(reason=UNSET_CLOCK, after=after, limit=_PAGE)
            except Unavailable as error:
                self._counts.problem("intake log", str(error))
                stop.wait(SHORTEST_WAIT_S)
                continue
            self._counts.problem("intake log", "")
            if not page:
                return
            after = page[-1].id
            self._unset.update((one.gw, one.boot) for one in page)
