"""Registered names of units: which names are abbreviations, and so no name to report under (UC-25)."""

import re
from collections.abc import Mapping

from core.units.unit_levels import UnitKind

ABBREVIATIONS: Mapping[str, str] = {
    "疾控中心": "疾病预防控制中心",
    "疾控": "疾病预防控制中心",
    "CDC": "疾病预防控制中心",
    "社区服务站": "社区卫生服务站",
    "社区服务中心": "社区卫生服务中心",
    "社卫站": "社区卫生服务站",
    "社卫中心": "社区卫生服务中心",
    "妇幼院": "妇幼保健院",
    "中医院": "中医医院",
}
"""Parts of names that are short for something, and the full words."""
_CDC_NAME = re.compile("疾病预防控制")


def abbreviation_in(name: str) -> str | None:
    """Return the part of a name that is an abbreviation; None if there is none."""
    return next((short for short in ABBREVIATIONS if short in name.upper()), None)


def is_full_name(kind: UnitKind, name: str) -> bool:
    """Return whether a name can be the registered one: no abbreviation, and a CDC says what it is in full."""
    return abbreviation_in(name) is None and (kind is not UnitKind.CDC or _CDC_NAME.search(name) is not None)
