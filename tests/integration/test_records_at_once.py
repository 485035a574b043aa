"""Two people change the records at the same moment: whatever each was told holds for both."""

import threading
from collections.abc import Callable, Mapping, Sequence

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms.tables import PeriodicJob
from core.db.engine import Records
from core.db.insert import insert_missing, upsert
from core.db.table_base import Record
from core.devices import bindings, registry
from core.devices.kinds_and_labels import EquipmentKind, ZoneKind
from core.devices.registry import NewEquipment
from core.devices.tables import ProbeZone, Zone
from core.errors import Conflict
from core.runtime.instant import Instant
from core.units.actor import OPERATOR
from core.units.tables import Unit
from core.units.tree import move_unit
from tests.fixtures.county import add_unit

NOW = Instant(1_700_000_000_000)


def at_once(records: Records, *acts: Callable[[Session], object]) -> list[type[Exception] | None]:
    """Run acts in transactions that begin together; returns what each was refused with."""
    gate = threading.Barrier(len(acts))
    ends: list[type[Exception] | None] = [None] * len(acts)

    def run(number: int, act: Callable[[Session], object]) -> None:
        gate.wait()
        try:
            with records.write() as tx:
                act(tx)
        except Exception as error:  # noqa: BLE001  # told to the test, whatever it was
            ends[number] = type(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def test_a_probe_is_bound_by_one_of_two_technicians(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        new = NewEquipment("F1", "fridge", EquipmentKind.FRIDGE, (ZoneKind.REFRIGERATED, ZoneKind.FROZEN))
        registry.add_equipment(tx, OPERATOR, new, unit, since=NOW, now=NOW)
        gateway = registry.add_gateway(tx, OPERATOR, "10001", unit, since=NOW, now=NOW)
        zones = tx.scalars(select(Zone.id)).all()
        probes = [registry.add_probe(tx, OPERATOR, f"{n}", gateway, since=NOW, now=NOW).id for n in range(5)]
    for probe in probes:
        ends = at_once(
            records,
            *(
                lambda tx, zone=zone, probe=probe: bindings.bind_probe(tx, OPERATOR, probe, zone, NOW, now=NOW)
                for zone in zones
            ),
        )
        assert sorted(ends, key=str) == [Conflict, None]
    with records.read() as tx:
        assert len(tx.scalars(select(ProbeZone.id)).all()) == len(probes)


def test_two_units_never_end_up_under_each_other(records: Records) -> None:
    for number in range(5):
        with records.write() as tx:
            city = add_unit(tx, f"city {number}", level="city")
            first = add_unit(tx, f"first {number}", city, level="county", kind="pov")
            second = add_unit(tx, f"second {number}", city, level="county", kind="pov")
            ids = (first.id, second.id)

        def under(tx: Session, child: int, parent: int) -> None:
            move_unit(tx, OPERATOR, tx.get_one(Unit, child), tx.get_one(Unit, parent), now=NOW)

        ends = at_once(
            records,
            lambda tx, ids=ids: under(tx, ids[0], ids[1]),  # type: ignore[misc]
            lambda tx, ids=ids: under(tx, ids[1], ids[0]),  # type: ignore[misc]
        )
        assert sorted(ends, key=str) == [Conflict, None]
        with records.read() as tx:
            for unit in ids:
                row = tx.get_one(Unit, unit)
                assert row.path.endswith(f"/{row.parent_id}/{row.id}/")


@pytest.mark.parametrize("write", [insert_missing, upsert])
def test_two_that_write_the_same_rows_in_any_order_do_not_wait_for_each_other_crosswise(
    records: Records, write: Callable[[Session, type[Record], Sequence[Mapping[str, object]]], None]
) -> None:
    """In opposite orders, each holding what the other wants next, PostgreSQL would end one of them."""
    for n in range(10):
        rows = [{"name": f"{n}.{each}", "due_at": NOW} for each in range(500)]
        ends = at_once(
            records,
            lambda tx, rows=rows: write(tx, PeriodicJob, rows),
            lambda tx, rows=rows: write(tx, PeriodicJob, rows[::-1]),
        )
        assert ends == [None, None]
