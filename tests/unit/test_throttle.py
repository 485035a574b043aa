"""How often one address may try."""

import pytest

from api import throttle
from api.throttle import Throttle, TooMany


class Seconds:
    now = 1000.0


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    made = Seconds()
    monkeypatch.setattr(throttle, "monotonic", lambda: made.now)
    return made


def tries(made: Throttle, address: str, times: int) -> int:
    passed = 0
    for _ in range(times):
        try:
            made.spend(address)
            passed += 1
        except TooMany:
            break
    return passed


def test_so_many_pass_and_then_one_each_so_many_seconds(seconds: Seconds) -> None:
    made = Throttle(10, 60.0)
    assert tries(made, "a", 50) == 10
    seconds.now += 5.9
    assert tries(made, "a", 1) == 0
    seconds.now += 6.1
    assert tries(made, "a", 5) == 1


def test_trying_on_while_refused_does_not_lengthen_the_wait_for_ever(seconds: Seconds) -> None:
    made = Throttle(2, 60.0)
    assert tries(made, "a", 2) == 2
    for _ in range(60):
        seconds.now += 1
        tries(made, "a", 1)
    seconds.now += 60
    assert tries(made, "a", 5) == 2


def test_addresses_do_not_disturb_each_other_and_are_forgotten_in_time(
    seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "REMEMBERED", 3)
    made = Throttle(1, 60.0)
    assert [tries(made, name, 2) for name in "abcd"] == [1, 1, 1, 1]
    assert tries(made, "d", 1) == 0
    assert tries(made, "a", 1) == 1
    assert seconds.now == 1000.0
