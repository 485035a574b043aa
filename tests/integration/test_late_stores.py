"""Late readings through both pairs of stores: whatever order, repeats, parts and deaths, the alarms are the same.

A hundred cases on each pair, a fridge each, all at once: readings come shuffled, in batches of any size, some twice,
some out of quarantine, and the worker dies before or after any commit. The oracle is the rule applied to all readings
sorted.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.alarms.recovery import DIGEST
from core.alarms.tables import Alarm
from core.ids import Centi
from core.limits import rule_profile
from core.limits.rule_profile import ZoneOverrides
from core.rules.rule_types import Sample
from core.runtime.instant import MINUTE, Instant
from tests.fixtures.alerting import DAWN, Watch
from tests.fixtures.databases import opened
from tests.fixtures.influx import influx_at
from tests.fixtures.late_model import of_all
from tests.fixtures.mortal import Death, Mortal

pytestmark = pytest.mark.long

CASES = 100
HOURS = 3
LIMIT = rule_profile.bounds(rule_profile.load("china-2017"), "refrigerated", MINUTE, ZoneOverrides()).above
Reading = tuple[Instant, float | None]


@pytest.fixture(params=["sqlite and embedded", "postgresql and influxdb"])
def watch(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watch]:
    database, _, store = request.param.partition(" and ")
    telemetry = influx_at(tmp_path) if store == "influxdb" else None
    with opened(database, tmp_path) as records:
        made = Watch(Mortal(records.engine), tmp_path, telemetry=telemetry)
        yield made
        made.close()


def some_hours(chance: random.Random, since: Instant = DAWN, minutes: int = 155) -> list[Reading]:
    """Return what a probe measured between two live readings: warm and cold stretches, gaps, failures."""
    minute, warm, made = 1, False, []
    while minute < minutes:
        if chance.random() < 0.05:
            warm = not warm
        if chance.random() < 0.04:
            minute += chance.randint(3, 12)
        t = (
            None
            if chance.random() < 0.03
            else chance.choice((8.1, 9.0, 9.5) if warm else (5.0, 5.0, 5.0, 5.0, 7.4, 7.6))
        )
        made.append((Instant(since + minute * MINUTE), t))
        minute += 1
    return made


def in_batches(chance: random.Random, readings: list[Reading]) -> list[list[Reading]]:
    """Return readings as they come: shuffled one by one or in blocks, some of them twice."""
    order = readings + chance.sample(readings, chance.randint(0, len(readings)))
    if chance.random() < 0.3:
        chance.shuffle(order)
    size = chance.randint(1, 20)
    blocks = [order[first : first + size] for first in range(0, len(order), size)]
    chance.shuffle(blocks)
    return blocks


def alive(watch: Watch) -> None:
    """Let the worker do all that is due, again and again as long as it dies."""
    while True:
        try:
            watch.run()
        except Death:
            watch.engine, watch.late = watch.worker(), watch.late_worker()
        else:
            return


@pytest.mark.req("AL-14")
def test_a_hundred_probes_whose_readings_come_late_have_the_alarms_of_readings_in_order(watch: Watch) -> None:
    chance = random.Random(20260328)
    fridges = {}
    for n in range(CASES):
        code = f"20{n:04}"
        fridges[code] = watch.fridge(code, gateways=(f"1{n % 10:04}",))
    ends = [(Instant(DAWN + minute * MINUTE), 5.0) for minute in range(168, HOURS * 60)]
    measured: dict[str, list[Reading]] = {code: some_hours(chance) for code in fridges}
    watch.clock.time = Instant(DAWN + HOURS * 60 * MINUTE)
    for code in fridges:
        watch.reads_all(code, [(DAWN, 5.0), *ends])
    alive(watch)
    assert isinstance(watch.records, Mortal)
    watch.records.chance = chance
    to_come = [(code, batch) for code in fridges for batch in in_batches(chance, measured[code])]
    chance.shuffle(to_come)
    for number, (code, batch) in enumerate(to_come):
        origin = "released" if chance.random() < 0.05 else chance.choice(("live", "backfill"))
        watch.reads_all(code, batch, origin=origin)
        if number % 100 == 0:
            watch.clock.time = Instant(watch.clock.time + chance.choice((1, 20, 70)) * 1000)
            alive(watch)
    alive(watch)
    watch.clock.time = Instant(watch.clock.time + 10 * MINUTE)
    alive(watch)
    watch.records.chance = None
    found: dict[int, list[tuple[int, int | None]]] = {}
    for alarm in watch.alarms():
        if alarm.origin != "withdrawn" and alarm.rule == "above":
            found.setdefault(alarm.zone_id, []).append(_minutes(alarm))
    assert LIMIT
    for code, fridge in fridges.items():
        samples = [
            Sample(at, None if t is None else Centi(round(t * 100)), 0)
            for at, t in [(DAWN, 5.0), *measured[code], *ends]
        ]
        wanted = [((one.onset - DAWN) // MINUTE, (one.until - DAWN) // MINUTE) for one in of_all(LIMIT, samples)]
        assert sorted(found.get(fridge.zone, [])) == wanted, code
    assert sum(map(len, found.values())) > CASES // 2, "hardly anything was too warm: the test shows nothing"
    of_limits = [alarm.id for alarm in watch.alarms() if alarm.rule == "above"]
    assert {step.tier for alarm in of_limits for step in watch.steps(alarm)} == {DIGEST}, "somebody was paged"


def _minutes(alarm: Alarm) -> tuple[int, int | None]:
    ended = None if alarm.ended_at is None else (alarm.ended_at - DAWN) // MINUTE
    return (alarm.onset_at - DAWN) // MINUTE, ended
