"""HTTP server on uvicorn, with limits on the number of connections and on the time of each step of one.

uvicorn limits only the time between two requests. This server also ends a connection that does not send its request
head, does not send the body that it announced, or does not read its answer. If there are too many connections, the one
that has been idle longest is ended for the new one; a request that is being answered is never ended for another.
tests/integration/test_web_server.py tries to break each limit.
"""

import asyncio
import logging
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from core.runtime.connection_limits import RateLimitedLog, connection_limit, tame_accept_errors

MOST_CONNECTIONS = 2_000
HEAD_WITHIN_S = 15.0
"""Time for the head of a request, from the connection or the end of the previous answer."""
BODY_WITHIN_S = 60.0
READ_WITHIN_S = 30.0
LEAST_READ = 8_192
"""Bytes of a waiting answer that a client must read within `READ_WITHIN_S`; the slowest lines carry ten times that."""
LARGEST_HEAD = 32_768
ACCEPTED_AT_ONCE = 128
"""Connections accepted in one iteration of the event loop; `connections.RESERVED` must leave room for them."""
WAITING_TO_BE_ACCEPTED = 1_024
_TICKS_A_SECOND = 10


class _InvalidRequestFilter(logging.Filter):
    """Log filter that counts uvicorn's warnings about invalid requests, since anybody can cause thousands of them."""

    texts = ("Invalid HTTP request", "Unsupported upgrade request", "No supported WebSocket library")

    def __init__(self) -> None:
        super().__init__()
        self.rare = RateLimitedLog("connections sent what is no HTTP request")

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop and count such a warning; pass all other lines."""
        if not record.getMessage().startswith(self.texts):
            return True
        self.rare.note()
        return False


_INVALID_REQUESTS = _InvalidRequestFilter()


class WebServer(uvicorn.Server):
    """uvicorn server with limited connections, all of which end at shutdown.

    uvicorn itself leaves connections open after `timeout_graceful_shutdown`: those of clients that don't read their
    answer, and those accepted in the iteration of the event loop in which listening ended.
    """

    def __init__(self, config: uvicorn.Config, *, most_connections: int = MOST_CONNECTIONS) -> None:
        """Take a configuration that has not been loaded yet, and change it."""
        config.http = LimitedConnection
        config.ws = "none"
        config.backlog = ACCEPTED_AT_ONCE
        config.h11_max_incomplete_event_size = LARGEST_HEAD
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(_INVALID_REQUESTS)
        self._limited = self.server_state = LimitedConnections(connection_limit(most_connections))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        tame_accept_errors(asyncio.get_running_loop())
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(WAITING_TO_BE_ACCEPTED)

    async def on_tick(self, counter: int) -> bool:
        """Check all connections once a second. uvicorn calls this ten times a second."""
        if counter % _TICKS_A_SECOND == 0:
            self._limited.end_slow(asyncio.get_running_loop().time())
            _INVALID_REQUESTS.rare.tell()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down as uvicorn does, then abort the connections that are still open."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


class LimitedConnections(ServerState):
    """Connections of a server, limited in number and time."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self._crowded = RateLimitedLog("more connections than this process takes; silent ones were ended")
        self._slow = RateLimitedLog("slow connections were ended")

    def admit(self, newest: "LimitedConnection") -> None:
        """End a connection if the new one exceeds the limit."""
        if len(self.connections) <= self.limit:
            return
        living = [connection for connection in self._all() if not connection.transport.is_closing()]
        if len(living) <= self.limit:
            return
        silent = [connection for connection in living if connection.is_silent and connection is not newest]
        min(silent, key=lambda connection: connection.since, default=newest).transport.abort()
        self._crowded.note(limit=self.limit)

    def end_slow(self, now: float) -> None:
        """End the connections whose step takes too long."""
        for connection in self._all():
            step = connection.overdue_step(now)
            if step:
                connection.transport.abort()
                self._slow.note(step=step)
        self._crowded.tell(limit=self.limit)
        self._slow.tell()

    def _all(self) -> list["LimitedConnection"]:
        return [connection for connection in self.connections if isinstance(connection, LimitedConnection)]


class LimitedConnection(H11Protocol):
    """HTTP connection that knows its current step, and since when it has been in it."""

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 (uvicorn's)
        super().__init__(*args, **named)
        self.since = self.loop.time()
        self._step: tuple[str, object] = ("head", None)
        self._unread = 0
        self._unread_since = self.since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many connections."""
        super().connection_made(transport)
        if isinstance(self.server_state, LimitedConnections):
            self.server_state.admit(self)

    @property
    def is_silent(self) -> bool:
        """Whether no request is being received or answered."""
        return self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete)

    def overdue_step(self, now: float) -> str:
        """Return the step for which the client takes too long, empty if there is none. Call it every second."""
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
