"""Message composer: pure functions that turn the facts of an alarm into the exact bytes to send.

A body has the form of WeChat's `message/template/send`. A category template (类目模板) has 3 to 5 fields of narrow
kinds: the place, the problem, the time. The page behind the link shows everything else. Texts are in `text/*.toml`.

Guarantees, tested by tests/unit/test_message_text.py with arbitrary names: no field is empty or longer than its kind
allows; zone and temperature are never cut; the same arguments give the same bytes.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from core.alarms.states import NotificationKind
from core.ids import AlarmId, Centi
from core.rules.rule_types import Rule
from core.runtime.instant import MINUTE, Instant, Milliseconds, at_zone

Language = Literal["zh-CN", "en"]

FIELD_LENGTHS: Mapping[str, int] = {"thing": 20, "character_string": 32, "time": 32, "const": 20, "phrase": 5}
"""Maximum characters of a field by the kind in its key: `thing2` is a `thing`."""


class AlarmFacts(msgspec.Struct, frozen=True, kw_only=True):
    """State of an alarm at the time of a message about it or about its end."""

    alarm: AlarmId
    unit: str
    timezone: str
    """Time zone of the unit, used for all times in the message."""
    equipment: str
    zone_kind: str
    """refrigerated, frozen, ultra_low, room: shown after the equipment's name, as 名称+温区."""
    rule: Rule
    value: Centi | None
    """Value of the newest reading that has one."""
    limit: Centi | None
    onset: Instant
    opened: Instant
    """`onset` and `opened` are those of the cycle."""
    tier: int
    """Highest level that is told with this message."""
    cycle: int = 1
    repeat: int = 0
    """0 for the first message of a tier, then the number of the repeat."""
    offline: bool = False
    """No data since `value`. An abnormal condition stays abnormal meanwhile."""
    peak: Centi | None = None
    recovered: Instant | None = None
    """End of the cycle's excursion; only for kind `recovery`."""
    out: Milliseconds = Milliseconds(0)
    """Time beyond the limit over all cycles; shown when the alarm has opened again."""


class DigestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Digest of past excursions found in a gateway's late data: nobody was paged, but they must be handled."""

    unit: str
    timezone: str
    gateway: str
    alarms: int
    first: Instant
    last: Instant


class OpsFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Trouble of the system itself. `trouble` is a key of the table `trouble` in the catalogue."""

    unit: str
    timezone: str
    subject: str
    trouble: str
    since: Instant


Facts = AlarmFacts | DigestFacts | OpsFacts


def outbox_key(
    alarm: AlarmId | str, cycle: int, tier: int, repeat: int, person: int, channel: str, kind: NotificationKind
) -> str:
    """Return the unique key of a message. The same key is never queued twice.

    A digest has `gw10001` in place of the alarm, and the id of its first alarm in place of the repeat.
    """
    return f"{alarm}:{cycle}:{tier}:{repeat}:{person}:{channel}:{kind}"


def on_channel(key: str, channel: str) -> str:
    """Return the key of the same message on another channel."""
    *before, _, kind = key.split(":")
    return ":".join((*before, channel, kind))


def repeat_of(key: str) -> int:
    """Return which repeat of its tier a message is, 0 for the first."""
    return int(key.split(":")[3])


def client_msg_id(key: str) -> str:
    """Return the id (32 characters) by which WeChat drops a duplicate within ten minutes."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def compose(
    kind: NotificationKind,
    facts: Facts,
    *,
    key: str,
    to: str,
    link: str,
    template_id: str,
    language: Language = "zh-CN",
) -> bytes:
    """Return the body of a message to one person.

    `key` is the outbox key, `to` the person's openid, `link` the address of the page ("" for none). `template_id` may
    be "": the channel fills in the configured one when it sends.
    """
    texts = _catalogue(language)
    words = {word: _BLANK.sub(" ", text).strip() for word, text in _words(texts, kind, facts).items()}
    fields = {name: {"value": _fit(name, pattern, words)} for name, pattern in texts[kind].items()}
    body: dict[str, object] = {"touser": to, "template_id": template_id, "client_msg_id": client_msg_id(key)}
    if link:
        body["url"] = link
    return msgspec.json.encode({**body, "data": fields})


def plain(kind: str, body: bytes, language: Language = "zh-CN") -> str:
    """Return a body as one line of text with its link, for text channels and for lists of the outbox."""
    decoded = msgspec.json.decode(body)
    fields = [field["value"] for field in decoded["data"].values()]
    return " ".join(
        part for part in (f"【{_catalogue(language)['title'][kind]}】", *fields, decoded.get("url", "")) if part
    )


def degrees(value: Centi) -> str:
    """Format hundredths of a degree without rounding: 805 is 8.05 ℃, because 8.1 or 8.0 would be wrong."""
    whole, rest = divmod(abs(value), 100)
    return f"{'-' if value < 0 else ''}{whole}.{f'{rest:02}'.removesuffix('0')}℃"


@cache
def _catalogue(language: Language) -> dict[str, Any]:
    return tomllib.loads(resources.files("core.alarms").joinpath("text", f"{language}.toml").read_text("utf-8"))


def _words(texts: Mapping[str, Any], kind: NotificationKind, facts: Facts) -> dict[str, str]:
    def time(when: Instant) -> str:
        return _time(when, facts.timezone, texts["time"])

    match facts:
        case AlarmFacts():
            return {
                "unit": facts.unit,
                "equipment": facts.equipment,
                "zone": texts["zone"].get(facts.zone_kind, facts.zone_kind),
                "what": _what(texts, kind, facts),
                "onset": time(facts.onset),
                "recovered": time(facts.recovered if facts.recovered is not None else facts.opened),
                "level": texts["repeated" if facts.repeat else "level"][str(facts.tier)],
            }
        case DigestFacts():
            return {
                "unit": facts.unit,
                "subject": facts.gateway,
                "alarms": str(facts.alarms),
                "first": time(facts.first),
                "last": time(facts.last),
            }
        case OpsFacts():
            what = texts["trouble"].get(facts.trouble, facts.trouble)
            return {"unit": facts.unit, "subject": facts.subject, "what": what, "since": time(facts.since)}


@lru_cache(1000)
def _time(when: Instant, timezone: str, pattern: str) -> str:
    """Format a time. Cached: when many alarms open at once, most times are the same."""
    return at_zone(when, ZoneInfo(timezone)).strftime(pattern)


def _what(texts: Mapping[str, Any], kind: NotificationKind, facts: AlarmFacts) -> str:
    offline = facts.offline or facts.value is None
    manner = "recovered" if kind == NotificationKind.RECOVERY else "silent" if offline else "abnormal"
    measured = {"value": facts.value, "limit": facts.limit, "peak": facts.peak}
    shown = {name: "" if value is None else degrees(value) for name, value in measured.items()}
    shown["again"] = texts["again"] if facts.cycle > 1 else ""
    shown["minutes"] = str((facts.out + MINUTE // 2) // MINUTE)
    in_all = texts["in_all"].get(manner, {}) if facts.cycle > 1 and facts.out else {}
    # Preferred text first. There is no total for an offline probe: its temperature in between is unknown.
    patterns: list[str] = [table[facts.rule] for table in (in_all, texts[manner]) if facts.rule in table]
    candidates = [pattern.format_map(shown) for pattern in patterns]
    return next((text for text in candidates if _length(text) <= FIELD_LENGTHS["thing"]), candidates[-1])


_BLANK = re.compile(r"[\s\x00-\x1f\x7f]+")
_ELASTIC = ("unit", "equipment", "subject")


def _fit(name: str, pattern: str, words: Mapping[str, str]) -> str:
    """Fill in a pattern so that it fits its field; names are shortened first."""
    longest = FIELD_LENGTHS[name.rstrip("0123456789")]
    whole = pattern.format_map(words).strip()
    if _length(whole) <= longest:
        return whole or "-"
    fixed = pattern.format_map({word: "" if word in _ELASTIC else text for word, text in words.items()})
    room = longest - _length(fixed)
    short = {word: _shorten(text, room) if word in _ELASTIC else text for word, text in words.items()}
    return _shorten(pattern.format_map(short).strip(), longest) or "-"


def _shorten(text: str, room: int) -> str:
    """Shorten a name in the middle; names differ at their ends: 某县疾病预防控制中心2号冰箱 → 某县疾…2号冰箱."""
    if _length(text) <= room:
        return text
    if room <= 0:
        return ""
    head = _prefix(text, (room - 1) // 2)
    tail = _prefix(text[::-1], room - 1 - _length(head))[::-1]
    return f"{head}…{tail}"


def _prefix(text: str, room: int) -> str:
    prefix = text[:room]
    while _length(prefix) > room:
        prefix = prefix[:-1]
    return prefix


def _length(text: str) -> int:
    """Return the length in UTF-16 units, the strictest way in which WeChat may count."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
