import subprocess
import sys
from pathlib import Path

import pytest

from config import describe
from config.load import WrongSetting, convert, load

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
    ],
)
def test_a_wrong_setting_is_refused_with_file_key_value_and_what_would_be_right(
    tmp_path: Path, toml: str, said: list[str]
) -> None:
    file = tmp_path / "coldchain.toml"
    file.write_text(toml)
    with pytest.raises(WrongSetting) as refused:
        load(file)
    for part in [str(file), *said]:
        assert part in str(refused.value)


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
    assert load(tmp_path / "coldchain.toml").data_dir == str(tmp_path / "data")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WrongSetting, match="coldchain init"):
        load(tmp_path / "no.toml")


def test_the_command_line_says_a_setting_in_place_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "coldchain.toml"
    file.write_text("data_dir = 'data'\n[collector]\nshards = '00-ff'\ngroup = 9")
    said = ["collector.shards=80-ff", "api.port=8081", "broker.embedded=false", "intake.keep=2.5", "wechat.app_id=1"]
    settings = load(file, said)
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
    with pytest.raises(WrongSetting) as refused:
        load(None, [said])
    assert str(refused.value).startswith(told)


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert page == describe.page(), "renew it: python -m config.describe > docs/settings.md"


def test_an_empty_file_is_a_good_one() -> None:
    assert convert({}, "x").api.port == 8080
