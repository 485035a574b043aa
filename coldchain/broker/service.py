"""Service `coldchain broker`: amqtt for installations without a broker of their own.

It speaks MQTT 3.1.1 without TLS and carries about a thousand messages a second. Its limits, and why nothing is lost:
* It loses everything at a restart, retained messages too. Agents publish birth and state at every connection, and send
  again whatever no `down/ack` covers.
* It loses a message that a client has not acknowledged within 5 s or before its connection ended. Agents send it again.
* A client that is not connected misses messages. `down/ack` is repeated after each birth and each duplicate; `wake`
  only saves time.
* Gateways that speak MQTT themselves and keep no spool have no guarantee with this broker.
Tried by tests/integration/test_broker.py.
"""

import asyncio
import logging
import threading
from contextlib import suppress

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from coldchain.broker.access import BrokerAccess
from coldchain.broker.packet_filter import PacketFilter, PacketRefused
from config.settings import Settings
from core.runtime.connection_limits import RateLimitedLog, connection_limit, tame_accept_errors
from core.runtime.logs import logger
from core.runtime.port_holder import holder_of

log = logger(__name__)

_POLL_S = 1.0
_END_WITHIN_S = 2.0
_LISTENER = "default"
MOST_CONNECTIONS = 2_000
_NOT_ACKNOWLEDGED = ("Timeout waiting for PUBACK", "Received PUBACK for unknown", "Task failed and will be skipped")
"""Beginnings of amqtt's log lines about a client that is slow to acknowledge: one with a traceback for each message.

A collector with a full disk is such a client. It reports that itself, and these lines would fill the log as well."""


def run(settings: Settings, stop: threading.Event) -> None:
    """Serve until `stop`. While another process holds the port, try again."""
    for name in ("amqtt.broker", "amqtt.mqtt.protocol.handler"):
        logging.getLogger(name).addFilter(_worth_logging)
    asyncio.run(_serve(settings, stop))


def _worth_logging(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NOT_ACKNOWLEDGED)


async def _serve(settings: Settings, stop: threading.Event) -> None:
    tame_accept_errors(asyncio.get_running_loop())
    stopped = asyncio.create_task(asyncio.to_thread(stop.wait))
    broker = Broker(
        BrokerConfig(
            listeners={_LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)},
            # The gate has checked the password, so amqtt only has to require a user name.
            plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False}},
        )
    )
    await broker.start()
    house = _House(broker, BrokerAccess(settings.data_dir, settings.broker.username))
    server = await _listen(house, settings, stopped)
    if server:
        watch = asyncio.create_task(house.watch())
        await stopped
        watch.cancel()
        server.close()
        await house.empty()
    await broker.shutdown()


async def _listen(house: "_House", settings: Settings, stopped: "asyncio.Task[bool]") -> asyncio.Server | None:
    last_error = ""
    while not stopped.done():
        try:
            server = await asyncio.start_server(house.enter, settings.broker.host, settings.broker.port)
        except OSError as error:
            if str(error) != last_error:
                holder = str(holder_of(settings.broker.port))
                log.warning("broker port not to be had", port=settings.broker.port, error=str(error), holder=holder)
            last_error = str(error)
            await asyncio.wait([stopped], timeout=_POLL_S / 4)
            continue
        log.info("broker listening", host=settings.broker.host, port=server.sockets[0].getsockname()[1])
        return server
    return None


class _House:
    """All open connections.

    When there are too many, the oldest connection that has not signed in is ended. One that has signed in is never
    ended to make room.
    """

    def __init__(self, broker: Broker, access: BrokerAccess) -> None:
        self._broker = broker
        self._access = access
        self._inside: dict[str, tuple[PacketFilter, asyncio.Event]] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._strangers: dict[asyncio.StreamWriter, None] = {}
        """Connections that have not signed in yet, the oldest first."""
        self._limit = connection_limit(MOST_CONNECTIONS)
        self._crowded = RateLimitedLog("more broker connections than this process takes; strangers were ended")
        self._refused = RateLimitedLog("broker sign-ins refused")
        self._lost = RateLimitedLog("broker connections ended before they signed in")

    async def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        self._open.add(writer)
        self._strangers[writer] = None
        self._make_room()
        connection = PacketFilter(self._access, reader, writer)
        gone = asyncio.Event()
        try:
            await connection.sign_in()
            del self._strangers[writer]
            await self._end_earlier(connection.client_id)
            self._inside[connection.client_id] = (connection, gone)
            await self._broker.external_connected(connection, connection, _LISTENER)
        except PacketRefused as error:
            self._refused.note(peer=str(connection.get_peer_info()), reason=str(error))
        except (OSError, EOFError) as error:
            if connection.client_id:
                log.info("broker connection lost", client=connection.client_id, error=str(error))
            else:
                self._lost.note(peer=str(connection.get_peer_info()), reason=str(error) or type(error).__name__)
        except Exception:
            # amqtt has bugs, such as a dictionary that changes while it is iterated. Only this connection ends, and its
            # client connects again.
            log.exception("broker connection failed", client=connection.client_id)
        finally:
            self._strangers.pop(writer, None)
            gone.set()
            if self._inside.get(connection.client_id, (None, gone))[0] is connection:
                del self._inside[connection.client_id]
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._open.discard(writer)

    async def watch(self) -> None:
        """End connections whose keep-alive has passed, for as long as the broker runs."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_POLL_S)
            for rare_log in (self._crowded, self._refused, self._lost):
                rare_log.tell()
            for connection, _gone in list(self._inside.values()):
                if connection.overdue(loop.time()):
                    log.info("broker client fell silent", client=connection.client_id)
                    connection.end()

    async def empty(self) -> None:
        """End all connections."""
        departures = [gone.wait() for _gate, gone in self._inside.values()]
        for connection, _gone in list(self._inside.values()):
            connection.end()
        if departures:
            await asyncio.wait([asyncio.ensure_future(departure) for departure in departures], timeout=_END_WITHIN_S)
        for writer in self._open:  # those that have not signed in, or don't read what was written to them
            writer.transport.abort()
        await asyncio.sleep(0)

    def _make_room(self) -> None:
        open_count = sum(not writer.is_closing() for writer in self._open) if len(self._open) > self._limit else 0
        if open_count > self._limit:
            oldest = next(writer for writer in self._strangers if not writer.is_closing())
            oldest.transport.abort()
            self._crowded.note(limit=self._limit)

    async def _end_earlier(self, client_id: str) -> None:
        earlier = self._inside.get(client_id)
        if earlier:
            earlier[0].end()
            await asyncio.wait([asyncio.ensure_future(earlier[1].wait())], timeout=_END_WITHIN_S)
