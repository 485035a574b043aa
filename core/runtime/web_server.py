"""An HTTP server with an end to each connection: its own end, a time limit for each step, and a limit on their number.

uvicorn limits only the silence between two requests. Here a connection is ended that does not say what it wants, does
not send the body that it announced, or does not read its answer. When there are too many, the one that has been silent
for longest makes room for the new one; a request that is being answered is never given up for another.
tests/integration/test_web_server.py tries each.
"""

import asyncio
import logging
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from core.runtime.connections import RareLog, connection_limit, tame_accept_errors

MOST_CONNECTIONS = 2_000
HEAD_WITHIN_S = 15.0
"""For a request's first lines, from the connection or the end of the answer before."""
BODY_WITHIN_S = 60.0
READ_WITHIN_S = 30.0
LEAST_READ = 8_192
"""Bytes of a waiting answer to be taken within `READ_WITHIN_S`; the slowest lines carry ten times that."""
LARGEST_HEAD = 32_768
ACCEPTED_AT_ONCE = 128
"""Within one turn of the loop: no more than `connections.RESERVED` leaves room for."""
WAITING_TO_BE_ACCEPTED = 1_024
_TICKS_A_SECOND = 10


class _Junk(logging.Filter):
    """Counts uvicorn's warnings of what is no request, which anybody can cause by the thousand."""

    texts = ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")

    def __init__(self) -> None:
        super().__init__()
        self.rare = RareLog("connections sent what is no HTTP request")

    def filter(self, record: logging.LogRecord) -> bool:
        """Let pass all other lines."""
        if not record.getMessage().startswith(self.texts):
            return True
        self.rare.note()
        return False


_JUNK = _Junk()


class WebServer(uvicorn.Server):
    """uvicorn, which by itself leaves connections open that outlast `timeout_graceful_shutdown`.

    Such are those of clients that don't read their answer, and of clients that connected in the turn of the event loop
    in which listening ended: they are overlooked when the others are asked to go.
    """

    def __init__(self, config: uvicorn.Config, *, most_connections: int = MOST_CONNECTIONS) -> None:
        """Take over a configuration that is not loaded yet."""
        config.http = LimitedConnection
        config.ws = "none"
        config.backlog = ACCEPTED_AT_ONCE
        config.h11_max_incomplete_event_size = LARGEST_HEAD
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(_JUNK)
        self._limited = self.server_state = LimitedConnections(connection_limit(most_connections))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        tame_accept_errors(asyncio.get_running_loop())
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(WAITING_TO_BE_ACCEPTED)

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections once a second; uvicorn calls this ten times."""
        if counter % _TICKS_A_SECOND == 0:
            self._limited.end_slow(asyncio.get_running_loop().time())
            _JUNK.rare.tell()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, then cut what is still open."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


class LimitedConnections(ServerState):
    """The connections of a server."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self._crowded = RareLog("more connections than this process takes; silent ones were ended")
        self._slow = RareLog("slow connections were ended")

    def admit(self, newest: "LimitedConnection") -> None:
        """Make room for a new connection when there are more than the limit."""
        if len(self.connections) <= self.limit:
            return
        living = [one for one in self._all() if not one.transport.is_closing()]
        if len(living) <= self.limit:
            return
        silent = [one for one in living if one.is_silent and one is not newest]
        min(silent, key=lambda one: one.since, default=newest).transport.abort()
        self._crowded.note(limit=self.limit)

    def end_slow(self, now: float) -> None:
        """End the connections whose step takes too long."""
        for one in self._all():
            step = one.overdue_step(now)
            if step:
                one.transport.abort()
                self._slow.note(step=step)
        self._crowded.tell(limit=self.limit)
        self._slow.tell()

    def _all(self) -> list["LimitedConnection"]:
        return [one for one in self.connections if isinstance(one, LimitedConnection)]


class LimitedConnection(H11Protocol):
    """One connection, which knows its step and since when it has been in it."""

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 (uvicorn's)
        super().__init__(*args, **named)
        self.since = self.loop.time()
        self._step: tuple[str, object] = ("head", None)
        self._unread = 0
        self._unread_since = self.since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, as long as there is room."""
        super().connection_made(transport)
        if isinstance(self.server_state, LimitedConnections):
            self.server_state.admit(self)

    @property
    def is_silent(self) -> bool:
        """Whether nothing is being asked or answered."""
        return self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete)

    def overdue_step(self, now: float) -> str:
        """Return the step for which the client takes too long; nothing while all is well. To be asked every second."""
        step = "head" if self.is_silent else "body" if self.conn.their_state is h11.SEND_BODY else "answer"
        if (step, self.cycle) != self._step:
            self._step, self.since = (step, self.cycle), now
        unread = self.transport.get_write_buffer_size()
        if not unread or unread <= self._unread - LEAST_READ or unread > self._unread:
            self._unread, self._unread_since = unread, now
        if unread and now - self._unread_since > READ_WITHIN_S:
            return "reading the answer"
        if step == "head" and now - self.since > HEAD_WITHIN_S:
            return "asking"
        if step == "body" and now - self.since > BODY_WITHIN_S:
            return "sending the body"
        return ""
