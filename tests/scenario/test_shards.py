"""Two probes of one zone whose gateways are of different shards, followed by two workers: one alarm, closed once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain.supervisor import Service
from core.wire.topics import GatewayNumber, shard_of
from tests.scenario.county import County, Fridge, running, staged

ROOM = Fridge("LK-1", "一号冷库", {"200101": "10001", "200102": "10002"}, kind="冷库")


@pytest.fixture
def county(tmp_path: Path) -> Iterator[County]:
    low, high = sorted((shard_of(GatewayNumber("10001")), shard_of(GatewayNumber("10002"))))
    assert low != high
    with staged(tmp_path, [ROOM], more={"alerting": {"worker": "alerting-1", "shards": f"00-{low}"}}) as county:
        other = county.stage.folder / "second.toml"
        first = county.stage.config.read_text("utf-8")
        second = first.replace('worker = "alerting-1"', 'worker = "alerting-2"').replace(
            f'shards = "00-{low}"', f'shards = "{int(low, 16) + 1:02x}-ff"'
        )
        assert second != first
        other.write_text(second, "utf-8")
        county.order = ["gateway_agent", "collector", "alerting", "alerting-2", "alerting", "alerting-2"]
        services = [*county.stage.services(), Service("alerting-2", ("alerting", "--config", str(other)))]
        with running(county, services):
            county.forward(minutes=3)
            yield county


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
