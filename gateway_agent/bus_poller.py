"""Poller of a bus: reads its units once in each cycle, and delivers a reading for each probe.

* Every probe of every unit gives a reading in every cycle; a failed one is delivered with its cause, never left out.
* A unit that costs a time-out, because nothing or nothing usable came, is skipped with an exponential back-off in real
  time. When it is tried again it is read last, so that it never delays the others. The same holds for a unit that a
  gateway reports as not answering. A unit that answered in the last cycle gets a second try in the same cycle.
* If the line can't be opened, it is tried once in a cycle, not for each unit.
* `ts` is the time when the reply is complete.
tests/integration/test_bus_poller.py and test_poller_back_off.py try to break it.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from config.settings import BusSettings
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.wire.messages import BusHealth, Reading
from core.wire.quality import Quality
from gateway_agent.device_profile import DeviceProfile, LineDefaults, ProfileChannel
from gateway_agent.modbus_line import DeviceRefused, GarbledReply, LineUnreachable, ModbusLine, NoReply, RequestFailed
from gateway_agent.poll_schedule import PollSchedule, is_due
from gateway_agent.read_plan import BlockRead, blocks
from gateway_agent.register_decoder import Point, RegisterWords, measure, points, reading
from gateway_agent.spool import CLOCK_WAS_SET

log = logger(__name__)

FIRST_BACK_OFF_S = 1.0

Deliver = Callable[[list[Reading], str, Instant | None], None]
"""Takes readings, the name of the bus, and the cycle that they complete (None if more of the cycle follows)."""


class BoundChannel(msgspec.Struct, frozen=True):
    """Channel with the code of the probe on it."""

    channel: ProfileChannel
    probe: str


class PolledDevice:
    """Device on a bus, and its recent failures."""

    def __init__(self, address: int, profile: DeviceProfile, channels: Sequence[BoundChannel]) -> None:
        """Take the channels that have a probe; no others are read."""
        self.address = address
        self.profile = profile
        self.channels = channels
        self.reads = blocks([bound.channel for bound in channels], profile.block)
        self.trouble = "never read"
        """Trouble of the last read; empty if there was none."""
        self.silences = 0
        """Number of reads in a row without a usable answer."""
        self.alone_until = 0.0

    def was_silent(self, longest: float) -> None:
        """Skip the unit for a while, longer each time."""
        self.alone_until = monotonic() + min(longest, FIRST_BACK_OFF_S * 2.0 ** min(self.silences, 30))
        self.silences += 1

    def has_answered(self) -> None:
        """End the back-off."""
        self.silences = 0
        self.alone_until = 0.0


class BusPoller:
    """Poller of one bus, which sends one request at a time."""

    def __init__(
        self, bus: BusSettings, line: LineDefaults, units: Sequence[PolledDevice], clock: Clock, *, back_off: float
    ) -> None:
        """Take the longest back-off of a silent unit, in real seconds."""
        self.name = bus.name
        self.interval = Milliseconds(round(bus.interval * 1000))
        self.units = units
        self._line = ModbusLine(bus, line)
        self._clock = clock
        self._back_off = back_off
        self._last: Instant | None = None
        self._reads = 0
        self._failures = 0
        self._reachable = True
        self.polling = False
        """Whether a cycle is in progress."""

    async def run(self, cycles: PollSchedule, deliver: Deliver, last: Instant | None) -> None:
        """Poll every cycle after `last` until cancelled. An error costs one cycle; the poller goes on."""
        self._last = last
        try:
            while True:
                due = await cycles.due(self.interval, self._last)
                try:
                    await self.poll(due, deliver)
                except Exception:
                    log.exception("bus not polled", bus=self.name)
                    self.polling = False
                self._last = due
        finally:
            self._line.close()

    async def poll(self, due: Instant, deliver: Deliver) -> None:
        """Read every unit once; units in trouble are read after the readings of the others have been delivered."""
        self.polling = True
        self._reachable = True
        readings: list[Reading] = []
        later: list[PolledDevice] = []
        for unit in self.units:
            if monotonic() < unit.alone_until:
                readings += self._skipped(unit)
            elif unit.silences:
                later.append(unit)
            else:
                was_sound = not unit.trouble
                unit_readings = await self._read(unit)
                if was_sound and unit.trouble:
                    later.append(unit)
                else:
                    readings += unit_readings
        if later:
            deliver(readings, self.name, None)
            readings = []
        for unit in later:
            readings += await self._read(unit)
        self.polling = False
        deliver(readings, self.name, due)
        if all(unit.trouble for unit in self.units):
            # No unit answers. The connection may be half open, so the next cycle opens a new one.
            self._line.close()

    def health(self) -> BusHealth:
        """Return the counters since boot."""
        now = monotonic()
        backing_off = [unit.address for unit in self.units if unit.alone_until > now]
        return BusHealth(self.name, self._reads, self._failures, backing_off)

    def is_idle(self, now: Instant) -> bool:
        """Whether the cycle that is due has been polled and delivered."""
        return self._last is not None and not is_due(now, self.interval, self._last)

    async def _read(self, unit: PolledDevice) -> list[Reading]:
        """Return a reading for each probe of a unit."""
        words: dict[Point, int] = {}
        stamps: dict[Point, Instant] = {}
        cause: RequestFailed | None = None
        for block in unit.reads:
            try:
                values = await self._ask(unit, block)
            except DeviceRefused as error:
                cause = error
            except RequestFailed as error:
                cause = error
                break
            else:
                at = self._clock.now()
                for step, value in enumerate(values):
                    words[block.function, block.address + step] = value
                    stamps[block.function, block.address + step] = at
        self._update_trouble(unit, cause)
        missing = Quality.PROTOCOL if isinstance(cause, GarbledReply | DeviceRefused) else Quality.TIMEOUT
        return [self._reading(bound, words, stamps, missing) for bound in unit.channels]

    async def _ask(self, unit: PolledDevice, block: BlockRead) -> list[int]:
        self._reads += 1
        try:
            if not self._reachable:
                msg = "the line could not be opened in this cycle"
                raise LineUnreachable(msg)
            return await self._line.read(unit.address, block, unit.profile.timing)
        except RequestFailed as error:
            self._failures += 1
            self._reachable = self._reachable and not isinstance(error, LineUnreachable)
            raise

    def _update_trouble(self, unit: PolledDevice, cause: RequestFailed | None) -> None:
        trouble = type(cause).__name__ if cause else ""
        if cause and trouble != unit.trouble:
            log.warning("unit not read", bus=self.name, unit=unit.address, trouble=trouble, why=str(cause))
        if unit.trouble and not trouble:
            log.info("unit answered", bus=self.name, unit=unit.address)
        unit.trouble = trouble
        if isinstance(cause, NoReply | GarbledReply):
            unit.was_silent(self._back_off)
        else:  # it answered, or the line failed
            unit.has_answered()

    def _reading(
        self, bound: BoundChannel, words: RegisterWords, stamps: Mapping[Point, Instant], missing: Quality
    ) -> Reading:
        needed = points(bound.channel)
        if any(point not in stamps for point in needed):
            return _stamped(bound, self._clock.now(), None, missing)
        value, q = measure(bound.channel, words)
        return _stamped(bound, max(stamps[point] for point in needed), value, q)

    def _skipped(self, unit: PolledDevice) -> list[Reading]:
        return [_stamped(bound, self._clock.now(), None, Quality.TIMEOUT) for bound in unit.channels]


def _stamped(bound: BoundChannel, at: Instant, value: float | None, q: Quality) -> Reading:
    unset = Quality.CLOCK_UNSYNCED if at < CLOCK_WAS_SET else Quality.GOOD
    return reading(bound.channel, bound.probe, at, value, q | unset)
