"""Who changed what, when: append only. The hash chain seals ranges of rows afterwards, so no writer waits."""

import json
from collections.abc import Mapping

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.db.record import Record
from core.runtime.instant import Instant


class Audit(Record):
    """One change. `actor` is `account:3`, `person:7`, `token:2` or `operator` (the command line)."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[Instant] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(40))
    act: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(60))
    """`equipment:12`."""
    detail: Mapped[str] = mapped_column(Text)


def record(
    tx: Session, *, at: Instant, actor: str, act: str, subject: str, detail: Mapping[str, object] | None = None
) -> None:
    """Add an audit row to the transaction of the change itself. Never put personal data in `detail`."""
    tx.add(
        Audit(
            at=at,
            actor=actor,
            act=act,
            subject=subject,
            detail=json.dumps(detail or {}, ensure_ascii=False, sort_keys=True, default=str),
        )
    )
