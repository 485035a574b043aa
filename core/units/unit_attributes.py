"""Attributes of units that applications and reports ask for: kind of entity, grade, lines of business."""

from enum import StrEnum


class EntityKind(StrEnum):
    """Kind of an entity unit (实体单位): it vaccinates, it reports, or both (UC-22)."""

    VACCINATING = "vaccinating"
    REPORTING = "reporting"
    BOTH = "both"


class Grade(StrEnum):
    """Grade (级别) of a unit's institution."""

    TERTIARY = "tertiary"
    SECONDARY = "secondary"
    PRIMARY = "primary"
    TOWNSHIP_CENTRE = "township_centre"
    COMMUNITY_CENTRE = "community_centre"
    COMMUNITY_STATION = "community_station"
    VILLAGE_CLINIC = "village_clinic"
    OTHER = "other"


class Business(StrEnum):
    """Line of business (业务类型) of an entity unit; a unit may have several."""

    ROUTINE = "routine"
    COVID_19 = "covid_19"
    BIRTH = "birth"
    RABIES = "rabies"
    ADULT = "adult"
    CAMPAIGN = "campaign"


class HardwareKind(StrEnum):
    """Kind of device that a unit or temporary site needs before it vaccinates: exactly these six (SE-15)."""

    COMPUTER = "computer"
    PRINTER = "printer"
    SCANNER = "scanner"
    PDA = "pda"
    ID_READER = "id_reader"
    SIGNING_PAD = "signing_pad"


CHINESE_ATTRIBUTES: dict[StrEnum, str] = {
    EntityKind.VACCINATING: "接种单位",
    EntityKind.REPORTING: "报告单位",
    EntityKind.BOTH: "接种单位和报告单位",
    Grade.TERTIARY: "三级医疗机构",
    Grade.SECONDARY: "二级医疗机构",
    Grade.PRIMARY: "一级医疗机构",
    Grade.TOWNSHIP_CENTRE: "乡镇卫生院",
    Grade.COMMUNITY_CENTRE: "社区卫生服务中心",
    Grade.COMMUNITY_STATION: "社区卫生服务站",
    Grade.VILLAGE_CLINIC: "村卫生室",
    Grade.OTHER: "其他",
    Business.ROUTINE: "常规接种",
    Business.COVID_19: "新冠疫苗接种",
    Business.BIRTH: "产科接种",
    Business.RABIES: "狂犬病暴露预防处置",
    Business.ADULT: "成人接种",
    Business.CAMPAIGN: "群体性接种",
    HardwareKind.COMPUTER: "电脑",
    HardwareKind.PRINTER: "打印机",
    HardwareKind.SCANNER: "扫码枪",
    HardwareKind.PDA: "手持式移动终端（PDA）",
    HardwareKind.ID_READER: "身份证读卡器",
    HardwareKind.SIGNING_PAD: "核签仪",
}
"""Chinese names of the attributes. The national system has 二级医疗机构 and 新冠疫苗接种; the other names are ours."""
