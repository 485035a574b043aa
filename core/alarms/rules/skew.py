"""A device clock that has jumped back: pure functions.

A gateway sends what it took over two minutes ago, by its own clock, as backlog. So what comes as live and is late all
the same was stamped by a clock that runs behind. Left to the replay of late data, such readings would never wake
anyone, however long they came. After `CONVINCED` messages in a row they are believed to be of now, and are taken into
the live state at their stamp plus one shift; the live state itself is never rewound.

Neither a single straggler nor what another shard's log still holds of earlier is taken for that: the messages must have
been received after the live state's newest reading, with none on time between.
"""

import msgspec

from core.alarms.rules.sample import Sample
from core.runtime.instant import MINUTE, Instant, Milliseconds

CONVINCED = 3
BEHIND = Milliseconds(2 * MINUTE)
"""How far behind its receipt a stamp is not yet called wrong, and how far ahead a moved one may lie."""


class DeviceClock(msgspec.Struct, array_like=True, frozen=True):
    """What is thought of the clock that stamps a probe's readings."""

    received: Instant = Instant(0)
    """Server time of the newest reading of the live state."""
    suspects: tuple[tuple[Instant, Sample], ...] = ()
    """Late live readings since then with their receipt, the newest of each message."""
    shift: Milliseconds = Milliseconds(0)
    """What is added to stamps that are late; 0 while the clock is thought right."""


def on_time(clock: DeviceClock, received: Instant) -> DeviceClock:
    """Return the clock after a reading that needed no shift."""
    return DeviceClock(max(clock.received, received))


def moved(clock: DeviceClock, sample: Sample, received: Instant) -> Sample | None:
    """Return a late live reading at its believed time, None if the known shift doesn't explain it."""
    at = Instant(sample.at + clock.shift)
    if not clock.shift or abs(at - received) > BEHIND:
        return None
    return msgspec.structs.replace(sample, at=at)


def suspect(clock: DeviceClock, sample: Sample, received: Instant) -> DeviceClock:
    """Return the clock after a late live reading that no shift explains."""
    if received <= clock.received or received - sample.at <= BEHIND:
        return clock
    before = tuple(known for known in clock.suspects if known[0] < received)
    same = [known[1].at for known in clock.suspects if known[0] == received]
    if same and same[0] > sample.at:
        return clock
    return msgspec.structs.replace(clock, suspects=(*before, (received, sample)))


def convicted(clock: DeviceClock) -> tuple[DeviceClock, list[Sample]] | None:
    """Return the clock with its new shift and the suspects at their believed times, once there are enough of them."""
    if len(clock.suspects) < CONVINCED:
        return None
    received, newest = clock.suspects[-1]
    shift = Milliseconds(received - newest.at)
    # One that another jump lies behind can't be placed by this shift, and stays late data.
    placed = [(at, moved(DeviceClock(shift=shift), sample, at)) for at, sample in clock.suspects]
    return DeviceClock(received, (), shift), [sample for _, sample in placed if sample is not None]
