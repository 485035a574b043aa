"""Reply finder: picks the reply to a Modbus request out of the bytes that a line delivers.

A reply is identified by its unit, function and byte count, and by its CRC (RTU) or transaction number (TCP), at any
offset: line noise, the echo of a two-wire adapter, or the late reply to an earlier request may come before it.
tests/unit/test_reply_finder.py tries to break it. Pure functions of bytes; only the finder keeps state, the current
request.

RTU frame (Modbus over Serial Line V1.02, 2.5.1):

| offset | size | request | reply | exception |
|---|---|---|---|---|
| 0 | 1 | unit | unit | unit |
| 1 | 1 | function 1–4 | function | function + 0x80 |
| 2 | 2 / 1 / 1 | address, big-endian | n, the count of data bytes | exception code |
| 4 / 3 / – | 2 / n / – | count of registers or coils, big-endian | data: registers big-endian, coils from bit 0 | – |
| −2 | 2 | CRC-16, little-endian | CRC-16 | CRC-16 |

TCP frame (MODBUS Messaging on TCP/IP V1.0b, 3.1.3). The body is an RTU frame without its CRC:

| offset | size | meaning |
|---|---|---|
| 0 | 2 | transaction number, big-endian; the reply repeats it |
| 2 | 2 | protocol: 0 |
| 4 | 2 | length of the body, big-endian |
| 6 | length | body |
"""

from collections.abc import Iterator

from pymodbus.framer import FramerRTU

from gateway_agent.device_profile import COILS

REFUSED = 0x80
"""Bit of the function code of an exception."""
CRC_BYTES = 2
MBAP_BYTES = 6
"""Header of a TCP frame, without the unit."""
MOST_SHOWN = 24
"""Most bytes of noise in a message."""
MOST_EXPLAINED = 512
"""Most bytes that are searched for frames, for a message."""


class ReplyFinder:
    """Filter on the packets of a connection (`trace` of pymodbus) that passes nothing but the reply."""

    def __init__(self, *, tcp: bool) -> None:
        """Expect TCP frames if `tcp`, otherwise RTU frames."""
        self._tcp = tcp
        self._request = b""
        self.heard = b""
        """All bytes received since the request was sent."""
        self.found = False
        """Whether the reply has come."""

    def trace(self, sending: bool, data: bytes) -> bytes:  # noqa: FBT001  (pymodbus calls it so)
        """Return sent bytes unchanged; of received bytes return only the reply, nothing until it is complete."""
        if sending:
            self._request, self.heard, self.found = data, b"", False
            return data
        self.heard = data
        reply = find_tcp(self._request, data) if self._tcp else find_rtu(self._request, data)
        self.found = self.found or bool(reply)
        return reply

    @property
    def only_echo(self) -> bool:
        """Whether only the request came back, as an echo of a two-wire adapter."""
        return not self._tcp and self.heard == self._request

    def describe(self) -> str:
        """Return a message about what came instead of the reply."""
        differences = _tcp_differences if self._tcp else _rtu_differences
        difference = next(differences(self._request, self.heard[:MOST_EXPLAINED]), "")
        if difference:
            return difference
        shown = self.heard[:MOST_SHOWN].hex(" ") + (" …" if len(self.heard) > MOST_SHOWN else "")
        return f"{len(self.heard)} bytes that are no frame: {shown}"


def find_rtu(request: bytes, received: bytes) -> bytes:
    """Return the first complete reply to an RTU request, empty if there is none yet."""
    unit, function, size = request[0], request[1], _data_bytes(request[1], request[2:6])
    for start in _offsets_of(received, unit):
        if received[start + 1 : start + 3] == bytes((function, size)):
            frame = received[start : start + 3 + size + CRC_BYTES]
            complete = len(frame) == 3 + size + CRC_BYTES
        elif received[start + 1 : start + 2] == bytes((function | REFUSED,)):
            frame = received[start : start + 3 + CRC_BYTES]
            complete = len(frame) == 3 + CRC_BYTES
        else:
            continue
        if complete and _crc_holds(frame):
            return frame
    return b""


def find_tcp(request: bytes, received: bytes) -> bytes:
    """Return the first complete reply to a TCP request, empty if there is none yet."""
    transaction, unit, function = request[:4], request[6], request[7]
    size = _data_bytes(function, request[8:12])
    start = received.find(transaction)
    while start >= 0:
        body = received[
            start + MBAP_BYTES : start + MBAP_BYTES + int.from_bytes(received[start + 4 : start + 6], "big")
        ]
        answered = body[:3] == bytes((unit, function, size)) and len(body) == 3 + size
        refused = body[:2] == bytes((unit, function | REFUSED)) and len(body) == 3  # noqa: PLR2004
        if answered or refused:
            return received[start : start + MBAP_BYTES + len(body)]
        start = received.find(transaction, start + 1)
    return b""


def _data_bytes(function: int, address_and_count: bytes) -> int:
    count = int.from_bytes(address_and_count[2:4], "big")
    return (count + 7) // 8 if function in COILS else 2 * count


def _offsets_of(received: bytes, unit: int) -> Iterator[int]:
    start = received.find(unit)
    while start >= 0:
        yield start
        start = received.find(unit, start + 1)


def _crc_holds(frame: bytes) -> bool:
    return FramerRTU.compute_CRC(frame[:-CRC_BYTES]) == int.from_bytes(frame[-CRC_BYTES:], "big")


def _rtu_differences(request: bytes, received: bytes) -> Iterator[str]:
    """Yield how complete frames differ from the reply, then replies that have a wrong CRC or are incomplete."""
    unit, function, size = request[0], request[1], _data_bytes(request[1], request[2:6])
    for start in range(len(received) - 4):
        for length in {3 + received[start + 2] + CRC_BYTES, 3 + CRC_BYTES}:
            frame = received[start : start + length]
            if len(frame) == length and frame != request[:length] and _crc_holds(frame):
                yield _difference(unit, function, size, frame)
    for start in _offsets_of(received, unit):
        if received[start + 1 : start + 3] == bytes((function, size)):
            is_complete = len(received) - start >= 3 + size + CRC_BYTES
            yield "a reply with a wrong CRC" if is_complete else "a reply that breaks off"


def _tcp_differences(request: bytes, received: bytes) -> Iterator[str]:
    """Yield how each frame of the stream differs from the reply."""
    unit, function, size = request[6], request[7], _data_bytes(request[7], request[8:12])
    while len(received) > MBAP_BYTES + 1:
        body = received[MBAP_BYTES : MBAP_BYTES + int.from_bytes(received[4:6], "big")]
        if received[2:4] != b"\0\0" or len(body) <= 1:
            return
        if received[:2] != request[:2]:
            asked, got = int.from_bytes(request[:2], "big"), int.from_bytes(received[:2], "big")
            yield f"a reply of transaction {got}, asked {asked}"
        else:
            yield _difference(unit, function, size, body)
        received = received[MBAP_BYTES + len(body) :]


def _difference(unit: int, function: int, size: int, frame: bytes) -> str:
    if frame[0] != unit:
        return f"a reply of unit {frame[0]}"
    if frame[1] & ~REFUSED != function:
        return f"a reply of function {frame[1] & ~REFUSED}, asked {function}"
    count = frame[2] if len(frame) > 2 else 0  # noqa: PLR2004
    if function in COILS:
        return f"asked {size} bytes of function {function}, got {count} of {frame[1]}"
    return f"asked {size // 2} of function {function}, got {count // 2} of {frame[1]}"
