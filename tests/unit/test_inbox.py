"""Order and room of what has come in: live messages before backfill, and neither kept out by the other for ever."""

import pytest

from collector.receiving import inbox
from collector.receiving.inbox import Inbox
from core.mqtt.client import MqttMessage

LIVE, BACKFILL = "cc/v1/e4/10001/up/data", "cc/v1/e4/10002/up/backfill"


def message(mid: int, topic: str = LIVE, size: int = 1) -> MqttMessage:
    return MqttMessage(topic, b"x" * size, retain=False, mid=mid, connection=1)


def filled(*messages: MqttMessage) -> Inbox:
    box = Inbox()
    assert all(box.put(each) for each in messages)
    return box


def gathered(box: Inbox, most: int) -> list[int]:
    taken = box.gather(most, 0.0)
    box.done(taken)
    return [each.mid for each in taken]


def test_live_messages_go_before_backfill_that_came_earlier() -> None:
    box = filled(*(message(n, BACKFILL) for n in range(10)), message(100), message(101, "cc/v1/e4/10001/up/birth"))
    assert gathered(box, 4) == [100, 101, 0, 1]
    assert gathered(box, 100) == list(range(2, 10))
    assert box.is_empty


def test_a_flood_of_live_messages_leaves_backfill_a_share() -> None:
    box = filled(*(message(n) for n in range(100)), *(message(n, BACKFILL) for n in range(100, 110)))
    assert gathered(box, 16) == [*range(14), 100, 101]
    assert gathered(box, 1) == [102], "of a group of one as well"


def test_a_group_has_so_many_bytes_and_one_of_each_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "GROUP_BYTES", 100)
    box = filled(*(message(n, BACKFILL, 60) for n in range(5)), message(100, LIVE, 200), message(101, LIVE, 200))
    assert gathered(box, 50) == [100, 0]
    assert gathered(box, 50) == [101, 1]
    assert gathered(box, 50) == [2, 3]


def test_backfill_has_half_of_the_room_and_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MESSAGES", 4)
    monkeypatch.setattr(inbox, "FULL_WAIT_S", 3600.0)
    box = filled(message(1, BACKFILL), message(2, BACKFILL))
    assert not box.put(message(3, BACKFILL)), "the network thread doesn't wait for it"
    assert box.put(message(4))
    assert gathered(box, 10) == [4, 1, 2]
    assert box.put(message(3, BACKFILL))
    monkeypatch.setattr(inbox, "BYTES", 100)
    assert not box.put(message(5, BACKFILL, 50))
    assert box.put(message(6, LIVE, 99))
