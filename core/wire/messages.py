"""What the messages of the wire contract, version 1, look like. An example of each stands in `examples/`.

Unknown fields are ignored. Times are ms UTC, temperatures °C.
"""

import hashlib
from typing import Annotated, Literal

import msgspec

from core.wire.quality import BITS

LONGEST_BATCH = 500
LARGEST_MESSAGE = 65_536

MOST_LOST = 100
"""Ranges in `lost` at most; what more there is comes when these are covered. They fit beside the largest batch."""

Ranges = list[tuple[int, int]]
"""Closed ranges of sequence numbers."""

Ep = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}$")]
"""One life of a spool: 64 random bits, hex."""
Boot = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}$")]
Seq = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Time = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Reading(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One reading: a temperature in `t`, or what `k` names in `v` (`h` % RH, `door`, `mains`, `batt` %).

    A failed reading carries null and its cause in `q`, never 0 and never the last value.
    """

    p: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    ts: Time
    t: float | None = None
    q: Annotated[int, msgspec.Meta(ge=0, lt=1 << BITS)] = 0
    k: Literal["h", "door", "mains", "batt"] | None = None
    v: float | None = None


class ClockReport(msgspec.Struct, frozen=True, gc=False):
    """How much the agent trusts its clock when it publishes."""

    src: Literal["ntp", "rtc", "broker", "none"]
    off: int | None = None
    """What the boot's readings taken before its clock was set lack to UTC, ms; None when unknown."""
    up: int = 0
    """Milliseconds since boot, from a clock that never jumps."""


class Batch(msgspec.Struct, frozen=True):
    """`up/data` and `up/backfill`. `gw ep boot seq r` are frozen in the spool, the rest is stamped at each publish."""

    v: Literal[1]
    gw: str
    ep: Ep
    boot: Boot
    seq: Seq
    sent: Time
    clk: ClockReport
    r: Annotated[list[Reading], msgspec.Meta(min_length=1, max_length=LONGEST_BATCH)]
    lost: Ranges = []


class ProbeInfo(msgspec.Struct, frozen=True):
    """A probe that the agent reads, and by which profile."""

    p: str
    profile: str
    interval: int
    """Milliseconds between two readings."""


class Birth(msgspec.Struct, frozen=True):
    """`up/birth`, retained: what the agent is. Sent at every connection."""

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
    """Last sequence number that the spool gave."""


class State(msgspec.Struct, frozen=True):
    """`up/state`, retained; `offline` comes as the last will."""

    v: Literal[1]
    gw: str
    state: Literal["online", "offline"]
    boot: Boot


class BusHealth(msgspec.Struct, frozen=True):
    """Counts of one bus since boot."""

    bus: str
    reads: int
    failures: int
    backing_off: list[int] = []
    """Unit addresses that are left alone for now."""


class Health(msgspec.Struct, frozen=True):
    """`up/health`: how the box is."""

    v: Literal[1]
    gw: str
    boot: Boot
    sent: Time
    clk: ClockReport
    spool: int
    """Batches not yet covered by an ack."""
    spool_bytes: int
    buses: list[BusHealth] = []
    mains: bool | None = None
    battery: float | None = None
    signal: float | None = None


class Ack(msgspec.Struct, frozen=True):
    """`down/ack`: every seq ≤ `upto` is stored or declared lost, and so are the ranges `have` above it."""

    ep: Ep
    upto: int
    have: Ranges = []


class Config(msgspec.Struct, frozen=True):
    """`down/config`, retained: a version of the agent's configuration."""

    v: Literal[1]
    version: int
    config: msgspec.Raw


def frozen_hash(batch: Batch) -> bytes:
    """Hash the frozen part: the same (gw, ep, seq) with another hash is a cloned box."""
    part = msgspec.json.encode((batch.gw, batch.ep, batch.boot, batch.seq, batch.r))
    return hashlib.sha256(part).digest()[:16]
