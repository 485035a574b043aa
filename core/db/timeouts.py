"""PostgreSQL connection with a time limit for each statement.

If the server hangs or the network drops packets, the connection neither answers nor fails. Without a limit on the
client a thread would wait for ever. The server has a limit too, so that a statement that was given up here doesn't go
on there and hold its locks. tests/integration/test_postgres_hangs.py tries to break it.
"""

from typing import Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.abc import PQGen

from core.runtime.clock import monotonic

RV = TypeVar("RV")
_POLL_S = 0.1


class TimeoutConnection(Connection[tuple[Any, ...]]):
    """Connection that closes itself if one request takes longer than `timeout_s`; the server may still execute it."""

    timeout_s: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = _POLL_S, timeout: float | None = None) -> RV:
        """Wait for the server's answer. psycopg calls this for every wait except the one for connecting."""
        limit = timeout if timeout is not None else self.timeout_s
        began = monotonic()
        try:
            return super().wait(gen, interval, limit)
        except OperationalError:
            if limit is None or monotonic() - began < limit:
                raise
            self.close()
            msg = f"PostgreSQL gave no answer for {limit:g} s; the connection was closed"
            raise OperationalError(msg) from None
