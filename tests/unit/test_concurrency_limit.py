"""Limit of requests that are worked on at once, in all and of one principal."""

import asyncio

import pytest

from api.concurrency_limit import ConcurrencyLimit, TooBusy


class Work:
    """Requests that hold their slot until they are let go."""

    def __init__(self, slots: ConcurrencyLimit) -> None:
        self.slots = slots
        self.go_on = asyncio.Event()
        self.now: list[str] = []
        self.done: list[str] = []

    def starts(self, principal: str) -> "asyncio.Task[None]":
        return asyncio.create_task(self._work(principal))

    async def _work(self, principal: str) -> None:
        async with self.slots.slot(principal):
            self.now.append(principal)
            await self.go_on.wait()
            self.now.remove(principal)
            self.done.append(principal)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_one_asker_has_so_many_and_others_are_not_behind_them() -> None:
    async def story() -> None:
        work = Work(ConcurrencyLimit(6, per_principal=2))
        many = [work.starts("one") for _ in range(50)]
        await turns()
        assert work.now == ["one"] * 2
        others = [work.starts(name) for name in "abcd"]
        await turns()
        assert sorted(work.now) == ["a", "b", "c", "d", "one", "one"]
        late = work.starts("e")
        await turns()
        assert "e" not in work.now
        work.go_on.set()
        await asyncio.gather(*many, *others, late)
        assert len(work.done) == 55
        assert not work.slots._by_principal, "nobody is remembered who asks nothing"

    asyncio.run(story())


def test_who_waits_too_long_is_told_so_and_leaves_the_queue() -> None:
    async def story() -> None:
        work = Work(ConcurrencyLimit(6, per_principal=1, waits_s=0.05))
        held = work.starts("one")
        await turns()
        with pytest.raises(TooBusy, match="1 of your requests"):
            await work.starts("one")
        work.go_on.set()
        await held
        await work.starts("one")
        assert work.done == ["one", "one"]

    asyncio.run(story())


def test_what_is_worked_on_may_take_longer_than_one_waits_and_fail_as_it_likes() -> None:
    async def story() -> None:
        slots = ConcurrencyLimit(1, per_principal=1, waits_s=0.05)
        async with slots.slot("one"):
            await asyncio.sleep(0.2)
        with pytest.raises(TimeoutError, match="own"):
            async with slots.slot("one"):
                raise TimeoutError("its own")
        async with slots.slot("one"):
            pass
        assert not slots._by_principal

    asyncio.run(story())


def test_a_cancelled_request_gives_its_slot_back() -> None:
    async def story() -> None:
        work = Work(ConcurrencyLimit(1, per_principal=1))
        held, waiting = work.starts("one"), work.starts("two")
        await turns()
        waiting.cancel()
        held.cancel()
        await asyncio.gather(held, waiting, return_exceptions=True)
        work.go_on.set()
        await work.starts("three")
        assert not work.slots._by_principal

    asyncio.run(story())
