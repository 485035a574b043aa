"""Idempotency keys: a request that is sent twice takes effect once, and gets the first answer again for a day."""

from collections.abc import Callable
from hashlib import sha256

from sqlalchemy import LargeBinary, String, Text, delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.db.table_base import Record
from core.errors import Invalid
from core.runtime.instant import DAY, Instant


class IdempotentAnswer(Record):
    """Answered request: its sender, its key, its SHA-256, and the answer as JSON text."""

    __tablename__ = "remembered_request"

    sender: Mapped[str] = mapped_column("asker", String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    request: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[str] = mapped_column(Text)
    at: Mapped[Instant] = mapped_column(index=True)


def answer_once(tx: Session, sender: str, key: str, request: bytes, *, now: Instant, work: Callable[[], str]) -> str:
    """Run `work` and store its answer; if `sender` sent the same `request` under `key` before, return that answer.

    The answer is stored in the transaction of the work: both are committed, or neither. Of two requests at the same
    moment, one waits for the other at the unique key. A key is valid for a day.
    Raises: Invalid if the key was used for another request.
    """
    digest = sha256(request).digest()
    tx.execute(delete(IdempotentAnswer).where(IdempotentAnswer.at < now - DAY))
    row = IdempotentAnswer(sender=sender, key=key, request=digest, answer="", at=now)
    try:
        with tx.begin_nested():
            tx.add(row)
    except IntegrityError:
        first_row = tx.get_one(IdempotentAnswer, (sender, key))
        if first_row.request != digest:
            raise Invalid(
                field="Idempotency-Key", value=key, problem="it was used for another request; take a new one"
            ) from None
        return first_row.answer
    row.answer = work()
    return row.answer


def claim(tx: Session, purpose: str, value: str, *, now: Instant) -> bool:
    """Mark a single-use value as used; return False if it was used within the last day."""
    is_unused = False

    def mark() -> str:
        nonlocal is_unused
        is_unused = True
        return ""

    answer_once(tx, purpose, sha256(value.encode()).hexdigest(), b"", now=now, work=mark)
    return is_unused
