from pathlib import Path

from coldchain.demo.county import build, recall
from core.runtime.instant import MINUTE, Instant


def test_a_replay_goes_on_with_the_row_at_which_it_was_stopped(tmp_path: Path) -> None:
    rows = [f"2026-03-01 08:{minute:02}:00,{minute}.5" for minute in range(0, 50, 10)]
    (tmp_path / "log.csv").write_text("time,temperature\n" + "\n".join(rows) + "\n")
    county = build(tmp_path / "demo", recall(tmp_path / "demo", tmp_path / "log.csv"), port=0)
    county.stage.prepare()
    shown = []
    for minutes in (-5, 0, 20, 29, 60):
        county.goes_on(Instant(county.start + minutes * MINUTE))
        shown.append(county._read("209901", "t"))
    county.stage.close()
    assert shown == [0.5, 0.5, 20.5, 20.5, 40.5]
