"""Contract of the intake log: dead letters, counted faults of gateways, and clocks that run behind."""

from pathlib import Path

import msgspec
import pytest

from core.intake import dead_letter_limits
from core.intake.port import DeadLetter, GatewayClock, IntakeLog
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber
from tests.fixtures.intake_logs import CLONE, EP, GW, NOW, OPEN, batch


def test_dead_letters_are_kept_as_they_came(log: IntakeLog) -> None:
    log.append([], [], [DeadLetter(0, NOW, "cc/v1/x", "no such kind", b"\xff\x00"), DeadLetter(0, NOW, "y", "z", b"")])
    first, second = log.dead_letters()
    assert (first.topic, first.reason, first.body, first.at) == ("cc/v1/x", "no such kind", b"\xff\x00", NOW)
    assert log.dead_letters(after=first.id) == [second]
    assert log.count_dead_letters() == 2


def letter(gw: str, n: int) -> DeadLetter:
    return DeadLetter(0, Instant(NOW + n), f"cc/v1/00/{gw}/up/data", f"reason {n}", b"x")


def test_a_gateway_with_many_dead_letters_displaces_nobodys(log: IntakeLog) -> None:
    log.append([], [], [letter("10002", 0), DeadLetter(0, NOW, "nonsense", "no such topic", b"y")])
    for first in range(0, 2_100, 300):
        log.append([], [], [letter("10001", n) for n in range(first, first + 300)])
    kept = log.dead_letters(limit=1_000)
    assert [one.topic for one in kept[:2]] == ["cc/v1/00/10002/up/data", "nonsense"]
    assert [one.reason for one in kept[2:]] == [f"reason {n}" for n in range(2_000, 2_100)], "the newest stay"
    assert log.count_dead_letters() == 102
    counted = [(one.gw, one.kind, one.n, one.first - NOW, one.last - NOW, one.detail) for one in log.faults()]
    assert counted == [
        ("", "dead_letter", 1, 0, 0, "no such topic"),
        ("10001", "dead_letter", 2_100, 0, 2_099, "reason 2099"),
        ("10002", "dead_letter", 1, 0, 0, "reason 0"),
    ]


def test_dead_letters_of_many_gateways_have_a_bound_in_all(log: IntakeLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letter_limits, "MOST_IN_ALL", 50)
    for n in range(60):
        log.append([], [], [letter(str(n), n)])
    assert [one.reason for one in log.dead_letters()] == [f"reason {n}" for n in range(10, 60)]


def test_clones_are_counted(log: IntakeLog) -> None:
    log.append([batch(1)])
    for _ in range(3):
        assert log.append([batch(1, frozen=b"another"), batch(2)])[0] == CLONE
    (fault,) = log.faults()
    assert (fault.gw, fault.kind, fault.n, fault.detail) == (GW, "clone", 3, f"ep {EP}, seq 1, boot 7f3a9c21")


def test_clocks_that_run_behind_are_remembered_until_they_are_right(
    adapter: str, log: IntakeLog, tmp_path: Path
) -> None:
    clock = GatewayClock("7f3a9c21", Milliseconds(10_800_000), NOW)
    other = GatewayNumber("10002")
    log.note_clocks({GW: msgspec.structs.replace(clock, behind=Milliseconds(1)), other: clock})
    log.note_clocks({GW: clock})
    again = OPEN[adapter](tmp_path)
    assert again.clocks() == {GW: clock, other: clock}
    again.note_clocks({other: msgspec.structs.replace(clock, behind=Milliseconds(0))})
    again.close()
    assert log.clocks() == {GW: clock}
    log.note_clocks({})
    assert log.clocks() == {GW: clock}
