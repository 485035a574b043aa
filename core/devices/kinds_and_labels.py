"""Names of devices as on labels and in import files: probe codes, kinds, zone names."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

import msgspec

from core.devices.messages import message
from core.errors import Invalid


class ZoneKind(StrEnum):
    """Kind of a zone (compartment). It decides the limits and how far a probe may deviate."""

    REFRIGERATED = "refrigerated"
    FROZEN = "frozen"
    ULTRA_LOW = "ultra_low"
    ROOM = "room"


class EquipmentKind(StrEnum):
    """Kind of equipment that keeps vaccine cold (CC-01)."""

    VEHICLE = "vehicle"
    COLD_ROOM = "cold_room"
    FREEZER = "freezer"
    FRIDGE = "fridge"
    ICE_LINED_FRIDGE = "ice_lined_fridge"
    COLD_BOX = "cold_box"


class WindowKind(StrEnum):
    """Reason of a maintenance window. With `stopped` the readings are held in quarantine as well (CC-19)."""

    REPAIR = "repair"
    SPARE = "spare"
    STOPPED = "stopped"
    STOCK_TAKE = "stock_take"
    DEFROST = "defrost"


class DeviceSource(StrEnum):
    """Source of a device (HW-06)."""

    PROVINCE_ISSUED = "province_issued"
    UNIT_PURCHASED = "unit_purchased"


class DeviceState(StrEnum):
    """State of a piece of hardware. None in its column counts as in use."""

    IN_USE = "in_use"
    TO_RETURN = "to_return"
    """待回收: stopped, on its way to the county CDC."""
    RETURNED = "returned"
    """已回收: the county CDC has it."""


CHINESE: dict[StrEnum, str] = {
    ZoneKind.REFRIGERATED: "冷藏",
    ZoneKind.FROZEN: "冷冻",
    ZoneKind.ULTRA_LOW: "超低温",
    ZoneKind.ROOM: "室温",
    EquipmentKind.VEHICLE: "运输车辆",
    EquipmentKind.COLD_ROOM: "冷库",
    EquipmentKind.FREEZER: "冰柜",
    EquipmentKind.FRIDGE: "冰箱",
    EquipmentKind.ICE_LINED_FRIDGE: "冰衬冰箱",
    EquipmentKind.COLD_BOX: "冷藏箱",
    WindowKind.REPAIR: "维修",
    WindowKind.SPARE: "备用",
    WindowKind.STOPPED: "停用",
    WindowKind.STOCK_TAKE: "盘苗",
    WindowKind.DEFROST: "除霜",
    DeviceSource.PROVINCE_ISSUED: "省级配发",
    DeviceSource.UNIT_PURCHASED: "单位自购",
    DeviceState.IN_USE: "在用",
    DeviceState.TO_RETURN: "待回收",
    DeviceState.RETURNED: "已回收",
}
"""Chinese names of kinds. Import files may use them in place of the codes; zone names contain them."""

KindT = TypeVar("KindT", bound=StrEnum)
_PROBE = re.compile(r"(?P<code>[A-Za-z0-9_-]{1,64}?)\s*(?P<zone>冷藏|冷冻)?")


class ProbeName(msgspec.Struct, frozen=True):
    """A parsed probe label: the code, and the zone kind when the label has a suffix."""

    code: str
    zone: ZoneKind | None


def parse_probe(label: str) -> ProbeName:
    """Parse a probe label: `208604冷冻` is 208604, frozen; a bare code has no zone (HW-29).

    Raises: Invalid.
    """
    match = _PROBE.fullmatch(label.strip())
    if match is None:
        raise Invalid(field="probe", value=label, problem=message("probe"))
    suffix = match["zone"]
    return ProbeName(match["code"], None if suffix is None else kind_of(ZoneKind, suffix, "probe"))


def kind_of(kinds: type[KindT], text: str, field: str, words: Mapping[StrEnum, str] = CHINESE) -> KindT:
    """Parse a kind from its code or its Chinese name.

    Raises: Invalid, whose text lists all kinds.
    """
    name = text.strip()
    for kind in kinds:
        if name in {kind.value, words.get(kind)}:
            return kind
    allowed = ", ".join(f"{kind.value} ({words[kind]})" for kind in kinds)
    raise Invalid(field=field, value=text, problem=f"write one of {allowed}")


def zone_name(equipment: str, kind: ZoneKind) -> str:
    """Return the name of a zone: 名称+温区, such as 美菱冰箱冷藏 (HW-32)."""
    return f"{equipment}{CHINESE[kind]}"
