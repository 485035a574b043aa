"""The field's words for devices, as they stand on labels and in lists: probe codes, kinds, names of zones."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

import msgspec

from core.devices.messages import message
from core.errors import Invalid


class ZoneKind(StrEnum):
    """What a compartment is for; decides its limits and how far a probe may deviate."""

    REFRIGERATED = "refrigerated"
    FROZEN = "frozen"
    ULTRA_LOW = "ultra_low"
    ROOM = "room"


class EquipmentKind(StrEnum):
    """What keeps vaccine cold (CC-01)."""

    VEHICLE = "vehicle"
    COLD_ROOM = "cold_room"
    FREEZER = "freezer"
    FRIDGE = "fridge"
    ICE_LINED_FRIDGE = "ice_lined_fridge"
    COLD_BOX = "cold_box"


class WindowKind(StrEnum):
    """Why an equipment pages nobody for a while; `stopped` also ends the taking in of its readings (CC-19)."""

    REPAIR = "repair"
    SPARE = "spare"
    STOPPED = "stopped"
    STOCK_TAKE = "stock_take"
    DEFROST = "defrost"


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
}
"""What people write for a kind; read alike, and part of a zone's name."""

Kind = TypeVar("Kind", bound=StrEnum)
_PROBE = re.compile(r"(?P<code>[A-Za-z0-9_-]{1,64}?)\s*(?P<zone>冷藏|冷冻)?")


class ProbeName(msgspec.Struct, frozen=True):
    """A probe as its label says: the code, and the zone it is meant for when there is a suffix."""

    code: str
    zone: ZoneKind | None


def parse_probe(label: str) -> ProbeName:
    """Read a probe's label: `208604冷冻` is 208604, frozen; a bare code is one without zone (HW-29).

    Raises: Invalid.
    """
    read = _PROBE.fullmatch(label.strip())
    if read is None:
        raise Invalid(field="probe", value=label, problem=message("probe"))
    suffix = read["zone"]
    return ProbeName(read["code"], None if suffix is None else kind_of(ZoneKind, suffix, "probe"))


def kind_of(kinds: type[Kind], text: str, field: str, words: Mapping[StrEnum, str] = CHINESE) -> Kind:
    """Read a kind by its code or by what people write for it.

    Raises: Invalid naming all that there are.
    """
    wanted = text.strip()
    for kind in kinds:
        if wanted in {kind.value, words.get(kind)}:
            return kind
    known = ", ".join(f"{kind.value} ({words[kind]})" for kind in kinds)
    raise Invalid(field=field, value=text, problem=f"write one of {known}")


def zone_name(equipment: str, kind: ZoneKind) -> str:
    """Return the name of a zone: 名称+温区, such as 美菱冰箱冷藏 (HW-32)."""
    return f"{equipment}{CHINESE[kind]}"
