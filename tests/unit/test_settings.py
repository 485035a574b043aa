import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from config import settings_page
from config.catalogue import Language
from config.settings import Settings
from config.settings_loader import InvalidSetting, convert, load_settings
from config.texts import say

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("api = {prot = 1}", ["api.prot", "did you mean 'port'?"]),
        ("[api]\nport = 'x'", ["api.port = 'x'", "must be whole number from 0 to 65535"]),
        ("[api]\nport = 70000", ["api.port = 70000", "65535"]),
        ("timezone = 'Asia/Xian'", ["timezone = 'Asia/Xian'", "no such time zone"]),
        (
            "[[agent.gateways]]\nnumber = 'a b'\nbuses = []",
            ["agent.gateways[0].number = 'a b'", "must be text like ^[A-Za-z0-9_-]{1,32}$"],
        ),
        (
            "[[agent.gateways]]\nnumber='1'\n[[agent.gateways.buses]]\nname='a'\nkind='tpc'\nunits=[]",
            ["agent.gateways[0].buses[0].kind = 'tpc'", '"rtu" or "rtu-over-tcp" or "tcp"'],
        ),
        ("telemetry.store = 'redis'", ["telemetry.store = 'redis'", '"embedded" or "influxdb"']),
        ("collector.client_id = 'alerting-2'", ["collector.client_id = 'alerting-2'", "like 'collector-2'"]),
        ("api.metrics = ['10.0.3.1/24']", ["api.metrics has '10.0.3.1/24'", "host bits set", "like '10.0.3.0/24'"]),
        ("api.metrics = ['prometheus']", ["api.metrics has 'prometheus'", "like '10.0.3.0/24'"]),
        ("api = [", ["not TOML"]),
        ("a = 1\nb = '\u200b'", ["line 2: character 6 is U+200B ZERO WIDTH SPACE"]),
        ("[intake]\nkeep = inf", ["intake.keep = inf: must be a number"]),
        ("[agent]\nresend_after = nan", ["agent.resend_after = nan: must be a number"]),
        ("[[agent.gateways]]\nnumber = '1'", ["agent.gateways[0].buses is missing; it must be list"]),
        ("api = 3", ["api = 3"]),
        ("agent.gateways = [3]", ["agent.gateways[0] = 3"]),
    ],
)
def test_a_wrong_setting_is_refused_with_file_key_value_and_what_would_be_right(
    tmp_path: Path, toml: str, said: list[str]
) -> None:
    file = tmp_path / "coldchain.toml"
    file.write_text(toml)
    with pytest.raises(InvalidSetting) as refused:
        load_settings(file)
    for part in [str(file), *said]:
        assert part in str(refused.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "coldchain.toml"
    file.write_text(
        """timezone = 'Asia/Xian'
        colour = 1
        [api]
        prot = 1
        port = 70000
        metrics = ['prometheus']
        [intake]
        keep = inf
        [[agent.gateways]]
        number = 'a b'
        [[agent.gateways.buses]]
        kind = 'tpc'
        units = [{address = 300, profile = 'x y', probes = {t1 = 3}}, {address = 0, profile = 'r4dcb08', probes = {}}]
        """
    )
    with pytest.raises(InvalidSetting) as refused:
        load_settings(file)
    told = sorted(line.removeprefix(f"{file}: ").partition(":")[0] for line in str(refused.value).splitlines())
    assert told == [
        "agent.gateways[0].buses[0].kind = 'tpc'",
        "agent.gateways[0].buses[0].name is missing; it must be text like ^[A-Za-z0-9_.-]{1,64}$",
        "agent.gateways[0].buses[0].units[0].address = 300",
        "agent.gateways[0].buses[0].units[0].probes.t1 = 3",
        "agent.gateways[0].buses[0].units[0].profile = 'x y'",
        "agent.gateways[0].buses[0].units[1].address = 0",
        "agent.gateways[0].number = 'a b'",
        "api.metrics has 'prometheus'",
        "api.port = 70000",
        "api.prot",
        "colour",
        "intake.keep = inf",
        "timezone = 'Asia/Xian'",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_settings_are_read_as_windows_programs_save_them(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "coldchain.toml").write_bytes("# 县疾控中心\r\n[api]\r\nport = 8081\r\n".encode(encoding))
    assert load_settings(tmp_path / "coldchain.toml").api.port == 8081


TOML_VALUES: st.SearchStrategy[object] = st.recursive(
    st.booleans() | st.integers(-5, 99_999) | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["api", "port", "agent", "gateways", "buses", "units", "probes", "number", "kind", "collector", "timezone", "x"]


@given(
    st.recursive(
        st.dictionaries(st.sampled_from(KEYS), TOML_VALUES, max_size=4),
        lambda inner: st.dictionaries(st.sampled_from(KEYS), inner | st.lists(inner, max_size=2), max_size=3),
        max_leaves=6,
    )
)
def test_whatever_a_file_says_is_used_or_refused(raw: dict[str, object]) -> None:
    with suppress(InvalidSetting):
        convert(raw, "x")


def test_a_command_refuses_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "coldchain.toml").write_text("[api]\nprot = 1")
    done = subprocess.run(
        [sys.executable, "-m", "coldchain", "api"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 2
    assert done.stderr == "coldchain: coldchain.toml: api.prot: there is no such setting; did you mean 'port'?\n"


def test_folders_are_taken_from_the_files_own_folder(tmp_path: Path) -> None:
    (tmp_path / "coldchain.toml").write_text("data_dir = 'data'")
    assert load_settings(tmp_path / "coldchain.toml").data_dir == str(tmp_path / "data")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="coldchain init"):
        load_settings(tmp_path / "no.toml")


def test_the_command_line_says_a_setting_in_place_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "coldchain.toml"
    file.write_text("data_dir = 'data'\n[collector]\nshards = '00-ff'\ngroup = 9")
    said = ["collector.shards=80-ff", "api.port=8081", "broker.embedded=false", "intake.keep=2.5", "wechat.app_id=1"]
    settings = load_settings(file, said)
    assert (settings.collector.shards, settings.collector.group) == ("80-ff", 9)
    assert (settings.api.port, settings.broker.embedded, settings.intake.keep) == (8081, False, 2.5)
    assert (settings.wechat.app_id, settings.data_dir) == ("1", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("collector.shards=all", "--set: collector.shards = 'all': must be text like"),
        ("api.port=high", "--set: api.port = 'high': must be whole number from 0 to 65535"),
        ("api.prot=8081", "--set: api.prot: there is no such setting; did you mean 'port'?"),
        ("apj.port=8081", "--set apj.port=8081: write it like"),
        ("api=8081", "--set api=8081: write it like"),
        ("api.port", "--set api.port: write it like"),
        ("agent.gateways=1", "--set agent.gateways=1: write it like"),
    ],
)
def test_what_the_command_line_says_wrongly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coldchain.toml").touch()
    with pytest.raises(InvalidSetting) as refused:
        load_settings(None, [said])
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize(("language", "name"), [("en", "settings.md"), ("zh-CN", "settings.zh-CN.md")])
def test_every_setting_is_documented_in_both_languages(language: Language, name: str) -> None:
    page = (ROOT / "docs" / name).read_text("utf-8")
    assert page == settings_page.page(language), f"renew it: python -m config.settings_page {language} > docs/{name}"


def test_nothing_is_described_that_is_no_setting() -> None:
    names, sections = set(), set()

    def walk(kind: inspect.Type, name: str) -> None:
        kind = settings_page.bare(kind)
        kind = settings_page.bare(kind.item_type) if isinstance(kind, inspect.ListType) else kind
        if isinstance(kind, inspect.StructType):
            sections.add(name or "top")
            for field in kind.fields:
                walk(field.type, f"{name}.{field.encode_name}".lstrip("."))
        else:
            names.add(name)

    walk(inspect.type_info(Settings), "")
    assert set(say.section("meaning", "en")) == names
    assert set(say.section("section", "en")) == sections


def test_no_coldchain_toml_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidSetting, match=f"no coldchain.toml here \\({tmp_path}\\): .*coldchain init"):
        load_settings(None)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_a_good_one() -> None:
    assert convert({}, "x").api.port == 8080
