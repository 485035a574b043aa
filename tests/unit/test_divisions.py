"""Divisions of GB/T 2260: what the shipped table knows on which day, and an operator's own rows."""

from datetime import date
from pathlib import Path

import pytest

from config.text_file import UnreadableFile
from core.errors import Invalid
from core.units.divisions import FILE, InvalidDivisions, load, shipped

TODAY = date(2026, 5, 1)
HEAD = "code\tname\tparent\tsince\tuntil\tsource\n"


def own(folder: Path, rows: str) -> Path:
    (folder / FILE).write_text(rows, "utf-8")
    return folder


@pytest.mark.parametrize(
    ("code", "name", "parent"),
    [
        ("610000", "陕西省", None),
        ("610103", "碑林区", "610100"),
        ("610403", "杨陵区", "610400"),
        ("610581", "韩城市", "610500"),
        ("610881", "神木市", "610800"),
        ("110101", "东城区", "110000"),
        ("500101", "万州区", "500000"),
        ("429004", "仙桃市", "420000"),
        ("659001", "石河子市", "650000"),
        ("460400", "儋州市", "460000"),
    ],
)
def test_a_division_has_its_name_and_the_division_above(code: str, name: str, parent: str | None) -> None:
    division = shipped().at(code, TODAY)
    assert division is not None
    assert (division.name, division.parent) == (name, parent)


def test_the_whole_country_and_all_of_shaanxi_are_there() -> None:
    provinces = [f"{code}0000" for code in range(11, 83) if shipped().at(f"{code}0000", TODAY)]
    assert len(provinces) == 35  # 34 of GB/T 2260, and the production corps
    cities = shipped().below("610000", TODAY)
    assert [city.name for city in cities] == [
        *("西安市", "铜川市", "宝鸡市", "咸阳市", "渭南市", "延安市", "汉中市", "榆林市", "安康市", "商洛市"),
    ]
    assert sum(len(shipped().below(city.code, TODAY)) for city in cities) == 107
    assert [len(shipped().below(code, TODAY)) for code in ("110000", "120000", "310000", "500000")] == [16, 16, 16, 38]


@pytest.mark.parametrize(
    ("code", "day", "name"),
    [
        ("610126", date(2013, 6, 1), "高陵县"),
        ("610126", date(2016, 6, 1), None),
        ("610117", date(2013, 6, 1), None),
        ("610117", date(2016, 6, 1), "高陵区"),
        ("610821", date(2013, 6, 1), "神木县"),
        ("610881", date(2013, 6, 1), None),
        ("130502", date(2015, 6, 1), "桥东区"),
        ("130502", TODAY, "襄都区"),
        ("999999", TODAY, None),
    ],
)
def test_a_division_is_there_while_it_existed(code: str, day: date, name: str | None) -> None:
    division = shipped().at(code, day)
    assert (division.name if division else None) == name


def test_every_division_of_every_time_stands_under_one_that_is_in_the_table() -> None:
    rows = [row for held in shipped()._by_code.values() for row in held]
    codes = {row.code for row in rows}
    assert len(rows) > 3_500
    assert {row.parent for row in rows} - codes == {None}
    assert {row.source for row in rows} == {"MCA", "adcode", "own"}


@pytest.mark.req("UC-29")
def test_an_operator_adds_divisions_of_the_production_corps(tmp_path: Path) -> None:
    divisions = load(
        own(tmp_path, f"{HEAD}660100\t第一师\t660000\t\t\town\n\n660101\t一团\t660100\t2020-01-01\t\town\n")
    )
    assert [row.name for row in divisions.below("660000", TODAY)] == ["第一师"]
    regiment = divisions.require("code", "660101", TODAY)
    assert (regiment.parent, regiment.source) == ("660100", "own")
    assert divisions.at("660101", date(2019, 12, 31)) is None
    assert divisions.at("610103", TODAY) == shipped().at("610103", TODAY)
    assert shipped().at("660101", TODAY) is None
    with pytest.raises(Invalid, match="code = '660199'"):
        divisions.require("code", "660199", TODAY)


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ("code\tname\n", "line 1: the columns are code name"),
        (HEAD + "66010\tx\t\t\t\town\n", "line 2: '66010' is no code"),
        (HEAD + "660100\tx\t66\t\t\town\n", "line 2: '66' is no code"),
        (HEAD + "\n660100\t\t\t\t\town\n", "line 3: a division needs a name"),
        (HEAD + "660100\tx\t\t2020-13-01\t\town\n", "line 2: .*2020-13-01|line 2: month"),
        (HEAD + "660100\tx\t\t2020-01-02\t2020-01-02\town\n", "line 2: it ends on 2020-01-02"),
        (HEAD + "660100\tx\town\n", "line 2: 3 cells in place of 6"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(tmp_path: Path, rows: str, wrong: str) -> None:
    with pytest.raises(InvalidDivisions, match=wrong):
        load(own(tmp_path, rows))


def test_without_a_file_of_their_own_the_shipped_ones_serve(tmp_path: Path) -> None:
    assert load(tmp_path) is load(None) is shipped()
    (tmp_path / FILE).write_bytes(b"code\xff\xfe\x00")
    with pytest.raises(UnreadableFile):
        load(tmp_path)
