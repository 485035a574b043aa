"""Identifier types, an integer each; and hundredths, the integer type of every measured value."""

import secrets
from typing import NewType

UnitId = NewType("UnitId", int)
PersonId = NewType("PersonId", int)
AccountId = NewType("AccountId", int)
EquipmentId = NewType("EquipmentId", int)
ZoneId = NewType("ZoneId", int)
GatewayId = NewType("GatewayId", int)
ProbeId = NewType("ProbeId", int)
AlarmId = NewType("AlarmId", int)
"""Random (`new_alarm_id`), never reused."""
SeriesId = NewType("SeriesId", int)
"""Number of a (probe, quantity) pair, below 2^24, never reused."""
Centi = NewType("Centi", int)
"""Hundredths: of a degree Celsius, or of a percent relative humidity."""

_FEWEST, _MOST = 10**14, 10**15
"""Fifteen digits: below 2^53, so that every JSON reader keeps them."""


def new_alarm_id() -> AlarmId:
    """Return a random id.

    A database that counts would give the ids of lost alarms again after its records were restored from a backup. Links
    in people's phones would then open another alarm, and a provider that has seen the message's key would drop the new
    alarm's message.
    """
    return AlarmId(_FEWEST + secrets.randbelow(_MOST - _FEWEST))
