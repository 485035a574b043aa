"""How far the box's clock is to be trusted: what `clk` says in every message."""

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


class Trust:
    """What is known of a clock since the process began.

    A box without a battery begins in 1970, and what it reads until its clock is set waits in the collector for the
    offset of its boot. A clock that never jumps tells it: by how much the other went further.
    """

    def __init__(self, clock: Clock, up: Callable[[], int] = _up) -> None:
        """`up` is milliseconds of a clock that never jumps."""
        self._clock = clock
        self._up = up
        self._began = clock.now()
        self._began_up = up()

    def report(self) -> ClockReport:
        """Say by what the clock is set: nothing, the box's own battery, or NTP; a virtual clock is right by definition.

        `off` belongs to this process's readings alone.
        """
        now, up = self._clock.now(), self._up()
        if now < CLOCK_WAS_SET:
            return ClockReport("none", None, up)
        if isinstance(self._clock, VirtualClock):
            return ClockReport("ntp", 0, up)
        off = (now - self._began) - (up - self._began_up) if self._began < CLOCK_WAS_SET else None
        return ClockReport("ntp" if _kernel_is_synchronised() else "rtc", off, up)


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
