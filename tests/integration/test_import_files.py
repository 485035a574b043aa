"""Import files as people and programs write them: read whole, or refused with line, field and what would be right."""

# ruff: noqa: E501 (examples of files, each on a line)
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from coldchain.importing import ImportReport, import_file
from coldchain.importing.columns import KINDS
from coldchain.importing.import_file_reader import read
from config import secrets
from core.db.engine import Records
from core.devices.hardware_origin import HardwareOrigin, origin_of
from core.devices.kinds_and_labels import DeviceSource
from core.devices.tables import Equipment, Gateway, Probe
from core.runtime.instant import parse
from core.units.actor import OPERATOR
from core.units.tables import Person, Unit

NOW = parse("2026-05-01T12:00:00+08:00")
HEAD = "type,code,number,name,kind,level,levels,unit,zones,gateway,equipment,openid,since,reason\n"
COUNTY = "unit,610102,,县疾控,cdc,county,,,,,,,,\n"
FRIDGE = "equipment,CG-01,,冰箱,fridge,,,610102,refrigerated,,,,,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    return tmp_path


def imports(records: Records, folder: Path, content: str | bytes, name: str = "county.csv") -> ImportReport:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return import_file(records, str(folder), file, actor=OPERATOR, now=NOW)


def told(report: ImportReport) -> list[str]:
    return [str(mistake) for mistake in report.mistakes]


def units(records: Records) -> int:
    with records.read() as tx:
        return tx.scalar(select(func.count()).select_from(Unit)) or 0


def test_a_quote_that_nobody_closed_is_told_with_its_line_and_takes_no_rows(
    sqlite_records: Records, folder: Path
) -> None:
    rows = (
        COUNTY
        + FRIDGE
        + 'window,,,,repair,,,,,,CG-01,,2026-02-01T00:00:00+08:00,"换压缩机\n'
        + "gateway,,10001,,,,,610102,,,,,,\nprobe,208601,,,,,,,,10001,CG-01,,,\nperson,,,王芳,,,1,610102,,,,oWangFang,,\n"
    )
    assert told(imports(sqlite_records, folder, HEAD + rows)) == [
        "line 4: a quote opens here that the line doesn't close; close it, or write the cell without"
    ]
    assert units(sqlite_records) == 0
    long = HEAD + COUNTY + 'unit,2,,"' + "x" * 140_000 + "\n"
    assert told(imports(sqlite_records, folder, long))[0].startswith("line 3: has 140009 characters; is a quote")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ((HEAD + COUNTY).encode() + "person,,,王芳".encode() + b"\xe9,,,1,610102,,,,oWangFang,,\n", "line 3: the byte 0xE9"),
        ((HEAD + COUNTY).encode() + "person,,,王芳,,,1,610102,,,,oWang,,\n".encode("gbk"), "line 3: the byte 0xCD"),
        ((HEAD + COUNTY).encode("gbk") + "person,,,王芳".encode("gbk")[:-1], "line 3: the byte 0xB7"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_decode_as_a_whole_is_refused_with_the_line(
    sqlite_records: Records, folder: Path, content: bytes, line: str
) -> None:
    (mistake,) = told(imports(sqlite_records, folder, content))
    assert mistake.startswith(line)
    assert units(sqlite_records) == 0


def test_columns_need_names_of_their_own(sqlite_records: Records, folder: Path) -> None:
    report = imports(sqlite_records, folder, "type,code,name,kind,level,name,\nunit,610102,县疾控,cdc,county,代号,\n")
    assert told(report) == [
        "line 1: two columns are called 'name' (columns 3 and 6); each needs its own name",
        "line 1: column 7 has no name; name it, or delete the column",
    ]


def test_what_people_put_where_an_identifier_belongs_is_refused(sqlite_records: Records, folder: Path) -> None:
    rows = COUNTY + (
        "person,,,王芳,,,1,610102,,,,oW ang Fang,,\n"
        "person,,,李建国,,,2,610102,,,,见附件,,\n"
        "equipment,CG 01,,冰箱,fridge,,,610102,refrigerated,,,,,\n"
        "equipment,ＣＧ－０１,,冰箱,fridge,,,610102,refrigerated,,,,,\n"
        "unit,1.23E+11,,乡卫生院,pov,township,,,,,,,,\n"
        "gateway,,1.0001e4,,,,,610102,,,,,,\n"
        "probe,2.08601E+11,,,,,,,,,,,,\n"
        "equipment,CG-01\u200b,,冰箱,fridge,,,610102,refrigerated,,,,,\n"
        "#note,\u200b,,,,,,,,,,,,\n"
    )
    said = told(imports(sqlite_records, folder, HEAD + rows))
    starts = [
        "line 3: openid = 'oW ang Fang': an openid is 1 to 64 letters",
        "line 4: openid = '见附件': an openid is",
        "line 5: code = 'CG 01': 1 to 40 letters, digits, Chinese letters or ._/#()-, without blanks",
        "line 6: code = 'ＣＧ－０１': 1 to 40",
        "line 7: code = '1.23E+11': is what a spreadsheet made of a long number",
        "line 8: number = '1.0001e4': is what a spreadsheet made",
        "line 9: code = '2.08601E+11': is what a spreadsheet made",
        "line 9: gateway missing",
        "line 10: code = 'CG-01\\u200b': character 6 is U+200B ZERO WIDTH SPACE",
        "line 11: character 7 is U+200B ZERO WIDTH SPACE",
    ]
    assert len(said) == len(starts), said
    for one, start in zip(said, starts, strict=True):
        assert one.startswith(start)


@pytest.mark.parametrize("character", ["\u200b", "\x00", "\u202e", "\ufeff", "\ufffd", "\x85"])
def test_characters_that_nobody_sees_are_refused_everywhere(
    sqlite_records: Records, folder: Path, character: str
) -> None:
    csv = imports(sqlite_records, folder, HEAD + COUNTY + FRIDGE + FRIDGE.replace("CG-01", f"CG-01{character}"))
    assert told(csv)[0].startswith("line 4: ")
    name = f'[[unit]]\ncode = "1"\nname = "a\\u{ord(character):04x}"\nkind = "cdc"\nlevel = "county"\n'
    (mistake,) = told(imports(sqlite_records, folder, name, "county.toml"))
    assert mistake.startswith("unit 1: name = ")
    assert f"character 2 is U+{ord(character):04X}" in mistake


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "sep={delimiter}\r\n"])
def test_what_windows_programs_save_is_read(
    sqlite_records: Records, folder: Path, encoding: str, delimiter: str, first: str
) -> None:
    content = first.format(delimiter=delimiter) + (HEAD + COUNTY + FRIDGE).replace(",", delimiter).replace("\n", "\r\n")
    assert told(imports(sqlite_records, folder, content.encode(encoding))) == []
    with sqlite_records.read() as tx:
        assert tx.scalars(select(Unit.name)).one() == "县疾控"
        assert tx.scalars(select(Equipment.code)).one() == "CG-01"


def test_a_toml_file_is_read_as_windows_programs_save_it(sqlite_records: Records, folder: Path) -> None:
    content = '[[unit]]\r\ncode = "1"\r\nname = "县疾控"\r\nkind = "cdc"\r\nlevel = "county"\r\n'
    for encoding in ("utf-8-sig", "utf-16", "gb18030"):
        assert told(imports(sqlite_records, folder, content.encode(encoding), "county.toml")) == []


@pytest.mark.parametrize(
    ("toml", "start"),
    [
        ("code = 610102.0", "unit 1: code = '610102.0': write it in quotes: \"610102\""),
        ("code = true", "unit 1: code = 'True': write it in quotes"),
        ("code = 2026-01-01", "unit 1: code = '2026-01-01': write it in quotes"),
        ('code = "1"\nparent = [3]', "unit 1: parent = '[3]': write it in quotes"),
        ('code = "1"\ntimezone = "Asia/Xian"', "unit 1: timezone = 'Asia/Xian': no such time zone"),
    ],
)
def test_a_value_of_another_kind_says_how_to_write_it(
    sqlite_records: Records, folder: Path, toml: str, start: str
) -> None:
    unit = f'[[unit]]\nname = "a"\nkind = "cdc"\nlevel = "county"\n{toml}\n'
    (mistake,) = told(imports(sqlite_records, folder, unit, "county.toml"))
    assert mistake.startswith(start)


def test_unknown_units_equipment_and_gateways_are_told_with_all_other_mistakes(
    sqlite_records: Records, folder: Path
) -> None:
    rows = (
        COUNTY
        + "unit,2,,乡,pov,townshop,,,,,,,,\n"
        + "person,,,王芳,,,7,9,,,,,,\n"
        + "gateway,,10001,,,,,8,,,,,,\n"
        + "probe,208601,,,,,,,,10009,CG-09,,,\n"
        + "equipment,CG-01,,冰箱,fridg,,,7,refrigerated,,,,,\n"
    )
    said = told(
        imports(
            sqlite_records,
            folder,
            HEAD.replace("reason", "parent") + rows.replace("pov,townshop,,,,,,,,", "pov,townshop,,,,,,,,6"),
        )
    )
    assert [one.partition(": ")[2].partition(":")[0] for one in said] == [
        "level = 'townshop'",
        "parent = '6'",
        "levels = '7'",
        "unit = '9'",
        "unit = '8'",
        "gateway = '10009'",
        "equipment = 'CG-09'",
        "kind = 'fridg'",
        "unit = '7'",
    ]  # fmt: skip


def test_a_separator_that_is_none_is_named(sqlite_records: Records, folder: Path) -> None:
    (mistake,) = told(imports(sqlite_records, folder, (HEAD + COUNTY).replace(",", "，")))
    assert "the sign ， doesn't separate columns: use , or ; or tabs" in mistake


@pytest.mark.parametrize(
    ("phone", "good"),
    [
        ("1381234", False), ("138123456", False), ("23812345678", False), ("12ab", False), ("+86 1381234", False),
        ("13812345678", True), ("+86 138 1234 5678", True), ("010-12345678", True), ("0571 8765432", True),
        ("87654321", True), ("400-123-4567", True), ("+852 2123 4567", True),
    ],
)  # fmt: skip
def test_a_phone_has_all_its_digits(sqlite_records: Records, folder: Path, phone: str, good: bool) -> None:  # noqa: FBT001
    rows = HEAD.replace("reason", "phone") + COUNTY + f"person,,,王芳,,,1,610102,,,,,,{phone}\n"
    said = told(imports(sqlite_records, folder, rows))
    assert said == [] if good else said[0].startswith(f"line 3: phone = '{phone}': write all its digits")


def test_a_beginning_far_ahead_is_warned_of(sqlite_records: Records, folder: Path) -> None:
    report = imports(
        sqlite_records, folder, HEAD + COUNTY + FRIDGE.replace(",,,,,\n", ",,,,2062-01-01T00:00:00+08:00,\n")
    )
    assert told(report) == []
    assert (
        "warning: line 3: since = '2061-12-31T16:00:00.000+00:00': lies more than a year ahead; nothing holds before then"
        in report.lines()
    )
    (mistake,) = told(
        imports(
            sqlite_records,
            folder,
            HEAD + FRIDGE.replace("CG-01", "CG-2").replace(",,,,,\n", ",,,,0001-01-01T00:00:00+14:00,\n"),
        )
    )
    assert "lies before 1970 or after 2199" in mistake


def test_it_speaks_chinese(sqlite_records: Records, folder: Path) -> None:
    report = imports(sqlite_records, folder, HEAD + COUNTY + FRIDGE.replace("fridge", "icebox").replace("610102", "9"))
    lines = report.lines("zh-CN")
    assert lines[0].startswith("第 3 行：kind = 'icebox'：应为 vehicle (运输车辆)")
    assert lines[1] == "第 3 行：unit = '9'：文件和系统中都没有这个编码的单位"
    assert lines[-1] == "没有导入任何内容；请先改正 2 处"
    assert imports(sqlite_records, folder, HEAD + COUNTY + FRIDGE).lines("zh-CN") == ["设备：新增 1", "单位：新增 1"]


def test_texts_longer_than_the_records_hold_are_refused(records: Records, folder: Path) -> None:
    said = told(imports(records, folder, HEAD + COUNTY.replace("县疾控", "县" * 101) + FRIDGE))
    assert said[0].startswith("line 2: name = '县县")
    assert said[0].endswith("has 101 characters; 100 at most")


CELL = st.one_of(
    st.sampled_from(
        ["", "unit", "person", "equipment", "gateway", "probe", "zone", "window", "contact", "1", "F1", "10001", "cdc",
         "county", "fridge", "refrigerated", "2026-01-01T00:00:00+08:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
         "1;2", "208601冷藏", "-2.5", "10m", '"', '"x', "1e5", "\u200b", "\x00", "王芳", "138 1234 5678", "Asia/Shanghai"]
    ),
    st.text(max_size=6),
)  # fmt: skip
COLUMNS = ["type", *dict.fromkeys(field for _, readers in KINDS.values() for field in readers)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), CELL, max_size=9), max_size=6), st.sampled_from(",;\t"))
def test_any_csv_is_imported_whole_or_refused_with_a_place(
    records: Records, folder: Path, rows: list[dict[str, str]], delimiter: str
) -> None:
    """Never a traceback; never an import that leaves a row out."""
    lines = [delimiter.join(row.get(column, "") for column in COLUMNS) for row in rows]
    content = "\n".join([delimiter.join(COLUMNS), *lines]).encode("utf-8", "surrogatepass")
    report = imports(records, folder, content)
    assert report.lines("zh-CN")
    if report.mistakes:
        assert all(mistake.place.text() for mistake in report.mistakes)
    else:
        done = sum(count for (what, _), count in report.outcomes.items() if what != "contacts")
        skipped = sum(line.startswith("#") for line in lines)
        assert done == len([line for line in lines if line.strip(delimiter + " \u3000\xa0")]) - skipped


GOOD = (
    HEAD + COUNTY + FRIDGE + "gateway,,10001,,,,,610102,,,,,,\nprobe,208601,,,,,,,,10001,CG-01,,,\n"
    "person,,,王芳,,,1;2,610102,,,,oWangFang,,\nwindow,,,,repair,,,,,,CG-01,,2026-02-01T00:00:00+08:00,换压缩机\n"
).splitlines()  # fmt: skip
DAMAGE = st.sampled_from(['"', ",", ";", "\t", "\u200b", "\x00", "\n", " ", "é", "#", "9", "", "Z", "'", "\ud800"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_csv_is_imported_whole_or_refused_with_a_place(
    sqlite_records: Records, folder: Path, data: st.DataObject
) -> None:
    lines = list(GOOD)
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(lines) - 1))
        at = data.draw(st.integers(0, len(lines[place])))
        lines[place] = lines[place][:at] + data.draw(DAMAGE) + lines[place][at + data.draw(st.integers(0, 1)) :]
    content = "\n".join(lines)
    report = imports(sqlite_records, folder, content.encode("utf-8", "surrogatepass"))
    if report.mistakes:
        assert report.lines()
    else:
        rows = [line for line in content.split("\n")[1:] if line.strip(", ") and not line.startswith("#")]
        assert sum(count for (what, _), count in report.outcomes.items() if what != "contacts") == len(rows)


VALUE = st.one_of(
    st.booleans().map(lambda value: str(value).lower()), st.integers().map(str), st.floats().map(repr),
    st.sampled_from(["'1'", "'F1'", "'cdc'", "'county'", "[1]", "['1']", "[[1]]", "{a=1}", "2026-01-01", "07:00:00",
                     "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "'\\u0000'", "''", "'a b'", '"\\u200b"', "inf"]),
)  # fmt: skip
TOML = st.lists(
    st.tuples(
        st.sampled_from([*KINDS, "colour"]),
        st.dictionaries(st.sampled_from(COLUMNS[1:]), VALUE, max_size=8),
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TOML, st.one_of(st.just(""), VALUE.map(lambda value: f"since = {value}\n")))
def test_any_toml_is_imported_whole_or_refused_with_a_place(
    sqlite_records: Records, folder: Path, tables: list[tuple[str, dict[str, str]]], since: str
) -> None:
    text = since + "".join(
        f"[[{kind}]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items()) for kind, fields in tables
    )
    report = imports(sqlite_records, folder, text, "county.toml")
    assert report.lines()
    if not report.mistakes:
        assert sum(count for (what, _), count in report.outcomes.items() if what != "contacts") == len(tables)


@given(st.binary(max_size=120) | st.text(max_size=120).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("x.csv", "x.toml", "x.txt"):
        (folder / name).write_bytes(raw)
        file = read(folder / name)
        assert all(str(mistake) for mistake in file.mistakes)


def test_an_openid_of_two_people_is_refused_with_the_row_of_the_second(records: Records, folder: Path) -> None:
    rows = "person,,,王芳,,,1,610102,,,,oWangFang,,\nperson,,,李建国,,,2,610102,,,,oWangFang,,\n"
    (mistake,) = told(imports(records, folder, HEAD + COUNTY + rows))
    assert mistake.startswith("line 4: this WeChat account is bound to somebody else")
    with records.read() as tx:
        assert tx.scalar(select(func.count()).select_from(Person)) == 0


ORIGIN_HEAD = (
    "type,code,number,name,kind,level,unit,zones,gateway,supplier,source,warranty_start,warranty_end,installed_on\n"
)
ORIGIN_COUNTY = "unit,610102,,县疾控,cdc,county,,,,,,,,\n"
ORIGIN_FRIDGE = "equipment,CG-01,,冰箱,fridge,,610102,refrigerated,,"
ORIGIN_GATEWAY = "gateway,,10001,,,,610102,,,"
ORIGIN_PROBE = "probe,208601,,,,,,,10001,"


@pytest.mark.req("HW-06", "HW-07")
def test_a_csv_says_where_hardware_came_from(records: Records, folder: Path) -> None:
    rows = (
        ORIGIN_COUNTY
        + ORIGIN_FRIDGE + "某某公司,省级配发,2026-01-31,2029-01-30,2026-02-01\n"
        + ORIGIN_GATEWAY + ",单位自购,,,\n"
        + ORIGIN_PROBE + ",unit_purchased,2026-01-31,2026-01-31,\n"
    )  # fmt: skip
    assert told(imports(records, folder, ORIGIN_HEAD + rows)) == []
    with records.read() as tx:
        assert origin_of(tx.scalars(select(Equipment)).one()) == HardwareOrigin(
            supplier="某某公司",
            source=DeviceSource.PROVINCE_ISSUED,
            warranty_start=date(2026, 1, 31),
            warranty_end=date(2029, 1, 30),
            installed_on=date(2026, 2, 1),
        )
        purchased = DeviceSource.UNIT_PURCHASED
        assert origin_of(tx.scalars(select(Gateway)).one()) == HardwareOrigin(source=purchased)
        assert origin_of(tx.scalars(select(Probe)).one()) == HardwareOrigin(
            source=purchased, warranty_start=date(2026, 1, 31), warranty_end=date(2026, 1, 31)
        )


@pytest.mark.req("HW-06", "HW-07")
def test_a_wrong_origin_is_told_with_row_and_column(records: Records, folder: Path) -> None:
    rows = (
        ORIGIN_COUNTY
        + ORIGIN_FRIDGE + "某某公司,市级配发,2026/1/31,2029-02-30,1926-02-01\n"
        + ORIGIN_GATEWAY + ",单位自购,2026-01-31,2026-01-30,\n"
        + ORIGIN_PROBE + f"{'某' * 101},,20260131,,2026-02-01T00:00:00+08:00\n"
    )  # fmt: skip
    assert told(imports(records, folder, ORIGIN_HEAD + rows)) == [
        "line 3: source = '市级配发': write one of province_issued (省级配发), unit_purchased (单位自购)",
        "line 3: warranty_start = '2026/1/31': write a date such as 2026-01-31",
        "line 3: warranty_end = '2029-02-30': write a date such as 2026-01-31",
        "line 3: installed_on = '1926-02-01': lies before 1970 or after 2199",
        "line 4: warranty_end = '2026-01-30': the warranty would end before its start, 2026-01-31",
        f"line 5: supplier = '{'某' * 80}…': has 101 characters; 100 at most",
        "line 5: warranty_start = '20260131': write a date such as 2026-01-31",
        "line 5: installed_on = '2026-02-01T00:00:00+08:00': write a date such as 2026-01-31",
    ]
    assert units(records) == 0
    report = imports(records, folder, ORIGIN_HEAD + ORIGIN_COUNTY + ORIGIN_GATEWAY + ",,2026-01-31,2026-01-30,\n")
    assert (
        report.lines("zh-CN")[0] == "第 3 行：warranty_end = '2026-01-30'：保修截止日期不能早于保修开始日期 2026-01-31"
    )
