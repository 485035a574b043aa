"""How a creating request that is sent twice creates once: the first answer is kept under the asker's key for a day."""

from collections.abc import Callable
from hashlib import sha256

from sqlalchemy import LargeBinary, String, Text, delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.db.record import Record
from core.errors import Invalid
from core.runtime.instant import DAY, Instant


class Remembered(Record):
    """A request that was answered: whose, under which key, what it was (hash), and the answer as JSON text."""

    __tablename__ = "remembered_request"

    asker: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    request: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[str] = mapped_column(Text)
    at: Mapped[Instant] = mapped_column(index=True)


def once(tx: Session, asker: str, key: str, request: bytes, *, now: Instant, work: Callable[[], str]) -> str:
    """Do `work` and keep its answer; when `asker` has sent the same `request` under `key` before, only answer.

    It shares the transaction of the work: either both are kept, or neither. Two at the same moment wait for each
    other at the unique key. A key serves for a day.
    Raises: Invalid when the key was used for another request.
    """
    digest = sha256(request).digest()
    tx.execute(delete(Remembered).where(Remembered.at < now - DAY))
    row = Remembered(asker=asker, key=key, request=digest, answer="", at=now)
    try:
        with tx.begin_nested():
            tx.add(row)
    except IntegrityError:
        before = tx.get_one(Remembered, (asker, key))
        if before.request != digest:
            raise Invalid(
                field="Idempotency-Key", value=key, problem="it was used for another request; take a new one"
            ) from None
        return before.answer
    row.answer = work()
    return row.answer


def claim(tx: Session, purpose: str, value: str, *, now: Instant) -> bool:
    """Use up a value that serves once; False when it was used up before (within a day)."""
    fresh = False

    def note() -> str:
        nonlocal fresh
        fresh = True
        return ""

    once(tx, purpose, sha256(value.encode()).hexdigest(), b"", now=now, work=note)
    return fresh
