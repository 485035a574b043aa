"""Stamp of a message: when each of its readings was taken and what its value is, as the intake log keeps it.

This decides `at`, once: telemetry, rules and bindings use it as it is.

* `at` is `ts`; with q&32 (clock unsynced) `ts` plus the boot's offset, and withheld (`unset_clock`) until it is known;
* a batch whose `sent` lies over two minutes ahead of its receipt came from a clock that is wrong: all of it is moved by
  `sent − received`, one shift for the whole batch, kept with it; so is one of a clock that is known to run behind;
* what then still lies before 2010, or over two minutes after its receipt, or after its own batch was sent by a clock
  that the agent vouches for, has no believable time and is withheld (`implausible_time`). No offset releases it: its
  clock said that it was right;
* a reading that contradicts itself is withheld (`implausible`), and one that can't be read (`malformed`,
  `unsupported`); the rest of their message is taken in;
* where it came from is for the collector to say: bits of `q` that claim an origin (backfill, released, file, manual)
  are cleared, and backfill is set by the topic.
"""

import math
from collections.abc import Iterator

from collector.decode import Message
from core.ids import Centi
from core.intake.port import Batch, Quantity, Stamped, Withheld
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.wire import messages
from core.wire.messages import MOST_LOST, ClockReport, Ranges, Reading
from core.wire.quality import FAILED, KNOWN, ORIGIN, Quality
from core.wire.topics import Kind

AHEAD = Milliseconds(2 * MINUTE)
"""How far a sender's clock may be ahead."""
EARLIEST = Instant(1_262_304_000_000)
"""2010-01-01T00:00Z: an instant before it is a clock that was never set."""

# Plain integers: an operation of an IntFlag costs more than all else that is done to a reading.
_FAILED, _UNSYNCED, _BACKFILLED = int(FAILED), int(Quality.CLOCK_UNSYNCED), int(Quality.BACKFILLED)
_UNKNOWN, _OF_DEVICE = int(KNOWN) ^ 0xFFFF, int(KNOWN ^ ORIGIN) | (int(KNOWN) ^ 0xFFFF)
"""Bits that this version doesn't know; all that a device may set or a newer one might."""

UNSET_CLOCK = "unset_clock"
IMPLAUSIBLE_TIME = "implausible_time"
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


def stamp(message: Message, sent: messages.Batch, received: Instant, behind: Milliseconds = Milliseconds(0)) -> Batch:
    """Return what the log is to keep of a message, whose batch is `sent`; `behind` is what is known of its clock."""
    shift = Milliseconds(sent.sent - received if sent.sent - received > AHEAD else -behind)
    offset = boot_offset(sent.clk)
    topic, places = message.topic, message.places
    backfill = topic.kind is Kind.BACKFILL
    origin = _BACKFILLED if backfill else 0
    readings: list[Stamped] = []
    held: list[Withheld] = []
    # By the clock as it should be. One that nobody vouches for, as after a loss of power, may be years behind.
    published = sent.sent - shift if sent.sent and offset is not None else received
    newest = Instant(min(received, published) + AHEAD)
    earliest, latest = EARLIEST + shift, newest + shift
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
            at, value = ts - shift, round(celsius * 100)
            # To call a NewType takes as long as a comparison, three of them for every reading there is.
            readings.append(Stamped(p, "t", at, value, q, ts))  # type: ignore[arg-type]
            continue
        when, reason, doubt = _instant(reading, shift, offset, newest)
        fault = next(_faults(reading), "")
        stamped = Stamped(reading.p, reading.k or "t", when, None if fault else _value(reading), q, Instant(reading.ts))
        if fault:
            held.append(Withheld(stamped, IMPLAUSIBLE, f"r[{places[place] if places else place}]: {fault}"))
        elif reason:
            held.append(Withheld(stamped, reason, doubt))
        else:
            readings.append(stamped)
    held += [Withheld(each.raw, each.reason, each.detail) for each in message.aside]
    return Batch(
        topic.shard,
        topic.gw,
        sent.ep,
        sent.boot,
        sent.seq,
        message.hash,
        received,
        "backfill" if backfill else "live",
        tuple(readings),
        shift,
        tuple(held),
    )


def boot_offset(clk: ClockReport) -> Milliseconds | None:
    """Return what is to be added to the times of a boot's unsynced readings, None while nobody knows."""
    return None if clk.src == "none" or clk.off is None else Milliseconds(clk.off)


def releasable(reading: Stamped | bytes, offset: Milliseconds, now: Instant) -> bool:
    """Whether the offset of its boot, which is now known, says when a held reading was taken."""
    if not isinstance(reading, Stamped) or not reading.q & _UNSYNCED:
        return False
    return EARLIEST <= reading.ts + offset <= now + AHEAD


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
    reading: Reading, shift: Milliseconds, offset: Milliseconds | None, newest: Instant
) -> tuple[Instant, str, str]:
    """Return when a reading was taken; else its own time, and why that can't be, as a reason and in words."""
    unsynced = bool(reading.q & _UNSYNCED)
    if unsynced and offset is None:
        return Instant(reading.ts), UNSET_CLOCK, "the clock was not set, and the boot's offset is not known yet"
    at = Instant(reading.ts + offset if unsynced and offset is not None else reading.ts - shift)
    if at < EARLIEST:
        return (
            Instant(reading.ts),
            IMPLAUSIBLE_TIME,
            "taken before 2010, by a clock that didn't say that it was not set",
        )
    if at > newest:
        ahead = (at - newest + AHEAD) / 1000
        return Instant(reading.ts), IMPLAUSIBLE_TIME, f"taken {ahead:+.0f} s from its receipt, or from when it was sent"
    return at, "", ""


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
