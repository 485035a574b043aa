"""County of a demo: that of county.toml with its bad days, or one fridge with a logger's past."""

import json
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from coldchain.demo.environment import DemoEnvironment, SimulatedDevice, SimulatedGateway
from coldchain.demo.texts import say
from coldchain.importing import import_file
from coldchain.simulate import physics
from coldchain.simulate.physics import Chamber, ChamberFault
from coldchain.simulate.replay import unplayable_rows
from config.settings import Settings
from config.text_file import UnreadableFile
from core.access.accounts import account_named, create_account
from core.access.passwords import hash_password, initial_password
from core.db.engine import Records
from core.devices.queries import all_series
from core.ids import Centi
from core.limits.rule_profile import load_or_default as profile_of
from core.logger_files.logger_file import LoggerFile
from core.logger_files.reader import read_file
from core.migrations.migrate import upgrade
from core.runtime.clock import SystemClock
from core.runtime.instant import DAY, HOUR, MINUTE, SECOND, Instant, Milliseconds, rfc3339
from core.telemetry.factory import open_telemetry
from core.units.actor import OPERATOR
from core.units.divisions import load
from core.units.queries import root_unit
from core.units.rights import Role
from gateway_agent import device_profile

ZONE = ZoneInfo("Asia/Shanghai")
USERNAME = "demo"
DAYS = 30
"""Number of days on which the faults repeat."""
MEMORY = "demo.json"
LASTS_S = 3650 * 86_400.0
"""A sign-in and a link last as long as the demo's clock runs: at 600 times its speed half a day is over in 72 s."""

BOXES = (
    SimulatedGateway("10001", [SimulatedDevice(1, "r4dcb08", {"t1": "200101", "t2": "200102", "t3": "200103"})]),
    SimulatedGateway("10002", [SimulatedDevice(1, "xy-md02", {"t": "200201", "h": "200201"})]),
    SimulatedGateway(
        "10003",
        [
            SimulatedDevice(1, "r4dcb08", {"t1": "208601", "t2": "208604"}),
            SimulatedDevice(2, "xy-md02", {"t": "208602", "h": "208602"}),
        ],
    ),
    SimulatedGateway("10004", [SimulatedDevice(1, "xy-md02", {"t": "203708", "h": "203708"})]),
)
KINDS: dict[str, physics.ChamberKind] = {
    "200101": "cold_room",
    "200102": "cold_room",
    "200103": "freezer",
    "200201": "vehicle",
    "208601": "refrigerated",
    "208602": "refrigerated",
    "208604": "freezer",
    "203708": "refrigerated",
}
HUMID = 45.0

LOGGER_DEVICE = "replay"
LOGGER_BOX = SimulatedGateway("10009", [SimulatedDevice(1, LOGGER_DEVICE, {"t": "209901"})])
LOGGER_COUNTY = """since = {since}
[[unit]]
code = "990123"
name = "南山县疾控中心"
kind = "cdc"
level = "county"
{people}
[[equipment]]
code = "REPLAY-1"
name = "记录仪回放"
kind = "冰箱"
unit = "990123"
zones = ["冷藏"]
[[gateway]]
number = "10009"
unit = "990123"
[[probe]]
code = "209901冷藏"
gateway = "10009"
equipment = "REPLAY-1"
interval = "{interval}s"
"""
LOGGER_PEOPLE = (("陈静", 1, "demo-chen-jing"), ("赵国强", 2, "demo-zhao-guoqiang"), ("孙丽华", 3, "demo-sun-lihua"))


class DemoMemory(msgspec.Struct):
    """Start of a demo, as its folder keeps it."""

    began: Instant
    replay: str
    password: str


class County:
    """Simulated county: its devices, its faults over time, and its people."""

    def __init__(self, folder: Path, kept: DemoMemory, port: int) -> None:
        self.start = kept.began
        self.username = USERNAME
        self.password = kept.password
        self.replay = Path(kept.replay) if kept.replay else None
        self.logger = read_logger(self.replay) if self.replay else None
        self._value: Centi | None = None
        self.goes_on(kept.began)
        self._chambers = {} if self.logger else story(kept.began)
        self.stage = DemoEnvironment(
            folder,
            [LOGGER_BOX] if self.logger else BOXES,
            self._read,
            # Replayed, every step of the clock is to be a reading, however unevenly and closely the file's rows lie.
            interval_s=0.001 if self.logger else 30.0,
            api_port=port,
            more={"api": {"session_ttl": LASTS_S, "link_ttl": LASTS_S, "password_ttl": LASTS_S}},
        )

    def enter(self, records: Records, settings: Settings, now: Instant) -> None:
        """Create tables, county and account in the records. A second call changes nothing."""
        upgrade(records.engine)
        file = self.stage.folder / "county.toml"
        file.write_text(self._county(), "utf-8")
        divisions = load(Path(__file__).parent)  # those of a county that doesn't exist
        import_file(records, settings.data_dir, file, actor=OPERATOR, now=now, divisions=divisions)
        with records.read() as tx:
            known = account_named(tx, self.username)
        if known is None:
            hashed = hash_password(self.username, self.password)
            with records.write() as tx:
                top = root_unit(tx)
                create_account(
                    tx,
                    OPERATOR,
                    username=self.username,
                    password_hash=hashed,
                    unit=top,
                    role=Role.BUSINESS_ADMIN,
                    now=now,
                )

    def give_phones(self) -> bool:
        """Register everybody of the county with the WeChat simulator; return whether it answered."""
        people = tomllib.loads(self._county())["person"]
        users = [{"openid": person["openid"], "name": person["name"]} for person in people]
        return _asked(f"{self.stage.wechat_url}/sim/users", json.dumps(users).encode())

    def has_pages(self) -> bool:
        """Whether the web pages answer."""
        return _asked(f"{self.stage.url}/healthz")

    def rows(self) -> Iterator[tuple[Instant, Centi | None]]:
        """Yield what the logger recorded, oldest first."""
        if self.logger:
            yield from self.logger.readings

    def goes_on(self, at: Instant) -> None:
        """Set the replayed device to what the logger showed at `at`; before its first row, to the first."""
        if self.logger:
            rows = self.logger.readings
            self._value = next((value for when, value in reversed(rows) if when <= at), rows[0][1])

    @property
    def offline_after(self) -> Milliseconds:
        """How long the replayed device may be silent before that is an alarm."""
        interval = self.logger.interval if self.logger else MINUTE
        return profile_of("").offline_limit.of(Milliseconds(interval))

    def shows(self, value: Centi | None) -> None:
        """Set the replayed device to a value."""
        self._value = value

    def stored(self, records: Records, settings: Settings) -> int:
        """Return the number of readings in the telemetry store, of all quantities."""
        with records.read() as tx:
            series = all_series(tx)
        store = open_telemetry(settings, read_only=True)
        try:
            return sum(len(store.range(one, Instant(0), Instant(2**52))) for one in series)
        finally:
            store.close()

    def _read(self, probe: str, channel: str) -> float | None:
        if self.logger:
            return None if self._value is None else self._value / 100
        if channel == "h":
            return HUMID
        return self._chambers[probe].temperature(self.stage.now())

    def _county(self) -> str:
        if self.logger is None:
            return resources.files("coldchain.demo").joinpath("county.toml").read_text("utf-8")
        people = "".join(
            f'[[person]]\nunit = "990123"\nname = "{name}"\nlevels = [{level}]\nopenid = "{openid}"\n'
            for name, level, openid in LOGGER_PEOPLE
        )
        since = rfc3339(Instant(self.logger.readings[0][0] - DAY), ZONE)
        return LOGGER_COUNTY.format(since=since, people=people, interval=max(1, round(self.logger.interval / SECOND)))


def _asked(url: str, body: bytes | None = None) -> bool:
    """Whether a server of ours answers; a body is posted."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=2):  # noqa: S310 (our own)
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def recall(folder: Path, replay: Path | None) -> DemoMemory:
    """Return the start of the demo in a folder, or of a new one; nothing is written yet.

    Raises: ValueError when the folder holds another demo than the one asked for; UnreadableFile.
    """
    asked = str(replay.resolve()) if replay else ""
    memory = folder / MEMORY
    if not memory.exists():
        began = read_logger(replay).readings[0][0] if replay else SystemClock().now()
        return DemoMemory(began, asked, initial_password()[0])
    kept = msgspec.json.decode(memory.read_bytes(), type=DemoMemory)
    if kept.replay != asked:
        raise ValueError(
            say("mistake.replays", folder=folder, file=kept.replay)
            if kept.replay
            else say("mistake.county", folder=folder)
        )
    return kept


def build(folder: Path, kept: DemoMemory, *, port: int) -> County:
    """Return the county of a folder, and write its start there."""
    memory = folder / MEMORY
    if not memory.exists():
        folder.mkdir(parents=True, exist_ok=True)
        memory.write_bytes(msgspec.json.encode(kept))
    return County(folder, kept, port)


def read_logger(path: Path) -> LoggerFile:
    """Read a logger's file, and check that the simulated device can show every row of it.

    Raises: UnreadableFile.
    """
    file = read_file(path, ZONE)
    (channel,) = device_profile.load(LOGGER_DEVICE).channels
    if problems := unplayable_rows(file, channel):
        raise UnreadableFile(path.name, problems)
    return file


def story(began: Instant) -> dict[str, Chamber]:
    """Return the county's chambers with their daily faults.

    A compressor failed so long before the start that its zone is too warm by then, so the first alarm comes after the
    rule's delay; the compressor runs again after three hours. A vehicle's door is left open. A thermostat sticks, and
    its zone would freeze.
    """
    faults: dict[str, list[ChamberFault]] = {probe: [] for probe in KINDS}

    def add_faults(probe: str, kind: str, since: int, until: int, days: Sequence[int] = range(DAYS)) -> None:
        faults[probe] += [
            msgspec.convert(
                {"kind": kind, "since": began + day * DAY + since, "until": began + day * DAY + until},
                type=ChamberFault,
            )
            for day in days
        ]

    add_faults("208601", "compressor", -100 * MINUTE, 3 * HOUR)
    add_faults("200201", "door", 90 * MINUTE, 150 * MINUTE)
    add_faults("203708", "thermostat", 4 * HOUR, 7 * HOUR)
    return {probe: Chamber(kind, seed, faults[probe]) for seed, (probe, kind) in enumerate(KINDS.items(), 1)}
