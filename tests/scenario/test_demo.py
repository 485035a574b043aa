"""`coldchain demo` as a newcomer runs it: without a terminal, ended by itself or by Ctrl-C, and run again."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from core.runtime.clock import monotonic

pytestmark = pytest.mark.long

UP_WITHIN_S = 300

LICENSE = Path(__file__).parents[2] / "LICENSE"
"""A text that is no logger's file. Not this one: what is told of a file quotes it, with any words looked for."""


def demo(folder: Path, *words: str, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "coldchain", "demo", "--folder", str(folder), "--port", "0", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def ended_at(said: str) -> datetime:
    found = re.search(r"Ended at (\S+ \S+) of the demo's clock: (\d+) readings", said)
    assert found, said
    assert int(found[2]) > 0
    return datetime.fromisoformat(found[1])


def stored(said: str) -> int:
    (found,) = re.findall(r"(\d+) readings stored", said)
    return int(found)


def onsets(folder: Path) -> list[tuple[int, int]]:
    """Each alarm's beginning as its page shows it, and as it was when the first message was written."""
    with closing(sqlite3.connect(folder / "data" / "records.db")) as db:
        rows = db.execute(
            "SELECT onset_at, detail FROM alarm JOIN alarm_event ON alarm_id = alarm.id WHERE kind = 'opened'"
        )
        return [(onset, json.loads(detail)["onset"]) for onset, detail in rows]


def test_it_tells_an_alarm_with_its_link_and_a_second_run_goes_on_from_there(tmp_path: Path) -> None:
    said = demo(tmp_path / "demo", "--speed", "100", "--stop-after", "25m")
    assert re.search(r"Coldchain demo: http://127.0.0.1:\d+ +sign in as demo / \S+", said)
    assert re.search(r"^\S+ \S+  ALARM +美菱冰箱冷藏: too warm$", said, re.MULTILINE)
    told = r"^\S+ \S+  phone +王小梅: 城关镇卫生院 · 美菱冰箱冷藏 · .*一级报警 → http://127.0.0.1:\d+/a/\S+$"
    assert re.search(told, said, re.MULTILINE)
    assert "restart" not in said
    assert onsets(tmp_path / "demo"), "an alarm"
    assert all(shown == written for shown, written in onsets(tmp_path / "demo")), "page and message say the same"
    first = ended_at(said)
    again = demo(tmp_path / "demo", "--speed", "100", "--stop-after", "10m")
    assert ended_at(again) >= first
    assert (ended_at(again) - first).total_seconds() < 3600, "the clock stood still in between"
    assert "too warm" not in again, "the alarm of the first run is still the same alarm"
    assert again.split("sign in as")[1].splitlines()[0] == said.split("sign in as")[1].splitlines()[0]
    assert stored(again) > stored(said)


def test_it_is_up_with_ten_seconds_of_two_cores_and_ctrl_c_stops_all_of_it(tmp_path: Path) -> None:
    words = ["demo", "--folder", str(tmp_path / "demo"), "--port", "0"]
    with (tmp_path / "out").open("w") as output:
        began = monotonic()
        process = subprocess.Popen([sys.executable, "-m", "coldchain", *words], stdout=output, stderr=output)
        try:
            url = _address(tmp_path / "out")
            while not _ready(url):
                assert monotonic() - began < UP_WITHIN_S, (tmp_path / "out").read_text()
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert len(children) == 7  # six services and the WeChat simulator
            took = sum(map(_cpu_seconds, [str(process.pid), *children]))
            process.send_signal(signal.SIGINT)
            assert process.wait(15) == 0
        finally:
            process.kill()
            process.wait()
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert "Ended at" in (tmp_path / "out").read_text()
    assert not _ready(url)
    # The goal is 10 s on two idle cores. A test can't count on their being idle; what it may use of them it can.
    assert took < 30


def test_a_second_demo_in_the_folder_is_refused_at_once_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    words = ["demo", "--folder", str(folder), "--port", "0"]
    with (tmp_path / "out").open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", "coldchain", *words], stdout=output, stderr=output)
        try:
            url = _address(tmp_path / "out")
            assert _ready(url) or httpx.get(f"{url}/healthz", trust_env=False).status_code == 200, (
                "said once it answers"
            )
            before = {name: (folder / name).read_bytes() for name in ("coldchain.toml", "ports.json", "demo.json")}
            said = demo(folder, expect=2)
            told = (
                f"coldchain: the demo in {folder} runs already: {url} (process {process.pid}); look there, end it, or"
            )
            assert said == f"{told} name another with --folder\n"
            up = subprocess.run(
                [sys.executable, "-m", "coldchain", "up", "-c", str(folder / "coldchain.toml")],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert (up.returncode, up.stdout) == (2, "")
            assert f"{folder}/data is run already, by process {process.pid};" in up.stderr
            assert len(up.stderr.splitlines()) == 1
            assert {name: (folder / name).read_bytes() for name in before} == before
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def test_a_sign_in_lasts_however_fast_the_clock_runs(tmp_path: Path) -> None:
    words = ["demo", "--folder", str(tmp_path / "demo"), "--port", "0", "--speed", "600"]
    with (tmp_path / "out").open("w") as output:
        process = subprocess.Popen([sys.executable, "-m", "coldchain", *words], stdout=output, stderr=output)
        try:
            url = _address(tmp_path / "out")
            found = re.search(r"sign in as (\S+) / (\S+)", (tmp_path / "out").read_text())
            assert found
            with httpx.Client(base_url=url, trust_env=False, timeout=30) as browser:
                opened = browser.post("/api/v1/session", json={"username": found[1], "password": found[2]})
                assert opened.status_code in (200, 201)
                expires = datetime.fromisoformat(opened.json()["expires_at"])
            clock = json.loads((tmp_path / "demo" / "clock" / "clock.json").read_bytes())
            assert clock["speed"] == 600
            # Twelve hours of the demo's clock were over in 72 s; now it is years, so hours of anybody's.
            assert (expires - datetime.now(UTC)) / 600 > timedelta(days=5)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def test_a_csv_is_replayed_row_by_row_and_a_hole_stays_a_hole(tmp_path: Path) -> None:
    rows = [
        f"2026-03-28T0{minute // 60}:{minute % 60:02}:00+08:00,{5 + minute % 7 / 10}" for minute in range(0, 120, 5)
    ]
    del rows[6:12]
    (tmp_path / "log.csv").write_text("time,temperature\n" + "\n".join(rows) + "\n")
    said = demo(tmp_path / "demo", "--replay", str(tmp_path / "log.csv"))
    assert f"Replayed {len(rows)} rows" in said
    assert f": {len(rows)} readings stored" in said


def test_a_hole_of_days_in_a_file_is_a_silent_probe_that_is_told_and_speaks_again(tmp_path: Path) -> None:
    rows = [f"2026-03-{day} 08:{minute:02}:00,5.0" for day in ("01", "13") for minute in range(0, 60, 10)]
    (tmp_path / "log.csv").write_text("time,temperature\n" + "\n".join(rows) + "\n")
    said = demo(tmp_path / "demo", "--replay", str(tmp_path / "log.csv"))
    assert f": {len(rows)} readings stored; alarms: 1;" in said, "the hole itself is no reading"
    assert re.search(r"2026-03-01 09:\d\d:\d\d  ALARM .*: no data from the probe", said)
    for person in ("陈静", "赵国强", "孙丽华"):
        assert re.search(rf"2026-03-01 \S+  phone +{person}: ", said), said
    assert re.search(r"2026-03-13 08:0\d:\d\d  normal ", said)


def test_what_a_file_says_is_what_is_stored_and_what_alarms(tmp_path: Path) -> None:
    """Forty minutes of 8.04 °C are above the limit; two rows in one second are two readings."""
    rows = ["2026-03-01 08:00:00.2;5,00", "2026-03-01 08:00:00.7;6,01"]
    rows += [f"2026-03-01 08:{minute:02};8,04 °C" for minute in range(1, 41)]
    (tmp_path / "log.csv").write_bytes("\n".join(["日期时间;温度(℃)", *rows]).encode("gbk"))
    said = demo(tmp_path / "demo", "--replay", str(tmp_path / "log.csv"))
    assert "Replaying log.csv: 42 rows; time from '日期时间', temperature from '温度(℃)'." in said
    assert "8.04℃高于上限8.0℃" in said
    assert ": 42 readings stored; alarms: 1;" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--stop-after", "soon"), "write it like 90s, 45m, 2h or 1d"),
        (("--replay", str(LICENSE)), "LICENSE: line 1: no line names a column of times and one of temperatures"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    said = demo(tmp_path / "demo", *words, expect=2)
    assert told in said
    assert "Traceback" not in said
    assert not (tmp_path / "demo").exists(), "a start that fails leaves nothing behind"


def _address(out: Path) -> str:
    while True:
        found = re.search(r"Coldchain demo: (http://\S+)", out.read_text())
        if found:
            return found[1]


def _cpu_seconds(pid: str) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
