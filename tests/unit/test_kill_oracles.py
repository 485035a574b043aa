"""That the kill story's oracle reads what the product writes."""

from core.alarms.alarm_facts import event
from core.ids import AlarmId
from core.runtime.instant import Instant
from tests.scenario.oracles import _is_of_the_past


def test_an_alarm_of_the_past_is_told_from_one_that_opened() -> None:
    now = Instant(1_700_000_000_000)
    assert _is_of_the_past(event(AlarmId(1), "opened", now, late=True, onset=now))
    assert not _is_of_the_past(event(AlarmId(1), "opened", now, cycle=1, onset=now, value=940))
    assert not _is_of_the_past(event(AlarmId(1), "recovered", now, late=True))
