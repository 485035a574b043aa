"""Activity in a county while its processes are killed: fridges that warm and cool, and people who handle alarms.

A request that an API process did not answer, since it was killed, is sent again unchanged to either process. What
people did is kept here and compared with the records at the end.
"""

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import httpx
from sqlalchemy import select

from core.access.tokens import issue_token
from core.devices.tables import Probe, Series
from core.ids import Centi, SeriesId
from core.runtime.instant import DAY, HOUR, MINUTE, Instant
from core.telemetry.factory import open_telemetry
from core.telemetry.port import StoredReading
from core.units.actor import OPERATOR
from core.units.rights import Role
from core.units.tables import Unit
from tests.scenario.county import County

WARM, COOL = 9.4, 5.0
HISTORY_EVERY_S = 5.0
HISTORY_DAYS = 13
"""Days between two written hours, so that every second or third hour is in another month."""
Value = tuple[int | None, int]
"""Value in hundredths of a degree, and quality, of a reading."""


class Episode(NamedTuple):
    """Time [since, until) in which a fridge is too warm."""

    fridge: str
    since: Instant
    until: Instant


class Weather:
    """Temperatures of all fridges: warm during their episodes, cool between them."""

    def __init__(self, county: County, episodes: Sequence[Episode]) -> None:
        self._county = county
        self._episodes = episodes

    def begun(self, now: Instant) -> list[Episode]:
        return [episode for episode in self._episodes if episode.since <= now]

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(0.1):
            self.show()

    def show(self) -> None:
        now = self._county.now
        warm = {episode.fridge for episode in self._episodes if episode.since <= now < episode.until}
        for fridge in self._county.fridges:
            self._county.show(fridge, WARM if fridge in warm else COOL)


class Staff:
    """Person who acknowledges every alarm and writes the handling record of each recovered one."""

    def __init__(self, county: County) -> None:
        self._urls = [county.stage.url, county.elsewhere(county.stage.url + "/").rstrip("/")]
        with county.records.write() as tx:
            unit = tx.scalars(select(Unit).where(Unit.parent_id.is_(None))).one()
            role, now = Role.BUSINESS_ADMIN, county.now
            self._token = issue_token(tx, OPERATOR, name="staff", unit=unit, role=role, expires_at=None, now=now)
        self.acknowledged: set[tuple[int, int]] = set()
        """(alarm, cycle) of each acknowledgement that the API confirmed."""
        self.handled: dict[int, str] = {}
        """Cause in each handling record that the API confirmed, by alarm."""
        self.again = 0
        """Number of requests that were sent again, since they were not answered."""
        self.refused: list[str] = []

    def run(self, stop: threading.Event) -> None:
        client = httpx.Client(timeout=10, trust_env=False, headers={"Authorization": f"Bearer {self._token}"})
        with client:
            while not stop.wait(0.5):
                with suppress(httpx.HTTPError, _NotNow):
                    self._see_to(client, stop)

    def _see_to(self, client: httpx.Client, stop: threading.Event) -> None:
        for alarm in self._listed(client, handling="unacknowledged"):
            if (alarm["id"], alarm["cycle"]) in self.acknowledged or alarm["state"] == "closed":
                continue
            answer = self._insist(client, stop, f"/api/v1/alarms/{alarm['id']}/acknowledge", {}, None)
            if answer is not None:
                self.acknowledged.add((alarm["id"], answer["cycle"]))
        for alarm in self._listed(client, state="recovered"):
            if alarm["id"] in self.handled or alarm["handling"] == "handled":
                continue
            report = {"cause": f"门没关 {alarm['id']}", "action": "关门", "disposition": "无需处置"}
            key = f"handling-{alarm['id']}"
            answer = self._insist(client, stop, f"/api/v1/alarms/{alarm['id']}/handling", report, key)
            if answer is not None:
                self.handled[alarm["id"]] = answer["cause"]

    def _listed(self, client: httpx.Client, **filters: str) -> list[dict[str, Any]]:
        answer = client.get(f"{self._urls[0]}/api/v1/alarms", params={**filters, "limit": 200})
        if answer.status_code != 200:
            raise _NotNow
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def _insist(
        self, client: httpx.Client, stop: threading.Event, path: str, body: dict[str, str], key: str | None
    ) -> dict[str, Any] | None:
        """Send a request until it is answered; return None if it was refused or `stop` was set first."""
        headers = {"Idempotency-Key": key} if key else {}
        attempt = 0
        while not stop.is_set():
            try:
                answer = client.post(f"{self._urls[attempt % 2]}{path}", json=body, headers=headers)
            except httpx.HTTPError:
                self.again += 1
            else:
                if answer.status_code in (200, 201):
                    confirmed: dict[str, Any] = answer.json()
                    return confirmed
                if answer.status_code < 500:
                    self.refused.append(f"{path}: {answer.status_code} {answer.text[:300]}")
                    return None
                self.again += 1
            attempt += 1
            stop.wait(0.2)
        return None


class Registrar:
    """Operator who enters the forgotten fridges one after another, once `notice` was called."""

    def __init__(self, county: County, every_s: float) -> None:
        self._county = county
        self._every_s = every_s
        self._noticed = threading.Event()
        self.left = [fridge.name for fridge in county.fridges.values() if fridge.forgotten]

    def notice(self) -> None:
        self._noticed.set()

    def run(self, stop: threading.Event) -> None:
        while self.left and not stop.wait(self._every_s):
            if self._noticed.is_set():
                self._county.enter_at_last(self.left[0])
                del self.left[0]


class History:
    """Writer of hours of past months into telemetry, so that there is always something to compact.

    It writes beside the collector, as another process would, from `begin` until `end`.
    """

    def __init__(self, county: County) -> None:
        self._county = county
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self.laid: dict[str, dict[int, Value]] = defaultdict(dict)

    def begin(self) -> None:
        self._wanted.set()

    def end(self) -> None:
        """Stop writing; return when the last write is done."""
        if self._wanted.is_set():
            self._wanted.clear()
            self._ended.wait(60)

    def run(self, stop: threading.Event) -> None:
        while not (stop.is_set() or self._wanted.wait(0.5)):
            pass
        with self._county.records.read() as tx:
            series = dict(tx.execute(select(Probe.code, Series.id).join(Series, Series.probe_id == Probe.id)).all())
        store = open_telemetry(self._county.settings)
        days_back = 0
        while self._wanted.is_set() and not stop.wait(HISTORY_EVERY_S):
            days_back += HISTORY_DAYS
            hour = (self._county.now - days_back * DAY) // HOUR * HOUR
            instants = [Instant(hour + turn * 10 * MINUTE) for turn in range(3)]
            store.write_batch(
                [
                    StoredReading(SeriesId(series_id), at, Centi(400 + series_id), 0)
                    for series_id in series.values()
                    for at in instants
                ],
                {},
            )
            for code, series_id in series.items():
                self.laid[code].update((int(at), (400 + series_id, 0)) for at in instants)
        store.close()
        self._ended.set()


class _NotNow(Exception):
    """The list of alarms can't be read at present."""


@contextmanager
def going_on(*works: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run functions, each in a thread, while the block runs."""
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(stop,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def weather(
    fridges: Sequence[str], start: Instant, chance: random.Random, *, apart_min: float, days: int
) -> list[Episode]:
    """Return episodes of 28 to 80 minutes for every fridge; the first ones begin `apart_min` minutes after each other.

    The shortest end before level 2 is due, the longest reach level 3. Between two, a fridge is cool long enough that
    the next episode opens another alarm.
    """
    episodes = []
    for number, fridge in enumerate(fridges):
        at = start + round(number * apart_min * MINUTE)
        while at < start + days * DAY:
            until = at + chance.randint(28, 80) * MINUTE
            episodes.append(Episode(fridge, Instant(at), Instant(until)))
            at = until + chance.randint(45, 60) * MINUTE
    return episodes
