"""Throttle of sign-ins: how often one address may try."""

import pytest

from api import sign_in_throttle
from api.sign_in_throttle import FailedSignIns, Throttle, TooManyAttempts, source_of


class Seconds:
    now = 1000.0


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    made = Seconds()
    monkeypatch.setattr(sign_in_throttle, "monotonic", lambda: made.now)
    return made


def tries(made: Throttle, address: str, times: int) -> int:
    passed = 0
    for _ in range(times):
        try:
            made.spend(address)
            passed += 1
        except TooManyAttempts:
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
    monkeypatch.setattr(sign_in_throttle, "REMEMBERED", 3)
    made = Throttle(1, 60.0)
    assert [tries(made, name, 2) for name in "abcd"] == [1, 1, 1, 1]
    assert tries(made, "d", 1) == 0
    assert tries(made, "a", 1) == 1
    assert seconds.now == 1000.0


def waits(made: FailedSignIns, username: str, source: str) -> int:
    """Return how long the next guess has to wait; 0 when it was let through."""
    try:
        made.spend(username, source)
    except TooManyAttempts as refused:
        return refused.after_s
    return 0


def test_each_wrong_password_after_the_fifth_doubles_the_wait(seconds: Seconds) -> None:
    made = FailedSignIns()
    assert [waits(made, "li", "a") for _ in range(5)] == [0] * 5
    found = []
    for _ in range(12):
        found.append(waits(made, "li", "a"))
        assert waits(made, "li", "a") == found[-1]
        seconds.now += found[-1]
        assert waits(made, "li", "a") == 0
    assert found == [4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]


def test_guesses_count_for_one_name_and_one_source_and_are_forgotten_in_the_end(seconds: Seconds) -> None:
    made = FailedSignIns()
    assert [waits(made, "li", "a") for _ in range(6)][-1] == 4
    assert [waits(made, "wu", "a"), waits(made, "li", "b")] == [0, 0]
    made.forget("li", "a")
    assert waits(made, "li", "a") == 0
    assert [waits(made, "li", "c") for _ in range(6)][-1] == 4
    seconds.now += 4 + 3_601
    assert [waits(made, "li", "c") for _ in range(5)] == [0] * 5


def test_what_is_remembered_of_guesses_is_bounded(seconds: Seconds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in_throttle, "REMEMBERED", 100)
    made = FailedSignIns()
    for n in range(1_000):
        waits(made, f"{n}" * 1_000, "a")
    assert len(made._counted._kept) == 100
    assert all(len(name) == 32 for name, _ in made._counted._kept)
    assert seconds.now == 1000.0


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_a_source_is_an_address_or_a_network(address: str, source: str) -> None:
    assert source_of(address) == source
