"""Several of each: two workers agree on a zone between them, none takes another's shards, a lost one is taken up."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from alerting.following.follower import positions
from coldchain.supervisor import Service, Supervisor
from core.alarms.tables import AlarmStep
from core.devices.tables import Probe, Series
from core.ids import Centi
from core.intake.factory import open_log
from core.runtime.instant import MINUTE, Instant
from core.telemetry.factory import open_telemetry
from core.wire.shards import GatewayNumber, shard_of
from tests.fixtures.servers import PAIRS, Pair
from tests.fixtures.waiting import until
from tests.scenario.county import HALVES, HIGH, LEVELS, LONGEST_S, LOW, County, Fridge, changed, python, running, staged

pytestmark = pytest.mark.long

ROOM = Fridge("LK-1", "一号冷库", {"200101": HIGH, "200102": LOW}, kind="冷库")
EARLY = Fridge("BX-1", "美菱冰箱", {"208601": HIGH})
LATE = Fridge("BX-2", "海尔冰箱", {"208602": HIGH})


@pytest.fixture(params=PAIRS)
def county(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[County]:
    pair: Pair = request.param
    with staged(tmp_path, [ROOM], pair) as county, running(county, two_alerting_workers(county)):
        county.forward(minutes=3)
        yield county


def two_alerting_workers(county: County) -> list[Service]:
    """Return the county's services; on one machine with a second worker beside the first."""
    if county.servers:
        return county.services()
    county.order = ["gateway_agent", "collector", "writer", *("alerting", "alerting-2") * 2]
    services = {service.name: service for service in county.services()}
    first, second = HALVES
    alerting = services.pop("alerting")
    return [
        *services.values(),
        changed(alerting, **{"alerting.shards": first}),
        changed(alerting, "alerting-2", **{"alerting.worker": "alerting-2", "alerting.shards": second}),
    ]


@pytest.mark.req("AL-11")
def test_two_workers_open_one_alarm_and_close_it_once(county: County) -> None:
    county.show("一号冷库", 9.4)
    county.forward_until_alarm()
    county.forward(minutes=2)
    assert len(county.phone(1).alarms()) == 1
    county.shown["200101"] = 5.0  # one probe is cool again, the other isn't: no end, no flapping
    county.forward(minutes=15)
    assert not county.phone(1).recoveries()
    county.shown["200102"] = 5.0
    county.forward(minutes=10)
    assert len(county.phone(1).recoveries()) == 1
    with county.records.read() as tx:
        rows = tx.connection().exec_driver_sql("SELECT kind FROM alarm_event WHERE kind IN ('opened', 'recovered')")
        assert [row[0] for row in rows] == ["opened", "recovered"]
        assert tx.connection().exec_driver_sql("SELECT count(*) FROM alarm").scalar() == 1
    assert len(county.phone(1).alarms()) == 1


@pytest.fixture(scope="module")
def province(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[County, Supervisor]]:
    """Yield a county on real servers, and who keeps its services; nobody starts again what has ended."""
    folder = tmp_path_factory.mktemp("province")
    with staged(folder, [EARLY, LATE, ROOM], "servers") as county, running(county) as supervisor:
        county.forward(minutes=3)
        yield county, supervisor


def test_every_api_process_tells_how_each_process_is(province: tuple[County, Supervisor]) -> None:
    county, _ = province
    names = {"collector", "collector-2", "writer", "writer-2", "alerting", "alerting-2"}
    for url in (county.stage.url, county.elsewhere(county.stage.url)):
        # Each says every two seconds how it is, so what was missing while it started may still stand there.
        until(lambda url=url: names <= well(url), f"all processes well, as {url} sees them", within_s=LONGEST_S)
        figures = httpx.get(f"{url}/metrics", trust_env=False, timeout=30).text
        for name in ("collector", "collector-2"):
            assert f'coldchain_collector{{of="received",process="{name}"}}' in figures


@pytest.mark.parametrize(
    ("service", "name", "other"),
    [
        ("collector", "client_id", "collector-1, which has 00-7f"),
        ("writer", "worker", "writer-1, which has 00-7f"),
        ("alerting", "worker", "alerting-1, which has 00-7f"),
    ],
)
def test_a_worker_whose_shards_overlap_is_refused_at_its_start(
    province: tuple[County, Supervisor], service: str, name: str, other: str
) -> None:
    county, _ = province
    asked = changed(
        Service(service, (service, "--config", str(county.stage.config))),
        **{f"{service}.{name}": f"{service}-3", f"{service}.shards": "70-7f"},
    )
    third = python(*asked.arguments, folder=county.stage.folder)
    try:
        assert third.wait(LONGEST_S) == 2
    finally:
        third.kill()
    said = (county.stage.folder / f"{service}.out").read_text().splitlines()[-1]
    assert f"{service}.shards = 70-7f of {service}-3 overlaps {other}" in said
    assert "give each worker its own range" in said


@pytest.mark.req("AL-09", "AL-11")
def test_a_stopped_collector_and_a_killed_worker_are_taken_up_where_they_were(
    province: tuple[County, Supervisor],
) -> None:
    county, supervisor = province
    manager, head = county.phone(1), county.phone(2)
    everyone, began = county.order, county.now
    county.show("美菱冰箱", 9.4)
    county.forward_until_alarm()
    opened = county.now
    county.forward(minutes=10)

    end(supervisor, "collector-2", signal.SIGTERM)
    before = taken_in(county)
    county.order = ["collector", "writer", "writer-2", "alerting", "alerting-2"]
    for _ in range(5):
        county.forward(minutes=1)
        until(lambda: spooled_until(county, HIGH) >= county.now, "the measurement of this minute", within_s=LONGEST_S)
    county.step(county.now)
    assert taken_in(county) == before + 5, "the other half went on, and this one waited"
    start_again(supervisor, "collector-2")
    county.order = everyone
    county.step(county.now)
    assert taken_in(county) == before + 10

    county.show("海尔冰箱", 9.4)
    county.forward(minutes=5)
    end(supervisor, "alerting-2", signal.SIGKILL)
    county.order = [process for process in everyone if not process.startswith("alerting")]
    for _ in range(11):
        county.forward(minutes=1)
        until(lambda: is_followed(county, LOW), "a look of the other worker at this minute", within_s=LONGEST_S)
    # That one can't know whether it is still too warm, so level 2 is told a minute late rather than wrongly.
    assert county.now == opened + 31 * MINUTE
    assert fired(county) == [1]
    assert (told(county, "美菱冰箱"), told(county, "海尔冰箱")) == ([1, 0, 0], [0, 0, 0])
    start_again(supervisor, "alerting-2")
    county.order = everyone
    county.step(county.now)
    assert [one["at"] for one in head.alarms("美菱冰箱")] == [county.now]
    assert [len(manager.alarms(name)) for name in ("美菱冰箱", "海尔冰箱", "一号冷库")] == [2, 1, 0]
    county.forward(minutes=28)
    assert told(county, "美菱冰箱") == [2, 1, 0]
    county.forward(minutes=1)
    assert told(county, "美菱冰箱") == [3, 2, 1], "level 3 at its minute"
    assert told(county, "海尔冰箱") == [1, 0, 0]
    county.forward(minutes=1)
    assert told(county, "海尔冰箱") == [2, 1, 0], "half an hour after its alarm could be opened"
    every_minute_is_stored_once(county, began)


def well(url: str) -> set[str]:
    """Return the names of all that is as it should be, as an API process says."""
    checks = httpx.get(f"{url}/readyz", trust_env=False, timeout=30).json()["checks"]
    return {check["name"] for check in checks if check["ok"]}


def end(supervisor: Supervisor, name: str, how: signal.Signals) -> None:
    """End a process, which nobody starts again by itself."""
    pid = supervisor.pid(name)
    assert pid
    os.kill(pid, how)
    until(lambda: supervisor.pid(name) is None, f"the end of {name}", within_s=LONGEST_S)


def start_again(supervisor: Supervisor, name: str) -> None:
    def looked() -> int | None:
        supervisor.check_processes()
        return supervisor.pid(name)

    until(looked, f"{name} again", within_s=LONGEST_S)


def told(county: County, fridge: str) -> list[int]:
    """Return how many alarm messages about a fridge each level has got."""
    return [len(county.phone(level).alarms(fridge)) for level in LEVELS]


def fired(county: County) -> list[int]:
    """Return the tiers of the steps that anybody has taken."""
    with county.records.read() as tx:
        return list(tx.scalars(select(AlarmStep.tier).where(AlarmStep.state == "fired").order_by(AlarmStep.tier)))


def is_followed(county: County, gateway: str) -> bool:
    """Whether alerting has taken in all that came from a gateway; all that an earlier look led to is then done."""
    shard = shard_of(GatewayNumber(gateway))
    with closing(open_log(county.settings.intake.url, county.settings.data_dir)) as log, county.records.read() as tx:
        return positions(tx)[shard] == log.head(shard)


def taken_in(county: County) -> int:
    """Return how many batches stand in the intake log."""
    with closing(open_log(county.settings.intake.url, county.settings.data_dir)) as log:
        return sum(log.heads().values())


def spooled_until(county: County, gateway: str) -> Instant:
    """Return the cycle whose readings a gateway's spool has last kept, whether or not anybody has them."""
    file = Path(county.settings.data_dir) / "spool" / f"{gateway}.db"
    with closing(sqlite3.connect(file, timeout=5)) as db:
        return Instant(db.execute("SELECT min(due) FROM polled").fetchone()[0])


def every_minute_is_stored_once(county: County, since: Instant) -> None:
    """Look into telemetry: a reading of each probe at every minute, and none between."""
    minutes = list(range(since, county.now + 1, MINUTE))
    with county.records.read() as tx:
        series = dict(tx.query(Probe.code, Series.id).join(Series, Series.probe_id == Probe.id).all())
    assert set(series) == {"200101", "200102", "208601", "208602"}
    with closing(open_telemetry(county.settings, read_only=True)) as store:
        for code, one in series.items():
            curve = store.range(one, since, Instant(county.now + 1))
            assert curve.at.tolist() == minutes, code
            assert set(curve.value.tolist()) <= {Centi(500), Centi(940)}
            assert curve.value.tolist()[-1] == round(county.shown.get(code, 5.0) * 100)
