"""`coldchain check` and `init` on what is damaged or missing: the fault is named with the remedy that loses least."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from coldchain import installation, realign_command
from coldchain.checks import Finding, check
from coldchain.demo.environment import free_port
from config import secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting, convert
from core.db.engine import Records, connect
from core.intake.sqlite import SqliteIntakeLog
from core.migrations.migrate import upgrade
from core.runtime.file_permissions import close_to_others, private_places
from core.telemetry.embedded import EmbeddedTelemetry
from tests.fixtures.county import add_contact, add_unit
from tests.fixtures.intake_logs import GW, batch

FILES = ("records.db", "intake.db", "telemetry/hot.db")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation with somebody in it."""
    data = tmp_path / "data"
    (tmp_path / "coldchain.toml").write_text(f'data_dir = "{data}"\n', "utf-8")
    secrets.write(str(data), secrets.fresh("coldchain"))
    records = Records(connect(f"sqlite:///{data / 'records.db'}"))
    upgrade(records.engine)
    with records.write() as tx:
        add_contact(tx, 1, "王小梅", add_unit(tx, "县疾控"))
    records.close()
    with closing(SqliteIntakeLog(data / "intake.db")) as log:
        log.append([batch(seq) for seq in range(1, 300)])
    EmbeddedTelemetry(data / "telemetry").close()
    ports = {"api": {"port": free_port()}, "broker": {"port": free_port()}}
    made: Settings = convert({"data_dir": str(data), **ports}, "coldchain.toml")
    close_to_others(private_places(made))
    return made


def found(settings: Settings) -> list[Finding]:
    return [finding for finding in check(settings) if not finding.good]


def _truncate(file: Path) -> None:
    with file.open("r+b") as cut:
        cut.truncate(file.stat().st_size // 2)


def _turn(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        (page,) = db.execute("SELECT max(rootpage) FROM sqlite_master").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    whole = bytearray(file.read_bytes())
    whole[(page - 1) * size] ^= 0x80
    file.write_bytes(whole)


def _fill(file: Path) -> None:
    file.write_bytes(b"certainly no database " * 1_000)


def test_what_is_sound_is_said_to_be(settings: Settings) -> None:
    assert found(settings) == []


@pytest.mark.parametrize("damage", [_truncate, _turn, _fill], ids=["truncated", "turned", "overwritten"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_what_to_do(settings: Settings, name: str, damage: Callable[[Path], None]) -> None:
    file = Path(settings.data_dir) / name
    damage(file)
    whole = file.read_bytes()
    said = found(settings)
    assert said, "damage is found"
    for finding in said:
        assert str(file) in finding.state
        assert f"put {file} back from a backup" in finding.mend
        assert "coldchain realign" in finding.mend
        assert "start the database" not in finding.mend
    assert file.read_bytes() == whole, "nothing is changed by looking"


def test_missing_keys_are_put_back_and_not_made_anew_while_somebodys_number_is_encrypted_with_them(
    settings: Settings,
) -> None:
    keys = secrets.path_in(settings.data_dir)
    keys.unlink()
    (said,) = [finding for finding in found(settings) if finding.what == "secrets"]
    assert f"put {keys} back" in said.mend
    with pytest.raises(InvalidSetting, match="put it back from its copy"):
        installation.init(Path(settings.data_dir).parent)
    assert not keys.exists()


def test_keys_are_made_where_nothing_is_encrypted_yet(settings: Settings) -> None:
    keys = secrets.path_in(settings.data_dir)
    keys.unlink()
    (Path(settings.data_dir) / "records.db").unlink()
    (said,) = [finding for finding in found(settings) if finding.what == "secrets"]
    assert said.mend == "coldchain init"
    installation.init(Path(settings.data_dir).parent)
    assert keys.exists()


def test_a_gateway_whose_numbers_seen_are_damaged_is_named_with_the_command_that_mends_it(settings: Settings) -> None:
    with closing(sqlite3.connect(Path(settings.data_dir) / "intake.db", isolation_level=None)) as db:
        db.execute("UPDATE seen SET last = last + 64")
    (named,) = [finding for finding in found(settings) if GW in finding.what]
    assert "coldchain realign" in named.mend
    code, plan = realign_command.realign(settings, yes=False)
    assert code == 1
    assert GW in plan[0]
    code, _ = realign_command.realign(settings, yes=True)
    assert code == 0
    assert [finding for finding in found(settings) if GW in finding.what] == []
