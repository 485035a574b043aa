"""Port of the intake log. `tests/contract/intake` is its definition.

Guarantees, whichever store is behind it:
* `append` is one durable transaction: when it returns, every batch in it is in the log at its position or was there
  before.
* (gw, ep, seq) enters once, however often it comes; also after its row was pruned.
* Positions of a shard are 1, 2, 3 … in the order in which they can be read: no reader that has seen n will later find a
  new row at or below n.
* A reader gets every entry behind its position that wasn't pruned, or EntriesMissing.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from core.ids import Centi
from core.intake.states import QuarantineReason, QuarantineState
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber, Shard
from core.wire.states import IntakeOrigin

Quantity = Literal["t", "h", "door", "mains", "batt"]

IN_PARTS = b"in parts"
"""What the hash of a batch begins with whose parts were read one by one. It can be compared with such a one alone."""


class StampedReading(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A reading as the rest of the system knows it: time decided, value an integer."""

    p: str
    """Probe code, without zone suffix."""
    quantity: Quantity
    at: Instant
    """The time that telemetry, rules and bindings use."""
    value: Centi | None
    """0.01 °C, 0.01 % RH, 1 % battery, 0/1; None for a failed reading."""
    q: int
    ts: Instant
    """The time as it was sent."""


class WithheldReading(msgspec.Struct, frozen=True, array_like=True):
    """A reading that the collector can't take in, and why: it goes into quarantine with the append of its batch."""

    reading: StampedReading | bytes
    """As it came, JSON or not, where it can't be read."""
    reason: QuarantineReason
    detail: str


class IntakeBatch(msgspec.Struct, frozen=True, gc=False):
    """One message of a gateway, or readings released from quarantine, as the collector appends it."""

    shard: Shard
    gw: GatewayNumber
    ep: str
    boot: str
    seq: int
    hash: bytes
    """Of the frozen part: tells a cloned box from a duplicate. One that begins with IN_PARTS only from its like."""
    received: Instant
    origin: IntakeOrigin
    readings: tuple[StampedReading, ...]
    shifted: Milliseconds = Milliseconds(0)
    """What was taken off `ts` for a clock that is ahead (below 0: behind), once for all of it."""
    held: tuple[WithheldReading, ...] = ()
    """Readings of the same message that no follower of the log is to see yet. Empty when read from the log."""
    damaged: bool = False
    """The row is damaged: it had readings that can't be read any more."""


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """A batch at its position in the log."""

    n: int
    batch: IntakeBatch


class EntryGap(msgspec.Struct, frozen=True):
    """Closed range of positions whose entries are missing, and weren't pruned."""

    shard: Shard
    first: int
    last: int

    def __str__(self) -> str:
        return f"shard {self.shard}: entries {self.first} to {self.last} are missing; see coldchain realign"


class AppendResult(StrEnum):
    """Result of appending a batch."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CLONE = "clone"
    """Known (gw, ep, seq) with another hash: a cloned box. Not appended, and must not be acknowledged."""
    UNKNOWN = "unknown"
    """The numbers seen of its life are damaged, so it may be in the log or not. Not appended, nor to be acknowledged."""


class QuarantinedReading(msgspec.Struct, frozen=True):
    """A reading kept out of telemetry, and why."""

    id: int
    gw: GatewayNumber
    reading: StampedReading | bytes
    """As it came where it can't be read, which UNREAD reasons say."""
    reason: str
    detail: str
    since: Instant
    boot: str = ""
    state: QuarantineState = QuarantineState.HELD
    ended: Instant | None = None
    by: str = ""
    """Who discarded it, and `why`."""
    why: str = ""


class QuarantineBacklog(msgspec.Struct, frozen=True):
    """Readings of one gateway in quarantine."""

    gw: GatewayNumber
    n: int
    first: Instant
    last: Instant
    """When the oldest and the newest came."""


class GatewayFaultKind(StrEnum):
    """Kind of fault that is counted by gateway."""

    DEAD_LETTER = "dead_letter"
    CLONE = "clone"
    """A batch with the number of another."""
    NUMBERS_DAMAGED = "numbers_damaged"
    """A batch that isn't taken in, since the numbers seen of its life are damaged."""
    RENEWED = "renewed"
    """A spool that began another life: its file was lost, damaged or an older copy, or its disk refused."""
    DROPPED = "dropped"
    """A reading that left quarantine because there was too much of it, or for its age."""


class GatewayFault(msgspec.Struct, frozen=True):
    """Count of one kind of fault of a gateway; never deleted."""

    gw: str
    """Empty for topics that name none."""
    kind: GatewayFaultKind
    n: int
    first: Instant
    last: Instant
    detail: str
    """Of the last time."""


class GatewayClock(msgspec.Struct, frozen=True):
    """A gateway's clock that was found to run behind."""

    boot: str
    """Of which it holds."""
    behind: Milliseconds
    """What is added to its times; 0 once it is right again."""
    since: Instant


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that couldn't be read, kept as it came (up to 64 KiB of it)."""

    id: int
    """Given by the log."""
    at: Instant
    topic: str
    reason: str
    body: bytes


Life = tuple[GatewayNumber, str]
"""A gateway and one life of its spool."""
Lost = tuple[GatewayNumber, str, int, int]
"""A closed range of sequence numbers of a life."""


class IntakeUnavailable(Exception):
    """The log can't be written or read now (disk full, locked, gone). Nothing was acknowledged: try again later."""


class LogReplaced(IntakeUnavailable):
    """The log ends before what this process has appended to it: it was replaced by an older copy while it was open."""


class EntriesMissing(IntakeUnavailable):
    """Entries behind a position are missing, and weren't pruned: the log is damaged. Readers must not pass them by."""


class NewerLog(Exception):
    """The log was made by a newer coldchain."""


class ShardClaim(msgspec.Struct, frozen=True):
    """A worker of a service and the shards that it says are its own."""

    service: str
    worker: str
    first: Shard
    last: Shard
    holder: str
    """Machine and data folder, where one process at a time has a worker's name.

    It takes its own claim again at once.
    """


class ShardTaken(Exception):
    """Another living worker has one of the shards, or the name."""

    def __init__(self, by: ShardClaim) -> None:
        super().__init__(f"{by.worker} has {by.first}-{by.last}, on {by.holder}")
        self.by = by


class IntakeLog(Protocol):
    """The log of one installation. Any thread and any process may call it; every method may raise IntakeUnavailable."""

    def append(
        self,
        batches: Sequence[IntakeBatch],
        lost: Sequence[Lost] = (),
        letters: Sequence[DeadLetter] = (),
    ) -> list[AppendResult]:
        """Append in one durable transaction; answers stand in the order of `batches`.

        `lost` are closed ranges (gw, ep, first, last) that an agent declared dropped, or that came unreadable: from now
        on counted as seen, never stored. `letters` are kept within `core.intake.dead_letter_limits`. Letters and
        clones are counted as faults of their gateway. Damaged numbers seen hold up their life alone.
        """

    def have(self, gw: GatewayNumber, ep: str) -> list[tuple[int, int]]:
        """Return the closed ranges of seq that are stored or lost, ascending and merged: all, however many.

        Raises: IntakeUnavailable when one is damaged.
        """

    def known(self, asked: Mapping[Life, Collection[int]], *, most: int) -> dict[Life, list[tuple[int, int]]]:
        """Return those ranges of each life, or of a life with more than `most` those that matter.

        These are the first, the `most` highest, and those that hold a number `asked` about. Damaged ones are left out.
        """

    def damaged_lives(self) -> list[Life]:
        """Return the lives of which numbers seen are damaged. Reads all of them."""

    def rebuild_numbers_seen(self, life: Life) -> None:
        """Replace damaged numbers seen by those of the life's entries; only `coldchain realign` does so."""

    def damage(self) -> list[str]:
        """Return what is damaged, as far as a quick look at the files, or at the end of each shard, tells.

        A page that a server refuses to read is Unavailable.
        """

    def verify(self) -> list[str]:
        """Return every row that is damaged, and what contradicts itself: reads all. Others read and write meanwhile."""

    def names(self) -> list[str]:
        """Return all names that the log ever had, the present one last. A cursor may have any of them in its mark."""

    def rename(self) -> str:
        """Give the log a new name, for the rest of its life or until it is realigned again; returns it."""

    def marks(self, positions: Mapping[Shard, int]) -> dict[Shard, str]:
        """Return the marks of positions in this log, under its present name."""

    def shards(self) -> list[Shard]:
        """Return the shards that ever had a row."""

    def head(self, shard: Shard) -> int:
        """Return the last position of a shard, 0 when it is empty."""

    def heads(self) -> Mapping[Shard, int]:
        """Return the last position of every shard that ever had a row, as of one moment."""

    def firsts(self) -> Mapping[Shard, int]:
        """Return the first position of every shard whose entry is still there."""

    def read(self, shard: Shard, after: int, limit: int) -> list[LogEntry]:
        """Return up to `limit` entries behind position `after`, in order.

        Raises: EntriesMissing.
        """

    def read_each(self, after: Mapping[Shard, int], limit: int) -> dict[Shard, list[LogEntry]]:
        """Return what `read` does for each of some shards, as of one moment: much cheaper where each has a few.

        Raises: EntriesMissing.
        """

    def entries_after(self, shard: Shard, after: int, limit: int) -> list[LogEntry]:
        """Return what `read` does, as far as it is there: for whoever only looks, and follows nothing."""

    def pruned(self) -> Mapping[Shard, int]:
        """Return up to where each shard with rows was pruned, 0 for not yet: every entry above that must be there."""

    def first_missing(self, positions: Mapping[Shard, int]) -> dict[Shard, int]:
        """Return the next entries that must be there and aren't, each behind the position of its shard. Cheap.

        A shard without a position is looked at from its beginning.
        """

    def gaps(self) -> list[EntryGap]:
        """Return all that is missing, and wasn't pruned. Reads the index of the whole log."""

    def accept_gaps(self, gaps: Sequence[EntryGap]) -> None:
        """Count what is missing as pruned, so that readers pass it; only `coldchain realign` does so."""

    def hold(self, held: Sequence[tuple[Shard, int, int, str, str]], *, now: Instant) -> None:
        """Put readings into quarantine: (shard, n, index in the entry's readings, reason, detail). Once each."""

    def held(
        self,
        *,
        gw: GatewayNumber | None = None,
        boot: str | None = None,
        reason: str | None = None,
        state: QuarantineState = QuarantineState.HELD,
        after: int = 0,
        limit: int = 100,
    ) -> list[QuarantinedReading]:
        """Return what is in quarantine (or was, by `state`) behind id `after`, oldest first."""

    def count_held(self) -> Mapping[str, int]:
        """Return how many readings are held, by reason."""

    def boots_held(self, reason: str) -> set[tuple[GatewayNumber, str]]:
        """Return the gateways and boots of which something is held for a reason."""

    def backlogs(self, *, least: int) -> list[QuarantineBacklog]:
        """Return the gateways of which at least so many readings are held, the most first."""

    def change_reason(self, ids: Sequence[int], reason: str, detail: str) -> None:
        """Hold readings for another reason."""

    def prune_held(self, *, before: Instant, most: int, now: Instant) -> int:
        """Drop held readings that came before an instant, and of each gateway the oldest beyond `most`.

        They are counted as faults of their gateway. Returns how many; in small parts, so that no append waits for all.
        """

    def faults(self) -> list[GatewayFault]:
        """Return what was counted of the gateways, by gateway and kind."""

    def clocks(self) -> dict[GatewayNumber, GatewayClock]:
        """Return the clocks that run behind."""

    def note_clocks(self, found: Mapping[GatewayNumber, GatewayClock]) -> None:
        """Keep what was found of clocks; one that is right again is forgotten."""

    def release(self, ids: Sequence[int], *, now: Instant, shift: Milliseconds = Milliseconds(0)) -> int:
        """Append held readings to the log again, once each (origin `released`, `at` moved by `shift`); returns how many.

        What is held for an UNREAD reason stays.
        """

    def discard(self, ids: Sequence[int], *, by: str, why: str, now: Instant) -> int:
        """End the quarantine of readings without storing them; they stay visible as discarded."""

    def dead_letters(self, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return them in order of id."""

    def count_dead_letters(self) -> int:
        """Return how many are kept."""

    def cursor(self, reader: str) -> Mapping[Shard, int]:
        """Return a reader's cursors that live here (for stores without transactions, and as a mirror for `prune`)."""

    def move_cursor(self, reader: str, positions: Mapping[Shard, int]) -> None:
        """Note how far a reader has come; never moves backwards."""

    def place_cursor(self, reader: str, positions: Mapping[Shard, int]) -> None:
        """Set a reader's cursors that live here to exactly these, backwards too; only `coldchain realign` does so."""

    def prune(self, *, before: Instant, readers: Sequence[str]) -> int:
        """Drop rows received before an instant that all `readers` have passed; what was seen stays known."""

    def claim(self, claim: ShardClaim, *, lease: Milliseconds) -> None:
        """Note that a worker lives and what it owns, for `lease` of real time; again before that ends.

        Raises: ShardTaken, by another worker of the service with a shard in common, or with the same name elsewhere.
        """

    def give_up(self, claim: ShardClaim) -> None:
        """End a worker's claim before its time."""

    def claims(self) -> list[ShardClaim]:
        """Return the claims of workers that live, of all services, by service and first shard."""

    def close(self) -> None:
        """Release files or connections."""
