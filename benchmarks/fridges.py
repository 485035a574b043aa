"""Fridges of a province, written in bulk, and their readings in an intake log, for the alarm benchmarks."""

import itertools
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import cast

import msgspec
from sqlalchemy import Table, insert

from alerting.alerting_loop import AlertingLoop
from alerting.evaluating.late_readings import LateEvaluation
from alerting.following.follower import Follower
from collector.counters import Counters
from collector.storing.telemetry_writer import TelemetryWriter
from core.alarms.outbox import OutboxWriter
from core.alarms.zone_cache import ZoneCache
from core.db.engine import Records
from core.db.table_base import Record
from core.devices.directory import Directory
from core.devices.tables import (
    Equipment,
    EquipmentUnit,
    Gateway,
    GatewayUnit,
    Probe,
    ProbeGateway,
    ProbeZone,
    Series,
    Zone,
)
from core.ids import Centi
from core.intake.port import IntakeBatch, IntakeLog, StampedReading
from core.runtime.clock import Clock
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds
from core.telemetry.port import Telemetry
from core.units import device_revision
from core.wire.shards import GatewayNumber, Shard, shard_of
from core.wire.states import IntakeOrigin
from tests.fixtures.county import add_contact, add_unit

OF_GATEWAY = 8
INTERVAL = Milliseconds(15 * MINUTE)
"""Longer than the rule's delay, so that one reading beyond the limit opens an alarm."""
OPENIDS = {level: f"openid-level{level}" for level in (1, 2, 3)}


class Fridges:
    """`count` fridges of one unit, each with a zone and a probe, eight on a gateway; all ids are 1 to `count`."""

    def __init__(
        self,
        records: Records,
        log: IntakeLog,
        count: int,
        *,
        interval: Milliseconds = INTERVAL,
        one_shard: bool = False,
    ) -> None:
        """With `one_shard` all gateways are in the same shard of the log."""
        self.records = records
        self.count = count
        self._log = log
        self._seq = 0
        names = (gateway(n) for n in itertools.count(1))
        shard = shard_of(gateway(1))
        chosen_names = (name for name in names if not one_shard or shard_of(name) == shard)
        self._gateways = list(itertools.islice(chosen_names, (count - 1) // OF_GATEWAY + 1))
        with records.write() as tx:
            unit = add_unit(tx, "省疾控").id
        numbers = range(1, count + 1)
        gateways = range(1, len(self._gateways) + 1)
        self._write(Equipment, ({"id": n, "code": f"E{n}", "name": f"冰箱{n}", "kind": "fridge"} for n in numbers))
        self._write(Zone, ({"id": n, "equipment_id": n, "kind": "refrigerated"} for n in numbers))
        self._write(EquipmentUnit, ({"equipment_id": n, "unit_id": unit, "since": 0} for n in numbers))
        self._write(Gateway, ({"id": n, "number": self._gateways[n - 1]} for n in gateways))
        self._write(GatewayUnit, ({"gateway_id": n, "unit_id": unit, "since": 0} for n in gateways))
        self._write(Probe, ({"id": n, "namespace": "cc", "code": code(n), "interval": interval} for n in numbers))
        self._write(Series, ({"id": n, "probe_id": n, "quantity": "t"} for n in numbers))
        self._write(ProbeZone, ({"probe_id": n, "zone_id": n, "since": 0} for n in numbers))
        self._write(ProbeGateway, ({"probe_id": n, "gateway_id": of(n), "since": 0} for n in numbers))
        with records.write() as tx:
            for level, openid in OPENIDS.items():
                add_contact(tx, level, f"level{level}", _Unit(unit), openid=openid)  # type: ignore[arg-type]
            device_revision.bump(tx)

    def _write(self, table: type[Record], rows: Iterable[dict[str, object]]) -> None:
        with self.records.write() as tx:
            tx.execute(insert(cast("Table", table.__table__)), list(rows))

    def read(
        self, celsius: float, at: Instant, *, fridges: Sequence[int] = (), received: Instant | None = None
    ) -> None:
        """Append one reading of each fridge, taken at `at`; of all fridges, unless some are given."""
        by_gateway: dict[int, list[int]] = {}
        for fridge in fridges or range(1, self.count + 1):
            by_gateway.setdefault(of(fridge), []).append(fridge)
        self._seq += 1
        batches = [
            self._batch(number, fridges_of_gateway, celsius, at, received or at)
            for number, fridges_of_gateway in by_gateway.items()
        ]
        for first in range(0, len(batches), 500):
            self._log.append(batches[first : first + 500])

    def append(
        self, batches: Iterable[Sequence[tuple[int, Instant, float]]], *, received: Instant, origin: IntakeOrigin
    ) -> None:
        """Append batches of readings (fridge, instant, °C); the fridges of a batch belong to one gateway."""
        intake_batches = []
        for readings in batches:
            self._seq += 1
            gw = self._gateways[of(readings[0][0]) - 1]
            intake_batches.append(
                IntakeBatch(
                    shard=shard_of(gw),
                    gw=gw,
                    ep="00" * 8,
                    boot="00" * 4,
                    seq=self._seq,
                    hash=sha256(f"{gw} {self._seq}".encode()).digest()[:16],
                    received=received,
                    origin=origin,
                    readings=tuple(
                        StampedReading(code(fridge), "t", at, Centi(round(celsius * 100)), 0, at)
                        for fridge, at, celsius in readings
                    ),
                )
            )
        for first in range(0, len(intake_batches), 500):
            self._log.append(intake_batches[first : first + 500])

    def late(self, clock: Clock, telemetry: Telemetry, loop: AlertingLoop) -> LateEvaluation:
        """Return the evaluator of late readings, as `coldchain alerting` creates it."""
        return LateEvaluation(self.records, lambda: telemetry, ZoneCache(), _post(), clock, shards="00-ff", live=loop)

    def writer(self, clock: Clock, telemetry: Telemetry) -> TelemetryWriter:
        """Return the telemetry writer, as `coldchain writer` creates it."""
        shards = Shard("00"), Shard("ff")
        return TelemetryWriter(self._log, telemetry, Directory(self.records), clock, Counters(), shards=shards)

    def worker(self, clock: Clock) -> tuple[AlertingLoop, Follower]:
        """Return engine and follower on these records and this log, as `coldchain alerting` creates them."""
        zones, outbox = ZoneCache(), _post()
        follower = Follower(self.records, self._log, Directory(self.records), zones, outbox, shards="00-ff")
        loop = AlertingLoop(
            self.records, intake=self._log, follower=follower, zones=zones, outbox=outbox, clock=clock, poll=1.0
        )
        return loop, follower

    def _batch(
        self, number: int, fridges: Sequence[int], celsius: float, at: Instant, received: Instant
    ) -> IntakeBatch:
        gw = self._gateways[number - 1]
        value = Centi(round(celsius * 100))
        return IntakeBatch(
            shard=shard_of(gw),
            gw=gw,
            ep="00" * 8,
            boot="00" * 4,
            seq=self._seq,
            hash=sha256(f"{number} {self._seq}".encode()).digest()[:16],
            received=received,
            origin=IntakeOrigin.LIVE,
            readings=tuple(StampedReading(code(fridge), "t", at, value, 0, at) for fridge in fridges),
        )


def _post() -> OutboxWriter:
    return OutboxWriter(
        public_url="https://cc.example",
        link_keys={"1": "00" * 32},
        link_life=Milliseconds(7 * DAY),
        channels=["wechat"],
    )


class _Unit(msgspec.Struct):
    id: int


def of(fridge: int) -> int:
    """Return the number of the gateway that reads a fridge."""
    return (fridge - 1) // OF_GATEWAY + 1


def gateway(number: int) -> GatewayNumber:
    return GatewayNumber(f"g{number:05d}")


def code(fridge: int) -> str:
    return f"2{fridge:06d}"
