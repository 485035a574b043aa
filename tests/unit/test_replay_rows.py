"""A logger's file against the device that plays it: what the file says is what is stored, or its row is refused."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from coldchain.demo.county import read_logger, recall
from coldchain.simulate.modbus import registers
from coldchain.simulate.replay import unplayable_rows
from config.text_file import UnreadableFile
from core.logger_files.reader import parse
from gateway_agent import device_profile
from gateway_agent.register_decoder import measure

HEAD = "time,temperature\n"
VALUES = ("5.00", "8.04", "85.0", "-70", "-0.01", "0", "199.99", "-200", "", "7.96")
ROWS = HEAD + "".join(f"2026-03-01 08:{minute:02},{value}\n" for minute, value in enumerate(VALUES))


def test_the_replay_device_carries_every_hundredth_that_a_file_may_say() -> None:
    (channel,) = device_profile.load("replay").channels
    for value in range(-20_000, 20_001):
        (word,) = registers(channel, value / 100)
        assert measure(channel, {(3, 0): word})[0] == value / 100
    assert measure(channel, {(3, 0): registers(channel, None)[0]})[0] is None


def test_every_row_of_a_file_is_played_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(ROWS)
    assert [value for _, value in read_logger(tmp_path / "log.csv").readings] == [
        500, 804, 8500, -7000, -1, 0, 19_999, -20_000, None, 796,
    ]  # fmt: skip


def test_a_device_that_can_not_show_a_row_refuses_it_with_line_and_reason() -> None:
    channel = device_profile.load("r4dcb08").channel("t1")
    assert channel is not None
    file = parse(ROWS.encode(), "log.csv", ZoneInfo("Asia/Shanghai"))
    assert [problem.text() for problem in unplayable_rows(file, channel)] == [
        "line 3, column temperature: '8.04' would be shown as 8.00 by the simulated device",
        "line 4, column temperature: '85.00' would be taken for a broken sensor of the simulated device",
        "line 5, column temperature: '-70.00' would be taken for a broken sensor of the simulated device",
        "line 6, column temperature: '-0.01' would be shown as 0.00 by the simulated device",
        "line 8, column temperature: '199.99' would be taken for a broken sensor of the simulated device",
        "line 9, column temperature: '-200.00' would be taken for a broken sensor of the simulated device",
        "line 11, column temperature: '7.96' would be shown as 8.00 by the simulated device",
    ]


def test_a_quote_that_nobody_closed_ends_the_replay_before_it_begins(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        'time,temperature,comment\n2026-03-01 08:00,4.0,\n2026-03-01 08:10,4.2,"door open\n2026-03-01 08:15,9.0,\n'
    )
    with pytest.raises(UnreadableFile, match=r"log.csv: line 3: a quote opens here that the line doesn't close"):
        recall(tmp_path / "demo", log)
    assert not (tmp_path / "demo").exists()
