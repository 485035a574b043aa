"""A zone whose two probes come through two shards, one of which is followed an hour late: an excursion is one alarm."""

from collections.abc import Collection

import pytest

from core.alarms.handling import acknowledge
from core.runtime.instant import MINUTE, Instant
from core.wire.shards import GatewayNumber, shard_of
from tests.fixtures.alerting import Watch, ago, ahead, on_both

FIRST, SECOND = (
    next(f"{n}" for n in range(10001, 11000) if (shard_of(GatewayNumber(f"{n}")) <= "7f") is low)
    for low in (True, False)
)
"""Gateways of shards 00-7f and 80-ff."""
in_chunks = pytest.mark.parametrize("chunk", [pytest.param(10, marks=pytest.mark.long), 500])


class TwoShards:
    """A fridge with a probe in each half of the shards; of the second half nothing is followed for a while."""

    def __init__(self, watch: Watch, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
        monkeypatch.setattr("alerting.following.follower.CHUNK", chunk)
        monkeypatch.setattr("alerting.following.follower.CHUNK_SQLITE", chunk)
        monkeypatch.setattr(
            "alerting.alerting_loop.HOLD_S", -1.0
        )  # neither waits for the other, nor for the end of a backlog
        self._watch = watch
        watch.fridge("208601", "208602", gateways=(FIRST, SECOND))
        self._first, self._second = watch.worker("00-7f"), watch.worker("80-ff")

    def pass_by(
        self, minutes: int, first: Collection[int], second: Collection[int], *, second_dies: int = 1
    ) -> Instant:
        """Let the first probe be followed while time passes, and the second until its worker dies.

        `first` and `second` are the minutes in which each is too warm.
        """
        begin = self._watch.clock.time
        for minute in range(1, minutes + 1):
            ahead(self._watch, 1)
            for code, warm in (("208601", first), ("208602", second)):
                self._watch.reads(9.4 if minute in warm else 5.0, code=code)
            self._first.run_once()
            if minute <= second_dies:
                self._second.run_once()
        return begin

    def catch_up(self) -> None:
        """Follow the second half, and evaluate what is late."""
        while self._second.is_behind():
            self._second.run_once()
        self._watch.store()
        ahead(self._watch, 6)
        while self._watch.late.step():
            pass


@on_both
@in_chunks
@pytest.mark.parametrize("touched", [pytest.param(False, marks=pytest.mark.long), True])
def test_an_excursion_that_both_have_seen_is_one_alarm(
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
    touched: bool,  # noqa: FBT001
) -> None:
    shards = TwoShards(watch, monkeypatch, chunk)
    shards.pass_by(150, range(20, 60), range(20, 60))
    alarm = watch.alarm()
    assert alarm.state == "recovered"
    if touched:
        with watch.records.write() as tx:
            acknowledge(tx, watch.person(1), alarm.id, through="web", now=watch.clock.time)
    shards.catch_up()
    assert [(one.id, one.state, one.cycle) for one in watch.alarms()] == [(alarm.id, "recovered", 1)]
    assert len(watch.told(1)) == 1


@pytest.mark.long
@in_chunks
def test_what_the_second_has_seen_longer_widens_the_alarm(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    shards = TwoShards(watch, monkeypatch, chunk)
    begin = shards.pass_by(150, range(20, 60), range(15, 80))
    shards.catch_up()
    alarm = watch.alarm()
    assert (alarm.state, alarm.cycle) == ("recovered", 1)
    assert (alarm.onset_at, alarm.ended_at) == (begin + 15 * MINUTE, begin + 80 * MINUTE)
    assert len(watch.told(1)) == 1


@pytest.mark.long
@in_chunks
def test_what_the_second_has_seen_longer_than_an_acknowledged_alarm_is_linked_to_it(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    shards = TwoShards(watch, monkeypatch, chunk)
    begin = shards.pass_by(150, range(20, 60), range(20, 80))
    first = watch.alarm()
    with watch.records.write() as tx:
        acknowledge(tx, watch.person(1), first.id, through="web", now=watch.clock.time)
    shards.catch_up()
    first, second = watch.alarms()
    assert (first.onset_at, first.ended_at) == (begin + 20 * MINUTE, begin + 60 * MINUTE)
    assert (second.exceeds_id, second.origin) == (first.id, "late")
    assert (second.onset_at, second.ended_at) == (begin + 60 * MINUTE, begin + 80 * MINUTE)
    assert len(watch.told(1)) == 1


@pytest.mark.long
@in_chunks
def test_what_the_second_sees_until_now_is_told_at_once(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    shards = TwoShards(watch, monkeypatch, chunk)
    shards.pass_by(150, range(20, 60), range(20, 1000))
    assert watch.alarm().state == "recovered"
    shards.catch_up()
    (now,) = (alarm for alarm in watch.alarms() if alarm.state == "open")
    assert now.opened_at == ago(watch, 6)
    assert len(watch.told(1)) == 2


@pytest.mark.long
@in_chunks
def test_what_ends_as_the_second_catches_up_widens_the_alarm(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    shards = TwoShards(watch, monkeypatch, chunk)
    begin = shards.pass_by(120, range(20, 60), range(20, 115))
    shards.catch_up()
    assert max(alarm.ended_at or 0 for alarm in watch.alarms()) == begin + 115 * MINUTE
    assert {alarm.state for alarm in watch.alarms()} == {"recovered"}


@pytest.mark.long
@on_both
@in_chunks
def test_an_earlier_excursion_that_the_second_has_seen_is_no_part_of_the_alarm_that_is_open(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    shards = TwoShards(watch, monkeypatch, chunk)
    begin = shards.pass_by(150, range(110, 1000), range(20, 60))
    opened = watch.alarm()
    shards.catch_up()
    now, before = sorted(watch.alarms(), key=lambda alarm: alarm.origin == "late")
    assert (now.id, now.state, now.onset_at) == (opened.id, "open", begin + 110 * MINUTE)
    assert (before.origin, before.onset_at, before.ended_at) == ("late", begin + 20 * MINUTE, begin + 60 * MINUTE)


@pytest.mark.long
@on_both
@in_chunks
def test_an_excursion_is_no_part_of_the_alarm_that_a_dead_worker_holds_open(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    shards = TwoShards(watch, monkeypatch, chunk)
    begin = shards.pass_by(190, {*range(20, 60), *range(130, 160)}, range(20, 70), second_dies=45)
    first = watch.alarm()
    assert first.state == "open", "what became of the second probe's excursion isn't known yet"
    shards.catch_up()
    first, second = watch.alarms()
    assert (first.state, first.onset_at, first.ended_at) == ("recovered", begin + 20 * MINUTE, begin + 70 * MINUTE)
    assert (second.origin, second.onset_at, second.ended_at) == ("late", begin + 130 * MINUTE, begin + 160 * MINUTE)


@in_chunks
def test_what_a_worker_that_dies_during_the_excursion_goes_on_to_see_is_part_of_its_alarm(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    shards = TwoShards(watch, monkeypatch, chunk)
    begin = shards.pass_by(150, range(20, 50), range(45, 90), second_dies=50)
    assert watch.alarm().state == "recovered", "the second probe's part was still too short"
    shards.catch_up()
    assert (watch.alarm().onset_at, watch.alarm().ended_at) == (begin + 20 * MINUTE, begin + 90 * MINUTE)
