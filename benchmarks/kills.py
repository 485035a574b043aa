"""Long run of random kills with -9, which counts what was lost and doubled, and who was told.

    .venv/bin/python benchmarks/kills.py --pair servers --kills 500 [--minutes 60] [--seed 1] [--quick]

The scenario is that of tests/scenario/test_kills.py, which CI runs with a few dozen kills: a county at thirty times the
speed of real time, whose fridges warm and cool, so that alarms open, escalate, are acknowledged and handled, and
recover. A kill hits one of our processes, their supervisor with all of them, or a server (Mosquitto, InfluxDB,
PostgreSQL; each is started again on its data). `--seed` gives the same targets in the same order; the moment of each
kill is random.
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
    """Run the kills, examine and report; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=PAIRS, default="embedded", help="what the county stands on")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=60.0, help="end after so long, however many it were by then")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="print, and keep no file")
    arguments = parser.parse_args()
    report = Report(f"kills-{arguments.pair}", _question(arguments.pair), quick=arguments.quick)
    folder = Path(tempfile.mkdtemp(prefix="cc-kills-"))
    chance = random.Random(arguments.seed)
    began = time.monotonic()
    with story(folder, arguments.pair, random.Random(arguments.seed)) as running:
        since = running.county.now
        running.registrar.notice()
        until(lambda: not running.registrar.left, "all fridges are entered", 60)
        until(lambda: running.open_alarms() >= ALARMS, "alarms are open", 600)
        done, ends = 0, began + arguments.minutes * 60
        while done < arguments.kills and time.monotonic() < ends:
            batch_of_kills = min(TOLD_EVERY, arguments.kills - done)
            running.kill_at_random(batch_of_kills, chance)
            done += batch_of_kills
            elapsed_s, open_alarms = time.monotonic() - began, running.open_alarms()
            print(f"{done} of {arguments.kills} after {elapsed_s:.0f} s; {open_alarms} alarms open", flush=True)
        tally = running.calm()
        hours = (running.county.now - since) / HOUR
    _write(report, running, tally, took_s=time.monotonic() - began, hours=hours)
    if tally.wrong:
        print(f"left for whoever looks into it: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if tally.wrong else 0


def _question(pair: str) -> str:
    installations = {
        "embedded": "one machine (`coldchain up`)",
        "servers": "Mosquitto, InfluxDB and PostgreSQL, two of each",
    }
    return (
        f"What is lost, doubled or left untold when processes are killed with -9 at random, on {installations[pair]}?"
    )


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
