"""Reads the units of one bus, once a cycle: what each probe showed, or why it showed nothing.

* Every probe of every unit yields a reading every cycle; a failed one is a fact with its cause, never left out.
* A unit that costs a time-out, since nothing or nothing usable came, is left alone with back-off (real time, doubling)
  and comes last when it is tried again, so that it never delays the others; so is one of which a gateway says that it
  doesn't answer. A unit that answered the last time gets a second try in the same cycle.
* When the line can't be opened, that is found out once a cycle, not once a unit.
* `ts` is stamped as the reply completes.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from config.settings import Bus
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.wire.messages import BusHealth, Reading
from core.wire.quality import Quality
from gateway_agent.cycles import Cycles, is_due
from gateway_agent.decode import Point, Words, measure, points, reading
from gateway_agent.line import Failed, Garbled, ModbusLine, Refused, Silent, Unreachable
from gateway_agent.plan import BlockRead, blocks
from gateway_agent.profile import Channel, Line, Profile
from gateway_agent.spool import CLOCK_WAS_SET

log = logger(__name__)

FIRST_BACK_OFF_S = 1.0

Deliver = Callable[[list[Reading], str, Instant | None], None]
"""Takes readings, the bus, and the cycle that they complete (None while more of it is to come)."""


class BoundChannel(msgspec.Struct, frozen=True):
    """A channel and the probe that it is."""

    channel: Channel
    probe: str


class Unit:
    """A device on the bus and how it has behaved."""

    def __init__(self, address: int, profile: Profile, channels: Sequence[BoundChannel]) -> None:
        """`channels` are those with a probe; nothing else is read."""
        self.address = address
        self.profile = profile
        self.channels = channels
        self.reads = blocks([bound.channel for bound in channels], profile.block)
        self.trouble = "never read"
        """What was wrong at the last read; empty when nothing was."""
        self.silences = 0
        """How often in a row it has not answered usably."""
        self.alone_until = 0.0

    def was_silent(self, longest: float) -> None:
        """Leave it alone for a while, longer each time."""
        self.alone_until = monotonic() + min(longest, FIRST_BACK_OFF_S * 2.0 ** min(self.silences, 30))
        self.silences += 1

    def has_answered(self) -> None:
        """Read it as ever."""
        self.silences = 0
        self.alone_until = 0.0


class BusPoller:
    """One task: one request at a time on its bus."""

    def __init__(self, bus: Bus, line: Line, units: Sequence[Unit], clock: Clock, *, back_off: float) -> None:
        """`back_off` is the longest that a silent unit is left alone, in real seconds."""
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
        """Whether a cycle is under way."""

    async def run(self, cycles: Cycles, deliver: Deliver, last: Instant | None) -> None:
        """Poll every cycle after `last` until cancelled; what goes wrong costs a cycle, never the bus."""
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
        """Read every unit once, those in trouble after the others have been delivered."""
        self.polling = True
        self._reachable = True
        prompt: list[Reading] = []
        later: list[Unit] = []
        for unit in self.units:
            if monotonic() < unit.alone_until:
                prompt += self._left_out(unit)
            elif unit.silences:
                later.append(unit)
            else:
                sound = not unit.trouble
                readings = await self._read(unit)
                if sound and unit.trouble:
                    later.append(unit)
                else:
                    prompt += readings
        if later:
            deliver(prompt, self.name, None)
            prompt = []
        for unit in later:
            prompt += await self._read(unit)
        self.polling = False
        deliver(prompt, self.name, due)
        if all(unit.trouble for unit in self.units):
            # Nobody answers: the connection may be half open, so the next cycle makes a new one.
            self._line.close()

    def health(self) -> BusHealth:
        """Return the counts since boot."""
        now = monotonic()
        alone = [unit.address for unit in self.units if unit.alone_until > now]
        return BusHealth(self.name, self._reads, self._failures, alone)

    def is_idle(self, now: Instant) -> bool:
        """Whether the cycle that is due has been polled and delivered."""
        return self._last is not None and not is_due(now, self.interval, self._last)

    async def _read(self, unit: Unit) -> list[Reading]:
        """Return a reading for each probe of a unit."""
        words: dict[Point, int] = {}
        stamps: dict[Point, Instant] = {}
        cause: Failed | None = None
        for block in unit.reads:
            try:
                values = await self._ask(unit, block)
            except Refused as error:
                cause = error
            except Failed as error:
                cause = error
                break
            else:
                at = self._clock.now()
                for step, value in enumerate(values):
                    words[block.function, block.address + step] = value
                    stamps[block.function, block.address + step] = at
        self._judge(unit, cause)
        missing = Quality.PROTOCOL if isinstance(cause, Garbled | Refused) else Quality.TIMEOUT
        return [self._reading(bound, words, stamps, missing) for bound in unit.channels]

    async def _ask(self, unit: Unit, block: BlockRead) -> list[int]:
        self._reads += 1
        try:
            if not self._reachable:
                msg = "the line could not be opened in this cycle"
                raise Unreachable(msg)
            return await self._line.read(unit.address, block, unit.profile.timing)
        except Failed as error:
            self._failures += 1
            self._reachable = self._reachable and not isinstance(error, Unreachable)
            raise

    def _judge(self, unit: Unit, cause: Failed | None) -> None:
        trouble = type(cause).__name__ if cause else ""
        if cause and trouble != unit.trouble:
            log.warning("unit not read", bus=self.name, unit=unit.address, trouble=trouble, why=str(cause))
        if unit.trouble and not trouble:
            log.info("unit answered", bus=self.name, unit=unit.address)
        unit.trouble = trouble
        if isinstance(cause, Silent | Garbled):
            unit.was_silent(self._back_off)
        else:  # it answered, or the fault is the line's
            unit.has_answered()

    def _reading(self, bound: BoundChannel, words: Words, stamps: Mapping[Point, Instant], missing: Quality) -> Reading:
        wanted = points(bound.channel)
        if any(point not in stamps for point in wanted):
            return _stamped(bound, self._clock.now(), None, missing)
        value, q = measure(bound.channel, words)
        return _stamped(bound, max(stamps[point] for point in wanted), value, q)

    def _left_out(self, unit: Unit) -> list[Reading]:
        return [_stamped(bound, self._clock.now(), None, Quality.TIMEOUT) for bound in unit.channels]


def _stamped(bound: BoundChannel, at: Instant, value: float | None, q: Quality) -> Reading:
    unset = Quality.CLOCK_UNSYNCED if at < CLOCK_WAS_SET else Quality.GOOD
    return reading(bound.channel, bound.probe, at, value, q | unset)
