"""One token for every thread and process, on both databases."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from core.db.engine import Records, connect
from core.runtime.clock import real_now
from core.runtime.instant import Instant
from core.wechat.access_token import AccessTokens, FetchedToken
from core.wechat.errcodes import NoAnswer, Verdict, WechatError
from core.wechat.tables import WechatToken

APP = "wx-1"


class Platform:
    """Counts who asks for tokens; `takes_s` is how long an answer takes."""

    def __init__(self, life_s: float = 7200.0, takes_s: float = 0.0) -> None:
        self.asked: list[bool] = []
        self.life_s = life_s
        self.takes_s = takes_s
        self.fails: WechatError | None = None
        self.stubborn = False
        self._numbers = count(1)
        self._last = "t0"

    def fetch(self, force: bool) -> FetchedToken:  # noqa: FBT001 (the port's)
        self.asked.append(force)
        time.sleep(self.takes_s)
        if self.fails:
            raise self.fails
        if force or not self.stubborn:
            self._last = f"t{next(self._numbers)}"
        return FetchedToken(self._last, self.life_s)


def tokens(records: Records, platform: Platform, timeout: float = 2.0) -> AccessTokens:
    return AccessTokens(records, APP, platform.fetch, timeout=timeout)


def test_many_threads_of_many_processes_fetch_once(records: Records) -> None:
    platform = Platform(takes_s=0.2)
    # An engine of its own is what a process has.
    others = [Records(connect(records.engine.url.render_as_string(hide_password=False))) for _ in range(2)]
    holders = [tokens(each, platform) for each in (records, *others)]
    with ThreadPoolExecutor(12) as pool:
        got = list(pool.map(lambda number: holders[number % 3].get(), range(12)))
    for each in others:
        each.close()
    assert set(got) == {"t1"}
    assert platform.asked == [False]


def test_a_rejected_token_is_replaced_once_for_all(records: Records) -> None:
    platform = Platform(takes_s=0.05)
    holders = [tokens(records, platform) for _ in range(2)]
    bad = holders[0].get()
    assert holders[1].get() == bad
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda number: holders[number % 2].renew(bad), range(8)))
    assert set(got) == {"t2"}
    assert platform.asked == [False, False]


def test_a_platform_that_gives_the_same_bad_token_is_forced(sqlite_records: Records) -> None:
    platform = Platform()
    holder = tokens(sqlite_records, platform)
    bad = holder.get()
    platform.stubborn = True
    assert holder.renew(bad) != bad
    assert platform.asked == [False, False, True]


def test_it_is_renewed_before_its_end(sqlite_records: Records) -> None:
    platform = Platform(life_s=1.0)
    holder = tokens(sqlite_records, platform)
    holder.get()
    ends = time.monotonic() + 5
    while holder.get() == "t1":
        assert time.monotonic() < ends
        time.sleep(0.02)
    with sqlite_records.read() as tx:
        row = tx.get_one(WechatToken, APP)
        assert row.expires_at
        assert row.expires_at <= real_now() + 900


def test_a_holder_that_was_killed_blocks_others_no_longer_than_its_lease(records: Records) -> None:
    with records.write() as tx:
        tx.add(WechatToken(app_id=APP, lease="dead", lease_until=Instant(real_now() + 300)))
    began = time.monotonic()
    assert tokens(records, Platform()).get() == "t1"
    assert 0.2 < time.monotonic() - began < 2


def test_a_holder_that_never_ends_is_not_waited_for(sqlite_records: Records) -> None:
    with sqlite_records.write() as tx:
        tx.add(WechatToken(app_id=APP, lease="other", lease_until=Instant(real_now() + 60_000)))
    with pytest.raises(WechatError, match="no_token"):
        tokens(sqlite_records, Platform(), timeout=0.1).get()


def test_threads_that_wait_share_a_failure(sqlite_records: Records) -> None:
    platform = Platform(takes_s=0.3)
    platform.fails = WechatError(NoAnswer.TIMEOUT)
    holder = tokens(sqlite_records, platform)
    failures = []
    together = threading.Barrier(6)

    def ask() -> None:
        together.wait()
        with pytest.raises(WechatError) as raised:
            holder.get()
        failures.append(raised.value)

    began = time.monotonic()
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 6
    assert len(platform.asked) == 1
    assert time.monotonic() - began < 1.5
    platform.fails = None
    assert holder.get() == "t1"


def test_a_wrong_secret_is_the_accounts_fault_not_a_tokens(sqlite_records: Records) -> None:
    platform = Platform()
    platform.fails = WechatError(40001, "invalid credential")
    with pytest.raises(WechatError) as raised:
        tokens(sqlite_records, platform).get()
    assert raised.value.means is Verdict.ACCOUNT
