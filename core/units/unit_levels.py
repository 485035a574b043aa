"""Levels and kinds of units, and the rule which unit may stand below which."""

from enum import StrEnum


class Level(StrEnum):
    """Administrative level, highest first."""

    NATIONAL = "national"
    PROVINCE = "province"
    CITY = "city"
    COUNTY = "county"
    TOWNSHIP = "township"
    VILLAGE = "village"


class UnitKind(StrEnum):
    """Kind of a unit: `pov` is a point of vaccination, `mah` a marketing authorization holder."""

    CDC = "cdc"
    POV = "pov"
    INSTITUTION = "institution"
    TEMP_SITE = "temp_site"
    HEALTH_DEPT = "health_dept"
    MAH = "mah"
    DISTRIBUTOR = "distributor"
    REGULATOR = "regulator"
    TREATMENT = "treatment"


CHINESE: dict[StrEnum, str] = {
    Level.NATIONAL: "国家",
    Level.PROVINCE: "省",
    Level.CITY: "市",
    Level.COUNTY: "县",
    Level.TOWNSHIP: "乡",
    Level.VILLAGE: "村",
    UnitKind.CDC: "疾控中心",
    UnitKind.POV: "接种单位",
    UnitKind.INSTITUTION: "医疗卫生机构",
    UnitKind.TEMP_SITE: "临时接种点",
    UnitKind.HEALTH_DEPT: "卫生健康主管部门",
    UnitKind.MAH: "上市许可持有人",
    UnitKind.DISTRIBUTOR: "配送单位",
    UnitKind.REGULATOR: "药品监督管理部门",
    UnitKind.TREATMENT: "救治单位",
}
"""Chinese names of levels and kinds. Import files may use them in place of the codes."""

_ORDER = list(Level)


def below_county(level: Level) -> bool:
    """Return whether a level is below the county: township or village."""
    return _ORDER.index(level) > _ORDER.index(Level.COUNTY)


def may_hang(child_kind: UnitKind, child: Level, parent_kind: UnitKind, parent: Level) -> bool:
    """Return whether a unit may stand directly under another one.

    Levels may be skipped (a county under a province). A clinic or company may have the same level as its parent; a CDC
    may not. A temporary site stands under a point of vaccination, for which it reports.
    """
    if child_kind is UnitKind.TEMP_SITE and parent_kind is not UnitKind.POV:
        return False
    deeper = _ORDER.index(child) - _ORDER.index(parent)
    return deeper > 0 or (deeper == 0 and child_kind is not UnitKind.CDC)
