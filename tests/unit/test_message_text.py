import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.simulate.wechat.account import OfficialAccount, misfit
from core.alarms.message_text import (
    AlarmFacts,
    DigestFacts,
    Facts,
    Language,
    NotificationKind,
    OpsFacts,
    client_msg_id,
    compose,
    degrees,
    on_channel,
    outbox_key,
    plain,
)
from core.ids import AlarmId, Centi
from core.runtime.instant import Instant

KEY = outbox_key(AlarmId(7), 1, 1, 0, 3, "wechat", "alarm")
TEMPLATES = {template.id: template for template in OfficialAccount().templates}
AT = Instant(1774632960017)

names = st.text(min_size=1, max_size=100)
instants = st.integers(0, 4_000_000_000_000).map(Instant)
centis = st.integers(-4000, 9999).map(Centi)


def facts(**other: object) -> AlarmFacts:
    known: dict[str, object] = {
        "alarm": 7,
        "unit": "青山县疾病预防控制中心",
        "timezone": "Asia/Shanghai",
        "equipment": "2号冰箱",
        "zone_kind": "refrigerated",
        "rule": "above",
        "value": 940,
        "limit": 800,
        "onset": AT,
        "opened": AT,
        "tier": 1,
    }
    return msgspec.convert(known | other, AlarmFacts)


alarms = st.builds(
    AlarmFacts,
    alarm=st.integers(1, 2**62).map(AlarmId),
    unit=names,
    timezone=st.sampled_from(["Asia/Shanghai", "Asia/Urumqi", "UTC"]),
    equipment=names,
    zone_kind=st.sampled_from(["refrigerated", "frozen", "ultra_low", "room"]),
    rule=st.sampled_from(["above", "below", "probe_offline", "bad_sensor"]),
    value=st.none() | centis,
    limit=centis,
    onset=instants,
    opened=instants,
    tier=st.integers(1, 3),
    cycle=st.integers(1, 9),
    repeat=st.integers(0, 9),
    offline=st.booleans(),
    peak=centis,
    recovered=instants,
)
digests = st.builds(
    DigestFacts,
    unit=names,
    timezone=st.just("Asia/Shanghai"),
    gateway=st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True),
    alarms=st.integers(1, 9999),
    first=instants,
    last=instants,
)
troubles = st.builds(
    OpsFacts, unit=names, timezone=st.just("Asia/Shanghai"), subject=names, trouble=names, since=instants
)
languages = st.sampled_from(["zh-CN", "en"])


def fields(body: bytes) -> dict[str, str]:
    return {key: field["value"] for key, field in msgspec.json.decode(body)["data"].items()}


def told(kind: NotificationKind, known: Facts, language: Language = "zh-CN") -> dict[str, str]:
    return fields(compose(kind, known, key=KEY, to="o", link="", template_id="t", language=language))


@given(st.sampled_from(["alarm", "recovery"]), alarms, languages)
def test_the_platform_takes_whatever_we_compose(kind: NotificationKind, known: AlarmFacts, language: Language) -> None:
    said = msgspec.json.decode(compose(kind, known, key=KEY, to="o", link="", template_id="t", language=language))
    assert misfit(TEMPLATES[kind], said["data"]) is None, said


@given(digests, languages)
def test_the_platform_takes_every_digest(known: DigestFacts, language: Language) -> None:
    said = msgspec.json.decode(compose("digest", known, key=KEY, to="o", link="", template_id="t", language=language))
    assert misfit(TEMPLATES["recovery"], said["data"]) is None, said


@given(troubles, languages)
def test_the_platform_takes_every_trouble_of_ours(known: OpsFacts, language: Language) -> None:
    said = msgspec.json.decode(compose("ops", known, key=KEY, to="o", link="", template_id="t", language=language))
    assert misfit(TEMPLATES["alarm"], said["data"]) is None, said


@given(names, centis, centis)
def test_the_zone_and_the_temperatures_are_never_cut(equipment: str, value: Centi, limit: Centi) -> None:
    said = told("alarm", facts(equipment=equipment, value=value, limit=limit, zone_kind="ultra_low", cycle=2))
    assert said["thing2"].endswith("超低温")
    assert said["thing3"] == f"{degrees(value)}再次高于上限{degrees(limit)}"


def test_a_long_name_keeps_both_its_ends() -> None:
    said = told("alarm", facts(equipment="青山县疾病预防控制中心二楼疫苗冷藏库房东侧2号冰箱"))
    assert said["thing2"].startswith("青山县疾病")
    assert said["thing2"].endswith("2号冰箱冷藏")
    assert len(said["thing2"]) == 20


def test_times_are_on_the_clocks_of_the_unit() -> None:
    assert told("alarm", facts())["time4"] == "2026年03月28日 01:36"
    assert told("alarm", facts(timezone="Asia/Urumqi"))["time4"] == "2026年03月27日 23:36"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(800, "8.0℃"), (805, "8.05℃"), (810, "8.1℃"), (-5, "-0.05℃"), (-1850, "-18.5℃"), (0, "0.0℃")],
)
def test_a_temperature_is_shown_as_it_is_stored(value: int, shown: str) -> None:
    assert degrees(Centi(value)) == shown


@pytest.mark.parametrize(
    ("known", "what", "level"),
    [
        (facts(), "9.4℃高于上限8.0℃", "一级报警"),
        (facts(rule="below", value=120, limit=200, tier=2), "1.2℃低于下限2.0℃", "二级报警"),
        (facts(tier=3, repeat=2), "9.4℃高于上限8.0℃", "三级重复"),
        (facts(cycle=2), "9.4℃再次高于上限8.0℃", "一级报警"),
        (facts(offline=True, tier=2), "无数据，末值9.4℃偏高", "二级报警"),
        (facts(rule="probe_offline", value=None), "探头离线，无数据", "一级报警"),
        (facts(rule="bad_sensor", value=None), "探头故障，无数据", "一级报警"),
    ],
)
def test_it_says_what_is_wrong(known: AlarmFacts, what: str, level: str) -> None:
    said = told("alarm", known)
    assert (said["thing3"], said["phrase5"]) == (what, level)


def test_back_to_normal_says_how_far_it_went_and_when_it_ended() -> None:
    said = told("recovery", facts(value=720, peak=960, recovered=AT + 3_600_000))
    assert said["thing3"] == "已恢复7.2℃，最高9.6℃"
    assert said["time5"] == "2026年03月28日 02:36"


def test_the_same_facts_give_the_same_bytes() -> None:
    first, second = (compose("alarm", facts(), key=KEY, to="o", link="http://x/a/1", template_id="t") for _ in "12")
    assert first == second
    assert msgspec.json.decode(first)["client_msg_id"] == client_msg_id(KEY)
    assert len(client_msg_id(KEY)) == 32


def test_one_message_on_two_channels_has_two_keys_and_ids() -> None:
    other = on_channel(KEY, "sms")
    assert other == "7:1:1:0:3:sms:alarm"
    assert client_msg_id(other) != client_msg_id(KEY)


def test_a_body_can_be_read_in_plain_words() -> None:
    body = compose("alarm", facts(), key=KEY, to="o", link="http://x/a/1", template_id="t")
    assert plain("alarm", body) == (
        "【冷链报警】 青山县疾病预防控制中心 2号冰箱冷藏 9.4℃高于上限8.0℃ 2026年03月28日 01:36 一级报警 http://x/a/1"
    )
