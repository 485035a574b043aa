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

from collector import clocks, decode
from collector.acks import MOST_READ, ack_of
from collector.alignment import Alignment
from collector.counts import Counts
from collector.decode import Unreadable
from collector.inbox import Inbox
from collector.stamp import IMPLAUSIBLE_TIME, UNSET_CLOCK, boot_offset, lost_ranges, releasable, stamp
from core.bus.client import Bus, Message
from core.intake.port import (
    Appended,
    Batch,
    DeadLetter,
    GatewayClock,
    IntakeLog,
    Life,
    Lost,
    PutBack,
    Unavailable,
)
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
_PAGE = 2_000
_NONE = Milliseconds(0)


class _Owed:
    """What is to be done once a commit is durable: readings released, gateways told."""

    def __init__(self) -> None:
        self.offsets: dict[tuple[GatewayNumber, str], Milliseconds] = {}
        """Of boots, by gateway."""
        self.asked: dict[Life, set[int]] = defaultdict(set)
        """Numbers to be told about."""
        self.clocks: dict[GatewayNumber, GatewayClock] = {}
        """What was found of clocks, to be kept."""

    def add(self, other: "_Owed") -> None:
        self.offsets.update(other.offsets)
        self.clocks.update(other.clocks)
        for life, asked in other.asked.items():
            self.asked[life] |= asked


class _Group(_Owed):
    """What one commit is made of, and what follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Batch] = []
        self.bodies: list[bytes] = []
        """Of the batches, as they came."""
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
        self._faulty: set[Life] = set()
        """In whose messages something beside the readings is wrong, of which one is among the dead letters."""
        self._cloned: set[Life] = set()
        """Of which one message is among the dead letters."""
        self._letters: list[DeadLetter] = []
        """What goes among them with the next append."""
        self._clocks: dict[GatewayNumber, clocks.Judged] = {}
        """Those that are behind, or may be."""
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
        self._remember(stop)
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
        group.letters, self._letters = self._letters, []
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
            self._intake.note_clocks(self._owed.clocks)
            self._owed.clocks.clear()
            left = self._release(bus, self._owed)
            self._acknowledge(bus, self._owed)
        except Unavailable as error:
            if self._counts.problem("acknowledgements", error):
                log.warning("gateways not told", error=str(error))
            self._answer_at = monotonic() + self._pause
            self._pause = min(LONGEST_WAIT_S, self._pause * 2)
            return
        except Exception:
            log.exception("gateways not told; they will ask again", gateways=len(self._owed.asked))
            left = _Owed()
        else:
            self._counts.problem("acknowledgements", "")
        self._told_at = monotonic()
        self._owed = left
        self._pause = SHORTEST_WAIT_S

    def _sort(self, group: _Group, message: Message, now: Instant) -> None:
        """Add a message to the group: as a batch, as a question to be answered, or as a dead letter."""
        if not message.payload and message.topic.endswith((Kind.BIRTH, Kind.STATE)):
            return  # how a retained message is cleared; it says nothing
        try:
            self._add(group, decode.decode(message.topic, message.payload), now, message.payload)
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

    def _add(self, group: _Group, message: decode.Message, now: Instant, payload: bytes) -> None:
        topic, heard, fault, refused = message.topic, message.heard, message.fault, message.refused
        if isinstance(heard, messages.Batch):
            group.batches.append(stamp(message, heard, now, self._behind(group, topic, heard, now)))
            group.bodies.append(payload)
            believed, untrue = lost_ranges(heard)
            fault = fault or untrue
            group.lost += [(topic.gw, heard.ep, first, last) for first, last in believed]
            offset = boot_offset(heard.clk)
            if offset is not None:
                group.offsets[topic.gw, heard.boot] = offset
        elif isinstance(heard, messages.Birth):
            group.asked[topic.gw, heard.ep].add(heard.seq)
        if fault and isinstance(heard, messages.Batch | messages.Birth):
            if (topic.gw, heard.ep) in self._faulty:  # it says so in each of its messages
                fault = ""
            self._faulty.add((topic.gw, heard.ep))
        if fault or refused:
            group.letters.append(DeadLetter(0, now, str(topic), "; ".join(filter(None, (refused, fault))), payload))

    def _behind(self, group: _Group, topic: Topic, sent: messages.Batch, now: Instant) -> Milliseconds:
        """Return how far the clock that a batch was stamped by runs behind, after what this message tells of it."""
        known = self._clocks.get(topic.gw)
        if known is None and not clocks.is_late(sent, now):
            return _NONE
        if known is not None and clocks.tells_nothing(known, sent, now):
            return clocks.lag_of(known, sent, now)
        if topic.kind is Kind.DATA:
            found = clocks.judge(known, sent, now)
            if found.behind != (known.behind if known else 0):
                group.clocks[topic.gw] = found
                event = "clock_skew found" if found.behind else "clock_skew is over"
                log.warning(event, gw=topic.gw, boot=sent.boot, behind_ms=found.behind)
            if found.is_right:
                self._clocks.pop(topic.gw, None)
            else:
                self._clocks[topic.gw] = found
            known = found
        return clocks.lag_of(known, sent, now)

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
        for batch, body, answer in zip(group.batches, group.bodies, answers, strict=True):
            if answer is Appended.CLONE:
                self._counts.add("clones")
                log.error("cloned gateway heard", gw=batch.gw, ep=batch.ep, seq=batch.seq)
                if (batch.gw, batch.ep) not in self._cloned:  # it says it again for as long as it isn't told
                    self._cloned.add((batch.gw, batch.ep))
                    self._letters.append(_of_clone(batch, body))
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
                self._counts.add("moved")
                log.info("batch of a wrong clock moved", gw=batch.gw, seq=batch.seq, by_ms=-batch.shifted)
            if batch.held:
                self._counts.add("withheld", len(batch.held))
        for letter in group.letters:
            self._counts.add("dead_letters")
            log.warning("message not readable", topic=letter.topic, reason=letter.reason)
        self._counts.add("lost", sum(last - first + 1 for _gw, _ep, first, last in group.lost))

    def _release(self, bus: Bus, owed: _Owed) -> _Owed:
        """Release what waited for the offset of its boot, a bounded part at a time; returns what is still owed.

        A gateway is told only when all of its boot is released, for it may never say the offset again.
        """
        left = _Owed()
        room = _PAGE
        for gw, boot in sorted(self._unset & owed.offsets.keys()):
            shift = owed.offsets[gw, boot]
            now = self._clock.now()
            page = self._intake.held(gw=gw, boot=boot, reason=UNSET_CLOCK, limit=room) if room else []
            wrong = [one.id for one in page if not releasable(one.reading, shift, now)]
            right = sorted({one.id for one in page}.difference(wrong))
            if right:
                self._counts.add("released", self._intake.release(right, now=now, shift=shift))
                self._wake(bus, [shard_of(gw)])
            if wrong:
                why = f"no believable time with the offset of its boot, {shift} ms"
                self._intake.change_reason(wrong, IMPLAUSIBLE_TIME, why)
            if len(page) == room:
                left.offsets[gw, boot] = shift
            else:
                log.info("clock of a boot known", gw=gw, boot=boot, offset_ms=shift)
                self._unset.discard((gw, boot))
            room -= len(page)
        unfinished = {gw for gw, _ in left.offsets}
        for life in [life for life in owed.asked if life[0] in unfinished]:
            left.asked[life] = owed.asked.pop(life)
        return left

    def _acknowledge(self, bus: Bus, owed: _Owed) -> None:
        known = self._intake.known(owed.asked, most=MOST_READ)
        for (gw, ep), asked in owed.asked.items():
            ack = ack_of(ep, known[gw, ep], asked)
            if bus.publish(str(Topic(gw, Kind.ACK)), msgspec.json.encode(ack)):
                self._counts.add("acks")

    def _remember(self, stop: threading.Event) -> None:
        """Find again which boots have readings that wait for their offset, and which clocks run behind."""
        while not stop.is_set():
            try:
                self._unset |= self._intake.boots_held(UNSET_CLOCK)
                known = self._intake.clocks()
                self._clocks |= {gw: clocks.Judged(one.boot, one.behind, one.since) for gw, one in known.items()}
            except Unavailable as error:
                self._counts.problem("intake log", error)
                stop.wait(SHORTEST_WAIT_S)
            else:
                self._counts.problem("intake log", "")
                return


def _of_clone(batch: Batch, body: bytes) -> DeadLetter:
    topic = Topic(batch.gw, Kind.BACKFILL if batch.origin == "backfill" else Kind.DATA)
    why = f"cloned gateway: seq {batch.seq} of {batch.ep} is in the log with other readings; not acknowledged"
    return DeadLetter(0, batch.received, str(topic), why, body)
