"""An HTTP server whose end is its connections' end."""

import asyncio
import socket

import uvicorn


class WebServer(uvicorn.Server):
    """uvicorn, which by itself leaves connections open that outlast `timeout_graceful_shutdown`.

    Such are those of clients that don't read their answer, and of clients that connected in the turn of the event loop
    in which listening ended: they are overlooked when the others are asked to go.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, then cut what is still open."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
