"""Circuit breaker of a channel: the time until it is asked again."""

import pytest

from alerting.delivering.channels import circuit_breaker
from alerting.delivering.channels.circuit_breaker import WAIT_S, CircuitBreaker
from alerting.delivering.channels.port import RetryLater


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(circuit_breaker, "monotonic", lambda: now[0])
    return now


def test_after_being_blocked_one_message_alone_tries(clock: list[float]) -> None:
    breaker = CircuitBreaker()
    breaker.failed(RetryLater("45009", after=180.0, channel_wide=True))
    assert breaker.blocked_for() == breaker.admit() == 180.0
    clock[0] += 180.0
    assert breaker.blocked_for() == 0.0
    assert [breaker.admit() for _ in range(3)] == [0.0, WAIT_S, WAIT_S]
    breaker.failed(RetryLater("45009", after=180.0, channel_wide=True))
    assert breaker.admit() == 180.0
    clock[0] += 180.0
    assert breaker.admit() == 0.0
    breaker.gave_up()
    assert breaker.admit() == 0.0
    breaker.answered()
    assert [breaker.admit() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_whoever_tries_and_gets_no_answer_lets_the_next_one_try(clock: list[float]) -> None:
    breaker = CircuitBreaker()
    breaker.failed(RetryLater("45009", after=180.0, channel_wide=True))
    clock[0] += 180.0
    assert breaker.admit() == 0.0
    breaker.failed(RetryLater("timeout"))
    assert [breaker.admit(), breaker.admit()] == [0.0, WAIT_S]


def test_some_failures_close_it_a_little_and_a_success_forgets_them(clock: list[float]) -> None:
    breaker = CircuitBreaker()
    for _ in range(4):
        breaker.failed(RetryLater("http_502"))
    assert breaker.admit() == 0.0
    breaker.failed(RetryLater("http_502"))
    assert breaker.admit() == 1.0
    clock[0] += 1.0
    breaker.answered()
    breaker.failed(RetryLater("http_502"))
    assert breaker.admit() == 0.0
