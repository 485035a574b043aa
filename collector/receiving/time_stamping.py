"""Stamp of a batch: the time and the value of each reading, as the intake log keeps them.

The stamp decides `at`, once: telemetry, rules and bindings use it unchanged.

* `at` is `ts`. With q&32 (clock unsynced) it is `ts` plus the boot's offset, and the reading is withheld
  (`unset_clock`) until the offset is known.
* A batch whose `sent` lies over two minutes after its receipt came from a wrong clock: all its readings are shifted by
  `sent − received`, one shift for the whole batch, which is kept with it. A batch of a clock that is known to run
  behind is shifted too.
* A reading that then still lies before 2010, or over two minutes after its receipt, or after its own batch was sent by
  a clock that the agent vouches for, has no believable time and is withheld (`implausible_time`). No offset releases
  it: its clock claimed to be right.
* A reading that contradicts itself is withheld (`implausible`), and one that can't be read (`malformed`,
  `unsupported`); the rest of their message is accepted.
* The collector decides where a reading came from: bits of `q` that claim an origin (backfill, released, file, manual)
  are cleared, and backfill is set by the topic.
"""

import math
from collections.abc import Iterator

from collector.receiving.message_decoder import DecodedMessage
from core.ids import Centi
from core.intake.port import IntakeBatch, Quantity, StampedReading, WithheldReading
from core.intake.states import QuarantineReason
from core.runtime.instant import Instant, Milliseconds
from core.wire import messages
from core.wire.messages import CLOCK_TOLERANCE, MOST_LOST, ClockReport, Reading, SeqRanges
from core.wire.quality import FAILED, KNOWN, ORIGIN, Quality
from core.wire.states import IntakeOrigin
from core.wire.topics import MessageKind

EARLIEST = Instant(1_262_304_000_000)
"""2010-01-01T00:00Z: an earlier time means a clock that was never set."""

# Plain integers: one operation of an IntFlag costs more than all other work on a reading.
_FAILED, _UNSYNCED, _BACKFILLED = int(FAILED), int(Quality.CLOCK_UNSYNCED), int(Quality.BACKFILLED)
_UNKNOWN, _OF_DEVICE = int(KNOWN) ^ 0xFFFF, int(KNOWN ^ ORIGIN) | (int(KNOWN) ^ 0xFFFF)
"""Bits that this version doesn't know; bits that a device may set, now or in a newer version."""

_PLACES: dict[Quantity, int] = {"t": 100, "h": 100, "door": 1, "mains": 1, "batt": 1}
_RANGES: dict[Quantity, tuple[float, float]] = {
    "t": (-273.15, 327.67),
    "h": (0, 100),
    "door": (0, 1),
    "mains": (0, 1),
    "batt": (0, 100),
}
"""Physically possible values; the range that a sensor can measure is in its device profile."""
_COLDEST, _WARMEST = _RANGES["t"]
_UNUSUAL = _FAILED | _UNSYNCED | _UNKNOWN


def stamp(
    message: DecodedMessage, sent: messages.Batch, received: Instant, behind: Milliseconds = Milliseconds(0)
) -> IntakeBatch:
    """Return the log's batch for a message with the batch `sent`; `behind` is the known lag of its clock."""
    shift = Milliseconds(sent.sent - received if sent.sent - received > CLOCK_TOLERANCE else -behind)
    offset = boot_offset(sent.clk)
    topic, places = message.topic, message.places
    backfill = topic.kind is MessageKind.BACKFILL
    origin = _BACKFILLED if backfill else 0
    readings: list[StampedReading] = []
    held: list[WithheldReading] = []
    # By the corrected clock. A clock that the agent doesn't vouch for, as after a loss of power, may be years behind.
    published = sent.sent - shift if sent.sent and offset is not None else received
    newest = Instant(min(received, published) + CLOCK_TOLERANCE)
    earliest, latest = EARLIEST + shift, newest + shift
    for index, reading in enumerate(sent.r):
        p, ts, celsius = reading.p, reading.ts, reading.t
        q = reading.q & _OF_DEVICE | origin
        if (
            # The fast path for an ordinary temperature, as nearly all are.
            celsius is not None
            and _COLDEST <= celsius <= _WARMEST
            and earliest <= ts <= latest
            and not q & _UNUSUAL
            and reading.k is None
            and reading.v is None
            and p.isprintable()
        ):
            at, value = ts - shift, round(celsius * 100)
            # No NewType calls: three for every reading would cost as much as three comparisons.
            readings.append(StampedReading(p, "t", at, value, q, ts))  # type: ignore[arg-type]
            continue
        at_or_ts, reason, detail = _instant(reading, shift, offset, newest)
        fault = next(_faults(reading), "")
        stamped = StampedReading(
            reading.p, reading.k or "t", at_or_ts, None if fault else _value(reading), q, Instant(reading.ts)
        )
        if fault:
            place = places[index] if places else index
            held.append(WithheldReading(stamped, QuarantineReason.IMPLAUSIBLE, f"r[{place}]: {fault}"))
        elif reason:
            held.append(WithheldReading(stamped, reason, detail))
        else:
            readings.append(stamped)
    held += [WithheldReading(unreadable.raw, unreadable.reason, unreadable.detail) for unreadable in message.aside]
    return IntakeBatch(
        topic.shard,
        topic.gw,
        sent.ep,
        sent.boot,
        sent.seq,
        message.hash,
        received,
        IntakeOrigin.BACKFILL if backfill else IntakeOrigin.LIVE,
        tuple(readings),
        shift,
        tuple(held),
    )


def boot_offset(clk: ClockReport) -> Milliseconds | None:
    """Return the correction to add to the times of a boot's unsynced readings, None while it is unknown."""
    return None if clk.src == "none" or clk.off is None else Milliseconds(clk.off)


def releasable(reading: StampedReading | bytes, offset: Milliseconds, now: Instant) -> bool:
    """Return whether the offset of its boot, which is now known, gives a held reading a believable time."""
    if not isinstance(reading, StampedReading) or not reading.q & _UNSYNCED:
        return False
    return EARLIEST <= reading.ts + offset <= now + CLOCK_TOLERANCE


def lost_ranges(sent: messages.Batch) -> tuple[SeqRanges, str]:
    """Return the valid ranges that a message declares lost, and what is wrong with the others.

    A spool drops its oldest rows, so all of them lie below the message's own number. Other ranges are not believed: a
    faulty gateway could make everything that it will ever send count as seen. If there are too many only the first are
    used; a spool repeats the others when these are covered.
    """
    if not sent.lost:
        return [], ""
    valid = [(first, last) for first, last in sent.lost if 1 <= first <= last < sent.seq]
    if len(valid) < len(sent.lost):
        first_invalid = next((first, last) for first, last in sent.lost if not 1 <= first <= last < sent.seq)
        return valid[:MOST_LOST], f"lost: {list(first_invalid)} is no range of numbers below its own, {sent.seq}"
    if len(valid) > MOST_LOST:
        return valid[:MOST_LOST], f"lost: {len(valid)} ranges; a message has {MOST_LOST}, and no more were taken"
    return valid, ""


def _instant(
    reading: Reading, shift: Milliseconds, offset: Milliseconds | None, newest: Instant
) -> tuple[Instant, QuarantineReason | None, str]:
    """Return when a reading was taken; else its own time, with the reason and the detail why that can't be."""
    taken = Instant(reading.ts)
    unsynced = bool(reading.q & _UNSYNCED)
    if unsynced and offset is None:
        return taken, QuarantineReason.UNSET_CLOCK, "the clock was not set, and the boot's offset is not known yet"
    at = Instant(reading.ts + offset if unsynced and offset is not None else reading.ts - shift)
    if at < EARLIEST:
        detail = "taken before 2010, by a clock that didn't say that it was not set"
        return taken, QuarantineReason.IMPLAUSIBLE_TIME, detail
    if at > newest:
        ahead = (at - newest + CLOCK_TOLERANCE) / 1000
        detail = f"taken {ahead:+.0f} s from its receipt, or from when it was sent"
        return taken, QuarantineReason.IMPLAUSIBLE_TIME, detail
    return at, None, ""


def _faults(reading: Reading) -> Iterator[str]:
    """Yield the contradictions in a reading. Only the first counts: later ones may follow from it."""
    if not reading.p.isprintable():
        yield "p has characters that can't be printed"
    name, value, other = ("t", reading.t, reading.v) if reading.k is None else ("v", reading.v, reading.t)
    if other is not None:
        yield f"{'v' if name == 't' else 't'} does not go with k {reading.k or 'missing'}"
    if reading.q & _UNKNOWN:
        yield f"q {reading.q} has bits that this version doesn't know; the highest is {int(max(Quality))}"
    failed = bool(reading.q & _FAILED)
    if value is None:
        if not failed:
            yield f"{name} is null, and q {reading.q} names no cause"
        return
    if failed:
        yield f"{name} {value} has q {reading.q}, which says that it failed"
    low, high = _RANGES[reading.k or "t"]
    if not math.isfinite(value) or not low <= value <= high:
        yield f"{name} {value} is not within {low} to {high}"
    if reading.k in ("door", "mains") and value not in (0, 1):
        yield f"{name} {value} of {reading.k} is neither 0 nor 1"


def _value(reading: Reading) -> Centi | None:
    value = reading.t if reading.k is None else reading.v
    return None if value is None else Centi(round(value * _PLACES[reading.k or "t"]))
