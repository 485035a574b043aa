"""Whose turn it is among the shards of the log."""

from hypothesis import given
from hypothesis import strategies as st

from core.intake.round_robin import round_robin
from core.wire.shards import Shard

shards = st.sets(st.integers(0, 255).map(lambda n: Shard(f"{n:02x}")), min_size=1)


def test_the_first_comes_behind_the_one_that_was_served() -> None:
    assert round_robin([Shard("00"), Shard("7f"), Shard("ff")], "7f") == ["ff", "00", "7f"]
    assert round_robin([Shard("ff"), Shard("00")], "") == ["00", "ff"]


@given(waiting=shards, served=st.sampled_from(["", "00", "7f", "ff"]))
def test_who_serves_one_at_a_time_serves_each_once_before_any_twice(waiting: set[Shard], served: str) -> None:
    order = []
    for _ in waiting:
        served = round_robin(waiting, served)[0]
        order.append(served)
    assert sorted(order) == sorted(waiting)
