"""What `coldchain init`, `coldchain import` and `coldchain user` do; the command line prints what these return."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from coldchain.importing import import_file
from config import secrets
from config.load import load
from config.settings import Settings
from core.db.engine import Records, connect, url_for
from core.db.migrate import upgrade
from core.errors import Invalid, NotFound, Wrong
from core.runtime.clock import clock_from
from core.units.accounts import change_password, create_account, hash_password
from core.units.actor import OPERATOR
from core.units.rights import Role
from core.units.tables import Account, Grant, Unit

START = """\
# Coldchain's settings. What stands here is the default, so an empty file is a good one.
# docs/settings.md describes every setting; `coldchain check` tests this file and every connection it names.

# data_dir = "coldchain-data"             # records, intake log, telemetry and secrets, beside this file
# public_url = "http://127.0.0.1:8080"    # how phones reach the pages: starts every link in a message

# [broker]                                # `coldchain up` runs a broker of its own unless embedded = false
# host = "127.0.0.1"                      # 0.0.0.0 lets gateways elsewhere connect to it
# port = 1883

# [api]
# host = "127.0.0.1"
# port = 8080

# [wechat]                                # without an app_id messages stay queued, and visible
# app_id = ""                             # its secret: wechat_secret in secrets.json
# template_alarm = ""
# template_recovery = ""

# A gateway that this machine is itself, with one Modbus line:
# [[agent.gateways]]
# number = "10001"
# [[agent.gateways.buses]]
# name = "line-1"
# kind = "tcp"                            # or rtu (device = "/dev/ttyUSB0"), or rtu-over-tcp
# host = "192.0.2.10"
# [[agent.gateways.buses.units]]
# address = 1
# profile = "r4dcb08"
# probes = { t1 = "208601", t2 = "208604" }
"""


def init(folder: Path) -> list[str]:
    """Make coldchain.toml and the secrets where they are missing; overwrites nothing. Returns what was done.

    Raises: WrongSetting when a coldchain.toml is there that can't be used.
    """
    done: list[str] = []
    file = folder / "coldchain.toml"
    if file.exists():
        done.append(f"{file} is there already; left as it is")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as new:
            new.write(START)
        done.append(f"{file} written; every line in it says what it is for")
    settings = load(file)
    path = secrets.path_in(settings.data_dir)
    if path.exists():
        secrets.read(settings.data_dir)
        done.append(f"{path} is there already; left as it is")
    else:
        secrets.write(settings.data_dir, secrets.fresh(settings.broker.username))
        done.append(f"{path} written; keep a copy elsewhere, since encrypted fields can't be read without it")
    done.append("next: coldchain import FILE, coldchain user add, coldchain check, coldchain up")
    return done


def import_into(settings: Settings, file: Path) -> tuple[int, list[str]]:
    """Import a file into the records of an installation; returns the exit code and what to say.

    Raises: NoSecrets.
    """
    with _records(settings) as records:
        now = clock_from(settings.virtual_clock).now()
        report = import_file(records, settings.data_dir, file, actor=OPERATOR, now=now)
    return (1 if report.mistakes else 0), report.lines()


def add_user(settings: Settings, username: str, password: str, *, unit_code: str, role: str) -> tuple[int, list[str]]:
    """Make an account with a role on a unit and all below it; returns the exit code and what to say."""
    try:
        if role not in list(Role):
            raise Invalid(field="role", value=role, problem=f"write one of {', '.join(Role)}")
        hashed = hash_password(username, password)
        with _records(settings) as records, records.write() as tx:
            unit = tx.scalar(select(Unit).where(Unit.code == unit_code))
            if unit is None:
                raise NotFound(what="unit", name=unit_code)
            create_account(
                tx,
                OPERATOR,
                username=username,
                password_hash=hashed,
                unit=unit,
                role=Role(role),
                now=clock_from(settings.virtual_clock).now(),
            )
            name = unit.name
    except Wrong as error:
        return 1, [str(error)]
    return 0, [f"{username} may sign in as {role} of {name} and all below it"]


def list_users(settings: Settings) -> tuple[int, list[str]]:
    """Say who may sign in, as what and where; returns the exit code and the lines."""
    now = clock_from(settings.virtual_clock).now()
    with _records(settings) as records, records.read() as tx:
        found = tx.execute(
            select(Account, Grant.role, Unit.name)
            .outerjoin(
                Grant,
                (Grant.account_id == Account.id) & (Grant.since <= now) & (Grant.until.is_(None) | (Grant.until > now)),
            )
            .outerjoin(Unit, Unit.id == Grant.unit_id)
            .order_by(Account.username, Unit.path)
        ).all()
        lines = [_line(account, role, unit) for account, role, unit in found]
    return 0, lines or ["nobody may sign in yet; coldchain user add makes an account"]


def set_password(settings: Settings, username: str, password: str) -> tuple[int, list[str]]:
    """Give an account another password and end its sessions; returns the exit code and what to say."""
    try:
        hashed = hash_password(username, password)
        with _records(settings) as records, records.write() as tx:
            account = tx.scalar(select(Account).where(Account.username == username))
            if account is None:
                raise NotFound(what="account", name=username)
            change_password(tx, OPERATOR, account, hashed, now=clock_from(settings.virtual_clock).now())
    except Wrong as error:
        return 1, [str(error)]
    return 0, [f"{username} has another password, and is signed out everywhere"]


def _line(account: Account, role: str | None, unit: str | None) -> str:
    granted = f"{role} of {unit} and all below it" if role else "nothing is granted"
    return f"{account.username}: {granted}{'; disabled' if account.disabled else ''}"


@contextmanager
def _records(settings: Settings) -> Iterator[Records]:
    secrets.read(settings.data_dir)  # a folder that `init` didn't make is another than the one that was meant
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    try:
        upgrade(records.engine)
        yield records
    finally:
        records.close()
