"""Spools that were put back, emptied, lost or damaged, through the whole line: agent, broker, collector, stores.

Each story: the agent's readings come in, a copy of its spool is made, more come in; then the services are down and the
agent keeps what it reads; then something happens to its spool while it is down too, and all start. What had been
acknowledged is stored, nothing is stored twice, and exactly what the disk has lost is missing, which is told within ten
seconds: by the agent where the file tells it, and by the log of the centre wherever a new life begins.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from coldchain.simulate.modbus import ModbusDevices
from config.settings import AgentSettings, DeviceOnBus, GatewaySettings, Settings
from core.ids import SeriesId
from core.intake.factory import open_log
from core.runtime.instant import DAY, Instant
from core.runtime.status import StatusFile
from core.runtime.trouble import TroubleKind
from core.telemetry.factory import open_telemetry
from core.wire.messages import Ack
from core.wire.shards import shard_of
from gateway_agent import service
from gateway_agent.spool import Spool
from tests.fixtures.broker import running
from tests.fixtures.modbus import bus_to, line
from tests.fixtures.restored import Restored, embedded_stores, server_stores
from tests.fixtures.troubled import GW, PROBE, services_up
from tests.fixtures.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("quick_status")]

PAIRS = ("embedded", "servers")
KEPT = 8
"""Batches that the agent keeps while nobody hears it."""


@pytest.fixture
def devices() -> Iterator[ModbusDevices]:
    with line("tcp") as made:
        made.add(1, "xy-md02", {"t": 4.2, "h": 54.6}.get)
        yield made


@pytest.fixture
def stores(pair: str, tmp_path: Path) -> Iterator[Restored]:
    with (embedded_stores if pair == "embedded" else server_stores)(tmp_path, worked=False) as made:
        made.enter_again()
        yield made


class Box:
    """A gateway whose agent reads one probe five times a second, and its spool."""

    def __init__(self, stores: Restored, devices: ModbusDevices) -> None:
        bus = bus_to(devices, "tcp", DeviceOnBus(address=1, profile="xy-md02", probes={"t": PROBE}), interval=0.2)
        agent = AgentSettings(gateways=[GatewaySettings(number=GW, buses=[bus])], resend_after=1.0, back_off=0.3)
        self.settings: Settings = msgspec.structs.replace(stores.settings, agent=agent)
        self.file = Path(self.settings.data_dir) / "spool" / f"{GW}.db"
        self.acks: set[tuple[str, int]] = set()
        """Of lives: every number that an acknowledgement covered."""

    def work(self, batches: int) -> None:
        """Run the whole line until so many more batches are acknowledged."""
        with services_up(self.settings) as up, running(service.run, self.settings):
            until(lambda: len(_covered(up.gateway.messages())) >= batches + self._before(), "acknowledgements")
            self.hears(up.gateway.messages())

    def keep(self) -> None:
        """Run the agent alone until it has kept so many batches that nobody has heard."""
        with running(service.run, self.settings):
            until(lambda: self._fact("spool") >= KEPT, "readings in the spool")

    def hears(self, messages: list) -> None:  # type: ignore[type-arg]
        """Take in what the gateway was told."""
        self.acks |= _covered(messages)

    def rows(self, file: Path | None = None) -> dict[int, set[int]]:
        """Return the batches in a spool: number → instants of its readings."""
        spool = self._opened(file or self.file)
        rows = {row.seq: {reading["ts"] for reading in msgspec.json.decode(row.r)} for row in spool.after(0, 10_000)}
        spool.close()
        return rows

    def life(self) -> str:
        spool = self._opened(self.file)
        ep = spool.ep
        spool.close()
        return ep

    def _opened(self, file: Path) -> Spool:
        return Spool(file, limit_bytes=2**30, limit_age=DAY)

    def _before(self) -> int:
        return max((seq for _, seq in self.acks), default=0)

    def _fact(self, name: str) -> int:
        status = StatusFile(self.settings.data_dir, "gateway").read()
        return int(status.facts[name]) if status and name in status.facts else 0


def _covered(messages: list) -> set[tuple[str, int]]:  # type: ignore[type-arg]
    acks = [msgspec.json.decode(message.payload, type=Ack) for message in messages]
    ranges = [(ack.ep, first, last) for ack in acks for first, last in [(1, ack.upto), *ack.have]]
    return {(ep, seq) for ep, first, last in ranges for seq in range(first, last + 1)}


def damage_spool(box: Box, copy: Path, damage: str, at: int) -> None:
    """Do something to the file of a spool that nobody has open; a turned byte is in the reading of an instant."""
    assert not list(box.file.parent.glob("*-wal")), "all of it is in the file"
    if damage == "older":
        shutil.copy(copy, box.file)
    elif damage == "empty":
        box.file.write_bytes(b"")
    elif damage == "missing":
        box.file.unlink()
    elif damage == "truncated":
        with box.file.open("r+b") as cut:
            cut.truncate(box.file.stat().st_size // 2)
    else:
        whole = bytearray(box.file.read_bytes())
        whole[whole.index(b'"t":4.2', whole.index(b"%d" % at)) + 4] ^= 0x01  # 4.2 becomes 5.2
        box.file.write_bytes(whole)


@pytest.mark.parametrize("damage", ["older", "empty", "missing", "truncated", "flipped"])
@pytest.mark.parametrize("pair", PAIRS)
def test_what_a_disk_takes_from_a_spool_is_told_and_nothing_else_is_missing(
    stores: Restored, devices: ModbusDevices, tmp_path: Path, damage: str
) -> None:
    box, copy = Box(stores, devices), tmp_path / "copy.db"
    box.work(3)
    shutil.copy(box.file, copy)
    in_copy = set().union(*box.rows(copy).values())
    box.work(3)
    acknowledged = set(box.acks)
    box.keep()
    before, kept = box.life(), box.rows()
    assert len(kept) >= KEPT
    damage_spool(box, copy, damage, min(kept[min(kept)]))

    with services_up(box.settings) as up:
        with running(service.run, box.settings):
            if damage in ("truncated", "flipped"):
                up.says("spool", TroubleKind.SET_ASIDE, service="gateway")
            if damage != "flipped":
                up.says("gateway spools", TroubleKind.RENEWED)
            until(lambda: _is_drained(box, up.gateway.messages()), "an acknowledgement of all that is left")
        until(lambda: _stored(box) == _taken(_logged(box)[0]), "all of the log in telemetry, once")
        box.hears(up.gateway.messages())

    assert (box.life() == before) is (damage == "flipped"), "a new life begins, unless one row alone was damaged"
    logged, lost = _logged(box)
    assert acknowledged <= logged.keys() | lost
    assert box.acks <= logged.keys() | lost, "nothing is acknowledged that is neither stored nor declared lost"
    missing = set().union(*kept.values()) - set(_stored(box)) - set().union(*box.rows().values())
    if damage == "flipped":
        assert lost == {(before, min(kept))}
        assert missing == kept[min(kept)]
        assert "1 batches" in _set_aside(box), "it is counted"
    else:
        assert lost == set()
        unsent = set().union(*(instants for seq, instants in kept.items() if (before, seq) not in logged))
        assert missing == unsent - (in_copy if damage == "older" else set())
    assert bool(list(box.file.parent.glob("*.damaged-*"))) is (damage == "truncated"), "it is kept, to be looked at"


def _is_drained(box: Box, messages: list) -> bool:  # type: ignore[type-arg]
    """Whether some batches of the life that is now were acknowledged, and all but the newest."""
    return len(_covered(messages)) > KEPT and box._fact("spool") <= 2


def _logged(box: Box) -> tuple[dict[tuple[str, int], set[int]], set[tuple[str, int]]]:
    """Return the batches of the log with the instants of their readings, and the numbers that were declared lost."""
    log = open_log(box.settings.intake.url, box.settings.data_dir)
    batches = [entry.batch for entry in log.read(shard_of(GW), 0, 100_000)]
    found = {(batch.ep, batch.seq): {int(each.ts) for each in batch.readings} for batch in batches}
    assert len(found) == len(batches), "no batch is in the log twice"
    seen = {(ep, seq) for ep in {ep for ep, _ in found} for a, b in log.have(GW, ep) for seq in range(a, b + 1)}
    assert log.verify() == []
    log.close()
    return found, seen - found.keys()


def _taken(logged: dict[tuple[str, int], set[int]]) -> list[int]:
    """Return the instants of readings in the log; a copy of a spool sends again what it hasn't heard of."""
    return sorted(set().union(*logged.values()))


def _stored(box: Box) -> list[int]:
    """Return the instants of readings in telemetry, as another process finds them."""
    with closing(open_telemetry(box.settings, read_only=True)) as store:
        return sorted(store.range(SeriesId(1), Instant(0), Instant(2**52)).at.tolist())


def _set_aside(box: Box) -> str:
    """Return what the agent said of what it set aside."""
    status = StatusFile(box.settings.data_dir, "gateway").read()
    assert status
    (detail,) = [trouble.detail for trouble in status.troubles if trouble.kind is TroubleKind.SET_ASIDE]
    return detail
