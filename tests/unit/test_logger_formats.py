"""Logger files as loggers, their programs and spreadsheets write them: each is read whole, or refused."""

# ruff: noqa: E501 (examples of files, each on a line)
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.text_file import UnreadableFile
from core.logger_files.logger_file import ColumnNames, LoggerFile
from core.logger_files.reader import parse
from core.runtime.instant import MINUTE
from core.runtime.instant import parse as at

SHANGHAI = ZoneInfo("Asia/Shanghai")
START = at("2026-11-03T08:00:00+08:00")
WANTED = [(START, 450), (START + 5 * MINUTE, None), (START + 10 * MINUTE, -1855), (START + 15 * MINUTE, 804)]
"""What each of the formats below says."""


def read(text: str, encoding: str = "utf-8") -> LoggerFile:
    return parse(text.encode(encoding), "fridge-7.csv", SHANGHAI)


def attempt(raw: bytes) -> LoggerFile | UnreadableFile:
    try:
        return parse(raw, "x", SHANGHAI)
    except UnreadableFile as error:
        return error


def problems(text: str, encoding: str = "utf-8") -> list[str]:
    with pytest.raises(UnreadableFile) as refused:
        read(text, encoding)
    return [problem.text("en") for problem in refused.value.problems]


def rows(*times: str, between: str = ",", values: tuple[str, ...] = ("4.5", "", "-18.55", "8.04")) -> str:
    return "".join(f"{time}{between}{value}\n" for time, value in zip(times, values, strict=True))


ISO = ("2026-11-03 08:00", "2026-11-03 08:05", "2026-11-03 08:10", "2026-11-03 08:15")
SLASHES = tuple(time.replace("-", "/") for time in ISO)
FORMATS = {
    "time and temperature in English": "time,temperature\n" + rows(*ISO),
    "a unit in the name": "Time,Temp(C)\n" + rows(*ISO),
    "Chinese names": "日期时间,温度\n" + rows(*ISO),
    "Chinese names with a unit": "记录时间,温度(℃)\n" + rows(*ISO),
    "semicolons and decimal commas": "Zeit/Time;Temperature\n"
    + rows(*ISO, between=";", values=("4,5", "", "-18,55", "8,04")),
    "quoted decimal commas": "Time,Temperature\n" + rows(*ISO, values=('"4,5"', "", '"-18,55"', '"8,04"')),
    "a unit behind each value": "Time,Temperature\n" + rows(*ISO, values=("4.5 °C", "--", "-18.55°C", "8.04℃")),
    "tabs": "Date Time\tTemp °C\n" + rows(*ISO, between="\t"),
    "slashes": "时间,温度\n" + rows(*SLASHES),
    "slashes without zeros": "时间,温度\n" + rows("2026/11/3 8:00", "2026/11/3 8:05", "2026/11/3 8:10", "2026/11/3 8:15"),
    "date and time apart": "Date,Time,Temperature\n" + rows(*(time.replace(" ", ",") for time in ISO)),
    "date and time apart in Chinese": "日期,时间,温度\n" + rows(*(time.replace(" ", ",") for time in SLASHES)),
    "lines before the header": "Device report\nSerial number: 42-A\nExport time,2026-11-05 10:00\n\nTime,Temperature\n"
    + rows(*ISO),
    "a line of units below the header": "Time,Temperature\n,°C\n" + rows(*ISO),
    "further columns": "No.,Time,Humidity,Temperature,Temp high limit\n"
    + rows(*(f"1,{time},40" for time in ISO), values=("4.5,8", ",8", "-18.55,8", "8.04,8")),
    "newest first": "Time,Temperature\n" + "\n".join(reversed(rows(*ISO).splitlines())),
    "Chinese dates": "时间,温度\n"
    + rows("2026年11月3日 08:00", "2026年11月3日 08:05:00", "2026年11月3日 8时10分", "2026年11月3日 8时15分00秒"),
    "morning and afternoon": "Time,Temperature\n"
    + rows("11/3/2026 8:00 AM", "11/3/2026 8:05 AM", "11/3/2026 8:10 AM", "11/13/2026 8:15 AM").replace("11/13", "11/3"),
    "month first, known by a later day": "Time,Temperature\n" + rows(*ISO).replace("2026-11-03", "11/03/2026"),
    "day first with dots": "Time;Temperature\n" + rows(*ISO, between=";").replace("2026-11-03", "03.11.2026"),
    "a short year whose place the column names": '"Date Time (MM/DD/YY), GMT+08:00","Temp, °C (LGR S/N: 10)"\n'
    + rows(*ISO).replace("2026-11-03", "11/03/26"),
    "a short year whose place a line above names": "Date format: DD.MM.YY\nTime,Temperature\n"
    + rows(*ISO).replace("2026-11-03", "03.11.26"),
    "a short year first": "Time (yy-mm-dd hh:mm),Temperature\n" + rows(*ISO).replace("2026-11-03", "26-11-03"),
    "day first, as the column says": "Time (dd/mm/yyyy),Temperature\n" + rows(*ISO).replace("2026-11-03", "03/11/2026"),
    "a thermocouple of type K": "Time,Temp K-type (°C)\n" + rows(*ISO),
    "only the unit says that it is the temperature": "Time,Ch1 (°C),Dew point (°C)\n"
    + rows(*(time for time in ISO), values=("4.5,1", ",1", "-18.55,1", "8.04,1")),
    "names of months": "Time,Temperature\n" + rows(*ISO).replace("2026-11-03", "03-Nov-2026"),
    "Chinese morning": "时间,温度\n" + rows(*(time.replace(" 0", " 上午 ") for time in SLASHES)),
    "seconds and fractions": "timestamp,temp\n" + rows(*(f"{time}:00.000" for time in ISO)),
    "ISO with an offset": "time,temperature\n" + rows(*(f"{time.replace(' ', 'T')}:00+08:00" for time in ISO)),
    "ISO in UTC": "time,temperature\n" + rows(*(f"{time.replace(' 08', 'T00')}:00Z" for time in ISO)),
    "the offset in the header": '"Date Time, GMT+00:00","Temp, °C (LGR S/N: 10, SEN S/N: 11)"\n'
    + rows(*(time.replace(" 08", " 00") for time in ISO)),
    "full-width signs": "时间，温度\n".replace("，", ",") + rows(*ISO, values=("４．５", "", "－18.55", "8.04")),
    "a minus sign": "Time,Temperature\n" + rows(*ISO, values=("+4.5", "N/A", "\u221218.55", "8.04")),
    "sep= for Excel": "sep=;\nTime;Temperature\n" + rows(*ISO, between=";"),
    "everything quoted": '"Time","Temperature"\n'
    + "".join(f'"{line}"\n'.replace(",", '","') for line in rows(*ISO).splitlines()),
}  # fmt: skip
DAY_KNOWN = {"month first, known by a later day", "morning and afternoon"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_read_whole(name: str) -> None:
    text = FORMATS[name]
    if name in DAY_KNOWN:
        text += "11/13/2026 08:15,5\n"
    found = read(text)
    assert found.readings[:4] == WANTED
    assert len(found.readings) == 4 + (name in DAY_KNOWN)
    assert found.interval == 5 * MINUTE
    assert found.rounded == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "gbk", "gb18030"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_it_is_read_in_every_encoding_of_windows(encoding: str, line_end: str) -> None:
    text = "日期时间,温度(℃)\n" + rows(*ISO)
    assert read(text.replace("\n", line_end), encoding).readings == WANTED


def test_a_western_degree_sign_is_read() -> None:
    assert read("Time,Temp (°C)\n" + rows(*ISO), "cp1252").readings == WANTED


def test_the_columns_that_were_taken_are_named_and_so_are_the_lines() -> None:
    found = read(FORMATS["further columns"])
    assert found.columns == ColumnNames(("Time",), "Temperature", ("No.", "Humidity", "Temp high limit"))
    assert found.lines == [2, 3, 4, 5]
    assert read(FORMATS["newest first"]).lines == [5, 4, 3, 2]
    assert read(FORMATS["date and time apart"]).columns.time == ("Date", "Time")


def test_a_serial_number_is_taken_from_the_lines_before_the_header_else_from_the_files_name() -> None:
    assert read(FORMATS["lines before the header"]).serial == "42-A"
    assert read(FORMATS["slashes"]).serial == "fridge-7"


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("30/10/2026 23:50,4\n31/10/2026 00:00,4\n01/11/2026 00:10,4\n", "2026-11-01T00:10:00+08:00"),
        ("10/30/2026 23:50,4\n10/31/2026 00:00,4\n11/01/2026 00:10,4\n", "2026-11-01T00:10:00+08:00"),
        # Both orders exist; in one of them the logger would have slept for a month.
        ("03/11/2026 23:50,4\n04/11/2026 00:00,4\n", "2026-11-04T00:00:00+08:00"),
        ("11/03/2026 23:50,4\n11/04/2026 00:00,4\n", "2026-11-04T00:00:00+08:00"),
        ("03/03/2026 23:40,4\n03/03/2026 23:50,4\n", "2026-03-03T23:50:00+08:00"),
    ],
)
def test_the_order_of_day_and_month_is_what_the_whole_file_fits(text: str, day: str) -> None:
    assert read("Time,Temperature\n" + text).readings[-1][0] == at(day)


def test_more_than_two_decimals_are_rounded_and_said() -> None:
    found = read("Time,Temperature\n" + rows(*ISO, values=("4.5625", "4.500", "4.567", "8.005")))
    assert ([value for _, value in found.readings], found.rounded) == ([456, 450, 457, 800], 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["holds nothing"]),
        ("when,temperature\n1,2\n", ["line 1: no line names a column of times and one of temperatures; this one has 'when', 'temperature'"]),
        ("Date,Time,Ch1\n2026-11-03,08:00,4\n", ["line 1: no line names a column of times and one of temperatures; this one has"]),
        ("Time,Temp(F)\n2026-11-03 08:00,40\n", ["line 1: column 'Temp(F)' is in °F"]),
        ('Time,"Temp, F (LGR S/N: 10)"\n2026-11-03 08:00,40\n', ["line 1: column 'Temp, F (LGR S/N: 10)' is in °F"]),
        ("Time,℉\n2026-11-03 08:00,40\n", ["line 1: column '℉' is in °F"]),
        ("Time,Temp (K)\n2026-11-03 08:00,177.5\n", ["line 1: column 'Temp (K)' is in kelvin; set the logger to °C"]),
        ("时间,温度（开尔文）\n2026-11-03 08:00,177.5\n", ["line 1: column '温度（开尔文）' is in kelvin"]),
        ("Time,Temp, K\n2026-11-03 08:00,177.5\n", ["line 1: column 'K' is in kelvin"]),
        ("Time,Temperature\n2026-11-03 08:00,177.5 K\n2026-11-03 08:05,4\n", ["line 2, column Temperature: '177.5 K' is in kelvin"]),
        ("Temperature unit: °F\nTime,Temperature\n2026-11-03 08:00,40\n2026-11-03 08:05,41\n", ["line 1: says that the temperatures are in °F"]),
        ("温度单位：K\n时间,温度\n2026-11-03 08:00,40\n2026-11-03 08:05,41\n", ["line 1: says that the temperatures are in kelvin"]),
        ("Time,Temperature\n2026-11-03 08:00,40 °F\n2026-11-03 08:05,4\n", ["line 2, column Temperature: '40 °F' is in"]),
        ("Time,Temp 1,Temp 2\n2026-11-03 08:00,4,5\n", ["line 1: several columns may be the temperature: 'Temp 1', 'Temp 2'"]),
        (
            "Time,T1 (°C),T2 (°C)\n2026-11-03 08:00,4,5\n",
            ["line 1: several columns may be the temperature: 'T1 (°C)', 'T2 (°C)'; one file is one probe: call the right one temperature, or save each in a file of its own"],
        ),
        (
            '"Date Time, GMT+08:00","Temp, °C"\n11/03/26 08:00:00 AM,4\n11/03/26 08:05:00 AM,5\n',
            [f"line {line}, column Date Time, GMT+08:00: '11/03/26 08:0{minute}:00 AM' has its year in two digits, and no line says in which order; export it with four, like 2026-03-28, or say it in the column's name, like Date Time (MM/DD/YY)" for line, minute in ((2, 0), (3, 5))],
        ),
        ("Date (MM/DD/YY) Time,Temperature\n13/03/26 08:00,4\n11/03/26 08:05,4\n", ["line 2, column Date (MM/DD/YY) Time: '13/03/26 08:00' is no date"]),
        ("Start time,End time,Temp\n2026-11-03 08:00,4,5\n", ["line 1: several columns may be the time: 'Start time'"]),
        ("Time,Temperature,Time\n2026-11-03 08:00,4,5\n", ["line 1: two columns are called 'Time'", "line 1: several"]),
        ("Time,Temperature,\n" + "2026-11-03 08:00,4,\n2026-11-03 08:05,4,\n", ["line 1: column 3 has no name"]),
        (
            "Time,Temperature\n2026-11-03 08:00,warm\nsoon,5\n2026-11-03 08:10,400\n46329.3333,4\n",
            [
                "line 2, column Temperature: 'warm' is no temperature",
                "line 3, column Time: 'soon' is no time",
                "line 4, column Temperature: '400' is no temperature in °C between -200 and 200",
                "line 5, column Time: '46329.3333' is what a spreadsheet made of a time",
            ],
        ),
        (
            'time,temperature,comment\n2026-03-01 08:10,4.2,"door open\n2026-03-01 08:15,9.0,\n2026-03-01 08:20,9.1,\n',
            ["line 2: a quote opens here that the line doesn't close"],
        ),
        ("Time,Temperature\n2026-11-03 08:00,4,5\n2026-11-03 08:05,4,6\n", ["line 2: has 3 cells", "line 3: has 3 cells"]),
        ("Time,Temperature\n2026-11-03 08:00\n2026-11-03 08:05,4\n", ["line 2: 1 column, the header has 2"]),
        ("Time,Temperature\n2026-11-03 08:00,4\n2026-11-03 08:00,9\n", ["line 3, column Time: '2026-11-03 08:00' is the same"]),
        (
            "Time,Temperature\n2026-11-03 08:00,4\n2026-11-03 08:10,9\n2026-11-03 08:05,9\n2026-11-03 08:20,9\n",
            ["line 4, column Time: '2026-11-03 08:05' is not after the reading of line 3"],
        ),
        ("Time,Temperature\n03/11/2026 08:00,4\n03/11/2026 08:05,9\n", ["line 2, column Time: '03/11/2026 08:00' may have its"]),
        ("Time,Temperature\n13/11/2026 08:00,4\n11/14/2026 08:05,9\n", ["line 2, column Time: '13/11/2026 08:00' is day first"]),
        ("Time,Temperature\n2026-02-30 08:00,4\n2026-03-01 24:05,9\n", ["line 2, column Time: ", "line 3, column Time: "]),
        ("Time,Temperature\n2026-11-03 08:00,4\n", ["1 reading; at least two are needed"]),
        ("Time,Temperature\n,4\n2026-11-03 08:00,4\n", ["line 2, column Time: is no time"]),
        (
            "Time,Temperature,Note\n2026-11-03 08:00,4,\u200b\n2026-11-03 08:05,warm,\n",
            ["line 3, column Temperature: 'warm' is", "line 2: character 20 is U+200B ZERO WIDTH SPACE"],
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_all_at_once(text: str, told: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(told), found
    for one, start in zip(found, told, strict=True):
        assert one.startswith(start)


def test_problems_are_told_in_chinese_too() -> None:
    with pytest.raises(UnreadableFile) as refused:
        read("时间,温度\n2026-11-03 08:00,暖\n")
    assert (
        refused.value.text("zh-CN")
        == "fridge-7.csv：第 2 行，列 温度：'暖' 不是温度；请写成 -18.5 这样，测量失败的留空"
    )


CELL = st.text(st.sampled_from(list("0123456789-/:. ,;\t\"'年月日时°CF℃温度时间TimeTemp\u200b")), max_size=14)


@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_a_damaged_file_is_read_whole_or_refused_with_a_place(name: str, data: st.DataObject) -> None:
    """Never a traceback, never fewer readings than rows."""
    lines = FORMATS[name].splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    lines[place] = data.draw(st.one_of(CELL, st.just(lines[place] + '"'), CELL.map(lambda cell: lines[place] + cell)))
    found = attempt("\n".join(lines).encode())
    if isinstance(found, UnreadableFile):
        assert found.problems
        return
    first = min(found.lines)
    filled = [number for number, line in enumerate(lines, 1) if number >= first and any(map(str.isdigit, line))]
    assert sorted(found.lines) == filled
    assert len(found.readings) == len(filled)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for start in (b"", b"Time,Temperature\n", b"Device: x\n"):
        found = attempt(start + raw)
        assert found.problems if isinstance(found, UnreadableFile) else len(found.readings) == len(found.lines) > 1
