"""Reply finder: picks the reply to one Modbus request out of the bytes that a line delivers.

A reply is known by its unit, function and byte count, and by its CRC (RTU) or its transaction number (TCP), wherever it
begins: noise of a line that was just switched, the echo of a two-wire adapter and the late reply of an earlier request
may stand before it. Modbus over Serial Line V1.02, 2.5.1; MODBUS Messaging on TCP/IP V1.0b, 3.1.3.

Pure functions of bytes, but for the finder itself, which remembers the request that is under way.
"""

from collections.abc import Iterator

from pymodbus.framer import FramerRTU

from gateway_agent.profile import COILS

REFUSED = 0x80
"""Bit of a reply's function code: the device refuses, and a byte with its exception code follows."""
CRC_BYTES = 2
MBAP_BYTES = 6
"""Transaction, protocol and length, before the unit of a TCP frame."""
MOST_SHOWN = 24
"""Bytes of rubbish that a message shows."""
MOST_EXPLAINED = 512
"""Bytes in which a message looks for frames."""


class ReplyFinder:
    """Sees every packet of a connection (`trace`, as pymodbus calls it), and lets nothing but the reply pass."""

    def __init__(self, *, tcp: bool) -> None:
        """`tcp`: frames have a header with a transaction number and no CRC."""
        self._tcp = tcp
        self._request = b""
        self.heard = b""
        """All that has come since the request was sent."""
        self.found = False
        """Whether the reply has come."""

    def trace(self, sending: bool, data: bytes) -> bytes:  # noqa: FBT001  (pymodbus calls it so)
        """Return what is sent as it is; of what was received since the request, the reply, or nothing yet."""
        if sending:
            self._request, self.heard, self.found = data, b"", False
            return data
        self.heard = data
        reply = find_tcp(self._request, data) if self._tcp else find_rtu(self._request, data)
        self.found = self.found or bool(reply)
        return reply

    @property
    def only_echo(self) -> bool:
        """Whether nothing came but the request itself, as some two-wire adapters send it back."""
        return not self._tcp and self.heard == self._request

    def describe(self) -> str:
        """Say what came in place of a reply, for a person."""
        differences = _tcp_differences if self._tcp else _rtu_differences
        said = next(differences(self._request, self.heard[:MOST_EXPLAINED]), "")
        if said:
            return said
        shown = self.heard[:MOST_SHOWN].hex(" ") + (" …" if len(self.heard) > MOST_SHOWN else "")
        return f"{len(self.heard)} bytes that are no frame: {shown}"


def find_rtu(request: bytes, heard: bytes) -> bytes:
    """Return the reply to an RTU request, from the first place where one stands whole; empty while there is none."""
    unit, function, size = request[0], request[1], _data_bytes(request[1], request[2:6])
    for start in _places(heard, unit):
        if heard[start + 1 : start + 3] == bytes((function, size)):
            frame = heard[start : start + 3 + size + CRC_BYTES]
            complete = len(frame) == 3 + size + CRC_BYTES
        elif heard[start + 1 : start + 2] == bytes((function | REFUSED,)):
            frame = heard[start : start + 3 + CRC_BYTES]
            complete = len(frame) == 3 + CRC_BYTES
        else:
            continue
        if complete and _crc_holds(frame):
            return frame
    return b""


def find_tcp(request: bytes, heard: bytes) -> bytes:
    """Return the reply to a TCP request, from the first place where one stands whole; empty while there is none."""
    transaction, unit, function = request[:4], request[6], request[7]
    size = _data_bytes(function, request[8:12])
    start = heard.find(transaction)
    while start >= 0:
        body = heard[start + MBAP_BYTES : start + MBAP_BYTES + int.from_bytes(heard[start + 4 : start + 6], "big")]
        answered = body[:3] == bytes((unit, function, size)) and len(body) == 3 + size
        refused = body[:2] == bytes((unit, function | REFUSED)) and len(body) == 3  # noqa: PLR2004
        if answered or refused:
            return heard[start : start + MBAP_BYTES + len(body)]
        start = heard.find(transaction, start + 1)
    return b""


def _data_bytes(function: int, address_and_count: bytes) -> int:
    count = int.from_bytes(address_and_count[2:4], "big")
    return (count + 7) // 8 if function in COILS else 2 * count


def _places(heard: bytes, unit: int) -> Iterator[int]:
    start = heard.find(unit)
    while start >= 0:
        yield start
        start = heard.find(unit, start + 1)


def _crc_holds(frame: bytes) -> bool:
    return FramerRTU.compute_CRC(frame[:-CRC_BYTES]) == int.from_bytes(frame[-CRC_BYTES:], "big")


def _rtu_differences(request: bytes, heard: bytes) -> Iterator[str]:
    """Yield in what a whole frame differs from the reply, then whether a reply failed its CRC."""
    unit, function, size = request[0], request[1], _data_bytes(request[1], request[2:6])
    for start in range(len(heard) - 4):
        for length in {3 + heard[start + 2] + CRC_BYTES, 3 + CRC_BYTES}:
            frame = heard[start : start + length]
            if len(frame) == length and frame != request[:length] and _crc_holds(frame):
                yield _difference(unit, function, size, frame)
    for start in _places(heard, unit):
        if heard[start + 1 : start + 3] == bytes((function, size)):
            whole = len(heard) - start >= 3 + size + CRC_BYTES
            yield "a reply with a wrong CRC" if whole else "a reply that breaks off"


def _tcp_differences(request: bytes, heard: bytes) -> Iterator[str]:
    """Yield in what each frame of the stream differs from the reply."""
    unit, function, size = request[6], request[7], _data_bytes(request[7], request[8:12])
    while len(heard) > MBAP_BYTES + 1:
        body = heard[MBAP_BYTES : MBAP_BYTES + int.from_bytes(heard[4:6], "big")]
        if heard[2:4] != b"\0\0" or len(body) <= 1:
            return
        if heard[:2] != request[:2]:
            asked, got = int.from_bytes(request[:2], "big"), int.from_bytes(heard[:2], "big")
            yield f"a reply of transaction {got}, asked {asked}"
        else:
            yield _difference(unit, function, size, body)
        heard = heard[MBAP_BYTES + len(body) :]


def _difference(unit: int, function: int, size: int, frame: bytes) -> str:
    if frame[0] != unit:
        return f"a reply of unit {frame[0]}"
    if frame[1] & ~REFUSED != function:
        return f"a reply of function {frame[1] & ~REFUSED}, asked {function}"
    count = frame[2] if len(frame) > 2 else 0  # noqa: PLR2004
    if function in COILS:
        return f"asked {size} bytes of function {function}, got {count} of {frame[1]}"
    return f"asked {size // 2} of function {function}, got {count // 2} of {frame[1]}"
