"""Import files: every mistake told at once, nothing half imported, the same file twice changes nothing."""

import json
import re
from datetime import date
from importlib import resources
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from coldchain.importing import RowOutcome, import_file
from coldchain.importing.columns import KINDS
from config import secrets
from core.contacts.contacts import ContactLevel, contacts_for
from core.db.audit import Audit
from core.db.crypto import FieldCipher
from core.db.engine import Records
from core.devices.directory import Directory, Place, RefusalReason, RefusedReading
from core.devices.hardware_origin import HardwareOrigin, origin_of
from core.devices.kinds_and_labels import DeviceSource
from core.devices.tables import Equipment, Gateway, Probe, ProbeGateway, ProbeZone, Zone
from core.errors import Conflict
from core.migrations.all_tables import METADATA
from core.runtime.instant import HOUR, Instant, parse
from core.units import people
from core.units.actor import OPERATOR
from core.units.code_queries import code_in_force, unit_of_code
from core.units.divisions import Divisions, load
from core.units.tables import Person, Unit
from core.units.tree import businesses_of

NOW = parse("2026-05-01T12:00:00+08:00")
LATER = Instant(NOW + HOUR)
DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("import.md", "import.zh-CN.md")


class Office:
    """A folder with secrets and records, and somebody who writes import files there."""

    def __init__(self, records: Records, folder: Path) -> None:
        self.records = records
        self.folder = folder
        secrets.write(str(folder), secrets.fresh("coldchain"))

    def imports(
        self,
        content: str | bytes,
        *,
        name: str = "county.toml",
        now: Instant = NOW,
        divisions: Divisions | None = None,
    ) -> list[str]:
        file = self.folder / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.report = import_file(self.records, str(self.folder), file, actor=OPERATOR, now=now, divisions=divisions)
        return [str(mistake) for mistake in self.report.mistakes]

    def content(self) -> dict[str, list[tuple[object, ...]]]:
        """All rows of all tables, but for the audit."""
        with self.records.read() as tx:
            return {
                name: sorted(map(tuple, tx.execute(select(table))), key=repr)
                for name, table in METADATA.tables.items()
                if name != "audit"
            }

    def audits(self) -> int:
        with self.records.read() as tx:
            return tx.scalar(select(func.count()).select_from(Audit)) or 0


@pytest.fixture
def office(records: Records, tmp_path: Path) -> Office:
    return Office(records, tmp_path)


def example(language: str, page: str = "import.md") -> str:
    found = re.search(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_examples_import_and_are_the_same_county(office: Office, page: str) -> None:
    assert office.imports(example("toml", page)) == []
    assert RowOutcome.UNCHANGED not in {outcome for _, outcome in office.report.outcomes}
    first = office.content()
    assert office.imports(example("csv", page), name="county.csv", now=LATER) == []
    assert not office.report.changed, office.report.lines()
    assert office.content() == first


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_describe_every_type_and_field(page: str) -> None:
    lines = (DOCS / page).read_text("utf-8").splitlines()
    for kind, (_, readers) in KINDS.items():
        row = next(line for line in lines if line.startswith(f"| `{kind}` "))
        assert set(readers) == set(re.findall(r"`(\w+)`\**(?:,| \(|;| \||\*|$|（|；)", row)) & set(readers), kind


def test_what_was_imported_works(office: Office) -> None:
    assert office.imports(example("toml")) == []
    directory = Directory(office.records)
    directory.refresh()

    def resolve(code: str, when: str) -> Place | RefusedReading:
        return directory.resolve("10001", code, "t", parse(when))

    cold, frozen = (resolve(code, "2026-05-01T12:00:00+08:00") for code in ("208601", "208604"))
    assert isinstance(cold, Place)
    assert isinstance(frozen, Place)
    assert (cold.zone_kind, frozen.zone_kind, cold.interval, frozen.interval) == (
        "refrigerated",
        "frozen",
        60_000,
        300_000,
    )
    stopped = resolve("208601", "2026-06-02T12:00:00+08:00")
    assert isinstance(stopped, RefusedReading)
    assert stopped.reason is RefusalReason.STOPPED_EQUIPMENT
    assert isinstance(resolve("208601", "2026-06-08T08:00:00+08:00"), Place)
    with office.records.read() as tx:
        equipment = tx.scalars(select(Equipment)).one()
        told = [[person.name for person in people] for people in contacts_for(tx, equipment.id, NOW).values()]
        assert told == [["赵敏"], ["李建国"], ["李建国"]]
        zone = tx.scalars(select(Zone).where(Zone.kind == "frozen")).one()
        assert (zone.low, zone.high, zone.delay, zone.hysteresis) == (None, -1800, 1_200_000, None)
        wang = tx.scalars(select(Person).where(Person.name == "王芳")).one()
        cipher = FieldCipher(secrets.read(str(office.folder)))
        assert wang.phone is not None
        assert cipher.open(wang.phone, field="person.phone") == "13812345678"
        assert wang.phone_index == cipher.index("13812345678", field="person.phone")
        clinic = tx.scalars(select(Unit).where(Unit.code == "6101020101")).one()
        assert (clinic.level, clinic.kind) == ("township", "pov")
        assert {row.actor for row in tx.scalars(select(Audit))} == {"operator"}


def test_the_same_file_twice_changes_nothing_and_says_so(office: Office) -> None:
    assert office.imports(example("toml")) == []
    content, audits = office.content(), office.audits()
    assert [one.gateway for one in office.report.issued] == ["10001"]
    password = secrets.read(str(office.folder)).broker["10001"]
    assert office.imports(example("toml"), now=LATER) == []
    assert office.report.lines() == ["nothing to do: the records already say what the file says (18 rows)"]
    assert office.report.issued == []
    assert (office.content(), office.audits()) == (content, audits)
    assert secrets.read(str(office.folder)).broker["10001"] == password


def test_without_a_since_things_begin_now_and_stay_so_when_imported_again(office: Office) -> None:
    plain = "\n".join(line for line in example("toml").splitlines() if "since = 2026-01" not in line)
    assert office.imports(plain) == []
    assert office.imports(plain, now=LATER) == []
    assert not office.report.changed
    with office.records.read() as tx:
        assert {row.since for row in tx.scalars(select(ProbeZone))} == {NOW}


UNIT = """
[[unit]]
code = "1"
name = "county"
kind = "cdc"
level = "county"
"""
FRIDGE = """
[[equipment]]
code = "F1"
name = "fridge"
kind = "fridge"
unit = "1"
zones = ["refrigerated", "frozen"]
"""
GATEWAY = '[[gateway]]\nnumber = "10001"\nunit = "1"\n'
PROBE = '[[probe]]\ncode = "208601冷藏"\ngateway = "10001"\nequipment = "F1"\n'
COUNTY = UNIT + FRIDGE + GATEWAY + PROBE


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('[[unti]]\ncode = "2"', "unti 1: type = 'unti': did you mean 'unit'?"),
        ("[unit2]\n", "unit2: write each as a table headed [[unit2]]"),
        ("[[unit]\n", "line 21: not TOML: Expected"),
        ("since = 2026-01-01\n", "the file: since = '2026-01-01': write a time with its offset"),
        (
            UNIT.replace('"1"', '"2"').replace("county", "shire", 1).replace('level = "county"', 'level = "shire"'),
            "unit 2: level = 'shire': write one of national (国家), province (省), city (市), county (县)",
        ),
        (UNIT.replace('"1"', '"2"') + "colour = 3", "unit 2: colour = '3': there is no such field; write one of code"),
        ('[[unit]]\nname = "x"', "unit 2: code, kind, level missing; a row of type unit needs code, name, kind, level"),
        (UNIT.replace('"1"', '"2"') + 'parent = "9"', "unit 2: parent = '9': there is no unit with this code"),
        (UNIT.replace('"1"', '"2"') + 'parent = "1"', "unit 2: level = 'county': county (cdc) can't hang under county"),
        (UNIT, "unit 2: unit = '1': stands at unit 1 already"),
        ('[[person]]\nunit = "1"\nname = "x"\nlevels = [4]', "person 1: levels = '[4]': write 1 (vaccine manager)"),
        ('[[person]]\nunit = "1"\nname = "x"\nphone = "12ab"', "person 1: phone = '12ab': write all its digits"),
        (
            '[[zone]]\nequipment = "F1"\nkind = "frozen"\nhigh = "2,5"',
            "zone 1: high = '2,5': write degrees Celsius with two decimals at most",
        ),
        ('[[zone]]\nequipment = "F1"\nkind = "refrigerated"\nlow = 9', "zone 1: low = '9.0': must be below high = 8.0"),
        ('[[zone]]\nequipment = "F1"\nkind = "frozen"\ndelay = 10', "zone 1: delay = '10': write a number with its"),
        (
            '[[zone]]\nequipment = "F1"\nkind = "frozen"\ndelay = "400h"',
            "zone 1: delay = '24000m': must be 0 to 24 hours",
        ),
        (
            '[[zone]]\nequipment = "F1"\nkind = "frozen"\nprofile = "x"',
            "zone 1: profile = 'x': write one of china-2017",
        ),
        ('[[gateway]]\nnumber = "10/1"\nunit = "1"', "gateway 2: number = '10/1': 1 to 32 of A-Z a-z 0-9 _ -"),
        ('[[gateway]]\nnumber = "coldchain"\nunit = "1"', "gateway 2: number = 'coldchain': it is the broker user of"),
        (PROBE.replace("208601冷藏", "1室温"), "probe 2: code = '1室温': a probe code is 1 to 64 digits or letters"),
        (
            PROBE.replace("208601冷藏", "7"),
            "probe 2: zone = '': F1 has the zones: refrigerated, frozen; say which",
        ),
        (
            PROBE.replace("208601冷藏", "7") + 'zone = "room"',
            "probe 2: zone = 'room': F1 has the zones: refrigerated, frozen",
        ),
        (
            PROBE.replace("208601", "7") + 'zone = "冷冻"',
            "probe 2: zone = 'frozen': the label says refrigerated; one of the two is wrong",
        ),
        (PROBE.replace("208601", "7").replace("10001", "9"), "probe 2: gateway = '9': there is no gateway"),
        (
            '[[contact]]\nequipment = "F1"\nlevel = 1\nperson = "nobody"',
            "contact 1: person = 'nobody': there is no such person in county, neither in the file nor in the records",
        ),
        (
            '[[window]]\nequipment = "F1"\nsince = 2026-06-02T00:00:00Z\nuntil = 2026-06-01T00:00:00Z',
            "window 1: the window would end at 2026-06-01",
        ),
    ],
)
def test_each_mistake_names_row_field_value_and_what_would_be_right(
    sqlite_records: Records, tmp_path: Path, wrong: str, told: str
) -> None:
    office = Office(sqlite_records, tmp_path)
    before = office.content()
    file = wrong + COUNTY if wrong.startswith("since") else COUNTY + wrong
    (mistake,) = office.imports(file)
    assert mistake.startswith(told)
    assert office.report.lines()[-1] == "nothing was imported; mend 1 mistake first"
    assert (office.content(), office.audits()) == (before, 0)
    assert "10001" not in secrets.read(str(office.folder)).broker


def test_all_mistakes_are_told_at_once_and_each_only_once(office: Office) -> None:
    assert office.imports(COUNTY) == []
    before, audits = office.content(), office.audits()
    mistakes = office.imports(
        UNIT.replace('"county"', '"renamed"', 1)
        + UNIT.replace('"1"', '"2"').replace("cdc", "cdx")
        + FRIDGE.replace('"F1"', '"F2"').replace('unit = "1"', 'unit = "2"')
        + PROBE.replace("208601", "7").replace('"F1"', '"F2"').replace("10001", "unheard-of")
        + '[[window]]\nequipment = "F2"\nsince = "yesterday"\n'
    )
    assert [mistake.split(":")[0] for mistake in mistakes] == ["unit 2", "probe 1", "window 1"], (
        "in the order of the file"
    )
    assert (office.content(), office.audits()) == (before, audits)


def test_units_may_stand_below_what_they_hang_under_but_not_in_a_circle(office: Office) -> None:
    clinic = UNIT.replace('"1"', '"2"').replace('level = "county"', 'level = "township"') + 'parent = "1"\n'
    assert office.imports(clinic + UNIT) == []
    with office.records.read() as tx:
        paths = {unit.code: unit.path for unit in tx.scalars(select(Unit))}
    assert paths["2"].startswith(paths["1"])
    circle = clinic + UNIT + 'parent = "2"\n'
    assert office.imports(circle) == [
        "unit 1: parent = '1': hangs, by way of others, under itself",
        "unit 2: parent = '2': hangs, by way of others, under itself",
    ]


def test_a_changed_file_moves_what_it_moves_from_then_on(office: Office) -> None:
    assert office.imports("since = 2026-01-01T00:00:00+08:00\n" + COUNTY) == []
    other = UNIT.replace('"1"', '"2"').replace("county", "other", 1)
    assert (
        office.imports(
            COUNTY.replace('"fridge"\nkind', '"renamed"\nkind').replace("208601冷藏", "208601冷冻")
            + other
            + GATEWAY.replace("10001", "10002").replace('unit = "1"', 'unit = "2"'),
            now=LATER,
        )
        == []
    )
    assert office.report.outcomes["equipment", RowOutcome.CHANGED] == 1
    assert office.report.outcomes["probe", RowOutcome.CHANGED] == 1
    moved = COUNTY.replace('"fridge"\nkind', '"renamed"\nkind').replace("208601冷藏", "208601冷冻")
    elsewhere = moved.replace('number = "10001"\nunit = "1"', 'number = "10001"\nunit = "2"')
    assert office.imports(elsewhere, now=Instant(LATER + HOUR)) == []
    assert office.report.outcomes["gateway", RowOutcome.CHANGED] == 1
    with office.records.read() as tx:
        zones = {zone.id: zone.kind for zone in tx.scalars(select(Zone))}
        rows = tx.scalars(select(ProbeZone).order_by(ProbeZone.since)).all()
        assert [(zones[row.zone_id], row.since, row.until) for row in rows] == [
            ("refrigerated", parse("2026-01-01T00:00:00+08:00"), LATER),
            ("frozen", LATER, None),
        ]
        assert tx.scalar(select(func.count()).select_from(ProbeGateway)) == 1


def test_an_import_moves_no_beginning(office: Office) -> None:
    assert office.imports(COUNTY) == []
    (mistake,) = office.imports(COUNTY + "since = 2026-01-01T00:00:00+08:00\n", now=LATER)
    assert mistake.startswith("probe 1: since = '2025-12-31T16:00:00.000+00:00': it is so since 2026-05-01T04:00")


def test_people_are_told_at_exactly_the_levels_their_row_says(office: Office) -> None:
    def person(name: str, levels: str) -> str:
        return f'[[person]]\nunit = "1"\nname = "{name}"\nlevels = {levels}\n'

    def told() -> list[list[str]]:
        with office.records.read() as tx:
            equipment = tx.scalars(select(Equipment.id)).one()
            return [[one.name for one in people] for people in contacts_for(tx, equipment, LATER).values()]

    assert office.imports(COUNTY + person("Li", "[1, 2]") + person("Wang", "[3]")) == []
    assert told() == [["Li"], ["Li"], ["Wang"]]
    assert office.imports(COUNTY + person("Zhao", "[2]") + person("Li", "[1]")) == []
    assert told() == [["Li"], ["Zhao"], ["Wang"]], "Wang stays, whom the file doesn't name"
    own = '[[contact]]\nequipment = "F1"\nlevel = 3\nperson = "Zhao"\n'
    assert office.imports(COUNTY + own) == []
    assert told() == [["Li"], ["Zhao"], ["Zhao"]]
    assert office.imports(COUNTY + own, now=LATER) == []
    assert not office.report.changed


def test_of_two_people_with_one_name_a_row_must_say_which(office: Office) -> None:
    def person(more: str = "") -> str:
        return f'[[person]]\nunit = "1"\nname = "Li"\n{more}'

    def contact(more: str = "") -> str:
        return f'[[contact]]\nequipment = "F1"\nlevel = 3\nperson = "Li"\n{more}'

    first, second = 'phone = "13812345678"\n', 'phone = "13812345679"\n'
    assert office.imports(COUNTY + person(first)) == []
    with office.records.write() as tx:
        known = tx.scalars(select(Person).where(Person.name == "Li")).one()
        cipher = FieldCipher(secrets.read(str(office.folder)))
        new = people.NewPerson(tx.get_one(Unit, known.unit_id), "Li", "13812345679")
        (namesake,) = people.add_people(tx, OPERATOR, [new], cipher=cipher, now=NOW)
        assert isinstance(namesake, Person)
        ids = [known.id, namesake.id]
        same = people.NewPerson(new.unit, "Li", "13812345678")
        assert isinstance(people.add_people(tx, OPERATOR, [same], cipher=cipher, now=NOW)[0], Conflict)
        assert isinstance(people.add_people(tx, OPERATOR, [people.NewPerson(new.unit, "Li")], now=NOW)[0], Conflict)
    asked_for = "has several people of this name; write the phone number of the one who is meant"
    for row in (person(), person('phone = "13812345670"\n'), contact()):
        (mistake,) = office.imports(COUNTY + row)
        assert asked_for in mistake
    for phone, meant in ((first, ids[0]), (second, ids[1])):
        assert office.imports(COUNTY + person(phone) + contact(phone)) == []
        with office.records.read() as tx:
            equipment = tx.scalars(select(Equipment.id)).one()
            assert [one.id for one in contacts_for(tx, equipment, LATER)[ContactLevel.UNIT_HEAD]] == [meant]


def test_a_csv_as_a_chinese_excel_saves_it_is_read(office: Office) -> None:
    rows = "type,code,name,kind,level\r\n#note,,,,\r\nunit,1,城关镇卫生院,接种单位,乡\r\n,,,,\r\n"
    assert office.imports(rows.encode("gb18030"), name="county.csv") == []
    with office.records.read() as tx:
        assert tx.scalars(select(Unit.name)).one() == "城关镇卫生院"
    assert office.imports(b"\xef\xbb\xbf" + rows.encode(), name="county.csv") == []
    assert not office.report.changed


def test_mistakes_in_a_csv_name_the_line(office: Office) -> None:
    head = "type,code,name,kind,level\n"
    levels = "national (国家), province (省), city (市), county (县), township (乡), village (村)"
    assert office.imports(head + "unit,1,a,cdc,county\nunit,2,b,cdc,county,\nunit,3,c,cdc,shire\n", name="x.csv") == [
        f"line 4: level = 'shire': write one of {levels}"
    ]
    assert office.imports(head + "unit,1,a,cdc,county,oops\n", name="x.csv") == [
        "line 2: has 6 cells under 5 columns; a comma too much?"
    ]
    assert office.imports("code,name\n1,2\n", name="x.csv") == [
        "line 1: the first line must name the columns, one of them `type`; it names: 'code', 'name'"
    ]
    assert office.imports("", name="x.txt") == ["the file: x.txt: neither .toml nor .csv; name it by what it is"]


def test_a_lost_password_is_issued_by_the_next_import(office: Office) -> None:
    assert office.imports(COUNTY) == []
    secrets.write(str(office.folder), secrets.fresh("coldchain"))
    assert office.imports(COUNTY, now=LATER) == []
    assert [one.gateway for one in office.report.issued] == ["10001"]
    assert office.report.issued[0].password in office.report.lines()[-1]


def test_the_county_of_the_demo_imports(office: Office) -> None:
    county = resources.files("coldchain.demo").joinpath("county.toml").read_text("utf-8")
    divisions = load(Path(str(resources.files("coldchain.demo"))))
    assert office.imports(county, divisions=divisions) == []
    content = office.content()
    assert office.imports(county, now=LATER, divisions=divisions) == []
    assert not office.report.changed
    assert office.content() == content


def test_an_import_is_all_or_nothing_for_whoever_reads_meanwhile(sqlite_records: Records, tmp_path: Path) -> None:
    office = Office(sqlite_records, tmp_path)
    with sqlite_records.read() as before:
        assert before.scalar(text("SELECT count(*) FROM unit")) == 0
        assert office.imports(COUNTY) == []
        assert before.scalar(text("SELECT count(*) FROM unit")) == 0
    with sqlite_records.read() as after:
        assert after.scalar(text("SELECT count(*) FROM unit")) == 1


@pytest.mark.parametrize(("name", "text"), [("a.csv", "a,b\n"), ("a.csv", ""), ("a.toml", " \n")])
def test_a_file_without_anything_to_import_is_a_mistake(
    sqlite_records: Records, tmp_path: Path, name: str, text: str
) -> None:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    file = tmp_path / name
    file.write_text(text)
    assert import_file(sqlite_records, str(tmp_path), file, actor=OPERATOR, now=Instant(0)).mistakes


POINTS = """
[[unit]]
code = "610103"
name = "西安市碑林区疾病预防控制中心"
kind = "cdc"
level = "county"
division = "610103"
uscc = "91110000600037341L"

[[unit]]
code = "6101030203"
name = "长乐坊社区卫生服务中心"
kind = "pov"
level = "township"
parent = "610103"
institution = "610103A"
grade = "社区卫生服务中心"
entity = "接种单位和报告单位"
businesses = ["常规接种", "covid_19"]

[[unit]]
code = "610103A"
name = "长乐坊医院"
kind = "institution"
level = "county"
parent = "610103"
"""


@pytest.mark.req("UC-01", "UC-11")
def test_a_point_of_vaccination_comes_with_its_unit_code_and_attributes(office: Office) -> None:
    assert office.imports(POINTS) == []
    with office.records.read() as tx:
        unit = unit_of_code(tx, "6101030203", NOW)
        assert unit is not None
        assert (unit.division, unit.grade, unit.entity) == ("610103", "community_centre", "both")
        assert businesses_of(tx, [unit.id])[unit.id] == {"routine", "covid_19"}
        hospital = tx.scalars(select(Unit).where(Unit.code == "610103A")).one()
        assert unit.institution_id == hospital.id
        assert code_in_force(tx, unit, NOW) is not None
    content = office.content()
    assert office.imports(POINTS, now=LATER) == []
    assert not office.report.changed, office.report.lines()
    assert office.content() == content
    without = re.sub(r"(?m)^(institution|grade|entity|businesses|uscc|division) = .*\n", "", POINTS)
    assert office.imports(without, now=LATER) == []
    assert not office.report.changed
    more = POINTS.replace('["常规接种", "covid_19"]', '["二级"]')
    assert "二级" in office.imports(more)[0]
    assert office.imports(POINTS.replace('"covid_19"', '"狂犬病暴露预防处置"'), now=LATER) == []
    with office.records.read() as tx:
        assert businesses_of(tx, [unit.id])[unit.id] == {"routine", "rabies"}


@pytest.mark.req("UC-01")
@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ('"6101030203"', '"9901030203"', "unit 2: code = '990103': there is no division 990103"),
        ('"610103"\nuscc', '"999999"\nuscc', "unit 1: division = '999999': there is no division 999999"),
        ("341L", "341M", "unit 1: uscc = '91110000600037341M': 18 characters, the last of which"),
        (
            'institution = "610103A"',
            'institution = "610103A"\ndivision = "610102"',
            "unit 2: division = '610102': the code 6101030203 begins with another division",
        ),
        ('institution = "610103A"', 'institution = "none"', "unit 2: institution = 'none'"),
        ('institution = "610103A"', 'institution = "6101030203"', "unit 2: parent = '610103': "),
    ],
)
def test_what_is_wrong_with_a_unit_code_is_told(office: Office, old: str, new: str, wrong: str) -> None:
    assert old in POINTS
    mistakes = office.imports(POINTS.replace(old, new))
    assert any(mistake.startswith(wrong) for mistake in mistakes), mistakes
    assert office.content()["unit"] == []


@pytest.mark.req("UC-19")
def test_an_import_does_not_change_what_is_frozen(office: Office) -> None:
    assert office.imports(POINTS) == []
    other = POINTS.replace("610103A", "610103B")
    (frozen,) = office.imports(other, now=LATER)
    assert frozen.startswith(
        "unit 2: 长乐坊社区卫生服务中心: institution can't be changed any more, since its code was"
    )
    renamed = POINTS.replace('"长乐坊社区卫生服务中心"', '"长乐坊街道社区卫生服务中心"')
    assert office.imports(renamed, now=LATER) == []
    with office.records.read() as tx:
        assert unit_of_code(tx, "6101030203").name == "长乐坊街道社区卫生服务中心"  # type: ignore[union-attr]


ORIGIN = """
supplier = "某某冷链公司"
source = "省级配发"
warranty_start = 2026-01-31
warranty_end = "2029-01-30"
installed_on = 2026-02-01
"""
ORIGINATED = UNIT + FRIDGE + ORIGIN + GATEWAY + ORIGIN + PROBE + ORIGIN


def origins(office: Office) -> list[HardwareOrigin]:
    """Return the origins of the equipment, the gateway and the probe."""
    with office.records.read() as tx:
        return [origin_of(tx.scalars(select(table)).one()) for table in (Equipment, Gateway, Probe)]


def audited_origins(office: Office) -> dict[str, dict[str, object]]:
    with office.records.read() as tx:
        rows = tx.scalars(select(Audit).where(Audit.act == "origin set").order_by(Audit.id))
        return {row.subject.partition(":")[0]: json.loads(row.detail) for row in rows}


@pytest.mark.req("HW-06", "HW-07")
def test_equipment_gateways_and_probes_come_with_source_supplier_and_warranty(office: Office) -> None:
    assert office.imports(ORIGINATED) == []
    known = HardwareOrigin(
        supplier="某某冷链公司",
        source=DeviceSource.PROVINCE_ISSUED,
        warranty_start=date(2026, 1, 31),
        warranty_end=date(2029, 1, 30),
        installed_on=date(2026, 2, 1),
    )
    assert origins(office) == [known] * 3
    content, audits = office.content(), office.audits()
    assert office.imports(ORIGINATED, now=LATER) == []
    assert not office.report.changed, office.report.lines()
    assert office.imports(COUNTY, now=LATER) == [], "what a file leaves out stays"
    assert not office.report.changed, office.report.lines()
    assert (office.content(), office.audits()) == (content, audits)


@pytest.mark.req("HW-06", "HW-07")
def test_another_source_or_warranty_updates_the_devices_and_is_audited(office: Office) -> None:
    assert office.imports(COUNTY) == []
    assert origins(office) == [HardwareOrigin()] * 3, "as before, where the file has no such columns"
    assert office.imports(ORIGINATED, now=LATER) == []
    assert audited_origins(office)["probe"] == {
        "before": dict.fromkeys(("supplier", "source", "warranty_start", "warranty_end", "installed_on")),
        "after": {
            "supplier": "某某冷链公司",
            "source": "province_issued",
            "warranty_start": "2026-01-31",
            "warranty_end": "2029-01-30",
            "installed_on": "2026-02-01",
        },
    }
    other = ORIGINATED.replace("省级配发", "unit_purchased").replace("2029-01-30", "2030-01-30")
    assert office.imports(other, now=LATER) == []
    assert [(kind, count) for (kind, outcome), count in office.report.outcomes.items() if outcome == "changed"] == [
        ("equipment", 1),
        ("gateway", 1),
        ("probe", 1),
    ]
    assert {(each.source, each.warranty_end) for each in origins(office)} == {("unit_purchased", date(2030, 1, 30))}
    change = {
        "before": {"source": "province_issued", "warranty_end": "2029-01-30"},
        "after": {"source": "unit_purchased", "warranty_end": "2030-01-30"},
    }
    assert audited_origins(office) == {"equipment": change, "gateway": change, "probe": change}


@pytest.mark.req("HW-07")
def test_a_new_warranty_may_not_contradict_the_dates_in_the_records(office: Office) -> None:
    assert office.imports(ORIGINATED) == []
    content = office.content()
    assert office.imports(
        UNIT + FRIDGE + "warranty_end = 2026-01-30\n" + GATEWAY + "warranty_start = 2029-01-31\n", now=LATER
    ) == [
        "equipment 1: warranty_end = '2026-01-30': the warranty would end before its start, 2026-01-31",
        "gateway 1: warranty_start = '2029-01-31': the warranty would start after its end, 2029-01-30",
    ]
    assert office.content() == content
