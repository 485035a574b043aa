"""Contract of the intake log: a shard belongs to one living worker."""

import threading
from pathlib import Path

import msgspec
import pytest

from core.intake.port import IntakeLog, ShardClaim, ShardTaken
from core.runtime.instant import Milliseconds
from core.wire.shards import Shard
from tests.fixtures.intake_logs import OPEN
from tests.fixtures.waiting import until

LEASE = Milliseconds(60_000)
MINE = ShardClaim("collector", "collector-1", Shard("00"), Shard("7f"), "here")


@pytest.mark.parametrize(
    "other",
    [
        ShardClaim("collector", "collector-2", Shard("7f"), Shard("ff"), "here"),
        ShardClaim("collector", "collector-2", Shard("00"), Shard("00"), "there"),
        ShardClaim("collector", "collector-2", Shard("40"), Shard("41"), "there"),
        ShardClaim("collector", "collector-1", Shard("00"), Shard("7f"), "there"),
        ShardClaim("collector", "collector-1", Shard("80"), Shard("ff"), "there"),
    ],
)
def test_a_shard_and_a_name_belong_to_one_living_worker(log: IntakeLog, other: ShardClaim) -> None:
    log.claim(MINE, lease=LEASE)
    with pytest.raises(ShardTaken, match="collector-1 has 00-7f, on here") as refused:
        log.claim(other, lease=LEASE)
    assert refused.value.by == MINE
    log.give_up(other)
    with pytest.raises(ShardTaken):
        log.claim(other, lease=LEASE)
    log.give_up(MINE)
    log.claim(other, lease=LEASE)


def test_who_comes_again_has_other_shards_or_serves_otherwise_is_let_in(log: IntakeLog) -> None:
    log.claim(MINE, lease=LEASE)
    log.claim(msgspec.structs.replace(MINE, last=Shard("6f")), lease=LEASE)
    log.claim(ShardClaim("collector", "collector-2", Shard("70"), Shard("ff"), "there"), lease=LEASE)
    alerting = ShardClaim("alerting", "alerting-1", Shard("00"), Shard("ff"), "there")
    log.claim(alerting, lease=LEASE)
    with pytest.raises(ShardTaken):
        log.claim(MINE, lease=LEASE)
    assert [(claim.worker, claim.first) for claim in log.claims()] == [
        ("alerting-1", "00"),
        ("collector-1", "00"),
        ("collector-2", "70"),
    ]
    assert log.claims()[0] == alerting


def test_a_worker_that_is_no_longer_heard_of_is_followed_by_another(log: IntakeLog) -> None:
    log.claim(MINE, lease=Milliseconds(50))
    until(lambda: not log.claims(), "a list without the dead")
    heir = ShardClaim("collector", "collector-9", Shard("00"), Shard("ff"), "there")

    def inherits() -> bool:
        try:
            log.claim(heir, lease=LEASE)
        except ShardTaken:
            return False
        return True

    until(inherits, "the end of the lease")
    with pytest.raises(ShardTaken, match="collector-9"):
        log.claim(MINE, lease=LEASE)


@pytest.mark.usefixtures("log")
def test_of_many_that_claim_at_once_one_has_it(adapter: str, tmp_path: Path) -> None:
    won: list[str] = []
    ready = threading.Barrier(4)

    def claim(name: str) -> None:
        own = OPEN[adapter](tmp_path)
        ready.wait()
        try:
            own.claim(ShardClaim("collector", name, Shard("00"), Shard("ff"), name), lease=LEASE)
            won.append(name)
        except ShardTaken:
            pass
        own.close()

    threads = [threading.Thread(target=claim, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
