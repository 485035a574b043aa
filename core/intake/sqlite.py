"""Intake log in a SQLite file of its own, so that ingest never waits for the records."""

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from core.intake import (
    deduplication,
    quarantine_limits,
    row_codec,
    sqlite_append,
    sqlite_entries,
    sqlite_gateways,
    sqlite_seen,
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
    ShardTaken,
    WithheldReading,
)
from core.intake.quarantine_limits import Excess
from core.intake.replaced_log_guard import ReplacedLogGuard
from core.intake.sqlite_file import LogFile
from core.intake.states import QuarantineReason, QuarantineState
from core.runtime.clock import real_now
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber, Shard

_PRUNED_AT_ONCE = 2_000
_PAUSE_S = 0.02
"""Between two parts of a long piece of work, so that an append never waits for the whole of it."""


class SqliteIntakeLog:
    """An `IntakeLog` in one file. Processes may open it in any order; the first makes it."""

    def __init__(self, path: Path) -> None:
        """Raises: NewerLog, IntakeUnavailable."""
        self._file = LogFile(path)
        self._reached = ReplacedLogGuard()

    def append(
        self,
        batches: Sequence[IntakeBatch],
        lost: Sequence[Lost] = (),
        letters: Sequence[DeadLetter] = (),
    ) -> list[AppendResult]:
        """Append in one commit: the more batches, the fewer flushes of the disk a batch."""
        try:
            return self._append(batches, lost, letters)
        except IntakeUnavailable as error:
            if not isinstance(error.__cause__, sqlite3.IntegrityError):
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
        with self._file.write() as db:
            heads = sqlite_append.heads(db, batches)
            self._reached.must_be_within(sqlite_append.names(db), heads)
            numbers = deduplication.numbers(batches, lost)
            ranges = sqlite_seen.near(db, numbers)
            hashes = sqlite_append.hashes(db, batches if search_entries else deduplication.known(batches, ranges))
            renewed = sqlite_seen.renewed(db, deduplication.may_begin(batches, ranges))
            answers, entries = deduplication.decide(batches, lost, heads=heads, seen=ranges, hashes=hashes)
            sqlite_append.insert(db, entries)
            sqlite_append.hold(db, deduplication.withheld(entries))
            sqlite_seen.save(db, ranges)
            sqlite_gateways.keep(db, letters)
            sqlite_gateways.count(db, row_codec.faults(batches, answers, letters, renewed))
        self._reached.note(heads)
        return answers

    def have(self, gw: GatewayNumber, ep: str) -> list[tuple[int, int]]:
        """Return the ranges seen."""
        with self._file.read() as db:
            return sqlite_seen.all_of(db, (gw, ep))

    def known(self, asked: Mapping[Life, Collection[int]], *, most: int) -> dict[Life, list[tuple[int, int]]]:
        """Return the ranges seen, no more than are of use."""
        with self._file.read() as db:
            return {life: sqlite_seen.some_of(db, life, seqs, most) for life, seqs in asked.items()}

    def damaged_lives(self) -> list[Life]:
        """Return the lives of which numbers seen are damaged."""
        return verification.damaged_lives(self)

    def rebuild_numbers_seen(self, life: Life) -> None:
        """Replace damaged numbers seen of a life."""
        with self._file.write() as db:
            sqlite_seen.rebuild(db, life)

    def damage(self) -> list[str]:
        """Return what SQLite finds wrong with the pages."""
        with self._file.read() as db:
            said = [text for (text,) in db.execute("PRAGMA quick_check(3)")]
        return [] if said == ["ok"] else said

    def verify(self) -> list[str]:
        """Return every row that is damaged, and shards that don't end where their counter says."""
        return [*self.damage(), *verification.damage_of(self)]

    def seen_after(self, last: tuple[str, str, int], limit: int) -> list[row_codec.SeenRow]:
        """Return rows of the ranges seen behind one, for verification."""
        with self._file.read() as db:
            return sqlite_seen.after(db, last, limit)

    def held_after(self, last: int, limit: int) -> list[row_codec.HeldRow]:
        """Return rows of quarantine behind one, for verification."""
        with self._file.read() as db:
            return sqlite_gateways.held_after(db, last, limit)

    def names(self) -> list[str]:
        """Return all names that the log ever had."""
        with self._file.read() as db:
            return sqlite_append.names(db)

    def rename(self) -> str:
        """Give the log a new name."""
        name = fresh_name()
        with self._file.write() as db:
            db.execute("INSERT INTO name (name) VALUES (?)", (name,))
        return name

    def marks(self, positions: Mapping[Shard, int]) -> dict[Shard, str]:
        """Return the marks of positions."""
        with self._file.read() as db:
            name = sqlite_append.names(db)[-1]
            return {shard: mark(name, sqlite_append.batch_at(db, shard, n)) for shard, n in positions.items()}

    def shards(self) -> list[Shard]:
        """Return the shards that ever had a row."""
        return list(self.heads())

    def head(self, shard: Shard) -> int:
        """Return the last position of a shard."""
        with self._file.read() as db:
            return sqlite_append.head(db, shard)

    def heads(self) -> Mapping[Shard, int]:
        """Return the last position of every shard."""
        with self._file.read() as db:
            return dict(db.execute("SELECT shard, n FROM head ORDER BY shard").fetchall())

    def firsts(self) -> Mapping[Shard, int]:
        """Return the first position of every shard whose entry is still there."""
        query = "SELECT shard, (SELECT min(n) FROM entry WHERE entry.shard = head.shard) AS n FROM head"
        with self._file.read() as db:
            return {shard: n for shard, n in db.execute(query) if n is not None}

    def read(self, shard: Shard, after: int, limit: int) -> list[LogEntry]:
        """Return entries behind a position."""
        return self.read_each({shard: after}, limit)[shard]

    def read_each(self, after: Mapping[Shard, int], limit: int) -> dict[Shard, list[LogEntry]]:
        """Return entries behind positions, in one transaction."""
        with self._file.read() as db:
            return sqlite_entries.read_each(db, after, limit)

    def entries_after(self, shard: Shard, after: int, limit: int) -> list[LogEntry]:
        """Return entries behind a position, as far as they are there."""
        with self._file.read() as db:
            return sqlite_entries.entries_after(db, shard, after, limit)

    def pruned(self) -> Mapping[Shard, int]:
        """Return up to where each shard was pruned."""
        with self._file.read() as db:
            return {shard: known.pruned for shard, known in sqlite_entries.ends(db).items()}

    def first_missing(self, positions: Mapping[Shard, int]) -> dict[Shard, int]:
        """Return the next entries that must be there and aren't."""
        with self._file.read() as db:
            return sqlite_entries.first_missing(db, positions)

    def gaps(self) -> list[EntryGap]:
        """Return all that is missing."""
        with self._file.read() as db:
            return sqlite_entries.gaps(db)

    def accept_gaps(self, gaps: Sequence[EntryGap]) -> None:
        """Count what is missing as pruned."""
        with self._file.write() as db:
            sqlite_entries.note_pruned(db, [(gap.shard, gap.last) for gap in gaps])

    def hold(self, held: Sequence[tuple[Shard, int, int, str, str]], *, now: Instant) -> None:
        """Put readings of entries into quarantine; the first reason given for one stands."""
        with self._file.write() as db:
            batches = {at: sqlite_append.batch_at(db, *at) for at in {(shard, n) for shard, n, *_ in held}}
            sqlite_append.hold(
                db,
                [
                    (n, place, batch, WithheldReading(batch.readings[place], QuarantineReason(reason), detail), now)
                    for shard, n, place, reason, detail in held
                    if (batch := batches[shard, n])
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
        given = {name: value for name, value in criteria.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in given)
        with self._file.read() as db:
            found = db.execute(
                f"SELECT {row_codec.HELD_COLUMNS} FROM held"  # noqa: S608 (names are ours)
                f" WHERE {where} AND id > :after ORDER BY id LIMIT :limit",
                {**given, "after": after, "limit": limit},
            ).fetchall()
        return [row_codec.unpack_held(row) for row in found]

    def count_held(self) -> Mapping[str, int]:
        """Return how many readings are held, by reason."""
        with self._file.read() as db:
            return dict(db.execute("SELECT reason, count(*) FROM held WHERE state = 'held' GROUP BY reason").fetchall())

    def boots_held(self, reason: str) -> set[tuple[GatewayNumber, str]]:
        """Return the gateways and boots of which something is held for a reason."""
        query = "SELECT DISTINCT gw, boot FROM held WHERE state = 'held' AND reason = ?"
        with self._file.read() as db:
            return {(gw, boot) for gw, boot in db.execute(query, (reason,))}

    def backlogs(self, *, least: int) -> list[QuarantineBacklog]:
        """Return the gateways of which at least so many readings are held, the most first."""
        with self._file.read() as db:
            return sqlite_gateways.backlogs(db, least)

    def change_reason(self, ids: Sequence[int], reason: str, detail: str) -> None:
        """Hold readings for another reason."""
        with self._file.write() as db:
            query = "UPDATE held SET reason = ?, detail = ? WHERE id = ? AND state = 'held'"
            db.executemany(query, [(reason, detail, id_) for id_ in ids])

    def prune_held(self, *, before: Instant, most: int, now: Instant) -> int:
        """Drop what is too old or too much of one gateway, a few at a time."""

        def drop(excess: Excess, part: int) -> int:
            with self._file.write() as db:
                return sqlite_gateways.drop(db, excess, part, now)

        return quarantine_limits.prune(lambda least: self.backlogs(least=least), drop, before=before, most=most)

    def faults(self) -> list[GatewayFault]:
        """Return what was counted of the gateways."""
        with self._file.read() as db:
            return sqlite_gateways.faults(db)

    def clocks(self) -> dict[GatewayNumber, GatewayClock]:
        """Return the clocks that run behind."""
        with self._file.read() as db:
            return sqlite_gateways.clocks(db)

    def note_clocks(self, found: Mapping[GatewayNumber, GatewayClock]) -> None:
        """Keep what was found of clocks."""
        if found:
            with self._file.write() as db:
                sqlite_gateways.note_clocks(db, found)

    def release(self, ids: Sequence[int], *, now: Instant, shift: Milliseconds = Milliseconds(0)) -> int:
        """Append held readings again, those of one message as one entry."""
        with self._file.write() as db:
            ended = sqlite_gateways.end_as_released(db, ids, now)
            batches = row_codec.released(ended, now, shift)
            sqlite_append.insert(db, deduplication.placed(batches, sqlite_append.heads(db, batches)))
        return len(ended)

    def discard(self, ids: Sequence[int], *, by: str, why: str, now: Instant) -> int:
        """End the quarantine of readings without storing them."""
        with self._file.write() as db:
            return sum(
                db.execute(
                    "UPDATE held SET state = 'discarded', ended = ?, by = ?, why = ? WHERE id = ? AND state = 'held'",
                    (now, by, why, id_),
                ).rowcount
                for id_ in ids
            )

    def dead_letters(self, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return them in order of id."""
        with self._file.read() as db:
            found = db.execute(
                "SELECT id, at, topic, reason, body FROM dead_letter WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
            ).fetchall()
        return [DeadLetter(*row) for row in found]

    def count_dead_letters(self) -> int:
        """Return how many are kept."""
        with self._file.read() as db:
            return int(db.execute("SELECT count(*) FROM dead_letter").fetchone()[0])

    def cursor(self, reader: str) -> Mapping[Shard, int]:
        """Return a reader's cursors that live here."""
        with self._file.read() as db:
            return dict(db.execute("SELECT shard, n FROM cursor WHERE reader = ?", (reader,)).fetchall())

    def move_cursor(self, reader: str, positions: Mapping[Shard, int]) -> None:
        """Note how far a reader has come."""
        with self._file.write() as db:
            db.executemany(
                "INSERT INTO cursor (reader, shard, n) VALUES (?, ?, ?)"
                " ON CONFLICT (reader, shard) DO UPDATE SET n = excluded.n WHERE excluded.n > cursor.n",
                [(reader, shard, n) for shard, n in positions.items()],
            )

    def place_cursor(self, reader: str, positions: Mapping[Shard, int]) -> None:
        """Set a reader's cursors that live here."""
        with self._file.write() as db:
            db.execute("DELETE FROM cursor WHERE reader = ?", (reader,))
            db.executemany(
                "INSERT INTO cursor (reader, shard, n) VALUES (?, ?, ?)",
                [(reader, shard, n) for shard, n in positions.items()],
            )

    def prune(self, *, before: Instant, readers: Sequence[str]) -> int:
        """Drop old rows that all readers have passed, a few at a time; and the copies of what was released."""
        passed = [self.cursor(reader) for reader in readers]
        dropped = 0
        for shard, head in self.heads().items():
            behind = min((cursor.get(shard, 0) for cursor in passed), default=head)
            while True:
                with self._file.write() as db:
                    part = sqlite_entries.prune(db, shard, behind=behind, before=before, most=_PRUNED_AT_ONCE)
                dropped += part
                if part < _PRUNED_AT_ONCE:
                    break
                time.sleep(_PAUSE_S)
        with self._file.write() as db:
            db.execute("DELETE FROM held WHERE state = 'released' AND ended < ?", (before,))
        return dropped

    def claim(self, claim: ShardClaim, *, lease: Milliseconds) -> None:
        """Note that a worker lives and what it owns."""
        now = real_now()
        with self._file.write() as db:
            other = db.execute(
                "SELECT service, worker, first, last, holder FROM claim WHERE service = ? AND until > ?"
                " AND (CASE WHEN worker = ? THEN holder <> ? ELSE first <= ? AND last >= ? END)",
                (claim.service, now, claim.worker, claim.holder, claim.last, claim.first),
            ).fetchone()
            if other:
                raise ShardTaken(ShardClaim(*other))
            db.execute(
                "INSERT OR REPLACE INTO claim (service, worker, first, last, holder, until) VALUES (?, ?, ?, ?, ?, ?)",
                (*msgspec.structs.astuple(claim), now + lease),
            )

    def give_up(self, claim: ShardClaim) -> None:
        """End a worker's claim before its time."""
        with self._file.write() as db:
            db.execute(
                "DELETE FROM claim WHERE service = ? AND worker = ? AND holder = ?",
                (claim.service, claim.worker, claim.holder),
            )

    def claims(self) -> list[ShardClaim]:
        """Return the claims of workers that live."""
        query = "SELECT service, worker, first, last, holder FROM claim WHERE until > ? ORDER BY service, first"
        with self._file.read() as db:
            return [ShardClaim(*row) for row in db.execute(query, (real_now(),))]

    def close(self) -> None:
        """Close the connections."""
        self._file.close()
