"""The rule profiles that ship, and what is said of a wrong one."""

import pytest

from core.ids import Centi
from core.limits import rule_profile
from core.limits.rule_profile import InvalidRuleProfile, ZoneOverrides
from core.runtime.instant import MINUTE, Milliseconds

SHIPPED = {name: (rule_profile._folder() / f"{name}.toml").read_text("utf-8") for name in rule_profile.names()}


def test_the_profiles_that_ship_can_be_used() -> None:
    assert rule_profile.names() == ["china-2017", "who-pqs"]
    for name in rule_profile.names():
        assert rule_profile.load(name).policy.steps_min == [30, 60]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("limit = 800", 'limit = "8.0"', "x.toml: zones.refrigerated.high.limit = '8.0': Expected `int`, got `str`"),
        ("delay_min = 10", "delay_min = -1", "zones.refrigerated.high.delay_min = -1"),
        ("repeat_min = 30", "repeat = 30", "policy: Object contains unknown field `repeat`"),
        ("steps_min = [30, 60]", "steps_min = [60, 30]", "policy.steps_min = [60, 30]: must be one or two rising"),
        ("steps_min = [30, 60]", "steps_min = [1, 2, 3]", "policy.steps_min"),
        ("low = { limit = 200", "low = { limit = 750", "high - low must be more than twice the hysteresis"),
        ("high = { limit = -1500, delay_min = 30 }", "", "zones.frozen: has neither high nor low"),
        ("title =", "title", "x.toml: line 4: not TOML"),
    ],
)
def test_a_wrong_profile_is_refused_with_file_key_and_value(old: str, new: str, said: str) -> None:
    text = SHIPPED["china-2017"]
    assert old in text
    with pytest.raises(InvalidRuleProfile) as refused:
        rule_profile.parse(text.replace(old, new, 1), "x.toml")
    assert said in str(refused.value)


def test_an_unknown_profile_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidRuleProfile, match="'nowhere'; known: china-2017, who-pqs"):
        rule_profile.load("nowhere")


@pytest.mark.req("AL-13")
def test_a_zone_may_differ_from_its_profile() -> None:
    own = ZoneOverrides(high=Centi(700), delay=Milliseconds(5 * MINUTE), hysteresis=Centi(20))
    bounds = rule_profile.bounds(rule_profile.load("china-2017"), "refrigerated", MINUTE, own)
    assert bounds.above is not None
    assert bounds.below is not None
    assert (bounds.above.value, bounds.above.delay, bounds.above.hysteresis) == (700, 5 * MINUTE, 20)
    assert (bounds.below.value, bounds.below.delay) == (200, 5 * MINUTE)
    assert rule_profile.bounds(rule_profile.load("china-2017"), "frozen", MINUTE, ZoneOverrides()).below is None
    lower = rule_profile.bounds(
        rule_profile.load("china-2017"), "frozen", MINUTE, ZoneOverrides(low=Centi(-2500))
    ).below
    assert lower is not None
    assert lower.delay == 30 * MINUTE
