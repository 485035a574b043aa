"""Machines of the kill scenarios: a supervisor that was killed, or has died at a fault point, is up again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.county import Fridge, staged
from tests.scenario.fault_points import SUPERVISOR as POINTS
from tests.scenario.faults import Armoury
from tests.scenario.machines import SUPERVISOR, Machines, until

pytestmark = pytest.mark.long

WITHIN_S = 60.0


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with staged(tmp_path, [Fridge("BX-1", "美菱冰箱", {"208601": "10001"})]) as county:
        running = Machines(county, tmp_path / "faults")
        try:
            until(lambda: running.kill("collector"), "the collector runs", WITHIN_S)
            yield running
        finally:
            running.end()


def test_a_killed_supervisor_is_up_again_when_the_kill_returns_and_ends_in_order(machines: Machines) -> None:
    assert machines.kill(SUPERVISOR)
    machines.stop()
    assert machines.kills == {"collector": 1, SUPERVISOR: 1}
    assert not machines.unexpected
    assert not machines.crashes()


def test_a_supervisor_that_died_at_a_fault_point_is_waited_for_before_all_ends(
    machines: Machines, tmp_path: Path
) -> None:
    armoury = Armoury(tmp_path / "faults")
    _started, ended = POINTS
    armoury.arm(ended)
    until(lambda: machines.kill("alerting"), "alerting runs", WITHIN_S)
    until(lambda: armoury.hits(ended), "the supervisor's death", WITHIN_S)
    machines.stop()
    assert not machines.unexpected
    assert not machines.crashes()
