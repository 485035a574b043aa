"""Rule of real names: an account belongs to a person, never to a role, a unit or a group (用户实名制, UP-06)."""

import re

from core.errors import Invalid
from core.plain_text import require_plain
from core.units.messages import message

_CHINESE_NAME = re.compile(r"[\u3400-\u9fff]{2,20}(?:·[\u3400-\u9fff]{1,20})*")
_LATIN_NAME = re.compile(r"[A-Za-z\u00c0-\u024f]+(?:[ '\-.]{1,2}[A-Za-z\u00c0-\u024f]+)*\.?")
_CHINESE_ROLES = re.compile(
    "管理员|系统|用户|账号|帐号|测试|公用|共用|公共|值班|业务|冷链|疫苗|接种|疾控|卫生院|卫生室|中心|医院|门诊|"
    "免疫规划|防保|科室|保管员|技术员|主任|科长|院长|站长|所长|领导|匿名|无名|某"
)
_ENGLISH_ROLES = frozenset(
    (
        *("admin", "administrator", "user", "users", "test", "tester", "guest", "root"),
        *("operator", "shared", "manager", "system", "vaccine", "account", "nobody", "anonymous"),
        *("unknown", "staff", "office", "clinic", "hospital", "cdc"),
    )
)
LONGEST_NAME = 50


def checked_name(name: str, *, unit_name: str) -> str:
    """Return a person's name without blanks around it.

    Raises: Invalid for what isn't the name of one person: a role, a unit, digits, an alias such as 李某.
    """
    plain = " ".join(name.split())
    require_plain("name", plain)
    is_name = bool(_CHINESE_NAME.fullmatch(plain) or (len(plain) > 1 and _LATIN_NAME.fullmatch(plain)))
    words = set(re.findall(r"[a-z]+", plain.lower()))
    if not is_name or len(plain) > LONGEST_NAME:
        raise Invalid(field="name", value=name, problem=message("name_form"))
    if _CHINESE_ROLES.search(plain) or words & _ENGLISH_ROLES or (unit_name and unit_name in plain):
        raise Invalid(field="name", value=name, problem=message("name_of_role"))
    return plain
