"""When was a reading taken, and what is its value? A message becomes what the intake log keeps.

* `at` is `ts`; with q&32 (clock unsynced) `ts` plus the boot's offset, and withheld until that is known;
* a batch whose `sent` lies over two minutes ahead of its receipt came from a clock that is wrong: all of it is moved by
  `sent − received`, one shift for the whole batch, kept with it;
* what then still lies before 2010 or over two minutes ahead has no believable time, and is withheld as well;
* a reading that contradicts itself is withheld, and the rest of its message is taken in;
* where it came from is for the collector to say: bits of `q` that claim an origin (backfill, released, file, manual)
  are cleared, and backfill is set by the topic.
"""

import math
from collections.abc import Iterator

from core.ids import Centi
from core.intake.port import Batch, Quantity, Stamped, Withheld
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.wire import messages
from core.wire.messages import MOST_LOST, ClockReport, Ranges, Reading, frozen_hash
from core.wire.quality import FAILED, KNOWN, ORIGIN, Quality
from core.wire.topics import Kind, Topic

AHEAD = Milliseconds(2 * MINUTE)
"""How far a sender's clock may be ahead."""
EARLIEST = Instant(1_262_304_000_000)
"""2010-01-01T00:00Z: an instant before it is a clock that was never set."""

# Plain integers: an operation of an IntFlag costs more than all else that is done to a reading.
_FAILED, _UNSYNCED, _BACKFILLED = int(FAILED), int(Quality.CLOCK_UNSYNCED), int(Quality.BACKFILLED)
_UNKNOWN, _OF_DEVICE = int(KNOWN) ^ 0xFFFF, int(KNOWN ^ ORIGIN) | (int(KNOWN) ^ 0xFFFF)
"""Bits that this version doesn't know; all that a device may set or a newer one might."""

UNSET_CLOCK = "unset_clock"
IMPLAUSIBLE = "implausible"

_PLACES: dict[Quantity, int] = {"t": 100, "h": 100, "door": 1, "mains": 1, "batt": 1}
_RANGES: dict[Quantity, tuple[float, float]] = {
    "t": (-273.15, 327.67),
    "h": (0, 100),
    "door": (0, 1),
    "mains": (0, 1),
    "batt": (0, 100),
}
"""What a value can be at all; what a sensor can measure is its device profile's business."""
_COLDEST, _WARMEST = _RANGES["t"]
_UNUSUAL = _FAILED | _UNSYNCED | _UNKNOWN


def stamp(topic: Topic, sent: messages.Batch, received: Instant) -> Batch:
    """Return what the log is to keep of a message."""
    shift = Milliseconds(sent.sent - received if sent.sent - received > AHEAD else 0)
    offset = boot_offset(sent.clk)
    backfill = topic.kind is Kind.BACKFILL
    origin = _BACKFILLED if backfill else 0
    readings: list[Stamped] = []
    held: list[Withheld] = []
    earliest, latest = EARLIEST + shift, received + AHEAD + shift
    for place, reading in enumerate(sent.r):
        p, ts, celsius = reading.p, reading.ts, reading.t
        q = reading.q & _OF_DEVICE | origin
        if (
            # A temperature that nothing speaks against, as nearly all are: those need not go the long way.
            celsius is not None
            and _COLDEST <= celsius <= _WARMEST
            and earliest <= ts <= latest
            and not q & _UNUSUAL
            and reading.k is None
            and reading.v is None
            and p.isprintable()
        ):
            readings.append(Stamped(p, "t", Instant(ts - shift), Centi(round(celsius * 100)), q, Instant(ts)))
            continue
        at, doubt = _instant(reading, shift, offset, received)
        fault = next(_faults(reading), "")
        stamped = Stamped(reading.p, reading.k or "t", at, None if fault else _value(reading), q, Instant(reading.ts))
        if fault:
            held.append(Withheld(stamped, IMPLAUSIBLE, f"r[{place}]: {fault}"))
        elif doubt:
            held.append(Withheld(stamped, UNSET_CLOCK, doubt))
        else:
            readings.append(stamped)
    return Batch(
        topic.shard,
        topic.gw,
        sent.ep,
        sent.boot,
        sent.seq,
        frozen_hash(sent),
        received,
        "backfill" if backfill else "live",
        tuple(readings),
        shift,
        tuple(held),
    )


def boot_offset(clk: ClockReport) -> Milliseconds | None:
    """Return what is to be added to the times of a boot's unsynced readings, None while nobody knows."""
    return None if clk.src == "none" or clk.off is None else Milliseconds(clk.off)


def believable(at: Instant, received: Instant) -> bool:
    """Whether a reading that was received then can have been taken at `at`."""
    return EARLIEST <= at <= received + AHEAD


def lost_ranges(sent: messages.Batch) -> tuple[Ranges, str]:
    """Return the ranges that a message declares lost, as far as they can be, and what is wrong with the others.

    A spool drops its oldest rows, so all of them lie below the message's own number. What doesn't is not believed: a
    box in error could make all that it will ever send count as seen. Of too many the first are taken in; a spool says
    the others again when these are covered.
    """
    if not sent.lost:
        return [], ""
    believed = [(first, last) for first, last in sent.lost if 1 <= first <= last < sent.seq]
    if len(believed) < len(sent.lost):
        wrong = next((first, last) for first, last in sent.lost if not 1 <= first <= last < sent.seq)
        return believed[:MOST_LOST], f"lost: {list(wrong)} is no range of numbers below its own, {sent.seq}"
    if len(believed) > MOST_LOST:
        return believed[:MOST_LOST], f"lost: {len(believed)} ranges; a message has {MOST_LOST}, and no more were taken"
    return believed, ""


def _instant(
    reading: Reading, shift: Milliseconds, offset: Milliseconds | None, received: Instant
) -> tuple[Instant, str]:
    unsynced = bool(reading.q & _UNSYNCED)
    if unsynced and offset is None:
        return Instant(reading.ts), "the clock was not set, and the boot's offset is not known yet"
    at = Instant(reading.ts + offset if unsynced and offset is not None else reading.ts - shift)
    if not believable(at, received):
        return Instant(reading.ts), f"taken {(at - received) / 1000:+.0f} s from its receipt"
    return at, ""


def _faults(reading: Reading) -> Iterator[str]:
    """Say what contradicts itself in a reading. Only the first fault counts: later ones may follow from it."""
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
