"""From an empty folder to somebody who signs in: init, import, user add."""

import re
import stat
import tomllib
from pathlib import Path

import pytest
from sqlalchemy import text

from coldchain import setting_up
from config import secrets
from config.load import WrongSetting, convert, load
from config.settings import Settings
from core.db.engine import Records, connect, url_for
from core.errors import NotSignedIn
from core.runtime.clock import SystemClock
from core.runtime.instant import HOUR
from core.units.accounts import sign_in
from core.units.actor import OPERATOR
from core.units.rights import Right
from core.units.sessions import session_of

COUNTY = '[[unit]]\ncode = "1"\nname = "县疾控"\nkind = "cdc"\nlevel = "county"\n'


def test_init_makes_what_is_missing_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    first = setting_up.init(folder)
    settings = load(folder / "coldchain.toml")
    path = secrets.path_in(settings.data_dir)
    assert path.parent == folder / "coldchain-data"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(secrets.read(settings.data_dir).broker) == ["coldchain"]
    written = [file.read_bytes() for file in (folder / "coldchain.toml", path)]
    second = setting_up.init(folder)
    assert [file.read_bytes() for file in (folder / "coldchain.toml", path)] == written
    assert sum("written" in line for line in first) == 2
    assert sum("left as it is" in line for line in second) == 2


def test_init_keeps_to_the_settings_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "coldchain.toml").write_text('data_dir = "elsewhere"\n[broker]\nusername = "services"\n')
    setting_up.init(tmp_path)
    assert list(secrets.read(str(tmp_path / "elsewhere")).broker) == ["services"]
    (tmp_path / "coldchain.toml").write_text("data_dirr = 1")
    with pytest.raises(WrongSetting, match="data_dir"):
        setting_up.init(tmp_path)


def test_what_init_writes_is_right_also_with_its_comments_taken_off() -> None:
    assert convert(tomllib.loads(setting_up.START), "start") == Settings()
    settings = re.sub(r"(?m)^# (?=[\[a-z_]+( =|\[|\.|\]))", "", setting_up.START)
    told = convert(tomllib.loads(settings), "start")
    assert told.agent.gateways[0].buses[0].units[0].probes == {"t1": "208601", "t2": "208604"}
    for section in ("broker", "api", "wechat", "public_url"):
        assert getattr(told, section) == getattr(Settings(), section)


def test_somebody_who_was_added_signs_in_and_may_what_the_role_allows(tmp_path: Path) -> None:
    setting_up.init(tmp_path)
    settings = load(tmp_path / "coldchain.toml")
    (tmp_path / "county.toml").write_text(COUNTY)
    assert setting_up.import_into(settings, tmp_path / "county.toml") == (0, ["1 unit added"])
    code, lines = setting_up.add_user(settings, "li", "long enough", unit_code="1", role="technician")
    assert (code, lines) == (0, ["li may sign in as technician of 县疾控 and all below it"])
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    now = SystemClock().now()
    opened = sign_in(records, "li", "long enough", now=now, lasts=HOUR)
    with records.read() as tx:
        (holding,) = session_of(tx, opened.token, now).actor.holdings
    assert Right.BIND in holding.rights
    assert Right.ACCOUNTS not in holding.rights
    with pytest.raises(NotSignedIn):
        sign_in(records, "li", "another", now=now, lasts=HOUR)
    records.close()


def test_accounts_are_listed_and_a_new_password_ends_sessions(tmp_path: Path) -> None:
    setting_up.init(tmp_path)
    settings = load(tmp_path / "coldchain.toml")
    assert setting_up.list_users(settings) == (0, ["nobody may sign in yet; coldchain user add makes an account"])
    (tmp_path / "county.toml").write_text(COUNTY)
    setting_up.import_into(settings, tmp_path / "county.toml")
    for name, role in (("li", "technician"), ("wu", "user")):
        setting_up.add_user(settings, name, "long enough", unit_code="1", role=role)
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    now = SystemClock().now()
    opened = sign_in(records, "li", "long enough", now=now, lasts=HOUR)
    _, lines = setting_up.list_users(settings)
    assert lines == ["li: technician of 县疾控 and all below it", "wu: user of 县疾控 and all below it"]
    told = (0, ["li has another password, and is signed out everywhere"])
    assert setting_up.set_password(settings, "li", "another one") == told
    with records.read() as tx, pytest.raises(NotSignedIn):
        session_of(tx, opened.token, now)
    sign_in(records, "li", "another one", now=now, lasts=HOUR)
    with records.read() as tx:
        acts = tx.execute(text("SELECT actor, act FROM audit WHERE act = 'password changed'")).all()
        assert [tuple(act) for act in acts] == [(OPERATOR.name, "password changed")]
    assert setting_up.set_password(settings, "li", "short")[0] == 1
    assert setting_up.set_password(settings, "nobody", "long enough") == (1, ["there is no account 'nobody'"])
    records.close()


@pytest.mark.parametrize(
    ("username", "password", "unit", "role", "told"),
    [
        ("li", "short", "1", "user", "too short; take at least 8"),
        ("li", "long enough", "2", "user", "there is no unit '2'"),
        (
            "li",
            "long enough",
            "1",
            "boss",
            "role = 'boss': write one of system_admin, business_admin, user, technician",
        ),
        ("taken", "long enough", "1", "user", "there is an account 'taken' already"),
    ],
)
def test_who_cannot_be_added_is_told_why(
    tmp_path: Path, username: str, password: str, unit: str, role: str, told: str
) -> None:
    setting_up.init(tmp_path)
    settings = load(tmp_path / "coldchain.toml")
    (tmp_path / "county.toml").write_text(COUNTY)
    setting_up.import_into(settings, tmp_path / "county.toml")
    assert setting_up.add_user(settings, "taken", "long enough", unit_code="1", role="user")[0] == 0
    code, (line,) = setting_up.add_user(settings, username, password, unit_code=unit, role=role)
    assert code == 1
    assert told in line


def test_a_mistaken_file_ends_with_exit_code_1(tmp_path: Path) -> None:
    setting_up.init(tmp_path)
    settings = load(tmp_path / "coldchain.toml")
    (tmp_path / "county.toml").write_text(COUNTY.replace("cdc", "cdd"))
    code, lines = setting_up.import_into(settings, tmp_path / "county.toml")
    assert code == 1
    assert lines[0].startswith("unit 1: kind = 'cdd': write one of cdc (疾控中心)")
