import os
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from config.text_file import UnreadableFile
from core.ids import Centi
from core.logger_files.logger_file import DayFigures, LoggerFile
from core.logger_files.reader import read_file as read
from core.runtime.instant import MINUTE, Instant, parse
from core.telemetry.port import Curve
from core.telemetry.window_figures import Exposure, day_edges, exposures, figures

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "fixtures" / "fridge_tag_sample.txt"
REAL = ROOT.parent / "shared" / "data" / "fridgetag2l.txt"
SHANGHAI = ZoneInfo("Asia/Shanghai")
"""The logger's clock has no zone and no summer time, so neither has the zone that it is read in."""


@pytest.fixture(scope="module")
def real() -> LoggerFile:
    if not REAL.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{REAL} is missing, and only with it is the exposure shown on a real logger")
        pytest.skip("the real logger's file is not beside this checkout")
    return read(REAL, SHANGHAI)


def curve(file: LoggerFile) -> Curve:
    return Curve(
        np.array([at for at, _ in file.readings], np.int64),
        np.array([np.nan if value is None else value for _, value in file.readings], np.float64),
        np.zeros(len(file.readings), np.uint16),
    )


def daily(file: LoggerFile) -> list[Exposure]:
    edges = day_edges(file.days[0].day, file.days[-1].day, SHANGHAI)
    return exposures(curve(file), edges, file.interval, above=file.above, below=file.below)


def csv_file(folder: Path, text: str, name: str = "fridge-7.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_fridge_tag_export_is_read() -> None:
    file = read(SAMPLE, SHANGHAI)
    assert (file.serial, file.interval, file.below, file.above) == ("000000000042", 30 * MINUTE, 200, 800)
    assert len(file.readings) == 46
    assert file.readings[0] == (parse("2026-03-27T08:10:00+08:00"), 460)
    assert file.readings[-1] == (parse("2026-03-28T09:40:00+08:00"), 530)
    assert [day.day for day in file.days] == [date(2026, 3, 27), date(2026, 3, 28)]
    assert (file.days[0].minutes_above, file.days[0].minutes_below) == (120, 0)
    assert (file.days[1].minutes_above, file.days[1].minutes_below) == (0, 120)
    assert [(day.above // MINUTE, day.below // MINUTE) for day in daily(file)] == [(120, 0), (0, 120)]


def test_a_real_logger_is_read_whole(real: LoggerFile) -> None:
    assert (len(real.readings), len(real.days), real.interval) == (10_653, 38, 5 * MINUTE)
    assert (real.below, real.above) == (200, 800)
    first = DayFigures(date(2022, 5, 2), Centi(350), Centi(2750), Centi(540), minutes_below=0, minutes_above=42)
    assert real.days[0] == first
    assert real.readings[0] == (parse("2022-05-02T04:44:00+08:00"), 2630)


def test_minutes_out_of_range_agree_with_the_loggers_own_every_day(real: LoggerFile) -> None:
    """The device measures every minute and stores every fifth, so an edge of an excursion may lie a few minutes off."""
    differ = {
        own.day: (own.minutes_above - day.above / MINUTE, own.minutes_below - day.below / MINUTE)
        for own, day in zip(real.days, daily(real), strict=True)
    }
    assert len(differ) == 38
    assert {day: off for day, off in differ.items() if max(abs(off[0]), abs(off[1])) > 10} == {}
    assert sum(own.minutes_above for own in real.days) > 13_000
    assert sum(own.minutes_below for own in real.days) > 13_000


def test_the_hole_of_the_first_day_is_a_gap_and_no_exposure(real: LoggerFile) -> None:
    hole = Instant(parse("2022-05-02T04:44:00+08:00")), Instant(parse("2022-05-02T10:36:00+08:00"))
    (span,) = exposures(curve(real), hole, real.interval, above=real.above, below=real.below)
    assert (hole[1] - hole[0]) // MINUTE == 352
    assert (span.above // MINUTE, span.below // MINUTE, span.gap // MINUTE) == (5, 0, 347)


def test_extremes_and_means_agree_with_the_loggers_own(real: LoggerFile) -> None:
    """Of every fifth of its readings, and it truncates its mean."""
    edges = day_edges(real.days[0].day, real.days[-1].day, SHANGHAI)
    for own, day in zip(real.days, figures(curve(real), edges), strict=True):
        assert day.min is not None
        assert day.max is not None
        assert day.mean is not None
        assert 0 <= day.min - own.min <= 10
        assert 0 <= own.max - day.max <= 50
        assert abs(day.mean - own.mean) <= 15


@pytest.mark.parametrize(
    "text",
    [
        "time,temperature\n2026-03-28T03:00:00+08:00,4.2\n2026-03-28T03:05:00+08:00,\n2026-03-28T03:10:00+08:00,-18.55\n",
        "\ufefftime,temperature\r\n2026-03-27T19:00:00Z,4.2\r\n2026-03-27T19:05:00Z,\r\n\r\n2026-03-27T19:10:00Z,-18.55\r\n",
        "Temperature, Probe ,TIME\n4.20,a,2026-03-28 03:00\n,a,2026-03-28 03:05\n-18.55,a,2026-03-28 03:10:00\n",
    ],
)
def test_a_csv_file_is_read(tmp_path: Path, text: str) -> None:
    file = read(csv_file(tmp_path, text), SHANGHAI)
    start = parse("2026-03-28T03:00:00+08:00")
    assert (file.serial, file.interval, file.days) == ("fridge-7", 5 * MINUTE, [])
    assert file.readings == [(start, 420), (start + 5 * MINUTE, None), (start + 10 * MINUTE, -1855)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds nothing"),
        (
            "when,temperature\n",
            "line 1: no line names a column of times and one of temperatures; this one has 'when', 'temperature'",
        ),
        ("time;temperature\n", "0 readings; at least two"),
        ("time,temperature\n2026-03-28T03:00:00+08:00,4\n", "at least two"),
        ("time,temperature\n2026-03-28 03:00,warm\n", "line 2, column temperature: 'warm' is no temperature"),
        ("time,temperature\n2026-03-28 03:00,4\n2026-03-28 03:05,nan\n", "line 3, column temperature: 'nan'"),
        ("time,temperature\n2026-03-28 03:00,4000\n", "between -200 and 200"),
        ("time,temperature\n28.3.26 3:00,4\n", "line 2, column time: '28.3.26 3:00' has its year in two digits"),
        (
            "time,temperature\n2026-03-28 03:00,4\n2026-03-28 03:00,4\n",
            "line 3, column time: .* same moment as line 2",
        ),
        ("time,temperature\n2026-03-28 03:00\n", "line 2: 1 column, the header has 2"),
    ],
)
def test_what_is_wrong_in_a_csv_file_is_named_by_line_and_column(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UnreadableFile, match=problem) as refused:
        read(csv_file(tmp_path, text), SHANGHAI)
    assert str(refused.value).startswith("fridge-7.csv")


@pytest.mark.parametrize(
    ("was", "becomes", "problem"),
    [
        ("\t2026-03-27 09:10\t5.3", "\t2026-03-27 09:10\t5.3.1", "line 53, column T: '5.3.1' is no temperature"),
        ("Temp unit: C", "Temp unit: F", "line 9, column Temp unit: 'F' is in °F, which is not read"),
        (" Serial: 000000000042", " Lot: 1", "'Conf / Serial' is missing"),
        ("Date: 2026-03-28", "Date: yesterday", "line 24, column Date: 'yesterday' is no date"),
        ("    t Acc: 120", "    t Acc: many", "column t Acc: 'many' is no whole number"),
    ],
)
def test_what_is_wrong_in_an_export_is_named(tmp_path: Path, was: str, becomes: str, problem: str) -> None:
    text = SAMPLE.read_text("utf-8")
    assert was in text
    path = tmp_path / "broken.txt"
    path.write_text(text.replace(was, becomes), "utf-8")
    with pytest.raises(UnreadableFile, match=problem):
        read(path, SHANGHAI)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.csv"
    path.write_bytes(b"\x89PNG\xff\xd8")
    with pytest.raises(UnreadableFile, match=r"line 1: the byte 0x\w\w is neither UTF-8 nor"):
        read(path, SHANGHAI)


def test_a_clock_that_follows_summer_time(tmp_path: Path) -> None:
    """The hour that Berlin shows twice is taken in order; the one that it skips can't have been on a clock there."""
    berlin = ZoneInfo("Europe/Berlin")
    twice = ["2026-10-25 02:00", "2026-10-25 02:30", "2026-10-25 02:00", "2026-10-25 02:30", "2026-10-25 03:00"]
    file = read(csv_file(tmp_path, "\n".join(["time,temperature", *(f"{time},4" for time in twice)])), berlin)
    assert np.diff([at for at, _ in file.readings]).tolist() == [30 * MINUTE] * 4
    skipped = csv_file(tmp_path, "time,temperature\n2026-03-29 02:30,4\n2026-03-29 03:00,4\n")
    with pytest.raises(UnreadableFile, match=r"line 2, column time: .* skipped by summer time"):
        read(skipped, berlin)
    assert len(read(skipped, ZoneInfo("Etc/GMT-1")).readings) == 2
