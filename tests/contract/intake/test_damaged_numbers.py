"""Contract of the intake log: damaged numbers seen of a gateway hold up that gateway alone, until they are rebuilt."""

from pathlib import Path

import pytest

from core.intake.port import DeadLetter, GatewayFaultKind, IntakeLog, IntakeUnavailable
from core.wire.shards import GatewayNumber
from tests.contract.intake.test_missing_entries import OTHER, run
from tests.fixtures.intake_logs import CLONE, DUPLICATE, EP, GW, NEW, NOW, UNKNOWN, batch, seqs

NOBODY = GatewayNumber("10003")
LATER = "0123456789abcdef"


def damage(adapter: str, folder: Path, change: str = "last = 7") -> None:
    run(adapter, folder, f"UPDATE TABLE.seen SET {change} WHERE gw = '{GW}' AND ep = '{EP}' AND first = 1")


def test_everybody_elses_batches_of_a_group_are_taken_in(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([batch(1), batch(2), batch(3), batch(1, gw=OTHER)])
    damage(adapter, tmp_path)
    letter = DeadLetter(0, NOW, f"cc/v1/00/{OTHER}/up/data", "no JSON", b"{")
    group = [batch(2, gw=OTHER), batch(3), batch(5), batch(3, gw=OTHER)]
    assert log.append(group, [(GW, EP, 4, 4), (OTHER, EP, 9, 9)], [letter]) == [NEW, UNKNOWN, UNKNOWN, NEW]
    assert (seqs(log), seqs(log, OTHER)) == ([1, 2, 3], [1, 2, 3])
    assert log.known({(GW, EP): {3, 5}, (OTHER, EP): {2}}, most=9) == {(GW, EP): [], (OTHER, EP): [(1, 3), (9, 9)]}
    counted = {(fault.gw, fault.kind): fault.n for fault in log.faults()}
    assert counted == {(GW, GatewayFaultKind.NUMBERS_DAMAGED): 2, (OTHER, GatewayFaultKind.DEAD_LETTER): 1}
    assert log.damaged_lives() == [(GW, EP)]


def test_another_life_of_the_gateway_is_taken_in(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([batch(1)])
    damage(adapter, tmp_path)
    assert log.append([batch(2), batch(1, ep=LATER)]) == [UNKNOWN, NEW]


def test_a_damaged_range_acknowledges_nothing_and_sound_ones_of_the_life_do(
    log: IntakeLog, adapter: str, tmp_path: Path
) -> None:
    log.append([batch(1), batch(2), batch(40)])
    damage(adapter, tmp_path)
    assert log.known({(GW, EP): {2, 40}}, most=9) == {(GW, EP): [(40, 40)]}
    with pytest.raises(IntakeUnavailable):
        log.have(GW, EP)


@pytest.mark.parametrize("change", [f"gw = '{NOBODY}'", f"ep = '{LATER}'"])
def test_numbers_that_became_those_of_nobody_hold_up_nobody(
    log: IntakeLog, adapter: str, tmp_path: Path, change: str
) -> None:
    log.append([batch(1), batch(2), batch(1, gw=OTHER)])
    damage(adapter, tmp_path, change)
    group = [batch(2), batch(3), batch(2, gw=OTHER), batch(1, frozen=b"other")]
    assert log.append(group) == [DUPLICATE, NEW, NEW, CLONE], "what an entry has is in the log"
    assert (seqs(log), seqs(log, OTHER)) == ([1, 2, 3], [1, 2])
    (life,) = log.damaged_lives()
    log.rebuild_numbers_seen(life)
    assert log.verify() == []
    assert log.have(GW, EP) == [(1, 3)]


def test_rebuilt_numbers_are_those_of_the_entries_and_of_sound_ranges(
    log: IntakeLog, adapter: str, tmp_path: Path
) -> None:
    log.append([batch(seq) for seq in (20, 21)])
    log.prune(before=NOW, readers=[])  # what the sound range says of them outlives the entries
    log.append([batch(seq) for seq in (1, 2, 3, 5)], [(GW, EP, 30, 39)])
    log.release([], now=NOW)
    damage(adapter, tmp_path, "last = 19")
    assert log.append([batch(3), batch(4)]) == [UNKNOWN, UNKNOWN]
    log.rebuild_numbers_seen((GW, EP))
    assert log.have(GW, EP) == [(1, 3), (5, 5), (20, 21), (30, 39)]
    assert (log.damaged_lives(), log.verify()) == ([], [])
    assert log.append([batch(3), batch(4), batch(21)]) == [DUPLICATE, NEW, DUPLICATE]
    assert log.have(GW, EP) == [(1, 5), (20, 21), (30, 39)]
