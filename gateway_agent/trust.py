"""How far the box's clock is to be trusted: what `clk` says in every message."""

import ctypes
import sys
import time

from core.runtime.clock import Clock, VirtualClock
from core.wire.messages import ClockReport
from gateway_agent.spool import CLOCK_WAS_SET

_UNSYNCHRONISED = 0x0040
_ERROR = 5
_STATUS_AT = 40 if sys.maxsize > 2**32 else 20
_TIMEX_BYTES = 256


def clock_report(clock: Clock) -> ClockReport:
    """Say by what the clock is set: nothing, the box's own battery, or NTP; a virtual clock is right by definition."""
    up = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 if hasattr(time, "CLOCK_BOOTTIME") else 0
    if clock.now() < CLOCK_WAS_SET:
        return ClockReport("none", None, up)
    if isinstance(clock, VirtualClock):
        return ClockReport("ntp", 0, up)
    return ClockReport("ntp" if _kernel_is_synchronised() else "rtc", None, up)


def _kernel_is_synchronised() -> bool:
    """Ask the kernel, as ntpd, chrony and timesyncd tell it; False where it can't be asked."""
    if sys.platform != "linux":
        return False
    try:
        ask = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return False
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: only read
    state: int = ask(timex)
    status = int.from_bytes(timex.raw[_STATUS_AT : _STATUS_AT + 4], sys.byteorder)
    return 0 <= state < _ERROR and not status & _UNSYNCHRONISED
