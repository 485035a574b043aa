"""Status of a probe, from the readings inside the offline limit."""

import pytest

from core.alarms.zone_status import excess, limits_of, probe_status
from core.devices.tables import Zone
from core.ids import Centi, SeriesId
from core.runtime.instant import Instant
from core.telemetry.port import StoredReading

LOW, HIGH = Centi(200), Centi(800)


def samples(*of: tuple[int | None, int]) -> list[StoredReading]:
    return [StoredReading(SeriesId(1), Instant(n), None if v is None else Centi(v), q) for n, (v, q) in enumerate(of)]


@pytest.mark.req("CC-05")
@pytest.mark.parametrize(
    ("readings", "state", "value"),
    [
        ([], "offline", None),
        ([(400, 0)], "normal", 400),
        ([(800, 0)], "normal", 800),
        ([(801, 0)], "abnormal", 801),
        ([(199, 0)], "abnormal", 199),
        ([(400, 0), (None, 4)], "normal", 400),
        ([(None, 4), (None, 8)], "offline", None),
        ([(None, 4), (None, 1)], "fault", None),
        ([(None, 2)], "fault", None),
        ([(400, 16)], "offline", None),
        ([(400, 64), (500, 32)], "normal", 500),
    ],
)
def test_a_probe_is_what_its_last_usable_reading_says(
    readings: list[tuple[int | None, int]], state: str, value: int | None
) -> None:
    now = probe_status("208601", samples(*readings), None, LOW, HIGH)
    assert (now.state, now.value) == (state, value)
    assert (now.at is None) == (value is None)


def test_the_excess_tells_which_probe_is_worst() -> None:
    assert max((Centi(v) for v in (150, 500, 830)), key=lambda v: excess(v, LOW, HIGH)) == 150
    assert excess(Centi(800), LOW, HIGH) == 0
    assert excess(Centi(-1600), None, Centi(-1500)) < 0
    assert excess(Centi(500), None, None) == 0


def test_a_zones_own_limits_stand_before_its_profiles() -> None:
    zone = Zone(kind="refrigerated", profile="china-2017", low=None, high=Centi(700))
    assert limits_of(zone) == (200, 700)
    assert limits_of(Zone(kind="frozen", profile="china-2017")) == (None, -1500)
    assert limits_of(Zone(kind="refrigerated", profile="no such profile")) == (200, 800)
