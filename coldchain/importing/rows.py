"""What may stand in an import file: the types of rows and their fields. docs/import.md describes them all."""

import msgspec

from coldchain.importing import fields
from coldchain.importing.mistakes import Place
from core.alarms import profile
from core.devices.names import EquipmentKind, ProbeName, WindowKind, ZoneKind
from core.ids import Centi
from core.runtime.instant import Instant, Milliseconds
from core.units.contacts import ContactLevel
from core.units.levels import Level, UnitKind


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in the file."""

    place: Place

    @property
    def key(self) -> tuple[str, ...]:
        """Its type and name: unique in a file."""
        raise NotImplementedError


class UnitRow(Row, frozen=True, kw_only=True):
    """A unit, known by its code."""

    code: str
    name: str
    kind: UnitKind
    level: Level
    parent: str | None = None
    timezone: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """By code."""
        return "unit", self.code


class PersonRow(Row, frozen=True, kw_only=True):
    """A person of a unit, known by name there, and the levels at which they are a contact of the unit."""

    unit: str
    name: str
    phone: str | None = None
    openid: str | None = None
    levels: tuple[ContactLevel, ...] | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """By unit and name."""
        return "person", self.unit, self.name


class EquipmentRow(Row, frozen=True, kw_only=True):
    """An equipment, known by its code."""

    code: str
    name: str
    kind: EquipmentKind
    unit: str
    zones: tuple[ZoneKind, ...]
    since: Instant | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """By code."""
        return "equipment", self.code


class ZoneRow(Row, frozen=True, kw_only=True):
    """Limits of a zone that differ from its rule profile."""

    equipment: str
    kind: ZoneKind
    profile: str = profile.DEFAULT
    low: Centi | None = None
    high: Centi | None = None
    delay: Milliseconds | None = None
    hysteresis: Centi | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """By equipment and kind."""
        return "zone", self.equipment, self.kind


class GatewayRow(Row, frozen=True, kw_only=True):
    """A gateway, known by its number."""

    number: str
    unit: str
    since: Instant | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """By number."""
        return "gateway", self.number


class ProbeRow(Row, frozen=True, kw_only=True):
    """A probe, known by its code; its label may name the zone (208604冷冻)."""

    code: ProbeName
    gateway: str
    equipment: str | None = None
    zone: ZoneKind | None = None
    interval: Milliseconds | None = None
    since: Instant | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """By code, without its zone."""
        return "probe", self.code.code


class ContactRow(Row, frozen=True, kw_only=True):
    """A contact of one equipment at a level, in place of the unit's."""

    equipment: str
    level: ContactLevel
    person: str
    unit: str | None = None
    """Where the person works; the equipment's unit unless given."""

    @property
    def key(self) -> tuple[str, ...]:
        """By all of it."""
        return "contact", self.equipment, str(self.level), self.unit or "", self.person


class WindowRow(Row, frozen=True, kw_only=True):
    """A maintenance window of an equipment; stopped (停用) unless said otherwise."""

    equipment: str
    since: Instant
    kind: WindowKind = WindowKind.STOPPED
    until: Instant | None = None
    reason: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """By equipment, kind and beginning."""
        return "window", self.equipment, self.kind, str(self.since)


_UNIT, _EQUIPMENT = fields.code(fields.UNIT_CODE), fields.code(fields.EQUIPMENT_CODE)
_GATEWAY, _PERSON = fields.code(fields.GATEWAY_NUMBER), fields.text(50)
_ZONE = fields.device_word(ZoneKind)

KINDS: dict[str, tuple[type[Row], dict[str, fields.Reader]]] = {
    "unit": (
        UnitRow,
        {
            "code": _UNIT,
            "name": fields.text(100),
            "kind": fields.unit_word(UnitKind),
            "level": fields.unit_word(Level),
            "parent": _UNIT,
            "timezone": fields.timezone,
        },
    ),
    "person": (
        PersonRow,
        {
            "name": _PERSON,
            "unit": _UNIT,
            "levels": fields.several(fields.level),
            "phone": fields.phone,
            "openid": fields.openid,
        },
    ),
    "equipment": (
        EquipmentRow,
        {
            "code": _EQUIPMENT,
            "name": fields.text(100),
            "kind": fields.device_word(EquipmentKind),
            "unit": _UNIT,
            "zones": fields.several(_ZONE),
            "since": fields.moment,
        },
    ),
    "zone": (
        ZoneRow,
        {
            "equipment": _EQUIPMENT,
            "kind": _ZONE,
            "profile": fields.profile,
            "low": fields.hundredths,
            "high": fields.hundredths,
            "delay": fields.span,
            "hysteresis": fields.hundredths,
        },
    ),
    "gateway": (GatewayRow, {"number": _GATEWAY, "unit": _UNIT, "since": fields.moment}),
    "probe": (
        ProbeRow,
        {
            "code": fields.probe,
            "gateway": _GATEWAY,
            "equipment": _EQUIPMENT,
            "zone": _ZONE,
            "interval": fields.span,
            "since": fields.moment,
        },
    ),
    "contact": (ContactRow, {"equipment": _EQUIPMENT, "level": fields.level, "person": _PERSON, "unit": _UNIT}),
    "window": (
        WindowRow,
        {
            "equipment": _EQUIPMENT,
            "kind": fields.device_word(WindowKind),
            "since": fields.moment,
            "until": fields.moment,
            "reason": fields.text(200),
        },
    ),
}
"""Struct of each type of row, and the reader of each of its fields."""

KNOWN_BY = {"unit": ("code",), "equipment": ("code",), "gateway": ("number",), "person": ("unit", "name")}
"""The fields behind `Row.key` of the types to which others refer."""

REFERENCES = {
    "unit": {"parent": "unit"},
    "person": {"unit": "unit"},
    "equipment": {"unit": "unit"},
    "zone": {"equipment": "equipment"},
    "gateway": {"unit": "unit"},
    "probe": {"gateway": "gateway", "equipment": "equipment"},
    "contact": {"equipment": "equipment", "unit": "unit"},
    "window": {"equipment": "equipment"},
}
"""Fields of each type that name a row of another, and of which."""
