"""Append-only audit log of changes.

The hash chain seals ranges of rows afterwards, so no writer waits for it.
"""

import json
from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.db.insert import insert_all
from core.db.table_base import Record
from core.runtime.instant import Instant


class Audit(Record):
    """Row of one change. `actor` is `account:3`, `person:7`, `token:2` or `operator` (the command line)."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[Instant] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(40))
    act: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(60))
    """Such as `equipment:12`."""
    detail: Mapped[str] = mapped_column(Text)


class Change(msgspec.Struct, frozen=True):
    """Change to be recorded in the audit log."""

    act: str
    subject: str
    detail: Mapping[str, object] = {}


def record(
    tx: Session, *, at: Instant, actor: str, act: str, subject: str, detail: Mapping[str, object] | None = None
) -> None:
    """Add an audit row in the transaction of the change. Never put personal data in `detail`."""
    tx.add(Audit(at=at, actor=actor, act=act, subject=subject, detail=_json(detail or {})))


def record_all(tx: Session, changes: Iterable[Change], *, at: Instant, actor: str) -> None:
    """Add audit rows for many changes."""
    rows = [
        {"at": at, "actor": actor, "act": change.act, "subject": change.subject, "detail": _json(change.detail)}
        for change in changes
    ]
    insert_all(tx, Audit, rows)


def _json(detail: Mapping[str, object]) -> str:
    return json.dumps(detail, ensure_ascii=False, sort_keys=True, default=str)
