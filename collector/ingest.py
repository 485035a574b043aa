"""From the broker into the intake log: one thread empties the inbox, a group of messages a commit.

The order is the promise: append (durable), then `down/ack` and the broker's acknowledgement. Killed anywhere between,
the gateway sends again, and the log knows what it has. While the log can't be written, or a cursor of it is misplaced
(`collector.alignment`), nothing is acknowledged and the same group is tried again. Once appended, a group always gets
the broker's acknowledgement and its wakes: a `down/ack` for which the log can't be read stays owed, and is tried again
beside the next groups. While more waits behind a group, gateways are told twice a second: one `down/ack` covers all
that a gateway has sent meanwhile.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

import msgspec

from collector.acks import MOST_READ, ack_of
from collector.alignment import Alignment
from collector.counts import Counts
from collector.decode import Heard, Unreadable, decode
from collector.inbox import Inbox
from collector.stamp import UNSET_CLOCK, believable, boot_offset, lost_ranges, stamp
from core.bus.client import Bus, Message
from core.intake.port import Appended, Batch, DeadLetter, IntakeLog, Life, Lost, PutBack, Unavailable
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.wire import messages
from core.wire.topics import GatewayNumber, Kind, Shard, Topic, shard_of, wake

log = logger(__name__)

SHORTEST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
TELL_S = 0.5
"""So often a gateway is told while more waits behind a group; else after each group."""
_PAGE = 1_000


class _Owed:
    """What is to be done once a commit is durable: readings released, gateways told."""

    def __init__(self) -> None:
        self.offsets: dict[tuple[GatewayNumber, str], Milliseconds] = {}
        """Of boots, by gateway."""
        self.asked: dict[Life, set[int]] = defaultdict(set)
        """Numbers to be told about."""

    def add(self, other: "_Owed") -> None:
        self.offsets.update(other.offsets)
        for life, asked in other.asked.items():
            self.asked[life] |= asked


class _Group(_Owed):
    """What one commit is made of, and what follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []
        self.lost: list[Lost] = []
        self.letters: list[DeadLetter] = []


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
        alignment: Alignment | None = None,
    ) -> None:
        """`group` messages at most share a commit, which waits `linger` seconds for more; `grown` wakes the writer.

        Nothing is appended or acknowledged while there is an `alignment` that has no epoch.
        """
        self._intake = intake
        self._clock = clock
        self._counts = counts
        self._most = group
        self._linger = linger
        self._grown = grown
        self._alignment = alignment
        self._inbox = Inbox()
        self._unset: set[tuple[GatewayNumber, str]] = set()
        """Boots with readings that wait for their offset."""
        self._untrue: set[Life] = set()
        """Whose `lost` can't be, and is among the dead letters."""
        self._owed = _Owed()
        self._pause = SHORTEST_WAIT_S
        self._answer_at = 0.0
        self._told_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether everything that was received has been committed and acknowledged."""
        return self._inbox.is_empty and not self._owed.asked

    def take(self, message: Message) -> bool:
        """Take a message in, from the network thread; False when there is no room: its sender has to send it again."""
        self._counts.add("received")
        fits = self._inbox.put(message)
        if not fits:
            self._counts.add("refused_full")
        return fits

    def run(self, bus: Bus, stop: threading.Event) -> None:
        """Work until `stop`; what is in hand then is finished if the log allows."""
        self._remember_unset(stop)
        while not stop.is_set():
            taken = self._inbox.gather(self._most, self._linger)
            if taken:
                failed = self._finish_all(bus, taken, stop)
                said = f"{failed} messages were not taken in; see the log of this service" if failed else ""
                self._counts.problem("ingest", said)
            elif self._owed.asked:
                self._answer(bus)
            self._inbox.done(taken)
        if self._owed.asked:
            self._answer(bus)

    def _finish_all(self, bus: Bus, taken: Sequence[Message], stop: threading.Event) -> int:
        """Finish a group, or each by itself where the whole fails; returns how many couldn't be."""
        try:
            self._finish(bus, taken, stop)
        except Exception:
            if len(taken) > 1:
                log.exception("a group of messages failed; each is tried by itself", messages=len(taken))
                return sum(self._finish_all(bus, [message], stop) for message in taken)
            # An error in this program. The sender keeps what no `down/ack` covers; the broker shall not, since what it
            # holds open counts against what it sends us.
            log.exception("a message was not taken in", topic=taken[0].topic)
            self._counts.add("failed")
            bus.ack(taken[0])
            return 1
        return 0

    def _finish(self, bus: Bus, taken: Sequence[Message], stop: threading.Event) -> None:
        group = _Group()
        now = self._clock.now()
        for message in taken:
            self._sort(group, message, now)
        answers = self._append(group, stop)
        if answers is None:
            return
        self._wake(
            bus, {batch.shard for batch, answer in zip(group.batches, answers, strict=True) if answer is Appended.NEW}
        )
        self._owed.add(group)
        if not self._inbox.holds_more_than(taken) or monotonic() >= self._told_at + TELL_S:
            self._answer(bus)
        bus.ack_all(taken)

    def _wake(self, bus: Bus, grown: Collection[Shard]) -> None:
        if grown:
            bus.signal(wake(shard) for shard in grown)
            self._grown()

    def _answer(self, bus: Bus) -> None:
        """Do what is owed. What the log doesn't allow now is tried again, a little later each time."""
        if monotonic() < self._answer_at or not self._may_append():
            return
        try:
            self._release(bus, self._owed)
            self._acknowledge(bus, self._owed)
        except Unavailable as error:
            if self._counts.problem("acknowledgements", error):
                log.warning("gateways not told", error=str(error))
            self._answer_at = monotonic() + self._pause
            self._pause = min(LONGEST_WAIT_S, self._pause * 2)
            return
        except Exception:
            log.exception("gateways not told; they will ask again", gateways=len(self._owed.asked))
        else:
            self._counts.problem("acknowledgements", "")
        self._told_at = monotonic()
        self._owed = _Owed()
        self._pause = SHORTEST_WAIT_S

    def _sort(self, group: _Group, message: Message, now: Instant) -> None:
        """Add a message to the group: as a batch, as a question to be answered, or as a dead letter."""
        if not message.payload and message.topic.endswith((Kind.BIRTH, Kind.STATE)):
            return  # how a retained message is cleared; it says nothing
        try:
            topic, heard = decode(message.topic, message.payload)
            self._add(group, topic, heard, now, message.payload)
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

    def _add(self, group: _Group, topic: Topic, heard: Heard, now: Instant, payload: bytes) -> None:
        if isinstance(heard, messages.Batch):
            group.batches.append(stamp(topic, heard, now))
            believed, fault = lost_ranges(heard)
            group.lost += [(topic.gw, heard.ep, first, last) for first, last in believed]
            if fault and (topic.gw, heard.ep) not in self._untrue:  # it may say so in each of its messages
                self._untrue.add((topic.gw, heard.ep))
                group.letters.append(DeadLetter(0, now, str(topic), fault, payload))
            offset = boot_offset(heard.clk)
            if offset is not None:
                group.offsets[topic.gw, heard.boot] = offset
        elif isinstance(heard, messages.Birth):
            group.asked[topic.gw, heard.ep].add(heard.seq)

    def _append(self, group: _Group, stop: threading.Event) -> list[Appended] | None:
        """Append until it has worked; None when `stop` came first."""
        pause = SHORTEST_WAIT_S
        while True:
            if not self._may_append():
                if stop.wait(SHORTEST_WAIT_S):
                    return None
                continue
            try:
                answers = self._intake.append(group.batches, group.lost, group.letters)
            except Unavailable as error:
                if self._counts.problem("intake log", error):
                    log.exception("intake log could not be written")
                if isinstance(error, PutBack) and self._alignment:
                    self._alignment.doubt()
                if stop.wait(pause):
                    return None
                pause = min(LONGEST_WAIT_S, pause * 2)
                continue
            self._counts.problem("intake log", "")
            self._count(group, answers)
            return answers

    def _may_append(self) -> bool:
        return self._alignment is None or self._alignment.epoch() is not None

    def _count(self, group: _Group, answers: Sequence[Appended]) -> None:
        for batch, answer in zip(group.batches, answers, strict=True):
            if answer is Appended.CLONE:
                self._counts.add("clones")
                log.error("cloned gateway heard", gw=batch.gw, ep=batch.ep, seq=batch.seq)
                continue
            group.asked[batch.gw, batch.ep].add(batch.seq)
            # Also of a duplicate: it may be one for an append of ours whose answer never came.
            self._unset.update((batch.gw, batch.boot) for one in batch.held if one.reason == UNSET_CLOCK)
            if answer is Appended.DUPLICATE:
                self._counts.add("duplicates")
                continue
            self._counts.add("appended")
            self._counts.add("readings", len(batch.readings))
            if batch.shifted:
                log.warning("batch from the future moved", gw=batch.gw, seq=batch.seq, by_ms=batch.shifted)
            if batch.held:
                self._counts.add("withheld", len(batch.held))
        for letter in group.letters:
            self._counts.add("dead_letters")
            log.warning("message not readable", topic=letter.topic, reason=letter.reason)
        self._counts.add("lost", sum(last - first + 1 for _gw, _ep, first, last in group.lost))

    def _release(self, bus: Bus, owed: _Owed) -> None:
        """Release what waited for the offset of its boot: before the gateway is told, for it may never say it again."""
        for gw, boot in self._unset & owed.offsets.keys():
            shift = owed.offsets[gw, boot]
            now = self._clock.now()
            after = 0
            while page := self._intake.held(gw=gw, boot=boot, reason=UNSET_CLOCK, after=after, limit=_PAGE):
                after = page[-1].id
                ids = [one.id for one in page if believable(Instant(one.reading.ts + shift), now)]
                if ids:
                    self._counts.add("released", self._intake.release(ids, now=now, shift=shift))
                    self._wake(bus, [shard_of(gw)])
            log.info("clock of a boot known", gw=gw, boot=boot, offset_ms=shift)
            self._unset.discard((gw, boot))

    def _acknowledge(self, bus: Bus, owed: _Owed) -> None:
        known = self._intake.known(owed.asked, most=MOST_READ)
        for (gw, ep), asked in owed.asked.items():
            ack = ack_of(ep, known[gw, ep], asked)
            if bus.publish(str(Topic(gw, Kind.ACK)), msgspec.json.encode(ack)):
                self._counts.add("acks")

    def _remember_unset(self, stop: threading.Event) -> None:
        """Find again which boots have readings that wait for their offset."""
        after = 0
        while not stop.is_set():
            try:
                page = self._intake.held(reason=UNSET_CLOCK, after=after, limit=_PAGE)
            except Unavailable as error:
                self._counts.problem("intake log", error)
                stop.wait(SHORTEST_WAIT_S)
                continue
            self._counts.problem("intake log", "")
            if not page:
                return
            after = page[-1].id
            self._unset.update((one.gw, one.boot) for one in page)
