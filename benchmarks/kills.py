"""Whatever is killed with -9, as often as you like: what was lost, what was doubled, who was told.

    .venv/bin/python benchmarks/kills.py --pair servers --kills 500 [--minutes 60] [--seed 1] [--quick]

The story is that of tests/scenario/test_kills.py, which CI tells with a few dozen kills: a county at thirty times the
speed of time, whose fridges warm and cool, so that alarms open, escalate, are acknowledged and handled, and recover.
A kill takes one of our processes, their supervisor with all of them, or a server (Mosquitto, InfluxDB, PostgreSQL; each
comes up again on its data). `--seed` gives the same targets in the same order; where a process is hit is chance.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from results import Report

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.runtime.instant import HOUR
from tests.fixtures.servers import PAIRS
from tests.scenario.kill_report import figures
from tests.scenario.kill_story import FRIDGES, SPEED, Story, story
from tests.scenario.machines import until
from tests.scenario.oracles import Tally

TOLD_EVERY = 20
ALARMS = 3


def main() -> int:
    """Kill, look, tell; returns 1 when anything is wrong."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--pair", choices=PAIRS, default="embedded", help="what the county stands on")
    asked.add_argument("--kills", type=int, default=500)
    asked.add_argument("--minutes", type=float, default=60.0, help="end after so long, however many it were by then")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--quick", action="store_true", help="print, and keep no file")
    given = asked.parse_args()
    report = Report(f"kills-{given.pair}", _question(given.pair), quick=given.quick)
    folder = Path(tempfile.mkdtemp(prefix="cc-kills-"))
    chance = random.Random(given.seed)
    began = time.monotonic()
    with story(folder, given.pair, random.Random(given.seed)) as running:
        since = running.county.now
        running.registrar.notice()
        until(lambda: not running.registrar.left, "all fridges are entered", 60)
        until(lambda: running.open_alarms() >= ALARMS, "alarms are open", 600)
        done, ends = 0, began + given.minutes * 60
        while done < given.kills and time.monotonic() < ends:
            part = min(TOLD_EVERY, given.kills - done)
            running.kill_at_random(part, chance)
            done += part
            took, left = time.monotonic() - began, running.open_alarms()
            print(f"{done} of {given.kills} after {took:.0f} s; {left} alarms open", flush=True)
        tally = running.calm()
        hours = (running.county.now - since) / HOUR
    _write(report, running, tally, took_s=time.monotonic() - began, hours=hours)
    if tally.wrong:
        print(f"left for whoever looks into it: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if tally.wrong else 0


def _question(pair: str) -> str:
    stands = {"embedded": "one machine (`coldchain up`)", "servers": "Mosquitto, InfluxDB and PostgreSQL, two of each"}
    return f"What is lost, doubled or left untold when processes are killed with -9 at random, on {stands[pair]}?"


def _write(report: Report, running: Story, tally: Tally, *, took_s: float, hours: float) -> None:
    kills = running.machines.kills
    report.note(
        f"{took_s / 60:.0f} min, {took_s / max(1, kills.total()):.1f} s a kill; {hours:.1f} h of a clock that "
        f"ran at most {SPEED} times as fast; {len(FRIDGES)} fridges on {len(running.county.stage.lines)} gateways."
    )
    report.table("Killed", "what", "times")
    for name, number in kills.most_common():
        report.row(name, number)
    report.row("in all", kills.total())
    report.table("What the oracles counted", "of", "")
    for what, words in figures(tally):
        report.row(what, words)
    for what in (
        *("batches_lost", "batches_doubled", "readings_lost", "readings_doubled", "readings_altered", "readings_held"),
        *("dead_letters", "alarms_missed", "alarms_doubled", "messages_missing", "messages_doubled"),
    ):
        report.goal(what.replace("_", " "), getattr(tally, what), at_most=0)
    report.goal("anything else that is wrong", len(tally.wrong), at_most=0)
    for wrong in tally.wrong:
        report.note(f"WRONG: {wrong[:1000]}")
    report.keep()


if __name__ == "__main__":
    sys.exit(main())
