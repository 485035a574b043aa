"""Time and temperature columns of a logger's table, found by the names in its header."""

import re
from collections.abc import Sequence

import msgspec

from config.localized_message import LocalizedMessage
from core.logger_files.logger_file import ColumnNames
from core.logger_files.problems import message
from core.logger_files.temperatures import plain

_NO_READING = re.compile(
    r"limit|alarm|threshold|\b(?:max|min|high|low|avg|average|mean|delta)\b|maximum|minimum|dew|set ?point"
    r"|上限|下限|报警|阈|最高|最低|平均|露点|设定",
    re.IGNORECASE,
)
"""Names of columns that have temperatures but no readings, such as limits."""
_DATE = re.compile(r"\d{4}[-/.年]\d|\d[-/.]\d{4}")
_OTHER_SCALES = {
    "fahrenheit": re.compile(r"° ?f|fahrenheit|华氏|(?:^|[(\[ ,/_])f(?=[)\] ,]|$)", re.IGNORECASE),
    "kelvin": re.compile(r"° ?k|kelvin|开尔文|(?<!type)(?:^|[(\[ ,/_])k(?=[)\] ,]|$)", re.IGNORECASE),
}
"""What isn't °C, by the unit in a column's name. `K-type` and `type K` are thermocouples."""
_UNIT_LINE = re.compile(
    r"(?:units?|scale|单位)[\s:：,;=\"]{1,8}(?P<unit>° ?[fk]\b|[fk]\b|fahrenheit|kelvin|华氏|开尔文)", re.IGNORECASE
)
"""A line before the header that gives the unit of the temperatures below it."""
_UNIT = re.compile(r"° ?[cfk]\b|celsius|fahrenheit|kelvin|摄氏|华氏|开尔文", re.IGNORECASE)
_EXACT_TEMPERATURE = ("temperature", "temp", "温度", "温度值")
_EXACT_TIME = ("time", "datetime", "timestamp", "时间", "日期时间", "记录时间", "date")


class ColumnPositions(msgspec.Struct, frozen=True):
    """Positions of the columns, from 0."""

    time: tuple[int, ...]
    temperature: int
    columns: ColumnNames


def is_header(cells: Sequence[str]) -> bool:
    """Whether a line names a column of times and one of temperatures."""
    if any(_DATE.search(cell) for cell in cells):
        return False  # a line of a report's head, such as "Export time: 2026-11-03"
    names = [_bare(cell) for cell in cells]
    return any(_tells_time(name) for name in names) and any(_is_temperature(cell) for cell in cells)


def find_columns(cells: Sequence[str]) -> ColumnPositions | list[LocalizedMessage]:
    """Return the columns of a header, or the problems that keep them from being told apart."""
    names = [cell.strip() for cell in cells]
    time = _time(names)
    temperature = _temperature(names)
    problems = [found for found in (time, temperature) if isinstance(found, LocalizedMessage)]
    if isinstance(time, LocalizedMessage) or isinstance(temperature, LocalizedMessage):
        return problems
    used = (*time, temperature)
    unused = tuple(name for place, name in enumerate(names) if place not in used and name)
    return ColumnPositions(
        time, temperature, ColumnNames(tuple(names[place] for place in time), names[temperature], unused)
    )


def _time(names: Sequence[str]) -> tuple[int, ...] | LocalizedMessage:
    bare = [_bare(name) for name in names]
    telling = [place for place, name in enumerate(bare) if _tells_time(name)]
    dates = [place for place in telling if _has_date(bare[place]) and not _has_time(bare[place])]
    times = [place for place in telling if place not in dates]
    if len(dates) == 1 and len(times) == 1 and not _has_date(bare[times[0]]):
        return dates[0], times[0]
    if len(telling) > 1:
        exact = [place for place in times if bare[place] in _EXACT_TIME]
        if len(exact) == 1:
            return (exact[0],)
        return message("several_times", names=_listed(names, telling))
    return tuple(telling)


def _temperature(names: Sequence[str]) -> int | LocalizedMessage:
    found = [place for place, name in enumerate(names) if _is_temperature(name)]
    if len(found) > 1:
        exact = [place for place in found if _bare(names[place]) in _EXACT_TEMPERATURE]
        if len(exact) != 1:
            return message("several_temperatures", names=_listed(names, found))
        found = exact
    # In `Time,Temp, K` the unit has become a column of its own.
    for name in (names[found[0]], *(name for name in names if len(name) <= len("fahrenheit") and _is_unit(name))):
        if scale := _other_scale(name):
            return message(f"{scale}_column", column=name)
    return found[0]


def other_scale_above(line: str) -> LocalizedMessage | None:
    """Return what is wrong with a line before the header that says the temperatures aren't in °C."""
    found = _UNIT_LINE.search(plain(line))
    scale = found and _other_scale(found["unit"])
    return message(f"{scale}_above") if scale else None


def _other_scale(name: str) -> str | None:
    return next((scale for scale, pattern in _OTHER_SCALES.items() if pattern.search(plain(name))), None)


def _is_unit(name: str) -> bool:
    return re.fullmatch(r"\W*(?:[FK]|fahrenheit|kelvin|华氏度?|开尔文)\W*", plain(name), re.IGNORECASE) is not None


def _listed(names: Sequence[str], places: Sequence[int]) -> str:
    return ", ".join(repr(names[place]) for place in places)


def _bare(name: str) -> str:
    """Return a name in lower case without units, brackets and signs: `Temp, °C (S/N: 1)` is `temp`."""
    text = re.sub(r"[(\[（【].*", "", plain(name).lower())
    text = re.sub(r"(?:utc|gmt) ?[+-].*|°? ?c\b(?=\W*$)|°f", "", text)
    return re.sub(r"[\W_]+", "", text)


def _has_date(bare: str) -> bool:
    return "date" in bare or "日期" in bare


def _has_time(bare: str) -> bool:
    return "time" in bare or "时间" in bare or "时刻" in bare


def _tells_time(bare: str) -> bool:
    return _has_date(bare) or _has_time(bare)


def _is_temperature(name: str) -> bool:
    text, bare = plain(name).lower(), _bare(name)
    if _NO_READING.search(text) or _tells_time(bare):
        return False
    if "temp" in bare or "温度" in bare or bare == "t":
        return True
    return _UNIT.search(text) is not None or re.fullmatch(r"\W*c\W*", text) is not None
