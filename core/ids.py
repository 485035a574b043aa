"""Identifier types, an integer each; and hundredths, the integer type of every measured value."""

import secrets
import threading
from collections.abc import Iterator
from typing import NewType

UnitId = NewType("UnitId", int)
PersonId = NewType("PersonId", int)
AccountId = NewType("AccountId", int)
EquipmentId = NewType("EquipmentId", int)
ZoneId = NewType("ZoneId", int)
GatewayId = NewType("GatewayId", int)
ProbeId = NewType("ProbeId", int)
AlarmId = NewType("AlarmId", int)
"""From random blocks (`new_alarm_id`), never reused."""
ApplicationId = NewType("ApplicationId", int)
ReviewStepId = NewType("ReviewStepId", int)
SeriesId = NewType("SeriesId", int)
"""Number of a (probe, quantity) pair, below 2^24, never reused."""
Centi = NewType("Centi", int)
"""Hundredths: of a degree Celsius, or of a percent relative humidity."""

_FEWEST, _MOST = 10**14, 10**15
"""Fifteen digits: below 2^53, so that every JSON reader keeps them."""
_BLOCK = 1_000
_lock = threading.Lock()


def new_alarm_id() -> AlarmId:
    """Return a new id: the next of a block that begins at a random number. Thread-safe.

    A database that counts would give the ids of lost alarms again after its records were restored from a backup. Links
    in people's phones would then open another alarm, and a provider that has seen the message's key would drop the new
    alarm's message. Ids of one process lie side by side, since ten thousand single random keys would change ten times
    as many pages of the database.
    """
    with _lock:
        return AlarmId(next(_numbers))


def _in_random_blocks() -> Iterator[int]:
    while True:
        begin = _FEWEST + secrets.randbelow((_MOST - _FEWEST) // _BLOCK) * _BLOCK
        yield from range(begin, begin + _BLOCK)


_numbers = _in_random_blocks()
