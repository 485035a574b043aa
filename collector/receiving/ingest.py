"""Ingest: moves messages from the broker into the intake log, one commit for a group of messages.

The order is the promise: first the append (durable), then `down/ack` and the broker's acknowledgement. If it is killed
anywhere between, the gateway sends again, and the log recognises the copy. While the log can't be written, or one of
its cursors is misplaced (`collector.alignment_gate`), nothing is acknowledged and the same group is tried again. Once
appended, a group always gets the broker's acknowledgement and its wakes. A `down/ack` for which the log can't be read
stays owed, and is tried again beside the next groups. While more messages wait behind a group, gateways are answered
twice a second: one `down/ack` covers everything that a gateway has sent meanwhile.
"""

import threading
from collections import defaultdict
from collections.abc import Collection, Sequence

import msgspec

from collector.alignment_gate import AlignmentGate
from collector.counters import Counters
from collector.receiving import clocks_running_behind, message_decoder
from collector.receiving.acks import MOST_READ, ack_of
from collector.receiving.inbox import Inbox
from collector.receiving.message_decoder import UnreadableMessage
from collector.receiving.time_stamping import boot_offset, lost_ranges, releasable, stamp
from core.intake.port import (
    AppendResult,
    DeadLetter,
    GatewayClock,
    IntakeBatch,
    IntakeLog,
    IntakeUnavailable,
    Life,
    LogReplaced,
    Lost,
)
from core.intake.states import QuarantineReason
from core.mqtt.client import MqttClient, MqttMessage
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.wire import messages
from core.wire.shards import GatewayNumber, Shard, shard_of
from core.wire.states import IntakeOrigin
from core.wire.topics import MessageKind, Topic, wake_topic

log = logger(__name__)

SHORTEST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
TELL_S = 0.5
"""Seconds between acknowledgements while more waits behind a group; else they follow each group."""
_PAGE = 2_000
_NONE = Milliseconds(0)


class _Owed:
    """Work that follows a durable commit: readings to release, gateways to answer."""

    def __init__(self) -> None:
        self.offsets: dict[tuple[GatewayNumber, str], Milliseconds] = {}
        """Offsets of boots, by gateway."""
        self.asked: dict[Life, set[int]] = defaultdict(set)
        """Sequence numbers that need an answer."""
        self.clocks: dict[GatewayNumber, GatewayClock] = {}
        """New findings about clocks, to be stored."""

    def add(self, other: "_Owed") -> None:
        self.offsets.update(other.offsets)
        self.clocks.update(other.clocks)
        for life, asked in other.asked.items():
            self.asked[life] |= asked


class _Group(_Owed):
    """Content of one commit, with the work that follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[IntakeBatch] = []
        self.bodies: list[bytes] = []
        """Bodies of the batches, as received."""
        self.lost: list[Lost] = []
        self.letters: list[DeadLetter] = []


class Ingest:
    """Consumer of messages; `take` may be called from any thread."""

    def __init__(
        self,
        intake: IntakeLog,
        clock: Clock,
        counts: Counters,
        *,
        group: int,
        linger: float,
        alignment: AlignmentGate | None = None,
    ) -> None:
        """A commit has up to `group` messages and waits `linger` seconds for more.

        Nothing is appended or acknowledged while there is an `alignment` that has no epoch.
        """
        self._intake = intake
        self._clock = clock
        self._counts = counts
        self._most = group
        self._linger = linger
        self._alignment = alignment
        self._inbox = Inbox()
        self._unset: set[tuple[GatewayNumber, str]] = set()
        """Boots with readings that wait for their offset."""
        self._faulty: set[Life] = set()
        """Lives with a fault outside the readings, of which one message is among the dead letters."""
        self._cloned: set[Life] = set()
        """Lives of cloned gateways, of which one message is among the dead letters."""
        self._letters: list[DeadLetter] = []
        """Dead letters for the next append."""
        self._clocks: dict[GatewayNumber, clocks_running_behind.JudgedClock] = {}
        """Clocks that run behind, or may."""
        self._owed = _Owed()
        self._pause = SHORTEST_WAIT_S
        self._answer_at = 0.0
        self._told_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether everything that was received has been committed and acknowledged."""
        return self._inbox.is_empty and not self._owed.asked

    def take(self, message: MqttMessage) -> bool:
        """Accept a message from the network thread; return False when there is no room: its sender sends it again."""
        self._counts.add("received")
        fits = self._inbox.put(message)
        if not fits:
            self._counts.add("refused_full")
        return fits

    def run(self, bus: MqttClient, stop: threading.Event) -> None:
        """Work until `stop`; a group that has been taken then is finished if the log allows."""
        self._remember(stop)
        while not stop.is_set():
            taken = self._inbox.gather(self._most, self._linger)
            if taken:
                failed = self._finish_all(bus, taken, stop)
                problem = f"{failed} messages were not taken in; see the log of this service" if failed else ""
                self._counts.problem("ingest", problem)
            elif self._owed.asked:
                self._answer(bus)
            self._inbox.done(taken)
        if self._owed.asked:
            self._answer(bus)

    def _finish_all(self, bus: MqttClient, taken: Sequence[MqttMessage], stop: threading.Event) -> int:
        """Finish a group, or each message by itself if the whole fails; return how many failed."""
        try:
            self._finish(bus, taken, stop)
        except Exception:
            if len(taken) > 1:
                log.exception("a group of messages failed; each is tried by itself", messages=len(taken))
                return sum(self._finish_all(bus, [message], stop) for message in taken)
            # An error in this program. The sender keeps a message without `down/ack`. The broker must not: messages
            # without our acknowledgement count against the number that it sends us.
            log.exception("a message was not taken in", topic=taken[0].topic)
            self._counts.add("failed")
            bus.ack(taken[0])
            return 1
        return 0

    def _finish(self, bus: MqttClient, taken: Sequence[MqttMessage], stop: threading.Event) -> None:
        group = _Group()
        group.letters, self._letters = self._letters, []
        now = self._clock.now()
        for message in taken:
            self._sort(group, message, now)
        answers = self._append(group, stop)
        if answers is None:
            return
        self._wake(
            bus,
            {batch.shard for batch, answer in zip(group.batches, answers, strict=True) if answer is AppendResult.NEW},
        )
        self._owed.add(group)
        if not self._inbox.holds_more_than(taken) or monotonic() >= self._told_at + TELL_S:
            self._answer(bus)
        bus.ack_all(taken)

    def _wake(self, bus: MqttClient, grown: Collection[Shard]) -> None:
        if grown:
            bus.signal(wake_topic(shard) for shard in grown)

    def _answer(self, bus: MqttClient) -> None:
        """Do the owed work. If the log doesn't allow it now it is tried again, a little later each time."""
        if monotonic() < self._answer_at or not self._may_append():
            return
        try:
            self._intake.note_clocks(self._owed.clocks)
            self._owed.clocks.clear()
            still_owed = self._release(bus, self._owed)
            self._acknowledge(bus, self._owed)
        except IntakeUnavailable as error:
            if self._counts.problem("acknowledgements", error):
                log.warning("gateways not told", error=str(error))
            self._answer_at = monotonic() + self._pause
            self._pause = min(LONGEST_WAIT_S, self._pause * 2)
            return
        except Exception:
            log.exception("gateways not told; they will ask again", gateways=len(self._owed.asked))
            still_owed = _Owed()
        else:
            self._counts.problem("acknowledgements", "")
        self._told_at = monotonic()
        self._owed = still_owed
        self._pause = SHORTEST_WAIT_S

    def _sort(self, group: _Group, message: MqttMessage, now: Instant) -> None:
        """Add a message to the group: as a batch, as a number to be answered, or as a dead letter."""
        if not message.payload and message.topic.endswith((MessageKind.BIRTH, MessageKind.STATE)):
            return  # an empty payload only clears a retained message
        try:
            self._add(group, message_decoder.decode(message.topic, message.payload), now, message.payload)
        except UnreadableMessage as error:
            group.letters.append(DeadLetter(0, now, message.topic, str(error), message.payload))
            if error.envelope:
                gw, ep, seq = error.envelope.gw, error.envelope.ep, error.envelope.seq
                group.lost.append((gw, ep, seq, seq))
                group.asked[gw, ep].add(seq)
        except Exception as error:
            # A message that triggers an error in this program must not stop the others of its group.
            log.exception("message not understood", topic=message.topic)
            group.letters.append(DeadLetter(0, now, message.topic, f"not understood: {error!r}", message.payload))

    def _add(self, group: _Group, message: message_decoder.DecodedMessage, now: Instant, payload: bytes) -> None:
        topic, decoded, fault, refused = message.topic, message.heard, message.fault, message.refused
        if isinstance(decoded, messages.Batch):
            group.batches.append(stamp(message, decoded, now, self._behind(group, topic, decoded, now)))
            group.bodies.append(payload)
            valid_ranges, range_fault = lost_ranges(decoded)
            fault = fault or range_fault
            group.lost += [(topic.gw, decoded.ep, first, last) for first, last in valid_ranges]
            offset = boot_offset(decoded.clk)
            if offset is not None:
                group.offsets[topic.gw, decoded.boot] = offset
        elif isinstance(decoded, messages.Birth):
            group.asked[topic.gw, decoded.ep].add(decoded.seq)
        if fault and isinstance(decoded, messages.Batch | messages.Birth):
            if (topic.gw, decoded.ep) in self._faulty:  # all its messages have the fault, one is kept
                fault = ""
            self._faulty.add((topic.gw, decoded.ep))
        if fault or refused:
            group.letters.append(DeadLetter(0, now, str(topic), "; ".join(filter(None, (refused, fault))), payload))

    def _behind(self, group: _Group, topic: Topic, sent: messages.Batch, now: Instant) -> Milliseconds:
        """Return how far the clock that stamped a batch runs behind, after updating the finding about it."""
        known = self._clocks.get(topic.gw)
        if known is None and not clocks_running_behind.is_late(sent, now):
            return _NONE
        if known is not None and clocks_running_behind.tells_nothing(known, sent, now):
            return clocks_running_behind.lag_of(known, sent, now)
        if topic.kind is MessageKind.DATA:
            finding = clocks_running_behind.judge(known, sent, now)
            if finding.behind != (known.behind if known else 0):
                group.clocks[topic.gw] = finding
                event = "clock_skew found" if finding.behind else "clock_skew is over"
                log.warning(event, gw=topic.gw, boot=sent.boot, behind_ms=finding.behind)
            if finding.is_right:
                self._clocks.pop(topic.gw, None)
            else:
                self._clocks[topic.gw] = finding
            known = finding
        return clocks_running_behind.lag_of(known, sent, now)

    def _append(self, group: _Group, stop: threading.Event) -> list[AppendResult] | None:
        """Append until it succeeds; return None when `stop` came first."""
        pause = SHORTEST_WAIT_S
        while True:
            if not self._may_append():
                if stop.wait(SHORTEST_WAIT_S):
                    return None
                continue
            try:
                answers = self._intake.append(group.batches, group.lost, group.letters)
            except IntakeUnavailable as error:
                if self._counts.problem("intake log", error):
                    log.exception("intake log could not be written")
                if isinstance(error, LogReplaced) and self._alignment:
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

    def _count(self, group: _Group, answers: Sequence[AppendResult]) -> None:
        appended = readings = 0
        for batch, body, answer in zip(group.batches, group.bodies, answers, strict=True):
            if answer is AppendResult.CLONE:
                self._counts.add("clones")
                log.error("cloned gateway heard", gw=batch.gw, ep=batch.ep, seq=batch.seq)
                if (batch.gw, batch.ep) not in self._cloned:  # it repeats it until it is acknowledged, which it isn't
                    self._cloned.add((batch.gw, batch.ep))
                    self._letters.append(_of_clone(batch, body))
                continue
            if answer is AppendResult.UNKNOWN:  # the gateway keeps it; the log counts it as a fault of the gateway
                self._counts.add("unknown")
                log.error("numbers seen of a gateway are damaged", gw=batch.gw, ep=batch.ep, seq=batch.seq)
                continue
            group.asked[batch.gw, batch.ep].add(batch.seq)
            # Also for a duplicate: its first append may have succeeded without the log's answer reaching us.
            if batch.held and any(held.reason == QuarantineReason.UNSET_CLOCK for held in batch.held):
                self._unset.add((batch.gw, batch.boot))
            if answer is AppendResult.DUPLICATE:
                self._counts.add("duplicates")
                continue
            appended += 1
            readings += len(batch.readings)
            if batch.shifted:
                self._counts.add("moved")
                log.info("batch of a wrong clock moved", gw=batch.gw, seq=batch.seq, by_ms=-batch.shifted)
            if batch.held:
                self._counts.add("withheld", len(batch.held))
        self._counts.add("appended", appended)
        self._counts.add("readings", readings)
        for letter in group.letters:
            self._counts.add("dead_letters")
            log.warning("message not readable", topic=letter.topic, reason=letter.reason)
        self._counts.add("lost", sum(last - first + 1 for _gw, _ep, first, last in group.lost))

    def _release(self, bus: MqttClient, owed: _Owed) -> _Owed:
        """Release readings that waited for their boot's offset, a bounded number at a time; return what is still owed.

        A gateway is acknowledged only when all readings of its boot are released, since it may never send the offset
        again.
        """
        still_owed = _Owed()
        room = _PAGE
        for gw, boot in sorted(self._unset & owed.offsets.keys()):
            shift = owed.offsets[gw, boot]
            now = self._clock.now()
            page = self._intake.held(gw=gw, boot=boot, reason=QuarantineReason.UNSET_CLOCK, limit=room) if room else []
            unreleasable = [held.id for held in page if not releasable(held.reading, shift, now)]
            releasable_ids = sorted({held.id for held in page}.difference(unreleasable))
            if releasable_ids:
                self._counts.add("released", self._intake.release(releasable_ids, now=now, shift=shift))
                self._wake(bus, [shard_of(gw)])
            if unreleasable:
                detail = f"no believable time with the offset of its boot, {shift} ms"
                self._intake.change_reason(unreleasable, QuarantineReason.IMPLAUSIBLE_TIME, detail)
            if len(page) == room:
                still_owed.offsets[gw, boot] = shift
            else:
                log.info("clock of a boot known", gw=gw, boot=boot, offset_ms=shift)
                self._unset.discard((gw, boot))
            room -= len(page)
        unfinished = {gw for gw, _ in still_owed.offsets}
        for life in [life for life in owed.asked if life[0] in unfinished]:
            still_owed.asked[life] = owed.asked.pop(life)
        return still_owed

    def _acknowledge(self, bus: MqttClient, owed: _Owed) -> None:
        known = self._intake.known(owed.asked, most=MOST_READ)
        for (gw, ep), asked in owed.asked.items():
            ack = ack_of(ep, known[gw, ep], asked)
            if bus.publish(str(Topic(gw, MessageKind.ACK)), msgspec.json.encode(ack)):
                self._counts.add("acks")

    def _remember(self, stop: threading.Event) -> None:
        """Restore from the log which boots have readings that wait for their offset, and which clocks run behind."""
        while not stop.is_set():
            try:
                self._unset |= self._intake.boots_held(QuarantineReason.UNSET_CLOCK)
                known = self._intake.clocks()
                self._clocks |= {
                    gw: clocks_running_behind.JudgedClock(finding.boot, finding.behind, finding.since)
                    for gw, finding in known.items()
                }
            except IntakeUnavailable as error:
                self._counts.problem("intake log", error)
                stop.wait(SHORTEST_WAIT_S)
            else:
                self._counts.problem("intake log", "")
                return


def _of_clone(batch: IntakeBatch, body: bytes) -> DeadLetter:
    topic = Topic(batch.gw, MessageKind.BACKFILL if batch.origin == IntakeOrigin.BACKFILL else MessageKind.DATA)
    reason = f"cloned gateway: seq {batch.seq} of {batch.ep} is in the log with other readings; not acknowledged"
    return DeadLetter(0, batch.received, str(topic), reason, body)
