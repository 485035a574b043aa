"""The demo's screen fits, and what gets somebody in is always on it."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from coldchain.demo import run
from coldchain.demo.screen import render, share
from coldchain.demo.watcher import AlarmLine, ReceivedLine, View, ZoneLine, texts
from core.ids import Centi
from core.runtime.instant import HOUR, MINUTE, Instant, Milliseconds

NOW = Instant(1_774_600_000_000)
GREETING = ["http://127.0.0.1:8080   sign in as demo / aB3-xyzABCDE", "phones: http://127.0.0.1:23456/sim/"]
TEXT = "城关镇卫生院 · 美菱冰箱冷藏 · 9.4℃>8.0℃ · 一级报警"
LINK = "http://127.0.0.1:8080/a/" + "x" * 90


def view(zones: int, alarms: int, messages: int) -> View:
    return View(
        [
            ZoneLine("城关镇卫生院", f"冰箱{n}号冷藏", f"2086{n:02}", Centi(940), Instant(NOW - MINUTE), n == zones - 1)
            for n in range(zones)
        ],
        [
            AlarmLine(f"冰箱{n}号冷藏", "too warm", 1, "open", "unacknowledged", Milliseconds(n * HOUR), None)
            for n in range(alarms)
        ],
        [ReceivedLine(NOW, f"王小梅{n}", TEXT, LINK, f"http://127.0.0.1:23456/sim/open/{n}") for n in range(messages)],
        [],
    )


def drawn(shown: View, *, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(render(shown, NOW, GREETING, texts(), rows=height - 1))
    return captured.get().splitlines()


@pytest.mark.parametrize(("zones", "alarms", "messages"), [(8, 1, 1), (8, 4, 8), (8, 0, 0), (40, 20, 8)])
def test_in_eighty_columns_and_twenty_four_rows_sign_in_and_the_newest_link_are_on_it(
    zones: int, alarms: int, messages: int
) -> None:
    lines = drawn(view(zones, alarms, messages), width=80, height=24)
    assert len(lines) <= 23
    assert lines[0].startswith(GREETING[0])
    assert lines[1].startswith(GREETING[1])
    if messages:
        assert any(line.strip() == f"→ http://127.0.0.1:23456/sim/open/{messages - 1}" for line in lines)
        assert any(f"王小梅{messages - 1}" in line for line in lines)
    assert sum("too warm" in line for line in lines) >= min(alarms, 1)
    if zones == 40:
        assert any(f"冰箱{zones - 1}号" in line for line in lines), "an abnormal zone comes first where room is short"


def test_what_is_said_in_a_terminal_of_eighty_columns_breaks_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    run._say("kept", folder="/tmp/somewhere/in/the/deep/folder")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["Ctrl-C ends."]
    assert lines[0].endswith("from there.")


@given(
    rows=st.integers(0, 60),
    messages=st.integers(0, 8),
    alarms=st.integers(0, 50),
    zones=st.integers(0, 50),
)
def test_it_never_takes_more_lines_than_there_are(rows: int, messages: int, alarms: int, zones: int) -> None:
    room = share(rows, messages=messages, alarms=alarms, zones=zones)
    assert 2 * room.messages + room.alarms + room.zones <= max(rows - 3, 0)
    if rows >= 3 + 2 * messages + max(alarms, 1) + zones and messages:
        assert (room.messages, room.zones) == (messages, zones), "what has room is shown"


def test_every_size_is_drawn_within_it() -> None:
    for height in range(8, 60, 3):
        for width in (40, 80, 200):
            assert len(drawn(view(8, 3, 4), width=width, height=height)) <= height - 1
