"""Circuit breaker of a channel: the time until it is asked again."""

import pytest

from alerting.delivering.channels import circuit_breaker as gates
from alerting.delivering.channels.circuit_breaker import WAIT_S, CircuitBreaker
from alerting.delivering.channels.port import RetryLater


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(gates, "monotonic", lambda: now[0])
    return now


def test_after_being_shut_out_one_message_alone_tries(clock: list[float]) -> None:
    gate = CircuitBreaker()
    gate.failed(RetryLater("45009", after=180.0, channel_wide=True))
    assert gate.closed_for() == gate.admit() == 180.0
    clock[0] += 180.0
    assert gate.closed_for() == 0.0
    assert [gate.admit() for _ in range(3)] == [0.0, WAIT_S, WAIT_S]
    gate.failed(RetryLater("45009", after=180.0, channel_wide=True))
    assert gate.admit() == 180.0
    clock[0] += 180.0
    assert gate.admit() == 0.0
    gate.gave_up()
    assert gate.admit() == 0.0
    gate.answered()
    assert [gate.admit() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_whoever_tries_and_gets_no_answer_lets_the_next_one_try(clock: list[float]) -> None:
    gate = CircuitBreaker()
    gate.failed(RetryLater("45009", after=180.0, channel_wide=True))
    clock[0] += 180.0
    assert gate.admit() == 0.0
    gate.failed(RetryLater("timeout"))
    assert [gate.admit(), gate.admit()] == [0.0, WAIT_S]


def test_some_failures_close_it_a_little_and_a_success_forgets_them(clock: list[float]) -> None:
    gate = CircuitBreaker()
    for _ in range(4):
        gate.failed(RetryLater("http_502"))
    assert gate.admit() == 0.0
    gate.failed(RetryLater("http_502"))
    assert gate.admit() == 1.0
    clock[0] += 1.0
    gate.answered()
    gate.failed(RetryLater("http_502"))
    assert gate.admit() == 0.0
