"""Server of the WeChat simulator, for `coldchain wechat-sim`, demos and tests."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from coldchain.simulate.wechat.account import OfficialAccount
from coldchain.simulate.wechat.control_pages import ControlPages
from coldchain.simulate.wechat.faults import Faults
from coldchain.simulate.wechat.phones import Phones
from coldchain.simulate.wechat.platform import Platform
from core.runtime.clock import Clock, clock_from, real_now
from core.runtime.instant import Instant
from core.runtime.logs import logger
from core.runtime.web_server import WebServer

log = logger(__name__)

LAST_ANSWERS_S = 1


def make_app(
    folder: Path, clock: Clock, account: OfficialAccount | None = None, *, now: Callable[[], Instant] = real_now
) -> Faults:
    """Return the ASGI app. Phones are stored in `folder`; `clock` stamps what arrives, `now` is real time."""
    phones = Phones(folder)
    platform = Platform(account or OfficialAccount(), phones, clock, now)
    phones.register(platform.account.users)
    app = Starlette(routes=platform.routes())
    faults = Faults(app)
    app.router.routes.extend(ControlPages(platform, faults).routes())
    return faults


class Simulator:
    """HTTP server of the app, in a thread of this process."""

    def __init__(self, app: Faults, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on a port; 0 takes a free one.

        Raises: OSError when the port is taken.
        """
        self._socket = socket.create_server((host, port), backlog=512)
        # asyncio does not set TCP_NODELAY on this socket by itself; without it an answer's body waits 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_level="warning",
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=LAST_ANSWERS_S,
        )
        self._server = WebServer(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="wechat-sim", daemon=True
        )

    def start(self) -> None:
        """Start to answer. The socket has been open since the beginning, so no connection was refused meanwhile."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the server and close its socket."""
        self._server.should_exit = True
        self._thread.join(LAST_ANSWERS_S + 2)
        self._socket.close()


def run(
    folder: Path,
    *,
    host: str,
    port: int,
    stop: threading.Event,
    virtual_clock: str = "",
    account: OfficialAccount | None = None,
) -> None:
    """Serve until `stop`. `virtual_clock` is the file of a virtual clock, which then stamps the log."""
    simulator = Simulator(make_app(folder, clock_from(virtual_clock), account), host=host, port=port)
    simulator.start()
    log.info("wechat simulator started", url=simulator.url)
    stop.wait()
    simulator.stop()
