"""Clock report of the agent: the field `clk` of its messages, which says how far its clock can be trusted.

Fields of the kernel's `struct timex` that are read (adjtimex(2)):

| offset | size | meaning |
|---|---|---|
| 40, or 20 on a 32-bit machine | 4 | status, native byte order; bit 6 (STA_UNSYNC) if the clock isn't synchronised |

tests/unit/test_clock_trust.py tries to break it.
"""

import ctypes
import sys
import time
from collections.abc import Callable

from core.runtime.clock import Clock, VirtualClock
from core.wire.messages import ClockReport
from gateway_agent.spool import CLOCK_WAS_SET

_UNSYNCHRONISED = 0x0040
_ERROR = 5
_STATUS_AT = 40 if sys.maxsize > 2**32 else 20
_TIMEX_BYTES = 256


def _up() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 if hasattr(time, "CLOCK_BOOTTIME") else 0


class ClockTrust:
    """Trust in a clock since the start of the process.

    A box without a battery starts in 1970. Readings that it takes before its clock is set wait in the collector for the
    offset of this boot. The offset is how much further the clock has gone than a monotonic one.
    """

    def __init__(self, clock: Clock, up: Callable[[], int] = _up) -> None:
        """Take `up`, which returns milliseconds of a monotonic clock."""
        self._clock = clock
        self._up = up
        self._began = clock.now()
        self._began_up = up()

    def report(self) -> ClockReport:
        """Return the source of the clock: none, the box's own battery (rtc), or NTP; a virtual clock counts as NTP.

        `off` applies only to readings of this process.
        """
        now, up = self._clock.now(), self._up()
        if now < CLOCK_WAS_SET:
            return ClockReport("none", None, up)
        if isinstance(self._clock, VirtualClock):
            return ClockReport("ntp", 0, up)
        off = (now - self._began) - (up - self._began_up) if self._began < CLOCK_WAS_SET else None
        return ClockReport("ntp" if _kernel_is_synchronised() else "rtc", off, up)


def _kernel_is_synchronised() -> bool:
    """Return whether the kernel's clock is synchronised by ntpd, chrony or timesyncd; False if that is unknown."""
    if sys.platform != "linux":
        return False
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return False
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: only read
    state: int = adjtimex(timex)
    status = int.from_bytes(timex.raw[_STATUS_AT : _STATUS_AT + 4], sys.byteorder)
    return 0 <= state < _ERROR and not status & _UNSYNCHRONISED
