"""Official account of the simulator: credentials, templates, quotas, and the allowed values of template fields."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

SubscriptionState = Literal["subscribed", "unsubscribed", "blocking", "blacklisted", "snapshot"]
"""State of a person towards the account.

`blocking` gets no template messages; `snapshot` opens pages in the preview that has no real openid (快照页)."""


class User(msgspec.Struct, frozen=True):
    """Person with WeChat, as the account knows them."""

    openid: str
    name: str
    state: SubscriptionState = "subscribed"


class Template(msgspec.Struct, frozen=True):
    """Category template (类目模板): lines of a label and a field, such as 温度:{{thing3.DATA}}."""

    id: str
    title: str
    content: str

    def labels(self) -> Mapping[str, str]:
        """Return the label of each field, by the field's key."""
        pairs = re.findall(r"^\s*(.*?)[:：]?\s*\{\{(\w+)\.DATA\}\}\s*$", self.content, re.MULTILINE)
        return {key: label for label, key in pairs}


class OfficialAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of the account. People and messages are not part of it; `Phones` stores them."""

    app_id: str = "wx-demo"
    secret: str = "demo-secret"  # noqa: S105 (nobody's)
    templates: Sequence[Template] = (
        Template(
            "alarm",
            "冷链设备异常报警",
            "单位:{{thing1.DATA}}\n设备:{{thing2.DATA}}\n异常情况:{{thing3.DATA}}\n"
            "开始时间:{{time4.DATA}}\n报警级别:{{phrase5.DATA}}",
        ),
        Template(
            "recovery",
            "冷链设备恢复正常",
            "单位:{{thing1.DATA}}\n设备:{{thing2.DATA}}\n恢复情况:{{thing3.DATA}}\n"
            "开始时间:{{time4.DATA}}\n恢复时间:{{time5.DATA}}",
        ),
    )
    users: Sequence[User] = ()
    token_life_s: float = 7200.0
    a_day: int = 100_000
    """Most template messages a day; errcode 45009 beyond."""
    a_minute: int = 100_000
    """Most template messages a minute; errcode 45011 beyond."""


_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
_CLOCK = r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?"
_DAY = r"(\d{4}年\d{1,2}月\d{1,2}日|\d{4}([-/.])\d{1,2}\2\d{1,2})"
_ONE_TIME = rf"({_DAY} ?)?{_CLOCK}".replace(r"\2", r"[-/.]")
_KINDS: Mapping[str, re.Pattern[str]] = {
    "thing": re.compile(r".{1,20}"),
    "character_string": re.compile(r"[\x20-\x7e]{1,32}"),
    "number": re.compile(r"[0-9.]{1,32}"),
    "letter": re.compile(r"[A-Za-z]{1,32}"),
    "time": re.compile(rf"{_ONE_TIME}(~{_ONE_TIME})?"),
    "date": re.compile(rf"{_DAY}( ?{_CLOCK})?".replace(r"\2", r"[-/.]")),
    "amount": re.compile(r"[¥￥$]?\d{1,10}(\.\d+)?元?"),
    "phone_number": re.compile(r"[0-9+-]{1,17}"),
    "name": re.compile(r"[\u4e00-\u9fff]{1,10}|[A-Za-z .,'-]{1,20}"),
    "phrase": re.compile(r"[\u4e00-\u9fff]{1,5}"),
    "const": re.compile(r".{1,20}"),
}


def misfit(template: Template, data: object) -> str | None:
    """Return the first key whose value WeChat would refuse for the template, or None.

    Keys must be exactly those of the template. Lengths are counted in UTF-16 units, the strictest reading of 字符.
    """
    labels = template.labels()
    if not isinstance(data, dict):
        return "data"
    unknown = next((key for key in data if key not in labels), None)
    if unknown is not None:
        return str(unknown)
    for key in labels:
        value = data.get(key, {})
        text = value.get("value") if isinstance(value, dict) else None
        kind = _KINDS.get(key.rstrip("0123456789"))
        if not isinstance(text, str) or kind is None or _CHARACTERS.search(text) or not kind.fullmatch(_units(text)):
            return key
    return None


def _units(text: str) -> str:
    """Return the text with two characters in place of each one outside the basic plane, as UTF-16 counts."""
    return re.sub(r"[^\u0000-\uffff]", "\ufffd\ufffd", text)
