"""Process `coldchain api`: starts at once, even if stores are missing, and reports them in /readyz."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from api.app import make_app
from api.app_context import AppContext, LazyStore
from config.secrets import read as read_secrets
from config.settings import Settings
from core.db.engine import Records, connect, url_for
from core.intake.factory import open_log
from core.migrations.migrate import NewerDatabase, upgrade
from core.runtime.clock import Clock, clock_from
from core.runtime.logs import logger
from core.runtime.port_holder import holder_of
from core.runtime.status import StatusFile
from core.runtime.web_server import WebServer
from core.telemetry.factory import open_telemetry

log = logger(__name__)

END_WITHIN_S = 2
TRY_AGAIN_S = 0.5
BACKLOG = 1024
CONNECTIONS = 20
"""Connections to the records: more than concurrent requests (`context.CONCURRENT_REQUESTS`)."""
OF_HEALTH = 2
"""Connections that only the health check uses, so that it answers while all others are taken."""


def run(settings: Settings, stop: Event) -> None:
    """Serve until `stop` is set, then finish the requests under way and end.

    If the port is taken, wait for it, and log once which process has it.
    Raises: NoSecrets, NewerDatabase.
    """
    clock = _clock(settings.virtual_clock, stop)
    if clock is None:
        return
    bound = _listening(settings.api.host, settings.api.port, stop)
    if bound is None:
        return
    with bound as listening, served(settings, clock, stop) as app:
        port = listening.getsockname()[1]
        status = StatusFile(settings.data_dir, "api", settings.api.process).keep(lambda: {"port": port}, stop)
        log.info("api started", host=settings.api.host, port=port)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=END_WITHIN_S,
            )
        )
        Thread(target=_end_with, args=(server, stop), name="api-stop", daemon=True).start()
        asyncio.run(server.serve(sockets=[listening]))
        status.join()
    log.info("api ended")


@contextmanager
def served(settings: Settings, clock: Clock, stop: Event) -> Iterator[FastAPI]:
    """Yield the app over the stores of the settings, each opened when it is first needed.

    Raises: NoSecrets; NewerDatabase at the end, after setting `stop`, if the records have a newer version.
    """
    records = Records(connect(url_for(settings.records.url, settings.data_dir), pool_size=CONNECTIONS))
    watched = Records(connect(url_for(settings.records.url, settings.data_dir), pool_size=OF_HEALTH))
    telemetry = LazyStore("telemetry", lambda: open_telemetry(settings, read_only=True))
    intake = LazyStore("the intake log", lambda: open_log(settings.intake.url, settings.data_dir))
    context = AppContext(
        records=records,
        telemetry=telemetry,
        log=intake,
        clock=clock,
        settings=settings,
        secrets=read_secrets(settings.data_dir),
        watched=watched,
    )
    migration = _Migration(records, stop)
    migration.start()
    try:
        yield make_app(context)
    finally:
        stop.set()
        migration.join()
        for store in (telemetry.opened, intake.opened, records, watched):
            if store is not None:
                store.close()
    if migration.newer is not None:
        raise migration.newer


class _Migration(Thread):
    """Thread that upgrades the records to this version as soon as they can be reached."""

    def __init__(self, records: Records, stop: Event) -> None:
        super().__init__(name="migration", daemon=True)
        self._records = records
        self._stop_all = stop
        self.newer: NewerDatabase | None = None

    def run(self) -> None:
        reported = ""
        while not self._stop_all.is_set():
            try:
                upgrade(self._records.engine)
            except SQLAlchemyError as error:
                problem = str(error).partition("\n")[0]
                if problem != reported:
                    log.warning("records are not there yet", problem=problem)
                reported = problem
            except NewerDatabase as error:
                self.newer = error
                self._stop_all.set()
            else:
                return
            self._stop_all.wait(TRY_AGAIN_S)


class _Server(WebServer):
    """Server that leaves signals to the process, whose `stop` they set."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _end_with(server: _Server, stop: Event) -> None:
    stop.wait()
    server.should_exit = True


def _clock(virtual_clock: str, stop: Event) -> Clock | None:
    """Return the clock, waiting for a virtual one until it is kept; None when `stop` came first."""
    while not stop.is_set():
        try:
            return clock_from(virtual_clock)
        except FileNotFoundError:
            stop.wait(TRY_AGAIN_S)
    return None


def _listening(host: str, port: int, stop: Event) -> socket.socket | None:
    """Return a listening socket; opened here, since uvicorn would end the process in its own way when it can't.

    If the port can't be opened it is tried again until it can; None when `stop` came first.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reported = ""
    while not stop.is_set():
        try:
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            if str(error) != reported:
                holder = str(holder_of(port))
                log.warning("web port not to be had", host=host, port=port, error=str(error), holder=holder)
            reported = str(error)
            stop.wait(TRY_AGAIN_S)
            continue
        # asyncio doesn't recognise such a socket as TCP, so an answer's body would wait 40 ms for an acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    return None
