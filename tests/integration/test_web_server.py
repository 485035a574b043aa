"""What an HTTP server leaves behind when it ends: nothing, whatever its clients do."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from core.runtime.web_server import WebServer

WITHIN_S = 10.0
LARGE = 64 * 1024 * 1024
"""More than the buffers of a connection hold."""


class Answering:
    """An app with an answer too large to be sent to who doesn't read it."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.asked.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(LARGE)})


@contextmanager
def serving(app: Answering) -> Iterator[int]:
    """Yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = WebServer(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(WITHIN_S)
        assert not thread.is_alive()


def test_a_client_that_does_not_read_its_answer_is_cut_at_the_end() -> None:
    app = Answering()
    with socket.socket() as client:
        client.settimeout(WITHIN_S)
        with serving(app) as port:
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert app.asked.wait(WITHIN_S)
        read = 0
        while some := client.recv(65_536):
            read += len(some)
        assert read < LARGE
