"""A connection to PostgreSQL that never waits for ever.

A server that hangs, or a network that swallows packets, answers nothing and breaks nothing: without a limit of our own
a thread would wait until somebody kills it. The server has a limit too, so that what we gave up doesn't go on there and
hold its locks.
"""

from typing import Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.abc import PQGen

from core.runtime.clock import monotonic

RV = TypeVar("RV")
_LOOK_S = 0.1


class Patient(Connection[tuple[Any, ...]]):
    """Closes itself when the server hasn't answered one request within `patience_s`; what it was asked may be done."""

    patience_s: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = _LOOK_S, timeout: float | None = None) -> RV:
        """Wait for the server's answer, like every wait of psycopg but the one for the connection itself."""
        limit = timeout if timeout is not None else self.patience_s
        began = monotonic()
        try:
            return super().wait(gen, interval, limit)
        except OperationalError:
            if limit is None or monotonic() - began < limit:
                raise
            self.close()
            msg = f"PostgreSQL gave no answer for {limit:g} s; the connection was closed"
            raise OperationalError(msg) from None
