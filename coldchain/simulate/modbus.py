"""Simulator of Modbus devices: units behind a TCP port, an RTU converter or a serial line, with faults on demand.

Frames are built by hand, and registers are computed from the device profile. Neither uses the agent's code or pymodbus,
so a test against the simulator checks both. Values come from a callable: physics, a logger's file or a test decides
what a probe measures. The simulator behaves like a device: an unknown unit does not answer, and unknown registers and
blocks that are too long are refused.
"""

import asyncio
import os
import pty
import struct
import threading
import tty
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import msgspec

from core.runtime.logs import logger
from gateway_agent import device_profile
from gateway_agent.device_profile import COILS, DeviceProfile, ProfileChannel

log = logger(__name__)

Framing = Literal["tcp", "rtu", "serial"]
Value = Callable[[str], float | None]
"""Function from the name of a channel to its present value, in the channel's unit; None for a broken sensor."""

MBAP_BYTES = 7
REQUEST_BYTES = 8
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_COUNT = 1, 2, 3


class ModbusFault(msgspec.Struct, frozen=True):
    """Fault of a unit for its next `times` requests, or until it is cleared."""

    kind: Literal[
        "dead",
        "late",
        "wrong_count",
        "exception",
        "garbage",
        "dropped",
        "other_unit",
        "other_transaction",
        "bad_crc",
        "noise_before",
    ]
    """`other_transaction` exists on TCP only, `bad_crc` and `noise_before` on RTU only.

    `noise_before` is followed by the right answer."""
    seconds: float = 0.5
    """Delay of a `late` answer."""
    code: int = 4
    """Modbus code of an `exception`; 4 is device failure."""
    times: int | None = None


class _Unit:
    def __init__(self, device_profile: DeviceProfile, read: Value) -> None:
        self.profile = device_profile
        self.read = read
        self.fault: ModbusFault | None = None
        self.left = 0

    def misbehaves(self) -> ModbusFault | None:
        """Return the fault for this request and count it down."""
        fault = self.fault
        if fault and fault.times is not None:
            self.left -= 1
            if self.left <= 0:
                self.fault = None
        return fault

    def words(self, function: int) -> dict[int, int]:
        """Return all words that the device has for a function code, by address."""
        words: dict[int, int] = {}
        for channel in self.profile.channels:
            value = self.read(channel.name)
            if channel.selector and channel.selector.function == function:
                words[channel.selector.address] = int(next(iter(channel.selector.scales)))
            if channel.status and channel.status.function == function:
                words[channel.status.address] = channel.status.mask if value is None else 0
            if channel.function == function:
                for step, word in enumerate(registers(channel, value)):
                    bits = words.get(channel.address + step, 0) if channel.type == "bit" else 0
                    words[channel.address + step] = word | bits
        return words


class ModbusDevices:
    """Units on one line, served by a thread of their own."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, framing: Framing = "tcp") -> None:
        """Port 0 takes a free port. With `serial` the line is a pseudo terminal, whose name is in `device`."""
        self.host = host
        self.port = port
        self.device = ""
        self.reads: Counter[int] = Counter()
        """Number of requests to each unit."""
        self._framing = framing
        self._units: dict[int, _Unit] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._problem: OSError | None = None
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="modbus-devices", daemon=True)

    def add(self, address: int, kind: str | DeviceProfile, read: Value) -> None:
        """Add a unit with a device profile to the line.

        `read` is called from the line's thread, once for each channel and request.
        """
        self._units[address] = _Unit(device_profile.load(kind) if isinstance(kind, str) else kind, read)

    def fail(self, address: int, fault: ModbusFault | None) -> None:
        """Set the fault of a unit, or clear it with None."""
        unit = self._units[address]
        unit.left = fault.times or 0 if fault else 0
        unit.fault = fault

    def start(self) -> None:
        """Start to serve; afterwards `port` or `device` says where.

        Raises: OSError when the port is taken.
        """
        self._thread.start()
        self._ready.wait()
        if self._problem:
            raise self._problem

    def stop(self) -> None:
        """Stop serving and close every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve_serial() if self._framing == "serial" else self._serve())
        except OSError as error:
            self._problem = error
        finally:
            self._loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._talk, self.host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        # asyncio leaves a connection open that was accepted in the same loop iteration in which its server is closed.
        # So first stop accepting, then end all connections, and close the server last.
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        ending = {asyncio.current_task()}
        while others := asyncio.all_tasks() - ending:  # a connection that was just accepted starts another task
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        server.close()

    async def _serve_serial(self) -> None:
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        self.device = os.ttyname(theirs)
        received = bytearray()

        def send(answer: bytes) -> None:
            os.write(ours, answer)

        def on_bytes() -> None:
            received.extend(os.read(ours, 1024))
            for request in _rtu_requests(received):
                self._answer_rtu(request, send, received.clear)

        self._loop.add_reader(ours, on_bytes)
        self._ready.set()
        await self._end.wait()
        self._loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        received = bytearray()

        def send(answer: bytes) -> None:
            if not writer.is_closing():
                writer.write(answer)

        try:
            while chunk := await reader.read(1024):
                received.extend(chunk)
                if self._framing == "tcp":
                    for head, request in _tcp_requests(received):
                        self._answer_tcp(head, request, send, writer.transport.abort)
                else:
                    for request in _rtu_requests(received):
                        self._answer_rtu(request, send, writer.transport.abort)
        except ConnectionError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._writers.discard(writer)

    def _answer_tcp(self, head: bytes, request: bytes, send: Callable[[bytes], None], drop: Callable[[], None]) -> None:
        unit = request[0]

        def framed(body: bytes, kind: str = "") -> bytes:
            transaction = int.from_bytes(head[:2], "big") + (kind == "other_transaction")
            unit_in_answer = unit + (kind == "other_unit")
            return struct.pack(">H", transaction) + head[2:] + struct.pack(">HB", len(body) + 1, unit_in_answer) + body

        self._answer(unit, request[1:], framed, send, drop)

    def _answer_rtu(self, request: bytes, send: Callable[[bytes], None], drop: Callable[[], None]) -> None:
        unit = request[0]

        def framed(body: bytes, kind: str = "") -> bytes:
            frame = bytes([unit + (kind == "other_unit")]) + body
            crc = crc16(frame)
            noise = bytes([unit]) + os.urandom(3) if kind == "noise_before" else b""
            return noise + frame + (crc[::-1] if kind == "bad_crc" else crc)

        self._answer(unit, request[1:], framed, send, drop)

    def _answer(
        self,
        address: int,
        request: bytes,
        framed: Callable[..., bytes],
        send: Callable[[bytes], None],
        drop: Callable[[], None],
    ) -> None:
        unit = self._units.get(address)
        self.reads[address] += 1
        fault = unit.misbehaves() if unit else ModbusFault("dead")
        if unit is None or (fault and fault.kind == "dead"):
            return
        function, start, count = struct.unpack(">BHH", request)
        if fault is None:
            send(framed(_body(unit, function, start, count)))
        elif fault.kind == "late":
            body = _body(unit, function, start, count)
            self._loop.call_later(fault.seconds, lambda: send(framed(body)))
        elif fault.kind == "wrong_count":
            send(framed(bytes([function, 2 * (count + 1), *bytes(2 * (count + 1))])))
        elif fault.kind == "exception":
            send(framed(bytes([function | 0x80, fault.code])))
        elif fault.kind == "garbage":
            send(os.urandom(11))
        elif fault.kind == "dropped":
            drop()
        else:
            send(framed(_body(unit, function, start, count), fault.kind))


def registers(channel: ProfileChannel, value: float | None) -> list[int]:
    """Return the words in which a device of this profile would hold a value."""
    if channel.type == "bit":
        return [int(bool(value)) << (0 if channel.function in COILS else channel.bit)]
    size = 2 * channel.span
    if value is None:
        number: float = channel.errors[0] if channel.errors else 0
    else:
        scale = next(iter(channel.selector.scales.values())) if channel.selector else channel.scale
        number = (value - channel.offset) / scale
    if channel.type in ("f32", "f64"):
        encoded = struct.pack(">f" if channel.type == "f32" else ">d", float("nan") if value is None else number)
    else:
        encoded = (round(number) % (1 << (8 * size))).to_bytes(size, "big")
    words = [encoded[at : at + 2] for at in range(0, size, 2)]
    if channel.order in ("CDAB", "DCBA"):
        words.reverse()
    if channel.order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return [int.from_bytes(word, "big") for word in words]


def crc16(frame: bytes) -> bytes:
    """Return the two bytes that end an RTU frame, low byte first (Modbus over serial line)."""
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


def _body(unit: _Unit, function: int, start: int, count: int) -> bytes:
    """Return function code and data of the answer, or an exception answer."""
    if function not in (1, 2, 3, 4):
        return bytes([function | 0x80, ILLEGAL_FUNCTION])
    if not 1 <= count <= unit.profile.block.longest:
        return bytes([function | 0x80, ILLEGAL_COUNT])
    words_by_address = unit.words(function)
    if not words_by_address or start < min(words_by_address) or start + count > max(words_by_address) + 1:
        return bytes([function | 0x80, ILLEGAL_ADDRESS])
    words = [words_by_address.get(address, 0) for address in range(start, start + count)]
    if function in COILS:
        bits = sum(bool(word) << place for place, word in enumerate(words))
        data = bits.to_bytes((count + 7) // 8, "little")
    else:
        data = b"".join(word.to_bytes(2, "big") for word in words)
    return bytes([function, len(data)]) + data


def _tcp_requests(received: bytearray) -> list[tuple[bytes, bytes]]:
    """Remove complete requests from the received bytes; return (transaction and protocol, unit and body) of each."""
    requests = []
    while len(received) >= MBAP_BYTES and len(received) >= (end := 6 + int.from_bytes(received[4:6], "big")):
        requests.append((bytes(received[:4]), bytes(received[6:end])))
        del received[:end]
    return requests


def _rtu_requests(received: bytearray) -> list[bytes]:
    """Remove complete requests from the received bytes and return them; a wrong CRC discards all, as in a device."""
    requests = []
    while len(received) >= REQUEST_BYTES:
        frame = bytes(received[:REQUEST_BYTES])
        del received[:REQUEST_BYTES]
        if crc16(frame[:-2]) == frame[-2:]:
            requests.append(frame[:-2])
        else:
            received.clear()
    return requests
