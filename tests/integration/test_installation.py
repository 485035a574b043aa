"""From an empty folder to somebody who signs in: init, import, user add."""

import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from coldchain import account_commands, installation
from config import secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting, convert, load_settings
from core.access.sessions import session_of
from core.access.sign_in import sign_in
from core.access.tokens import actor_of_token
from core.db.engine import Records, connect, url_for
from core.errors import NotSignedIn
from core.runtime.clock import SystemClock
from core.runtime.instant import HOUR, parse
from core.units.actor import OPERATOR
from core.units.rights import Right

COUNTY = '[[unit]]\ncode = "1"\nname = "县疾控"\nkind = "cdc"\nlevel = "county"\n'


def test_init_makes_what_is_missing_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    first = installation.init(folder)
    settings = load_settings(folder / "coldchain.toml")
    path = secrets.path_in(settings.data_dir)
    assert path.parent == folder / "coldchain-data"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(secrets.read(settings.data_dir).broker) == ["coldchain"]
    written = [file.read_bytes() for file in (folder / "coldchain.toml", path)]
    second = installation.init(folder)
    assert [file.read_bytes() for file in (folder / "coldchain.toml", path)] == written
    assert sum("written" in line for line in first) == 2
    assert sum("left as it is" in line for line in second) == 2


def test_init_keeps_to_the_settings_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "coldchain.toml").write_text('data_dir = "elsewhere"\n[broker]\nusername = "services"\n')
    installation.init(tmp_path)
    assert list(secrets.read(str(tmp_path / "elsewhere")).broker) == ["services"]
    (tmp_path / "coldchain.toml").write_text("data_dirr = 1")
    with pytest.raises(InvalidSetting, match="data_dir"):
        installation.init(tmp_path)


def test_what_init_writes_is_right_also_with_its_comments_taken_off() -> None:
    assert convert(tomllib.loads(installation.START), "start") == Settings()
    settings = re.sub(r"(?m)^# (?=[\[a-z_]+( =|\[|\.|\]))", "", installation.START)
    told = convert(tomllib.loads(settings), "start")
    assert told.agent.gateways[0].buses[0].units[0].probes == {"t1": "208601", "t2": "208604"}
    for section in ("broker", "api", "wechat", "public_url"):
        assert getattr(told, section) == getattr(Settings(), section)


def test_somebody_who_was_added_signs_in_and_may_what_the_role_allows(tmp_path: Path) -> None:
    installation.init(tmp_path)
    settings = load_settings(tmp_path / "coldchain.toml")
    (tmp_path / "county.toml").write_text(COUNTY)
    assert installation.import_into(settings, tmp_path / "county.toml") == (0, ["1 unit added"])
    code, lines = account_commands.add_user(settings, "li", "Long enough 1", unit_code="1", role="technician")
    assert (code, lines) == (0, ["li may sign in as technician of 县疾控 and all below it"])
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    now = SystemClock().now()
    opened = sign_in(records, "li", "Long enough 1", now=now, ttl=HOUR)
    with records.read() as tx:
        (holding,) = session_of(tx, opened.token, now).actor.holdings
    assert Right.BIND in holding.rights
    assert Right.ACCOUNTS not in holding.rights
    with pytest.raises(NotSignedIn):
        sign_in(records, "li", "another", now=now, ttl=HOUR)
    records.close()


def test_accounts_are_listed_and_a_new_password_ends_sessions(tmp_path: Path) -> None:
    installation.init(tmp_path)
    settings = load_settings(tmp_path / "coldchain.toml")
    assert account_commands.list_users(settings) == (0, ["nobody may sign in yet; coldchain user add makes an account"])
    (tmp_path / "county.toml").write_text(COUNTY)
    installation.import_into(settings, tmp_path / "county.toml")
    for name, role in (("li", "technician"), ("wu", "user")):
        account_commands.add_user(settings, name, "Long enough 1", unit_code="1", role=role)
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    now = SystemClock().now()
    opened = sign_in(records, "li", "Long enough 1", now=now, ttl=HOUR)
    _, lines = account_commands.list_users(settings)
    assert lines == ["li: technician of 县疾控 and all below it", "wu: user of 县疾控 and all below it"]
    told = (0, ["li has another password, and is signed out everywhere"])
    assert account_commands.replace_password(settings, "li", "Another one 2") == told
    with records.read() as tx, pytest.raises(NotSignedIn):
        session_of(tx, opened.token, now)
    sign_in(records, "li", "Another one 2", now=now, ttl=HOUR)
    with records.read() as tx:
        acts = tx.execute(text("SELECT actor, act FROM audit WHERE act = 'password reset'")).all()
        assert [tuple(act) for act in acts] == [(OPERATOR.name, "password reset")]
    assert account_commands.replace_password(settings, "li", "short")[0] == 1
    assert account_commands.replace_password(settings, "nobody", "Long enough 1") == (
        1,
        ["there is no account 'nobody'"],
    )
    records.close()


@pytest.mark.parametrize(
    ("username", "password", "unit", "role", "told"),
    [
        ("li", "short", "1", "user", "take at least 10 characters"),
        ("li", "Long enough 1", "2", "user", "there is no unit '2'"),
        (
            "li",
            "Long enough 1",
            "1",
            "boss",
            "role = 'boss': write one of system_admin, business_admin, user, stock_keeper",
        ),
        ("taken", "Long enough 1", "1", "user", "there is an account 'taken' already"),
    ],
)
def test_who_cannot_be_added_is_told_why(
    tmp_path: Path, username: str, password: str, unit: str, role: str, told: str
) -> None:
    installation.init(tmp_path)
    settings = load_settings(tmp_path / "coldchain.toml")
    (tmp_path / "county.toml").write_text(COUNTY)
    installation.import_into(settings, tmp_path / "county.toml")
    assert account_commands.add_user(settings, "taken", "Long enough 1", unit_code="1", role="user")[0] == 0
    code, (line,) = account_commands.add_user(settings, username, password, unit_code=unit, role=role)
    assert code == 1
    assert told in line
    before = account_commands.why_not_add(settings, username, unit_code=unit, role=role)
    assert before == ("" if "at least 10" in told else line), "said before a password is asked for"


def test_a_mistaken_file_ends_with_exit_code_1(tmp_path: Path) -> None:
    installation.init(tmp_path)
    settings = load_settings(tmp_path / "coldchain.toml")
    (tmp_path / "county.toml").write_text(COUNTY.replace("cdc", "cdd"))
    code, lines = installation.import_into(settings, tmp_path / "county.toml")
    assert code == 1
    assert lines[0].startswith("unit 1: kind = 'cdd': write one of cdc (疾控中心)")


def test_a_token_is_shown_once_serves_until_it_is_revoked_and_every_step_is_audited(tmp_path: Path) -> None:
    installation.init(tmp_path)
    settings = load_settings(tmp_path / "coldchain.toml")
    (tmp_path / "county.toml").write_text(COUNTY)
    installation.import_into(settings, tmp_path / "county.toml")
    assert account_commands.list_tokens(settings) == (0, ["there are no tokens; coldchain token issue makes one"])
    code, (token,) = account_commands.issue(settings, "hub", unit_code="1", role="user", expires="2099-12-31")
    assert (code, token[:3]) == (0, "cc_")
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    now = SystemClock().now()
    with records.read() as tx:
        (holding,) = actor_of_token(tx, token, now).holdings
        assert Right.ACCOUNTS not in holding.rights
    assert account_commands.list_tokens(settings) == (0, ["hub: user of 县疾控 and all below it, through 2099-12-31"])
    assert token not in str(account_commands.list_tokens(settings))
    assert account_commands.issue(settings, "hub", unit_code="1", role="user", expires="365d")[0] == 1, (
        "the name is taken"
    )
    assert account_commands.revoke(settings, "hub") == (0, ["hub serves no longer"])
    with records.read() as tx, pytest.raises(NotSignedIn):
        actor_of_token(tx, token, SystemClock().now())
    (line,) = account_commands.list_tokens(settings)[1]
    assert re.fullmatch(r"hub: user of 县疾控 and all below it, ended on \d{4}-\d\d-\d\d", line)
    assert account_commands.revoke(settings, "hub") == (0, ["hub has ended before"])
    assert account_commands.revoke(settings, "nobody") == (1, ["there is no token 'nobody'"])
    with records.read() as tx:
        acts = tx.execute(text("SELECT actor, act FROM audit WHERE subject LIKE 'token:%' ORDER BY id")).all()
    assert [tuple(act) for act in acts] == [(OPERATOR.name, "token issued"), (OPERATOR.name, "token revoked")]
    records.close()


@pytest.mark.parametrize(
    ("expires", "told"),
    [
        ("soon", "--expires soon: write a day like 2027-06-30, days like 365d, or never"),
        ("2027-13-01", "--expires 2027-13-01: write a day"),
        ("99999999999d", "--expires 99999999999d: write a day"),
        ("2020-01-01", "--expires 2020-01-01 is over already"),
        ("-1d", "--expires -1d is over already"),
    ],
)
def test_an_end_that_cannot_be_is_refused(tmp_path: Path, expires: str, told: str) -> None:
    installation.init(tmp_path)
    settings = load_settings(tmp_path / "coldchain.toml")
    code, (line,) = account_commands.issue(settings, "hub", unit_code="1", role="user", expires=expires)
    assert code == 1
    assert line.startswith(told)


def test_a_token_serves_through_its_last_day_of_the_site() -> None:
    zone, noon = ZoneInfo("Asia/Shanghai"), parse("2026-03-28T12:00:00+08:00")
    assert account_commands.end_of("2026-03-28", noon, zone) == parse("2026-03-29T00:00:00+08:00")
    assert account_commands.end_of("1d", noon, zone) == parse("2026-03-30T00:00:00+08:00")
    assert account_commands.end_of("never", noon, zone) is None


def test_an_operator_with_a_chinese_locale_is_told_in_chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    told = installation.init(tmp_path)
    settings = load_settings(tmp_path / "coldchain.toml")
    told += account_commands.list_users(settings)[1] + account_commands.list_tokens(settings)[1]
    told += account_commands.add_user(settings, "li", "short", unit_code="1", role="user")[1]
    told += account_commands.add_user(settings, "li", "Long enough 1", unit_code="1", role="user")[1]
    told += (
        account_commands.replace_password(settings, "li", "Long enough 1")[1]
        + account_commands.revoke(settings, "hub")[1]
    )
    assert [line for line in told if not re.search(r"[\u4e00-\u9fff]", line)] == []


def test_an_init_that_fails_leaves_nothing_behind_and_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSetting, match="can't be written"):
        installation.init(tmp_path / "file" / "new")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "coldchain.toml").write_text(f"data_dir = '{tmp_path}/file/data'")
    with pytest.raises(InvalidSetting, match="Not a directory"):
        installation.init(tmp_path / "there")
    with pytest.raises(InvalidSetting, match="can't be written"):
        installation.init(Path("/proc/no/such"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["coldchain.toml", "file", "there"]


def test_commands_in_a_folder_without_secrets_make_nothing(tmp_path: Path) -> None:
    (tmp_path / "coldchain.toml").touch()
    settings = load_settings(tmp_path / "coldchain.toml")
    for command in (account_commands.list_users, account_commands.list_tokens):
        with pytest.raises(secrets.NoSecrets, match="coldchain init"):
            command(settings)
    assert [path.name for path in tmp_path.iterdir()] == ["coldchain.toml"]


def test_records_that_cannot_be_opened_are_told_in_lines_and_not_as_a_traceback(tmp_path: Path) -> None:
    installation.init(tmp_path)
    (tmp_path / "coldchain-data" / "records.db").write_bytes(b"certainly no database" * 100)
    with pytest.raises(InvalidSetting) as refused:
        account_commands.list_users(load_settings(tmp_path / "coldchain.toml"))
    first, _second = str(refused.value).splitlines()
    assert first.startswith("the records: the file is damaged: ")


def test_no_right_to_write_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    """/proc is where not even root may make a file; nor is a file a folder."""
    installation.init(tmp_path)
    (tmp_path / "county.toml").write_text(COUNTY)
    commands = [
        ["init", "/proc/here"],
        ["demo", "--folder", "/proc/here"],
        ["wechat-sim", "--folder", "county.toml/here", "--port", "0"],
    ]
    for words in commands:
        done = subprocess.run(
            [sys.executable, "-m", "coldchain", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, (words, done)
        (line,) = done.stderr.splitlines()
        assert next(word for word in words if "here" in word) in line
        assert "can't be" in line


def test_records_that_may_only_be_read_are_told_by_the_command_that_would_write_them(tmp_path: Path) -> None:
    installation.init(tmp_path)
    settings = load_settings(tmp_path / "coldchain.toml")
    (tmp_path / "county.toml").write_text(COUNTY)
    installation.import_into(settings, tmp_path / "county.toml")

    def write_all_the_same() -> None:
        with installation.open_records(settings) as records, records.write() as tx:
            tx.execute(text("PRAGMA query_only = 1"))
            tx.execute(text("DELETE FROM person"))

    with pytest.raises(InvalidSetting) as refused:
        write_all_the_same()
    first, _second = str(refused.value).splitlines()
    assert first == "the records can't be opened for writing: attempt to write a readonly database"
