"""Many requests at the same time: one asker's keep nobody else waiting, and health is told whatever happens."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from api.app_context import CONCURRENT_REQUESTS, REQUESTS_OF_ONE_PRINCIPAL, opened_store
from api.concurrency_limit import ConcurrencyLimit
from api.service import served
from config import secrets
from config.settings import RecordsSettings, Settings
from core.db import engine
from core.db.engine import Records
from core.health.health_check import Health
from core.ids import SeriesId
from core.runtime.clock import SystemClock
from core.runtime.instant import DAY, Instant, rfc3339
from core.telemetry.port import Curve
from tests.fixtures.databases import DATABASES, fresh_url
from tests.fixtures.waiting import until
from tests.fixtures.web import NOW, Browser, Site, site

WITHIN_S = 120.0
YEAR = {"from": rfc3339(Instant(NOW - 365 * DAY)), "to": rfc3339(Instant(NOW + 1)), "window": "86400"}


class Slow:
    """A telemetry store that answers for curves when it is let."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.go_on = threading.Event()
        self.under_way = 0
        self.most = 0
        self._lock = threading.Lock()

    def range(self, series: SeriesId, since: Instant, until: Instant) -> Curve:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        assert self.go_on.wait(WITHIN_S)
        with self._lock:
            self.under_way -= 1
        found: Curve = self._store.range(series, since, until)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def place(records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(records, tmp_path) as made:
        made.measured("208601", [4.0] * 5)
        yield made


@pytest.fixture
def slow(place: Site) -> Slow:
    made = Slow(place.telemetry)
    place.context.telemetry = opened_store("telemetry", made)
    return made


def year(place: Site, browser: Browser) -> httpx.Response:
    return browser.get(f"/api/v1/zones/{place.there.zone}/history", params=YEAR)


def statuses(answers: Sequence[httpx.Response]) -> Mapping[int, int]:
    found = [answer.status_code for answer in answers]
    return {status: found.count(status) for status in sorted(set(found))}


def test_two_hundred_year_queries_of_one_keep_nobody_else_waiting(place: Site, slow: Slow) -> None:
    place.context.slots = ConcurrencyLimit(16, per_principal=REQUESTS_OF_ONE_PRINCIPAL, waits_s=0.5)
    greedy, other = place.signed_in("clinic-a"), place.signed_in("county-a")
    with ThreadPoolExecutor(200) as many:
        asked = [many.submit(year, place, greedy) for _ in range(200)]
        until(lambda: slow.under_way == REQUESTS_OF_ONE_PRINCIPAL, within_s=WITHIN_S)
        assert other.get("/api/v1/alarms").status_code == 200
        assert other.get("/", headers={"accept": "text/html"}).status_code == 200
        checks = place.stranger().get("/readyz").json()["checks"]
        assert {check["name"] for check in checks if check["ok"]} >= {"records", "telemetry", "intake log"}
        until(lambda: sum(one.done() for one in asked) == 200 - REQUESTS_OF_ONE_PRINCIPAL, within_s=WITHIN_S)
        slow.go_on.set()
        answers = [one.result() for one in asked]
    assert statuses(answers) == {200: REQUESTS_OF_ONE_PRINCIPAL, 503: 200 - REQUESTS_OF_ONE_PRINCIPAL}
    assert slow.most == REQUESTS_OF_ONE_PRINCIPAL
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "5"
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.json()["code"], "your requests" in refused.json()["detail"]) == ("unavailable", True)


def test_who_waits_is_answered_in_the_end(place: Site, slow: Slow) -> None:
    place.context.slots = ConcurrencyLimit(16, per_principal=REQUESTS_OF_ONE_PRINCIPAL, waits_s=WITHIN_S)
    greedy = place.signed_in("clinic-a")
    with ThreadPoolExecutor(30) as many:
        asked = [many.submit(year, place, greedy) for _ in range(30)]
        until(lambda: slow.under_way == REQUESTS_OF_ONE_PRINCIPAL, within_s=WITHIN_S)
        slow.go_on.set()
        assert statuses([one.result() for one in asked]) == {200: 30}


def test_however_many_ask_for_readiness_the_line_is_looked_at_once(place: Site) -> None:
    looked, go_on, run = 0, threading.Event(), place.context.health_check.run

    def slowly(within_s: float) -> Health:
        nonlocal looked
        looked += 1
        assert go_on.wait(WITHIN_S)
        return run(within_s)

    place.context.health_check.run = slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(50) as many:
        asked = [many.submit(place.stranger().get, "/readyz") for _ in range(50)]
        until(lambda: looked == 1, within_s=WITHIN_S)
        assert place.stranger().get("/healthz").status_code == 200
        go_on.set()
        assert statuses([one.result() for one in asked]) == {503: 50}
    assert looked < 50
    before = looked
    place.stranger().get("/readyz")
    assert looked == before + 1


@pytest.mark.parametrize("database", DATABASES)
def test_health_has_a_connection_of_its_own_and_who_gets_none_is_told_to_come_again(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "POOL_S", 0.2)
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    url = fresh_url(database, tmp_path)  # type: ignore[arg-type]
    settings = Settings(data_dir=str(tmp_path), records=RecordsSettings(url=url))
    with served(settings, SystemClock(), threading.Event()) as app:
        browser = Browser(app, settings.public_url, {})
        until(lambda: _ok(browser, "records"), within_s=WITHIN_S)
        held = _every_connection(app.state.context.records.engine)
        assert len(held) > CONCURRENT_REQUESTS
        answer = browser.post("/api/v1/session", json={"username": "li", "password": "a long one"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "5"
        assert "QueuePool" not in answer.text
        assert _ok(browser, "records")
        for one in held:
            one.close()
        assert browser.post("/api/v1/session", json={"username": "li", "password": "a long one"}).status_code == 401


def _every_connection(pool: Engine) -> list[Connection]:
    held: list[Connection] = []
    with suppress(NoConnectionFree):
        while True:
            held.append(pool.connect())
    return held


def _ok(browser: Browser, part: str) -> bool:
    return any(check["name"] == part and check["ok"] for check in browser.get("/readyz").json()["checks"])
