"""Intake log on PostgreSQL, for a province: several collectors and alerting workers write and follow it at once.

Every append first locks the counters of its shards, in order, and holds them until its commit. So the order of n is the
order of commit, and whoever reads n will never find a row at or below it later; a sequence would promise neither. What
was seen of a gateway is guarded by the same lock, since a gateway belongs to one shard.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import psycopg

from core.intake import (
    deduplication,
    postgres_append,
    postgres_claims,
    postgres_entries,
    postgres_gateways,
    quarantine_limits,
    row_codec,
    verification,
)
from core.intake.cursor_marks import fresh_name, mark
from core.intake.port import (
    AppendResult,
    DeadLetter,
    EntryGap,
    GatewayClock,
    GatewayFault,
    IntakeBatch,
    IntakeUnavailable,
    Life,
    LogEntry,
    Lost,
    QuarantineBacklog,
    QuarantinedReading,
    ShardClaim,
    WithheldReading,
)
from core.intake.postgres_server import Db, LogServer
from core.intake.quarantine_limits import Excess
from core.intake.replaced_log_guard import ReplacedLogGuard
from core.intake.states import QuarantineReason, QuarantineState
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber, Shard, shard_of

_PRUNED_AT_ONCE = 10_000
_PAUSE_S = 0.02


class PostgresIntakeLog:
    """An `IntakeLog` in a PostgreSQL database. Processes may open it in any order; the first makes its tables."""

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's, as for the records.

        Raises: NewerLog, IntakeUnavailable.
        """
        self._server = LogServer(url)
        self._reached = ReplacedLogGuard()

    def append(
        self,
        batches: Sequence[IntakeBatch],
        lost: Sequence[Lost] = (),
        letters: Sequence[DeadLetter] = (),
    ) -> list[AppendResult]:
        """Append in one commit and a fixed number of statements, however many batches there are."""
        try:
            return self._append(batches, lost, letters)
        except IntakeUnavailable as error:
            if not isinstance(error.__cause__, psycopg.errors.UniqueViolation):
                raise
        # A number that wasn't seen is in the log: the row that said so is damaged, and is that of nobody now.
        return self._append(batches, lost, letters, search_entries=True)

    def _append(
        self,
        batches: Sequence[IntakeBatch],
        lost: Sequence[Lost],
        letters: Sequence[DeadLetter],
        *,
        search_entries: bool = False,
    ) -> list[AppendResult]:
        with self._server.transaction() as db:
            heads = postgres_append.lock_heads(
                db, {batch.shard for batch in batches} | {shard_of(gw) for gw, *_ in lost}
            )
            self._reached.must_be_within(_names(db), heads)
            seen = postgres_append.near(db, deduplication.numbers(batches, lost))
            hashes = postgres_append.hashes(db, batches if search_entries else deduplication.known(batches, seen))
            renewed = postgres_append.renewed(db, deduplication.may_begin(batches, seen))
            answers, entries = deduplication.decide(batches, lost, heads=heads, seen=seen, hashes=hashes)
            postgres_append.insert(db, entries, heads)
            postgres_append.hold(db, deduplication.withheld(entries))
            postgres_append.save(db, seen)
            postgres_gateways.keep(db, letters)
            postgres_gateways.count(db, row_codec.faults(batches, answers, letters, renewed))
        self._reached.note(heads)
        return answers

    def have(self, gw: GatewayNumber, ep: str) -> list[tuple[int, int]]:
        """Return the ranges seen."""
        with self._server.transaction() as db:
            query = "SELECT first, last, crc FROM intake.seen WHERE gw = %s AND ep = %s ORDER BY first"
            return row_codec.checked_ranges((gw, ep), db.execute(query, (gw, ep)))

    def known(self, asked: Mapping[Life, Collection[int]], *, most: int) -> dict[Life, list[tuple[int, int]]]:
        """Return the ranges seen, no more than are of use."""
        with self._server.transaction() as db:
            return postgres_append.known(db, asked, most)

    def damaged_lives(self) -> list[Life]:
        """Return the lives of which numbers seen are damaged."""
        return verification.damaged_lives(self)

    def rebuild_numbers_seen(self, life: Life) -> None:
        """Replace damaged numbers seen of a life."""
        with self._server.transaction() as db:
            postgres_append.rebuild(db, life)

    def damage(self) -> list[str]:
        """Return the shards whose last position leads to another entry.

        Of a table whose file was cut the index still has the rows that are gone. The server refuses to read them until
        others are written in their place; then it takes one for the other.
        """
        with self._server.transaction() as db:
            heads = dict(db.execute("SELECT shard, n FROM intake.head WHERE n > 0").fetchall())
            wrong = postgres_entries.at(db, list(heads.items())).keys() - set(heads.items())
        return [f"shard {shard}: entry {n} stands where the last should" for shard, n in sorted(wrong)]

    def verify(self) -> list[str]:
        """Return every row that is damaged, and shards that don't end where their counter says."""
        return verification.damage_of(self)

    def seen_after(self, last: tuple[str, str, int], limit: int) -> list[row_codec.SeenRow]:
        """Return rows of the ranges seen behind one, for verification."""
        query = (
            "SELECT gw, ep, first, last, crc FROM intake.seen WHERE (gw, ep, first) > (%s, %s, %s)"
            " ORDER BY gw, ep, first LIMIT %s"
        )
        with self._server.transaction() as db:
            return cast("list[row_codec.SeenRow]", db.execute(query, (*last, limit)).fetchall())

    def held_after(self, last: int, limit: int) -> list[row_codec.HeldRow]:
        """Return rows of quarantine behind one, for verification."""
        query = "SELECT id, gw, ep, boot, seq, reading FROM intake.held WHERE id > %s ORDER BY id LIMIT %s"
        with self._server.transaction() as db:
            return cast("list[row_codec.HeldRow]", db.execute(query, (last, limit)).fetchall())

    def names(self) -> list[str]:
        """Return all names that the log ever had."""
        with self._server.transaction() as db:
            return _names(db)

    def rename(self) -> str:
        """Give the log a new name."""
        name = fresh_name()
        with self._server.transaction() as db:
            db.execute("INSERT INTO intake.name (name) VALUES (%s)", (name,))
        return name

    def marks(self, positions: Mapping[Shard, int]) -> dict[Shard, str]:
        """Return the marks of positions."""
        with self._server.transaction() as db:
            name = _names(db)[-1]
            entries = postgres_entries.at(db, list(positions.items()))
        return {shard: mark(name, entries.get((shard, n))) for shard, n in positions.items()}

    def shards(self) -> list[Shard]:
        """Return the shards that ever had a row."""
        return list(self.heads())

    def head(self, shard: Shard) -> int:
        """Return the last position of a shard."""
        with self._server.transaction() as db:
            row = db.execute("SELECT n FROM intake.head WHERE shard = %s", (shard,)).fetchone()
        return row[0] if row else 0

    def heads(self) -> Mapping[Shard, int]:
        """Return the last position of every shard."""
        with self._server.transaction() as db:
            return dict(db.execute("SELECT shard, n FROM intake.head WHERE n > 0 ORDER BY shard").fetchall())

    def firsts(self) -> Mapping[Shard, int]:
        """Return the first position of every shard whose entry is still there."""
        query = (
            "SELECT h.shard, e.n FROM intake.head h CROSS JOIN LATERAL"
            " (SELECT n FROM intake.entry e WHERE e.shard = h.shard ORDER BY n LIMIT 1) AS e WHERE h.n > 0"
        )
        with self._server.transaction() as db:
            return dict(db.execute(query).fetchall())

    def read(self, shard: Shard, after: int, limit: int) -> list[LogEntry]:
        """Return entries behind a position."""
        return self.read_each({shard: after}, limit)[shard]

    def read_each(self, after: Mapping[Shard, int], limit: int) -> dict[Shard, list[LogEntry]]:
        """Return entries behind positions, by one statement."""
        with self._server.transaction() as db:
            return postgres_entries.read_each(db, after, limit)

    def entries_after(self, shard: Shard, after: int, limit: int) -> list[LogEntry]:
        """Return entries behind a position, as far as they are there."""
        with self._server.transaction() as db:
            return postgres_entries.entries_after(db, shard, after, limit)

    def pruned(self) -> Mapping[Shard, int]:
        """Return up to where each shard was pruned."""
        with self._server.transaction() as db:
            return {shard: known.pruned for shard, known in postgres_entries.ends(db).items()}

    def first_missing(self, positions: Mapping[Shard, int]) -> dict[Shard, int]:
        """Return the next entries that must be there and aren't."""
        with self._server.transaction() as db:
            return postgres_entries.first_missing(db, positions)

    def gaps(self) -> list[EntryGap]:
        """Return all that is missing."""
        with self._server.transaction() as db:
            return postgres_entries.gaps(db)

    def accept_gaps(self, gaps: Sequence[EntryGap]) -> None:
        """Count what is missing as pruned."""
        with self._server.transaction() as db:
            postgres_entries.accept_gaps(db, [(gap.shard, gap.last) for gap in gaps])

    def hold(self, held: Sequence[tuple[Shard, int, int, str, str]], *, now: Instant) -> None:
        """Put readings of entries into quarantine; the first reason given for one stands."""
        with self._server.transaction() as db:
            batches = postgres_entries.at(db, sorted({(shard, n) for shard, n, *_ in held}))
            postgres_append.hold(
                db,
                [
                    (n, place, batch, WithheldReading(batch.readings[place], QuarantineReason(reason), detail), now)
                    for shard, n, place, reason, detail in held
                    if (batch := batches.get((shard, n)))
                ],
            )

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
        """Return what is in quarantine."""
        criteria = {"state": state, "gw": gw, "boot": boot, "reason": reason}
        with self._server.transaction() as db:
            return postgres_gateways.held(db, criteria, after, limit)

    def count_held(self) -> Mapping[str, int]:
        """Return how many readings are held, by reason."""
        with self._server.transaction() as db:
            query = "SELECT reason, count(*) FROM intake.held WHERE state = 'held' GROUP BY reason"
            return dict(db.execute(query).fetchall())

    def boots_held(self, reason: str) -> set[tuple[GatewayNumber, str]]:
        """Return the gateways and boots of which something is held for a reason."""
        with self._server.transaction() as db:
            query = "SELECT DISTINCT gw, boot FROM intake.held WHERE state = 'held' AND reason = %s"
            return {(gw, boot) for gw, boot in db.execute(query, (reason,))}

    def backlogs(self, *, least: int) -> list[QuarantineBacklog]:
        """Return the gateways of which at least so many readings are held, the most first."""
        with self._server.transaction() as db:
            return postgres_gateways.backlogs(db, least)

    def change_reason(self, ids: Sequence[int], reason: str, detail: str) -> None:
        """Hold readings for another reason."""
        with self._server.transaction() as db:
            query = "UPDATE intake.held SET reason = %s, detail = %s WHERE id = ANY(%s) AND state = 'held'"
            db.execute(query, (reason, postgres_append.text(detail), list(ids)))

    def prune_held(self, *, before: Instant, most: int, now: Instant) -> int:
        """Drop what is too old or too much of one gateway, a few at a time."""

        def drop(excess: Excess, part: int) -> int:
            with self._server.transaction() as db:
                return postgres_gateways.drop(db, excess, part, now)

        return quarantine_limits.prune(lambda least: self.backlogs(least=least), drop, before=before, most=most)

    def faults(self) -> list[GatewayFault]:
        """Return what was counted of the gateways."""
        with self._server.transaction() as db:
            return postgres_gateways.faults(db)

    def clocks(self) -> dict[GatewayNumber, GatewayClock]:
        """Return the clocks that run behind."""
        with self._server.transaction() as db:
            return postgres_gateways.clocks(db)

    def note_clocks(self, found: Mapping[GatewayNumber, GatewayClock]) -> None:
        """Keep what was found of clocks."""
        if found:
            with self._server.transaction() as db:
                postgres_gateways.note_clocks(db, found)

    def release(self, ids: Sequence[int], *, now: Instant, shift: Milliseconds = Milliseconds(0)) -> int:
        """Append held readings again, those of one message as one entry."""
        with self._server.transaction() as db:
            ended = postgres_gateways.end_as_released(db, ids, now)
            batches = row_codec.released(ended, now, shift)
            heads = postgres_append.lock_heads(db, {batch.shard for batch in batches})
            postgres_append.insert(db, deduplication.placed(batches, heads), heads)
        return len(ended)

    def discard(self, ids: Sequence[int], *, by: str, why: str, now: Instant) -> int:
        """End the quarantine of readings without storing them."""
        with self._server.transaction() as db:
            return db.execute(
                "UPDATE intake.held SET state = 'discarded', ended = %s, \"by\" = %s, why = %s"
                " WHERE id = ANY(%s) AND state = 'held'",
                (now, by, why, list(ids)),
            ).rowcount

    def dead_letters(self, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return them in order of id."""
        with self._server.transaction() as db:
            query = "SELECT id, at, topic, reason, body FROM intake.dead_letter WHERE id > %s ORDER BY id LIMIT %s"
            return [DeadLetter(*row) for row in db.execute(query, (after, limit))]

    def count_dead_letters(self) -> int:
        """Return how many are kept."""
        with self._server.transaction() as db:
            row = db.execute("SELECT count(*) FROM intake.dead_letter").fetchone()
        return row[0] if row else 0

    def cursor(self, reader: str) -> Mapping[Shard, int]:
        """Return a reader's cursors that live here."""
        with self._server.transaction() as db:
            return dict(db.execute("SELECT shard, n FROM intake.cursor WHERE reader = %s", (reader,)).fetchall())

    def move_cursor(self, reader: str, positions: Mapping[Shard, int]) -> None:
        """Note how far a reader has come."""
        with self._server.transaction() as db:
            db.execute(
                "INSERT INTO intake.cursor AS kept (reader, shard, n)"
                " SELECT %s, shard, n FROM unnest(%s::text[], %s::bigint[]) AS new (shard, n) ORDER BY shard"
                " ON CONFLICT (reader, shard) DO UPDATE SET n = excluded.n WHERE excluded.n > kept.n",
                (reader, *postgres_append.columns(list(positions.items()), 2)),
            )

    def place_cursor(self, reader: str, positions: Mapping[Shard, int]) -> None:
        """Set a reader's cursors that live here."""
        with self._server.transaction() as db:
            db.execute("DELETE FROM intake.cursor WHERE reader = %s", (reader,))
            db.execute(
                "INSERT INTO intake.cursor (reader, shard, n)"
                " SELECT %s, shard, n FROM unnest(%s::text[], %s::bigint[]) AS new (shard, n)",
                (reader, *postgres_append.columns(list(positions.items()), 2)),
            )

    def prune(self, *, before: Instant, readers: Sequence[str]) -> int:
        """Drop old rows that all readers have passed, a few at a time; and the copies of what was released."""
        passed = [self.cursor(reader) for reader in readers]
        dropped = 0
        for shard, head in self.heads().items():
            behind = min((cursor.get(shard, 0) for cursor in passed), default=head)
            while True:
                with self._server.transaction() as db:
                    part = postgres_entries.prune(db, shard, behind=behind, before=before, most=_PRUNED_AT_ONCE)
                dropped += part
                if part < _PRUNED_AT_ONCE:
                    break
                time.sleep(_PAUSE_S)
        with self._server.transaction() as db:
            db.execute("DELETE FROM intake.held WHERE state = 'released' AND ended < %s", (before,))
        return dropped

    def claim(self, claim: ShardClaim, *, lease: Milliseconds) -> None:
        """Note that a worker lives and what it owns; the server's clock counts."""
        with self._server.transaction() as db:
            postgres_claims.claim(db, claim, lease)

    def give_up(self, claim: ShardClaim) -> None:
        """End a worker's claim before its time."""
        with self._server.transaction() as db:
            postgres_claims.give_up(db, claim)

    def claims(self) -> list[ShardClaim]:
        """Return the claims of workers that live."""
        with self._server.transaction() as db:
            return postgres_claims.living(db)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()


def _names(db: Db) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM intake.name ORDER BY number")]
