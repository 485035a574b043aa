"""Devices as they are entered, bound, moved and stopped: never two at one instant, never a gap in a move."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.audit import Audit
from core.db.engine import Records
from core.devices import bindings, maintenance_windows, registry
from core.devices.directory import Directory, Place, RefusedReading
from core.devices.kinds_and_labels import EquipmentKind, WindowKind, ZoneKind, zone_name
from core.devices.registry import NewEquipment
from core.devices.tables import Gateway, ProbeZone, Zone
from core.errors import BackDated, Conflict, DomainError, Invalid, NotFound, PermissionDenied
from core.ids import Centi, EquipmentId, ProbeId, ZoneId
from core.limits import zone_limits
from core.limits.zone_limits import ZoneLimits
from core.runtime.instant import DAY, HOUR, Instant, Milliseconds
from core.units import device_revision
from core.units.actor import OPERATOR, Actor, Holding
from core.units.rights import RIGHTS, Role
from core.units.tables import Unit
from tests.fixtures.county import add_unit

NOW = Instant(1_700_000_000_000)
BEFORE = Instant(NOW - HOUR)


def fridge(tx: Session, code: str, unit: Unit, *zones: ZoneKind) -> tuple[EquipmentId, list[ZoneId]]:
    new = NewEquipment(code, f"冰箱{code}", EquipmentKind.FRIDGE, zones or (ZoneKind.REFRIGERATED,))
    made = registry.add_equipment(tx, OPERATOR, new, unit, since=BEFORE, now=NOW)
    return made.id, list(tx.scalars(select(Zone.id).where(Zone.equipment_id == made.id).order_by(Zone.id)))


def gateway(tx: Session, number: str, unit: Unit) -> Gateway:
    return registry.add_gateway(tx, OPERATOR, number, unit, since=BEFORE, now=NOW)


def probe(tx: Session, code: str, through: Gateway) -> ProbeId:
    return registry.add_probe(tx, OPERATOR, code, through, since=BEFORE, now=NOW).id


def rows(tx: Session, subject: ProbeId) -> list[tuple[int, int, int | None]]:
    found = tx.scalars(select(ProbeZone).where(ProbeZone.probe_id == subject).order_by(ProbeZone.since))
    return [(row.zone_id, row.since, row.until) for row in found]


def holder(role: Role, unit: Unit) -> Actor:
    return Actor("account:1", (Holding(unit.path, RIGHTS[role]),))


def test_a_move_ends_and_begins_at_the_same_instant(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        _, (old, new) = fridge(tx, "F1", unit, ZoneKind.REFRIGERATED, ZoneKind.FROZEN)
        moved = probe(tx, "208601", gateway(tx, "10001", unit))
        bindings.bind_probe(tx, OPERATOR, moved, old, BEFORE, now=NOW)
        bindings.move_probe(tx, OPERATOR, moved, new, NOW, now=NOW)
        assert rows(tx, moved) == [(old, BEFORE, NOW), (new, NOW, None)]
    directory = Directory(records)
    directory.refresh()

    def zone_at(when: int) -> ZoneId | None:
        answer = directory.resolve("10001", "208601", "t", Instant(when))
        assert isinstance(answer, Place)
        return answer.zone

    assert (zone_at(NOW - 1), zone_at(NOW)) == (old, new)


def test_what_would_overlap_or_go_backwards_is_refused_and_changes_nothing(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        _, (zone, other) = fridge(tx, "F1", unit, ZoneKind.REFRIGERATED, ZoneKind.FROZEN)
        bound = probe(tx, "208601", gateway(tx, "10001", unit))
        with pytest.raises(Conflict, match="none is in force"):
            bindings.move_probe(tx, OPERATOR, bound, zone, NOW, now=NOW)
        bindings.bind_probe(tx, OPERATOR, bound, zone, BEFORE, now=NOW)
        with pytest.raises(Conflict, match="one is in force since 2023"):
            bindings.bind_probe(tx, OPERATOR, bound, other, NOW, now=NOW)
        with pytest.raises(Conflict, match="already"):
            bindings.move_probe(tx, OPERATOR, bound, zone, NOW, now=NOW)
        for at in (BEFORE, Instant(BEFORE - 1)):
            with pytest.raises(DomainError):
                bindings.move_probe(tx, OPERATOR, bound, other, at, now=NOW)
        bindings.unbind_probe(tx, OPERATOR, bound, NOW, now=NOW)
        with pytest.raises(BackDated, match="ended at"):
            bindings.bind_probe(tx, OPERATOR, bound, other, Instant(NOW - 1), now=NOW)
        with pytest.raises(NotFound):
            bindings.bind_probe(tx, OPERATOR, ProbeId(4711), other, NOW, now=NOW)
        with pytest.raises(NotFound):
            bindings.bind_probe(tx, OPERATOR, bound, ZoneId(4711), NOW, now=NOW)
        assert rows(tx, bound) == [(zone, BEFORE, NOW)]


def test_a_technician_moves_probes_of_their_own_units_alone(records: Records) -> None:
    with records.write() as tx:
        mine, theirs = add_unit(tx, "mine"), add_unit(tx, "theirs")
        _, (here, also) = fridge(tx, "F1", mine, ZoneKind.REFRIGERATED, ZoneKind.FROZEN)
        _, (there,) = fridge(tx, "F2", theirs)
        own, foreign = gateway(tx, "10001", mine), gateway(tx, "10002", theirs)
        moved = probe(tx, "208601", own)
        technician = holder(Role.TECHNICIAN, mine)
        bindings.bind_probe(tx, technician, moved, here, BEFORE, now=NOW)
        bindings.move_probe(tx, technician, moved, also, NOW, now=NOW)
        with pytest.raises(NotFound, match=f"there is no zone {there}"):
            bindings.move_probe(tx, technician, moved, there, Instant(NOW + 1), now=NOW)
        with pytest.raises(NotFound, match=f"there is no gateway {foreign.id}"):
            bindings.pair_probe(tx, technician, moved, foreign.id, Instant(NOW + 1), now=NOW)
        with pytest.raises(PermissionDenied):
            bindings.unbind_probe(tx, holder(Role.USER, mine), moved, Instant(NOW + 1), now=NOW)
        bindings.move_probe(tx, OPERATOR, moved, there, Instant(NOW + 1), now=NOW)
        with pytest.raises(NotFound, match=f"there is no probe {moved}"):
            bindings.move_probe(tx, technician, moved, here, Instant(NOW + 2), now=NOW)


def test_an_equipment_that_changes_hands_is_seen_by_each_for_their_time(records: Records) -> None:
    with records.write() as tx:
        first, second = add_unit(tx, "first"), add_unit(tx, "second")
        moved, (zone,) = fridge(tx, "F1", first)
        bound = probe(tx, "208601", gateway(tx, "10001", first))
        bindings.bind_probe(tx, OPERATOR, bound, zone, BEFORE, now=NOW)
        with pytest.raises(NotFound, match=f"there is no equipment {moved}"):
            bindings.place_equipment(tx, holder(Role.BUSINESS_ADMIN, second), moved, second, NOW, now=NOW)
        bindings.place_equipment(tx, OPERATOR, moved, second, NOW, now=NOW)
        with pytest.raises(Conflict, match="in second already"):
            bindings.place_equipment(tx, OPERATOR, moved, second, Instant(NOW + 1), now=NOW)
        assert bindings.unit_of_zone(tx, zone, Instant(NOW - 1)).id == first.id
        assert bindings.unit_of_zone(tx, zone, NOW).id == second.id
        with pytest.raises(Conflict, match="no unit"):
            bindings.unit_of_zone(tx, zone, Instant(BEFORE - 1))
    directory = Directory(records)
    directory.refresh()
    answers = [directory.resolve("10001", "208601", "t", Instant(NOW + offset)) for offset in (-1, 0)]
    assert [answer.unit for answer in answers if isinstance(answer, Place)] == [first.id, second.id]


def test_a_probe_read_by_another_gateway_is_foreign_to_the_first_from_then_on(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        first, second = gateway(tx, "10001", unit), gateway(tx, "10002", unit)
        moved = probe(tx, "208601", first)
        bindings.pair_probe(tx, OPERATOR, moved, second.id, NOW, now=NOW)
        with pytest.raises(Conflict, match="already"):
            bindings.pair_probe(tx, OPERATOR, moved, second.id, Instant(NOW + 5), now=NOW)
        bindings.unpair_probe(tx, OPERATOR, moved, Instant(NOW + 10), now=NOW)
    directory = Directory(records)
    directory.refresh()
    taken = {
        (number, offset): isinstance(directory.resolve(number, "208601", "t", Instant(NOW + offset)), Place)
        for number in ("10001", "10002")
        for offset in (-1, 0, 9, 10)
    }
    assert {key for key, yes in taken.items() if yes} == {("10001", -1), ("10002", 0), ("10002", 9)}


@pytest.mark.req("HW-32")
def test_one_fridge_with_two_zones_has_a_probe_and_a_name_each(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        new = NewEquipment("F1", "美菱冰箱", EquipmentKind.FRIDGE, (ZoneKind.REFRIGERATED, ZoneKind.FROZEN))
        one = registry.add_equipment(tx, OPERATOR, new, unit, since=BEFORE, now=NOW)
        box = gateway(tx, "10001", unit)
        zones = {zone.kind: zone for zone in tx.scalars(select(Zone).where(Zone.equipment_id == one.id))}
        for code, kind in (("208601", ZoneKind.REFRIGERATED), ("208604", ZoneKind.FROZEN)):
            bindings.bind_probe(tx, OPERATOR, probe(tx, code, box), zones[kind].id, BEFORE, now=NOW)
        assert sorted(zone_name(one.name, ZoneKind(kind)) for kind in zones) == ["美菱冰箱冷冻", "美菱冰箱冷藏"]
        with pytest.raises(Conflict, match="already"):
            registry.add_zone(tx, OPERATOR, one.id, ZoneKind.FROZEN, now=NOW)
    directory = Directory(records)
    directory.refresh()
    places = [directory.resolve("10001", code, "t", NOW) for code in ("208601", "208604")]
    assert [place.zone_kind for place in places if isinstance(place, Place)] == ["refrigerated", "frozen"]
    assert {place.equipment for place in places if isinstance(place, Place)} == {one.id}


def test_limits_are_a_zones_own_and_checked(records: Records) -> None:
    with records.write() as tx:
        _, (zone_id,) = fridge(tx, "F1", add_unit(tx, "county"))
        zone = tx.get_one(Zone, zone_id)
        limits = ZoneLimits(low=Centi(200), high=Centi(800), delay=Milliseconds(600_000))
        assert zone_limits.set_limits(tx, OPERATOR, zone, limits, now=NOW)
        assert not zone_limits.set_limits(tx, OPERATOR, zone, limits, now=NOW)
        assert zone_limits.limits_of(zone) == limits
        with pytest.raises(Invalid, match=r"low = 8.0: must be below high = 8.0"):
            zone_limits.set_limits(tx, OPERATOR, zone, ZoneLimits(low=Centi(800), high=Centi(800)), now=NOW)
        for delay in (DAY + 1, -1):
            with pytest.raises(Invalid, match=r"delay = .*: must be 0 to 24 hours"):
                zone_limits.set_limits(tx, OPERATOR, zone, ZoneLimits(delay=Milliseconds(delay)), now=NOW)
        for hysteresis in (-1, 1_001):
            with pytest.raises(Invalid, match=r"hysteresis = .*: must be 0 to 10.0"):
                zone_limits.set_limits(tx, OPERATOR, zone, ZoneLimits(hysteresis=Centi(hysteresis)), now=NOW)


@pytest.mark.req("CC-19")
def test_a_stop_takes_effect_and_ends(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        stopped, (zone,) = fridge(tx, "F1", unit)
        bindings.bind_probe(tx, OPERATOR, probe(tx, "208601", gateway(tx, "10001", unit)), zone, BEFORE, now=NOW)
        window = maintenance_windows.begin_window(
            tx, OPERATOR, stopped, WindowKind.STOPPED, since=NOW, reason="报废", now=NOW
        )
        with pytest.raises(Conflict, match="already"):
            maintenance_windows.begin_window(tx, OPERATOR, stopped, WindowKind.STOPPED, since=Instant(NOW + 5), now=NOW)
        maintenance_windows.begin_window(tx, OPERATOR, stopped, WindowKind.DEFROST, since=Instant(NOW + 5), now=NOW)
        with pytest.raises(BackDated):
            maintenance_windows.begin_window(
                tx, OPERATOR, stopped, WindowKind.STOPPED, since=BEFORE, until=BEFORE, now=NOW
            )
        with pytest.raises(BackDated):
            maintenance_windows.end_window(tx, OPERATOR, window, NOW, now=NOW)
        maintenance_windows.end_window(tx, OPERATOR, window, Instant(NOW + 100), now=NOW)
        with pytest.raises(Conflict, match="ended"):
            maintenance_windows.end_window(tx, OPERATOR, window, Instant(NOW + 100), now=NOW)
        with pytest.raises(PermissionDenied):
            maintenance_windows.begin_window(
                tx, holder(Role.USER, unit), stopped, WindowKind.STOPPED, since=NOW, now=NOW
            )
    directory = Directory(records)
    directory.refresh()
    answers = [directory.resolve("10001", "208601", "t", Instant(NOW + offset)) for offset in (-1, 0, 99, 100)]
    assert [isinstance(answer, RefusedReading) for answer in answers] == [False, True, True, False]


def test_numbers_and_codes_are_taken_once(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        fridge(tx, "F1", unit)
        box = gateway(tx, "10001", unit)
        probe(tx, "208601", box)
        with pytest.raises(Conflict, match="F1 is taken"):
            fridge(tx, "F1", unit)
        with pytest.raises(Conflict, match="10001 is taken"):
            gateway(tx, "10001", unit)
        with pytest.raises(Conflict, match="208601 is taken"):
            probe(tx, "208601", box)
        with pytest.raises(Invalid, match="of A-Z"):
            gateway(tx, "10/01", unit)


Step = Callable[[Session], object]


def test_every_change_moves_the_directorys_revision_and_is_audited(records: Records) -> None:
    with records.write() as tx:
        unit, other = add_unit(tx, "county"), add_unit(tx, "other")
        equipment, (zone, second) = fridge(tx, "F1", unit, ZoneKind.REFRIGERATED, ZoneKind.FROZEN)
        box, spare = gateway(tx, "10001", unit), gateway(tx, "10002", unit)
        one = probe(tx, "208601", box)
    window = WindowKind.STOPPED
    at = iter(Instant(NOW + n) for n in range(100))
    steps: list[Step] = [
        lambda tx: bindings.bind_probe(tx, OPERATOR, one, zone, next(at), now=NOW),
        lambda tx: bindings.move_probe(tx, OPERATOR, one, second, next(at), now=NOW),
        lambda tx: bindings.unbind_probe(tx, OPERATOR, one, next(at), now=NOW),
        lambda tx: bindings.pair_probe(tx, OPERATOR, one, spare.id, next(at), now=NOW),
        lambda tx: bindings.unpair_probe(tx, OPERATOR, one, next(at), now=NOW),
        lambda tx: bindings.place_gateway(tx, OPERATOR, box.id, other, next(at), now=NOW),
        lambda tx: bindings.place_equipment(tx, OPERATOR, equipment, other, next(at), now=NOW),
        lambda tx: maintenance_windows.begin_window(tx, OPERATOR, equipment, window, since=next(at), now=NOW),
        lambda tx: registry.add_zone(tx, OPERATOR, equipment, ZoneKind.ROOM, now=NOW),
        lambda tx: fridge(tx, "F2", unit),
        lambda tx: probe(tx, "208602", gateway(tx, "10003", unit)),
    ]
    for number, step in enumerate(steps):
        with records.write() as tx:
            before, acts = device_revision.current(tx), len(tx.scalars(select(Audit.id)).all())
            step(tx)
            assert device_revision.current(tx) > before, number
            tx.flush()
            assert len(tx.scalars(select(Audit.id)).all()) > acts, number


ACT = st.tuples(st.sampled_from(["bind", "move", "unbind"]), st.integers(0, 2), st.integers(0, 30))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACT, max_size=12))
def test_whatever_is_tried_a_probe_is_in_one_zone_at_most_and_a_move_leaves_no_gap(
    records: Records, acts: list[tuple[str, int, int]]
) -> None:
    with records.write() as tx:
        unit = add_unit(tx, f"county {uuid4()}")
        kinds = (ZoneKind.REFRIGERATED, ZoneKind.FROZEN, ZoneKind.ROOM)
        _, zones = fridge(tx, uuid4().hex, unit, *kinds)
        one = probe(tx, uuid4().hex, gateway(tx, uuid4().hex, unit))
    model: list[tuple[int, int, int | None]] = []
    for act, zone, offset in acts:
        at = Instant(NOW + offset)
        expected = _tried(model, act, zones[zone], at)
        try:
            with records.write() as tx:
                if act == "bind":
                    bindings.bind_probe(tx, OPERATOR, one, zones[zone], at, now=NOW)
                elif act == "move":
                    bindings.move_probe(tx, OPERATOR, one, zones[zone], at, now=NOW)
                else:
                    bindings.unbind_probe(tx, OPERATOR, one, at, now=NOW)
        except Conflict:
            assert expected is None, (model, act, zone, offset)
        else:
            assert expected is not None, (model, act, zone, offset)
            model = expected
        with records.read() as tx:
            assert rows(tx, one) == model


def _tried(
    model: list[tuple[int, int, int | None]], act: str, zone: int, at: int
) -> list[tuple[int, int, int | None]] | None:
    """What the rows are to be after an act, None when it is to be refused."""
    if act == "bind":
        ended = not model or (model[-1][2] is not None and model[-1][2] <= at)
        return [*model, (zone, at, None)] if ended else None
    if not model or model[-1][2] is not None or at <= model[-1][1]:
        return None
    held, since, _ = model[-1]
    closed = [*model[:-1], (held, since, at)]
    if act == "unbind":
        return closed
    return None if held == zone else [*closed, (zone, at, None)]
