"""The process `coldchain broker`: amqtt for the installations that have no broker of their own.

MQTT 3.1.1 without TLS, about a thousand messages a second. What it can't do, and who makes up for it:
* it loses everything at a restart, retained messages too: agents publish birth and state at every connection, and send
  again what no `down/ack` covered;
* a message that a client has not acknowledged within 5 s, or before its connection ended, is gone: the same;
* a client that is away misses what is said: `down/ack` is repeated on birth and on every duplicate, `wake` only hints;
* gateways that speak MQTT themselves and keep nothing have no guarantee here.
"""

import asyncio
import logging
import threading
from contextlib import suppress

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from coldchain.broker.access import Access
from coldchain.broker.gate import Gate, Refused
from config.settings import Settings
from core.runtime.connections import RareLog, connection_limit, tame_accept_errors
from core.runtime.logs import logger
from core.runtime.port_holder import holder_of

log = logger(__name__)

_LOOK_S = 1.0
_END_WITHIN_S = 2.0
_LISTENER = "default"
MOST_CONNECTIONS = 2_000
_NOT_ACKNOWLEDGED = ("Timeout waiting for PUBACK", "Received PUBACK for unknown", "Task failed and will be skipped")
"""How amqtt complains, message by message and with a traceback, of a client that is slow to acknowledge. A collector
whose disk is full is one, says so itself, and would fill the log as well."""


def run(settings: Settings, stop: threading.Event) -> None:
    """Serve until `stop`. While another process holds the port, tries again."""
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
            # The gate has checked the password; all that is left to ask is whether there is a name.
            plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False}},
        )
    )
    await broker.start()
    house = _House(broker, Access(settings.data_dir, settings.broker.username))
    server = await _listen(house, settings, stopped)
    if server:
        watch = asyncio.create_task(house.watch())
        await stopped
        watch.cancel()
        server.close()
        await house.empty()
    await broker.shutdown()


async def _listen(house: "_House", settings: Settings, stopped: "asyncio.Task[bool]") -> asyncio.Server | None:
    said = ""
    while not stopped.done():
        try:
            server = await asyncio.start_server(house.enter, settings.broker.host, settings.broker.port)
        except OSError as error:
            if str(error) != said:
                holder = str(holder_of(settings.broker.port))
                log.warning("broker port not to be had", port=settings.broker.port, error=str(error), holder=holder)
            said = str(error)
            await asyncio.wait([stopped], timeout=_LOOK_S / 4)
            continue
        log.info("broker listening", host=settings.broker.host, port=server.sockets[0].getsockname()[1])
        return server
    return None


class _House:
    """Who is connected.

    When there are too many connections, the oldest that hasn't signed in makes room; a gateway that has is never given
    up for a stranger.
    """

    def __init__(self, broker: Broker, access: Access) -> None:
        self._broker = broker
        self._access = access
        self._inside: dict[str, tuple[Gate, asyncio.Event]] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._strangers: dict[asyncio.StreamWriter, None] = {}
        """Who has not signed in yet, the oldest first."""
        self._limit = connection_limit(MOST_CONNECTIONS)
        self._crowded = RareLog("more broker connections than this process takes; strangers were ended")
        self._refused = RareLog("broker sign-ins refused")
        self._lost = RareLog("broker connections ended before they signed in")

    async def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self._open.add(writer)
        self._strangers[writer] = None
        self._make_room()
        gate = Gate(self._access, reader, writer)
        gone = asyncio.Event()
        try:
            await gate.sign_in()
            del self._strangers[writer]
            await self._end_earlier(gate.client_id)
            self._inside[gate.client_id] = (gate, gone)
            await self._broker.external_connected(gate, gate, _LISTENER)
        except Refused as error:
            self._refused.note(peer=str(gate.get_peer_info()), reason=str(error))
        except (OSError, EOFError) as error:
            if gate.client_id:
                log.info("broker connection lost", client=gate.client_id, error=str(error))
            else:
                self._lost.note(peer=str(gate.get_peer_info()), reason=str(error) or type(error).__name__)
        except Exception:
            # amqtt has bugs of its own, such as a dictionary that changes under its loop. One connection ends, and
            # its client comes back; the others never notice.
            log.exception("broker connection failed", client=gate.client_id)
        finally:
            self._strangers.pop(writer, None)
            gone.set()
            if self._inside.get(gate.client_id, (None, gone))[0] is gate:
                del self._inside[gate.client_id]
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._open.discard(writer)

    async def watch(self) -> None:
        """End connections that have been silent for too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            for rare in (self._crowded, self._refused, self._lost):
                rare.tell()
            for gate, _gone in list(self._inside.values()):
                if gate.overdue(loop.time()):
                    log.info("broker client fell silent", client=gate.client_id)
                    gate.end()

    async def empty(self) -> None:
        """End all connections."""
        leaving = [gone.wait() for _gate, gone in self._inside.values()]
        for gate, _gone in list(self._inside.values()):
            gate.end()
        if leaving:
            await asyncio.wait([asyncio.ensure_future(one) for one in leaving], timeout=_END_WITHIN_S)
        for writer in self._open:  # whoever has not signed in, or doesn't read what was written to him
            writer.transport.abort()
        await asyncio.sleep(0)

    def _make_room(self) -> None:
        living = sum(not writer.is_closing() for writer in self._open) if len(self._open) > self._limit else 0
        if living > self._limit:
            oldest = next(writer for writer in self._strangers if not writer.is_closing())
            oldest.transport.abort()
            self._crowded.note(limit=self._limit)

    async def _end_earlier(self, client_id: str) -> None:
        earlier = self._inside.get(client_id)
        if earlier:
            earlier[0].end()
            await asyncio.wait([asyncio.ensure_future(earlier[1].wait())], timeout=_END_WITHIN_S)
