"""Messages of the wire contract, version 1, as JSON. `examples/` has one of each.

Unknown fields are ignored. Times are ms UTC, temperatures °C. tests/contract/test_wire_examples.py checks the examples,
tests/integration/test_wire_fuzz.py tries to break the reader.
"""

import hashlib
from typing import Annotated, Literal

import msgspec

from core.runtime.instant import MINUTE, Milliseconds
from core.wire.quality import BITS
from core.wire.states import ConnectionState

LONGEST_BATCH = 500
LARGEST_MESSAGE = 65_536

MOST_LOST = 100
"""Most ranges in `lost`; more follow once these are acknowledged. They fit into a message with the largest batch."""

CLOCK_TOLERANCE = Milliseconds(2 * MINUTE)
"""Longest time that a sender's clock may be ahead before its time stamps are corrected."""

SeqRanges = list[tuple[int, int]]
"""Closed ranges of sequence numbers."""

Ep = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}$")]
"""Spool epoch: 64 random bits, hex, chosen when a spool begins a new numbering."""
Boot = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}$")]
Seq = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Time = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Reading(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Reading: a temperature in `t`, or the quantity `k` in `v` (`h` % RH, `door`, `mains`, `batt` %).

    A failed reading has null as its value and the cause in `q`; never 0, and never the last value.
    """

    p: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    ts: Time
    t: float | None = None
    q: Annotated[int, msgspec.Meta(ge=0, lt=1 << BITS)] = 0
    k: Literal["h", "door", "mains", "batt"] | None = None
    v: float | None = None


class ClockReport(msgspec.Struct, frozen=True, gc=False):
    """State of the agent's clock at the time of publishing."""

    src: Literal["ntp", "rtc", "broker", "none"]
    off: int | None = None
    """Offset to UTC of readings that this boot took before its clock was set, ms; None if unknown."""
    up: int = 0
    """Milliseconds since boot, from a clock that never jumps."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Message `up/data` and `up/backfill`.

    `gw`, `ep`, `boot`, `seq` and `r` are fixed in the spool; the other fields are set at each publish.
    """

    v: Literal[1]
    gw: str
    ep: Ep
    boot: Boot
    seq: Seq
    sent: Time
    clk: ClockReport
    r: Annotated[list[Reading], msgspec.Meta(min_length=1, max_length=LONGEST_BATCH)]
    lost: SeqRanges = []


class ProbeInfo(msgspec.Struct, frozen=True):
    """Probe that the agent reads, with its device profile."""

    p: str
    profile: str
    interval: int
    """Milliseconds between two readings."""


class Birth(msgspec.Struct, frozen=True):
    """Message `up/birth`, retained: identity and configuration of the agent, sent at every connection."""

    v: Literal[1]
    gw: str
    ep: Ep
    boot: Boot
    sent: Time
    firmware: str
    config: str
    """Hash of the agent's configuration."""
    probes: list[ProbeInfo]
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    """Last sequence number of the spool."""


class GatewayState(msgspec.Struct, frozen=True):
    """Message `up/state`, retained. `offline` is also the last will."""

    v: Literal[1]
    gw: str
    state: ConnectionState
    boot: Boot


class BusHealth(msgspec.Struct, frozen=True):
    """Counters of one bus since boot."""

    bus: str
    reads: int
    failures: int
    backing_off: list[int] = []
    """Unit addresses that are not polled for now, since they did not answer."""


class GatewayHealth(msgspec.Struct, frozen=True):
    """Message `up/health`: state of the box."""

    v: Literal[1]
    gw: str
    boot: Boot
    sent: Time
    clk: ClockReport
    spool: int
    """Batches not yet acknowledged."""
    spool_bytes: int
    buses: list[BusHealth] = []
    mains: bool | None = None
    battery: float | None = None
    signal: float | None = None


class Ack(msgspec.Struct, frozen=True):
    """Message `down/ack`: every seq ≤ `upto`, and every seq in the ranges `have`, is stored or declared lost."""

    ep: Ep
    upto: int
    have: SeqRanges = []


class GatewayConfig(msgspec.Struct, frozen=True):
    """Message `down/config`, retained: a version of the agent's configuration."""

    v: Literal[1]
    version: int
    config: msgspec.Raw


def frozen_hash(batch: Batch) -> bytes:
    """Return the hash of the fixed fields. The same (gw, ep, seq) with another hash means a cloned box."""
    fixed_fields = msgspec.json.encode((batch.gw, batch.ep, batch.boot, batch.seq, batch.r))
    return hashlib.sha256(fixed_fields).digest()[:16]
