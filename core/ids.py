"""The names of things: an integer each, told apart by type; and hundredths, the integer of every measured value."""

from typing import NewType

UnitId = NewType("UnitId", int)
PersonId = NewType("PersonId", int)
AccountId = NewType("AccountId", int)
EquipmentId = NewType("EquipmentId", int)
ZoneId = NewType("ZoneId", int)
GatewayId = NewType("GatewayId", int)
ProbeId = NewType("ProbeId", int)
AlarmId = NewType("AlarmId", int)
SeriesId = NewType("SeriesId", int)
"""Integer below 2^24 of a (probe, quantity), never reused."""
Centi = NewType("Centi", int)
"""Hundredths: of a degree Celsius, or of a percent relative humidity."""
