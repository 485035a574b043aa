"""Columns of import files: the types of rows and their fields. docs/import.md describes them all."""

from datetime import date

import msgspec

from coldchain.importing import field_readers
from coldchain.importing.mistakes import FilePosition
from core.contacts.contacts import ContactLevel
from core.devices.hardware_origin import HardwareOrigin
from core.devices.kinds_and_labels import DeviceSource, EquipmentKind, ProbeName, WindowKind, ZoneKind
from core.ids import Centi
from core.limits import rule_profile
from core.runtime.instant import Instant, Milliseconds
from core.units.unit_attributes import Business, EntityKind, Grade
from core.units.unit_levels import Level, UnitKind


class ImportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in the file."""

    place: FilePosition

    @property
    def key(self) -> tuple[str, ...]:
        """Its type and name: unique in a file."""
        raise NotImplementedError


class UnitRow(ImportRow, frozen=True, kw_only=True):
    """A unit, known by its code."""

    code: str
    name: str
    kind: UnitKind
    level: Level
    parent: str | None = None
    timezone: str | None = None
    division: str | None = None
    uscc: str | None = None
    institution: str | None = None
    entity: EntityKind | None = None
    grade: Grade | None = None
    businesses: tuple[Business, ...] | None = None
    address: str | None = None
    telephone: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """By code."""
        return "unit", self.code


class PersonRow(ImportRow, frozen=True, kw_only=True):
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


class HardwareRow(ImportRow, frozen=True, kw_only=True):
    """A piece of hardware; what a row leaves out of its origin stays as it is."""

    supplier: str | None = None
    source: DeviceSource | None = None
    warranty_start: date | None = None
    warranty_end: date | None = None
    installed_on: date | None = None

    @property
    def origin(self) -> HardwareOrigin:
        """Where it came from, as far as the row says."""
        return HardwareOrigin(
            supplier=self.supplier,
            source=self.source,
            warranty_start=self.warranty_start,
            warranty_end=self.warranty_end,
            installed_on=self.installed_on,
        )


class EquipmentRow(HardwareRow, frozen=True, kw_only=True):
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


class ZoneRow(ImportRow, frozen=True, kw_only=True):
    """Limits of a zone that differ from its rule profile."""

    equipment: str
    kind: ZoneKind
    profile: str = rule_profile.DEFAULT
    low: Centi | None = None
    high: Centi | None = None
    delay: Milliseconds | None = None
    hysteresis: Centi | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """By equipment and kind."""
        return "zone", self.equipment, self.kind


class GatewayRow(HardwareRow, frozen=True, kw_only=True):
    """A gateway, known by its number."""

    number: str
    unit: str
    since: Instant | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """By number."""
        return "gateway", self.number


class ProbeRow(HardwareRow, frozen=True, kw_only=True):
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


class ContactRow(ImportRow, frozen=True, kw_only=True):
    """A contact of one equipment at a level, in place of the unit's."""

    equipment: str
    level: ContactLevel
    person: str
    unit: str | None = None
    """Where the person works; the equipment's unit unless given."""
    phone: str | None = None
    """Tells which of several people of the unit who have this name."""

    @property
    def key(self) -> tuple[str, ...]:
        """By all of it."""
        return "contact", self.equipment, str(self.level), self.unit or "", self.person, self.phone or ""


class WindowRow(ImportRow, frozen=True, kw_only=True):
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


_UNIT, _EQUIPMENT = field_readers.code(field_readers.UNIT_CODE), field_readers.code(field_readers.EQUIPMENT_CODE)
_GATEWAY, _PERSON = field_readers.code(field_readers.GATEWAY_NUMBER), field_readers.text(50)
_ZONE = field_readers.device_word(ZoneKind)
_ORIGIN: dict[str, field_readers.FieldReader] = {
    "supplier": field_readers.text(100),
    "source": field_readers.device_word(DeviceSource),
    "warranty_start": field_readers.day,
    "warranty_end": field_readers.day,
    "installed_on": field_readers.day,
}

KINDS: dict[str, tuple[type[ImportRow], dict[str, field_readers.FieldReader]]] = {
    "unit": (
        UnitRow,
        {
            "code": _UNIT,
            "name": field_readers.text(100),
            "kind": field_readers.unit_word(UnitKind),
            "level": field_readers.unit_word(Level),
            "parent": _UNIT,
            "timezone": field_readers.timezone,
            "division": field_readers.code(field_readers.DIVISION_CODE),
            "uscc": field_readers.uscc,
            "institution": _UNIT,
            "entity": field_readers.unit_attribute(EntityKind),
            "grade": field_readers.unit_attribute(Grade),
            "businesses": field_readers.several(field_readers.unit_attribute(Business)),
            "address": field_readers.text(200),
            "telephone": field_readers.text(30),
        },
    ),
    "person": (
        PersonRow,
        {
            "name": _PERSON,
            "unit": _UNIT,
            "levels": field_readers.several(field_readers.level),
            "phone": field_readers.phone,
            "openid": field_readers.openid,
        },
    ),
    "equipment": (
        EquipmentRow,
        {
            "code": _EQUIPMENT,
            "name": field_readers.text(100),
            "kind": field_readers.device_word(EquipmentKind),
            "unit": _UNIT,
            "zones": field_readers.several(_ZONE),
            "since": field_readers.moment,
            **_ORIGIN,
        },
    ),
    "zone": (
        ZoneRow,
        {
            "equipment": _EQUIPMENT,
            "kind": _ZONE,
            "profile": field_readers.profile,
            "low": field_readers.hundredths,
            "high": field_readers.hundredths,
            "delay": field_readers.span,
            "hysteresis": field_readers.hundredths,
        },
    ),
    "gateway": (GatewayRow, {"number": _GATEWAY, "unit": _UNIT, "since": field_readers.moment, **_ORIGIN}),
    "probe": (
        ProbeRow,
        {
            "code": field_readers.probe,
            "gateway": _GATEWAY,
            "equipment": _EQUIPMENT,
            "zone": _ZONE,
            "interval": field_readers.span,
            "since": field_readers.moment,
            **_ORIGIN,
        },
    ),
    "contact": (
        ContactRow,
        {
            "equipment": _EQUIPMENT,
            "level": field_readers.level,
            "person": _PERSON,
            "unit": _UNIT,
            "phone": field_readers.phone,
        },
    ),
    "window": (
        WindowRow,
        {
            "equipment": _EQUIPMENT,
            "kind": field_readers.device_word(WindowKind),
            "since": field_readers.moment,
            "until": field_readers.moment,
            "reason": field_readers.text(200),
        },
    ),
}
"""Struct of each type of row, and the reader of each of its fields."""

KNOWN_BY = {"unit": ("code",), "equipment": ("code",), "gateway": ("number",), "person": ("unit", "name")}
"""The fields behind `ImportRow.key` of the types to which others refer."""

REFERENCES = {
    "unit": {"parent": "unit", "institution": "unit"},
    "person": {"unit": "unit"},
    "equipment": {"unit": "unit"},
    "zone": {"equipment": "equipment"},
    "gateway": {"unit": "unit"},
    "probe": {"gateway": "gateway", "equipment": "equipment"},
    "contact": {"equipment": "equipment", "unit": "unit"},
    "window": {"equipment": "equipment"},
}
"""Fields of each type that name a row of another, and of which."""
