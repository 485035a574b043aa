"""HTTP server and its clients: whatever they do, it serves the others, and leaves nothing behind when it ends."""

import asyncio
import errno
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from core.runtime import connection_limits, web_server
from core.runtime.web_server import WebServer
from tests.fixtures.waiting import until

WITHIN_S = 60.0
LARGE = 64 * 1024 * 1024
"""More than the buffers of a connection hold."""


class Answering:
    """An app with an answer too large to be sent to who doesn't read it."""

    server: WebServer

    def __init__(self) -> None:
        self.asked = threading.Event()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.asked.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(LARGE)})


@contextmanager
def serving(app: "Answering | Short", *, most: int = 100) -> Iterator[int]:
    """Yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        app.server = server = WebServer(config, most_connections=most)
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


def ask(port: int, sent: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), WITHIN_S)
    client.sendall(sent)
    return client


def ended(client: socket.socket) -> bool:
    """Return whether the server ends the connection, after whatever it still says."""
    try:
        while client.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    finally:
        client.close()
    return True


class Short:
    """An app that reads what it is sent and answers shortly, when it is let."""

    server: WebServer

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.asked = 0

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        while (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        await asyncio.to_thread(self.go_on.wait)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HT", id="half a line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n", id="half a head"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n", id="half a second head"),
    ],
)
def test_who_does_not_say_what_it_wants_is_let_go(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(web_server, "HEAD_WITHIN_S", 0.2)
    with serving(Short()) as port:
        assert ended(ask(port, sent))


def test_a_head_that_comes_byte_by_byte_is_no_longer_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "HEAD_WITHIN_S", 1.0)
    with serving(Short()) as port:
        client = ask(port, b"GET / HTTP/1.1\r\n")
        until(lambda: not dribble(client), within_s=WITHIN_S)
        client.close()


def dribble(client: socket.socket) -> bool:
    """Return whether one more line of a head can be sent."""
    try:
        client.sendall(b"X: 1\r\n")
    except OSError:
        return False
    return True


def answer(client: socket.socket) -> bytes:
    read = b""
    while not read.endswith(b"ok"):
        read += client.recv(1_000) or b"ended"
        if read.endswith(b"ended"):
            break
    return read


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "BODY_WITHIN_S", 0.2)
    app = Short()
    with serving(app) as port:
        assert ended(ask(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"))
        assert app.asked == 1


def test_who_does_not_read_the_answer_is_let_go_while_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "READ_WITHIN_S", 0.2)
    app = Answering()
    with socket.socket() as client, serving(app) as port:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(WITHIN_S)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert app.asked.wait(WITHIN_S)
        until(lambda: not app.server.server_state.connections, within_s=WITHIN_S)


def test_however_many_are_silent_one_that_asks_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "HEAD_WITHIN_S", 600.0)
    app = Short()
    idle: list[socket.socket] = []
    with serving(app, most=20) as port:
        busy = ask(port)
        assert answer(busy).endswith(b"ok")
        app.go_on.clear()
        waiting = ask(port)
        until(lambda: app.asked == 2, within_s=WITHIN_S)
        idle += [ask(port, b"") for _ in range(80)]
        until(lambda: len(app.server.server_state.connections) <= 20, within_s=WITHIN_S)
        app.go_on.set()
        with ask(port) as late:
            assert answer(late).endswith(b"ok")
        assert answer(waiting).endswith(b"ok"), "a request under way is given up for nobody"
        assert sum(ended(one) for one in idle[:40]) == 40
    for one in (*idle, busy, waiting):
        one.close()


def test_a_limit_leaves_descriptors_for_the_process_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for soft in (64, 256, 1_024, 65_536, resource.RLIM_INFINITY):
        monkeypatch.setattr(connection_limits.resource, "getrlimit", lambda _what, soft=soft: (soft, soft))
        found[soft] = connection_limits.connection_limit(2_000)
    assert list(found.values()) == [32, 128, 640, 2_000, 2_000]


class Waiting:
    """A transport whose answer waits to be read."""

    def __init__(self) -> None:
        self.unread = 0

    def get_write_buffer_size(self) -> int:
        return self.unread

    def get_extra_info(self, _name: str) -> None:
        return None

    def write(self, _data: bytes) -> None:
        pass


def test_a_slow_line_may_take_its_time_and_one_that_stands_still_may_not() -> None:
    async def reads() -> None:
        state = web_server.LimitedConnections(10)
        connection = web_server.LimitedConnection(uvicorn.Config(Short(), log_config=None), state, {})
        transport = Waiting()
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        now, transport.unread = 1_000.0, 2_000_000
        while transport.unread > 0:  # 3 750 bytes a second: what a page takes on the slowest lines
            assert connection.overdue_step(now) == ""
            transport.unread -= 3_750
            now += 1
        transport.unread = 10_000
        assert connection.overdue_step(now) == ""
        for second in range(1, 60):
            transport.unread -= 1
            late = connection.overdue_step(now + second)
            assert bool(late) is (second > web_server.READ_WITHIN_S), second

    asyncio.run(reads())


def test_a_thousand_endings_are_one_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(connection_limits, "monotonic", lambda: now)
    rare = connection_limits.RateLimitedLog("ended")
    with capture_logs() as lines:
        for _ in range(1_000):
            rare.note(step="asking")
        rare.tell()
        now += 60
        rare.tell(step="asking")
        now += 60
        rare.tell()
    assert [line["times"] for line in lines] == [1, 999]


def test_no_descriptors_left_is_no_traceback_for_each_connection() -> None:
    async def storm() -> None:
        loop = asyncio.get_running_loop()
        connection_limits.tame_accept_errors(loop)
        for _ in range(1_000):
            problem = OSError(errno.EMFILE, "Too many open files")
            loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": problem})

    with capture_logs() as lines:
        asyncio.run(storm())
    assert [(line["event"], line["times"]) for line in lines] == [("no file descriptors left for connections", 1)]
