"""Hash chain over the audit log: seals ranges of its rows, and finds the first row that was changed afterwards.

A seal holds a digest of each row that it covers, and a digest over these and the seal before. Digests are keyed with a
key of the installation's secrets file, so whoever can write to the database alone can't compute them. Rows are sealed
after their commit, so no writer waits for the chain.

What `verify` finds: a row that was changed, deleted or inserted behind what is sealed, and a seal that was changed,
deleted or inserted. What it can't find by itself: what happened before the row was sealed, about a minute after it was
written; and the last seals cut off together with their rows. Who has noted a head (`ChainReport.head`) finds the latter
too: `verify` says whether the chain still has it.

On PostgreSQL a row may be committed long after rows with higher ids. Ids below the highest that were not there yet are
the seal's `gaps`, and the next seal looks for them, for as long as a transaction may last.

Digest of a row: the first 16 bytes of HMAC-SHA256 over the JSON array of its columns, in the order of the table.
Digest of a seal: HMAC-SHA256 over the digest of the seal before, then number, time, ids with digests, and gaps.

`AuditSeal.rows`, for each row in order of id:

| offset | size | meaning |
|---|---|---|
| 0 | 8 | id, big-endian |
| 8 | 16 | digest of the row |
"""

import hmac
import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise

import msgspec
from sqlalchemy import LargeBinary, Text, false, func, not_, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.db.audit import Audit
from core.db.table_base import Record
from core.runtime.instant import HOUR, Instant

ROWS = 2_000
"""Most rows of a seal."""
GAP_KEPT = 24 * HOUR
"""Time after which the number of a row that never came is given up: its transaction was rolled back."""
_ROW = struct.Struct("!Q16s")
_FIRST = b"\0" * 32


class AuditSeal(Record):
    """Seal over rows of the audit log. Seals are numbered from 1 without gaps."""

    __tablename__ = "audit_seal"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[Instant]
    last_id: Mapped[int]
    """Highest id of a row that this seal or one before covers."""
    rows: Mapped[bytes] = mapped_column(LargeBinary)
    gaps: Mapped[str] = mapped_column(Text)
    """JSON list of [first id, last id, when it was noticed]: ids up to `last_id` that may still be committed."""
    digest: Mapped[bytes] = mapped_column(LargeBinary)


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Ids, both ends included, that had no row yet at an instant."""

    first: int
    last: int
    since: Instant


class FaultKind(StrEnum):
    """What happened to a row or a seal."""

    ROW_CHANGED = "row_changed"
    ROW_MISSING = "row_missing"
    ROW_INSERTED = "row_inserted"
    SEAL_CHANGED = "seal_changed"
    HEAD_UNKNOWN = "head_unknown"


class ChainFault(msgspec.Struct, frozen=True):
    """First fault of a chain: the id of a row or the number of a seal; 0 for a head that it never had."""

    kind: FaultKind
    number: int


class ChainReport(msgspec.Struct, frozen=True):
    """Result of a verification."""

    seals: int
    rows: int
    """Rows that were found as they were sealed."""
    unsealed: int
    """Rows since the last seal."""
    head: str
    """Digest of the last seal, hex; empty when there is none."""
    fault: ChainFault | None


def chain_key(index_key: str) -> bytes:
    """Return the key of the chain, made of the index key (hex) of the secrets file."""
    return hmac.digest(bytes.fromhex(index_key), b"audit chain", "sha256")


def seal(tx: Session, key: bytes, now: Instant) -> int:
    """Seal up to `ROWS` rows that no seal covers; return how many. Two sealers at once: one gets an IntegrityError."""
    last = tx.scalar(select(AuditSeal).order_by(AuditSeal.number.desc()).limit(1))
    gaps = [gap for gap in _gaps(last) if now - gap.since < GAP_KEPT]
    late = [row for gap in gaps for row in _rows(tx, gap.first - 1, gap.last)][:ROWS]
    after = last.last_id if last else 0
    rows = late + _rows(tx, after, None, ROWS - len(late))
    if not rows:
        return 0
    ids = [row.id for row in rows]
    highest = max(after, ids[-1])
    gaps = [part for gap in gaps for part in _without(gap, ids)]
    new_ids = [after, *(number for number in ids if number > after)]
    gaps += [Gap(a + 1, b - 1, now) for a, b in pairwise(new_ids) if b - a > 1]
    new = AuditSeal(
        number=last.number + 1 if last else 1,
        at=now,
        last_id=highest,
        rows=b"".join(_ROW.pack(row.id, _row_digest(key, row)) for row in rows),
        gaps=msgspec.json.encode(gaps).decode(),
    )
    new.digest = _seal_digest(key, last.digest if last else _FIRST, new)
    tx.add(new)
    tx.flush()
    return len(rows)


def verify(tx: Session, key: bytes, noted_head: str = "") -> ChainReport:
    """Compare the audit log with its seals, up to the first fault.

    `noted_head` is the head of an earlier report; a chain that never had it was cut off or made anew.
    """
    digest, number, rows, highest, head_found = _FIRST, 0, 0, 0, not noted_head
    fault: ChainFault | None = None
    gaps: Sequence[Gap] = ()
    for one in _seals(tx):
        if one.number != number + 1 or not hmac.compare_digest(one.digest, _seal_digest(key, digest, one)):
            fault = ChainFault(FaultKind.SEAL_CHANGED, number + 1)
            break
        digest, number, highest, gaps = one.digest, one.number, one.last_id, _gaps(one)
        head_found = head_found or one.digest.hex() == noted_head
        sealed = dict(_ROW.iter_unpack(one.rows))
        fault = _first_difference(tx, key, sealed)
        if fault:
            break
        rows += len(sealed)
    if fault is None and (inserted := _first_inserted(tx, rows, highest, gaps)) is not None:
        fault = ChainFault(FaultKind.ROW_INSERTED, inserted)
    if fault is None and not head_found:
        fault = ChainFault(FaultKind.HEAD_UNKNOWN, 0)
    unsealed = tx.scalar(select(func.count()).select_from(Audit).where(Audit.id > highest)) or 0
    return ChainReport(number, rows, unsealed, digest.hex() if number else "", fault)


def _first_difference(tx: Session, key: bytes, sealed: Mapping[int, bytes]) -> ChainFault | None:
    found = {row.id: row for row in _of_ids(tx, list(sealed))}
    for number, row_digest in sorted(sealed.items()):
        row = found.get(number)
        if row is None:
            return ChainFault(FaultKind.ROW_MISSING, number)
        if not hmac.compare_digest(_row_digest(key, row), row_digest):
            return ChainFault(FaultKind.ROW_CHANGED, number)
    return None


def _first_inserted(tx: Session, sealed_rows: int, highest: int, gaps: Sequence[Gap]) -> int | None:
    """Return the lowest id up to `highest` of a row that no seal covers and no gap expects."""
    expected = [Audit.id.between(gap.first, gap.last) for gap in gaps]
    covered = select(Audit.id).where(Audit.id <= highest, not_(or_(false(), *expected)))
    if tx.scalar(select(func.count()).select_from(covered.subquery())) == sealed_rows:
        return None
    sealed = {number for one in _seals(tx) for number, _ in _ROW.iter_unpack(one.rows)}
    return next((number for number in tx.scalars(covered.order_by(Audit.id)) if number not in sealed), None)


def _seals(tx: Session) -> Iterator[AuditSeal]:
    """Yield all seals in order, one by one: a seal of many rows is large."""
    number = 0
    while one := tx.scalar(select(AuditSeal).where(AuditSeal.number > number).order_by(AuditSeal.number).limit(1)):
        yield one
        number = one.number
        tx.expunge(one)


def _rows(tx: Session, after: int, up_to: int | None, most: int = ROWS) -> list[Audit]:
    rows = select(Audit).where(Audit.id > after).order_by(Audit.id).limit(most)
    return list(tx.scalars(rows if up_to is None else rows.where(Audit.id <= up_to)))


def _of_ids(tx: Session, ids: Sequence[int]) -> list[Audit]:
    if not ids:
        return []
    wanted = set(ids)
    rows = select(Audit).where(Audit.id >= min(ids), Audit.id <= max(ids)).execution_options(populate_existing=True)
    return [row for row in tx.scalars(rows) if row.id in wanted]


def _gaps(of: AuditSeal | None) -> list[Gap]:
    return msgspec.json.decode(of.gaps, type=list[Gap]) if of else []


def _without(gap: Gap, ids: Sequence[int]) -> list[Gap]:
    """Return what is left of a gap once these ids have their rows."""
    inside = [gap.first - 1, *(number for number in ids if gap.first <= number <= gap.last), gap.last + 1]
    return [Gap(a + 1, b - 1, gap.since) for a, b in pairwise(inside) if b - a > 1]


def _row_digest(key: bytes, row: Audit) -> bytes:
    columns = [row.id, row.at, row.actor, row.act, row.subject, row.detail]
    return hmac.digest(key, msgspec.json.encode(columns), "sha256")[:16]


def _seal_digest(key: bytes, before: bytes, of: AuditSeal) -> bytes:
    content = msgspec.json.encode([of.number, of.at, of.last_id, of.rows, of.gaps])
    return hmac.digest(key, before + content, "sha256")
