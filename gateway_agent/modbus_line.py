"""Modbus line: sends one request at a time, and returns its answer or the reason why there is none.

pymodbus implements the protocol; this module adds:
* Each request has its own time-out: that of the device plus the time on the wire. pymodbus repeats nothing.
* After a time-out the line stays quiet for longer than the latest possible answer, so that a late answer is not taken
  for that of the next request. An answer to another request is skipped anyway (`reply`); if no other comes it is
  reported.
* If a gateway reports that a unit doesn't answer (exceptions 0x0A and 0x0B), the unit counts as silent.
* If the process was delayed, an answer that arrived meanwhile still counts, even after the time-out.
* 3.5 characters of silence separate two frames on a serial line, also behind a converter (Modbus over Serial Line
  V1.02, 2.5.1.1).
* A connection that was lost while idle is opened again for the current request; a second loss fails the request.
tests/integration/test_bus_poller.py and tests/integration/test_wire_faults.py try to break it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.pdu import ModbusPDU

from config.settings import BusSettings
from core.runtime.clock import monotonic
from gateway_agent.device_profile import COILS, LineDefaults, Timing
from gateway_agent.read_plan import REQUEST_BYTES, BlockRead
from gateway_agent.reply_finder import ReplyFinder

CONNECT_S = 3.0
NEVER_S = 3600.0
"""pymodbus's own time-out, which must not end a request before ours."""
BITS_A_CHARACTER = 11
FASTEST_GUARD_S = 0.00175
"""Silence between frames above 19200 baud, fixed by the standard."""
FASTEST_BAUD = 19_200
LARGEST_RUBBISH = 65_536
"""Most bytes that may come before a reply; pymodbus alone discards its buffer at 264."""
NO_ANSWER_BEHIND_GATEWAY = {
    0x0A: "the gateway has no path to it (exception 0x0A)",
    0x0B: "the gateway got no answer from it (exception 0x0B)",
}
"""Exception codes of a gateway for a unit behind it (MODBUS Application Protocol V1.1b3, 7)."""


class RequestFailed(Exception):
    """Request without a usable answer; the text says what happened."""


class LineUnreachable(RequestFailed):
    """The line can't be opened."""


class NoReply(RequestFailed):
    """No answer came in time."""


class DeviceRefused(RequestFailed):
    """The device answered with an exception."""


class GarbledReply(RequestFailed):
    """Bytes came before the time-out, but not the reply: noise, a wrong CRC, or the reply to another request."""


class ModbusLine:
    """Connection to a line, opened when first needed, and again after it was lost. For one task at a time."""

    def __init__(self, bus: BusSettings, line: LineDefaults) -> None:
        """Take the serial parameters in `line`, also for a line behind an RTU converter."""
        self._bus = bus
        self._line = line
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._lost = asyncio.Event()
        self._reply = ReplyFinder(tcp=bus.kind == "tcp")
        self._free_at = 0.0

    async def read(self, unit: int, block: BlockRead, timing: Timing) -> list[int]:
        """Return the registers (or coils) of a block.

        Raises: LineUnreachable, NoReply, GarbledReply, DeviceRefused.
        """
        is_new = await self._connect()
        await asyncio.sleep(max(0.0, self._free_at - monotonic()))
        answer = await self._request(unit, block, timing)
        if answer is None and not is_new:
            await self._connect()
            answer = await self._request(unit, block, timing)
        if answer is None:
            msg = f"unit {unit}: the connection was lost"
            raise NoReply(msg)
        return _checked(answer, unit, block)

    def close(self) -> None:
        """Close the connection; the next read opens another."""
        if self._client:
            self._client.close()
            self._client = None

    async def _connect(self) -> bool:
        """Open the connection if there is none; return whether it is new."""
        if self._client and self._client.connected:
            return False
        self.close()
        self._lost = asyncio.Event()
        self._client = self._make()
        try:
            async with asyncio.timeout(CONNECT_S):
                connected = await self._client.connect()
        except TimeoutError:
            connected = False
        if not connected:
            self.close()
            msg = f"{self._bus.device or f'{self._bus.host}:{self._bus.port}'} can't be opened"
            raise LineUnreachable(msg)
        return True

    async def _request(self, unit: int, block: BlockRead, timing: Timing) -> ModbusPDU | None:
        """Return the answer, None if the connection was lost meanwhile."""
        client = self._client
        if client is None or not client.connected:
            return None
        read_functions: dict[int, Callable[..., Awaitable[ModbusPDU]]] = {
            1: client.read_coils,
            2: client.read_discrete_inputs,
            3: client.read_holding_registers,
            4: client.read_input_registers,
        }
        read = read_functions[block.function]
        request = asyncio.ensure_future(read(block.address, count=block.count, device_id=unit))
        lost = asyncio.ensure_future(self._lost.wait())
        latency = self._bus.latency
        limit = latency + timing.timeout + (REQUEST_BYTES + block.reply_bytes) * BITS_A_CHARACTER / self._line.baud
        try:
            await asyncio.wait((request, lost), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if self._reply.found:
                # The reply is there but not processed yet, since the process was delayed beyond the time-out.
                await asyncio.wait((request, lost), timeout=CONNECT_S, return_when=asyncio.FIRST_COMPLETED)
            if request.done():
                self._free_at = monotonic() + self._guard(timing)
                if problem := request.exception():
                    msg = f"unit {unit}: {problem}"
                    raise GarbledReply(msg)
                return request.result()
            if lost.done():
                return None
            self._free_at = monotonic() + latency + timing.quiet_after_timeout
            if self._reply.heard and not self._reply.only_echo:
                msg = f"unit {unit}: {self._reply.describe()}"
                raise GarbledReply(msg)
            msg = f"unit {unit}: no answer within {limit:.3f} s"
            raise NoReply(msg)
        finally:
            request.cancel()
            lost.cancel()
            await asyncio.wait((request, lost))

    def _guard(self, timing: Timing) -> float:
        if self._bus.kind == "tcp":
            return timing.guard
        fast = self._line.baud > FASTEST_BAUD
        return max(timing.guard, FASTEST_GUARD_S if fast else 3.5 * BITS_A_CHARACTER / self._line.baud)

    def _make(self) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        lost = self._lost

        def on_connection(connected: bool) -> None:  # noqa: FBT001  (pymodbus calls it so)
            if not connected:
                lost.set()

        client: AsyncModbusTcpClient | AsyncModbusSerialClient
        if self._bus.kind == "rtu":
            client = AsyncModbusSerialClient(
                self._bus.device,
                baudrate=self._line.baud,
                parity=self._line.parity,
                stopbits=self._line.stop_bits,
                timeout=NEVER_S,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._reply.trace,
                trace_connect=on_connection,
            )
        else:
            client = AsyncModbusTcpClient(
                self._bus.host,
                port=self._bus.port,
                framer=FramerType.SOCKET if self._bus.kind == "tcp" else FramerType.RTU,
                timeout=NEVER_S,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._reply.trace,
                trace_connect=on_connection,
            )
        client.ctx.max_buffer_size = LARGEST_RUBBISH
        return client


def _checked(answer: ModbusPDU, unit: int, block: BlockRead) -> list[int]:
    """Return the values of a reply. Its function and byte count are known to match the request."""
    if answer.isError():
        if answer.exception_code in NO_ANSWER_BEHIND_GATEWAY:
            msg = f"unit {unit}: {NO_ANSWER_BEHIND_GATEWAY[answer.exception_code]}"
            raise NoReply(msg)
        msg = f"unit {unit}: refused function {block.function} at {block.address} (exception {answer.exception_code})"
        raise DeviceRefused(msg)
    values = [int(bit) for bit in answer.bits] if block.function in COILS else list(answer.registers)
    return values[: block.count]
