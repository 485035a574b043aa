"""The fault points of tests/scenario/test_kills.py: where they are, what fires them; docs/kills.md names them all."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.scenario.fault_points import POINTS
from tests.scenario.faults import Armoury, Point, Reach, When, find, install

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "kills.md"
HERE = "tests.unit.test_fault_points"

_DIES = f"""
import sys
from pathlib import Path
from {HERE} import POINT, Shop
from tests.scenario.faults import Armoury, install
install([POINT], Armoury(Path(sys.argv[1])))
shop = Shop()
shop.work()
print("worked", flush=True)
shop.look(); shop.work()
print("looked and worked", flush=True)
"""


class Shop:
    def look(self) -> bool:
        return True

    @contextmanager
    def open(self) -> Iterator[list[str]]:
        yield []

    def work(self) -> None:
        with self.open() as done:
            done.append("something")


POINT = Point(
    "shop", "done, before closing", Reach(f"{HERE}:Shop.open", When.COMMIT), Reach(f"{HERE}:Shop.look", When.AFTER)
)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.slug)
def test_every_point_is_at_a_function_that_there_is(point: Point) -> None:
    for reach in (point.at, point.behind):
        if reach:
            find(reach.target)


def test_a_point_whose_function_was_renamed_is_an_error_that_says_which(tmp_path: Path) -> None:
    old = Point("shop", "gone", Reach(f"{HERE}:Shop.sell", When.BEFORE))
    with pytest.raises(LookupError, match=r"Shop\.sell"):
        install([old], Armoury(tmp_path))


def test_an_armed_point_kills_once_and_only_behind_what_it_lies_behind(tmp_path: Path) -> None:
    armoury = Armoury(tmp_path)

    def run() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", _DIES, str(tmp_path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    armoury.arm(POINT)
    killed = run()
    assert (killed.returncode, killed.stdout) == (-9, "worked\n"), killed.stderr
    assert armoury.hits(POINT) == 1
    again = run()
    assert (again.returncode, again.stdout) == (0, "worked\nlooked and worked\n"), again.stderr
    assert armoury.hits(POINT) == 1


def test_the_page_names_every_fault_point_and_no_other() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    told = {(process.strip("`"), point) for process, point, *_ in rows}
    assert told == {(point.process, point.name) for point in POINTS}
