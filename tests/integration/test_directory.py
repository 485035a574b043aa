"""Whose reading it is, in and out of time, against a model that looks at every row."""

import gc
import tempfile
import threading
import weakref
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert

from core.db.engine import Records
from core.devices.directory import Directory, Place, RefusalReason, RefusedReading, allot_series
from core.devices.tables import (
    EquipmentUnit,
    MaintenanceWindow,
    Probe,
    ProbeGateway,
    ProbeZone,
    Series,
)
from core.devices.timeline import BEGINNING, END, Timeline, merged
from core.runtime.instant import Instant
from core.units import device_revision
from tests.fixtures.county import add_fridge, add_gateway, add_probe, add_unit
from tests.fixtures.databases import opened

NOON = Instant(1_700_000_000_000)


def _place(answer: Place | RefusedReading) -> Place:
    assert isinstance(answer, Place), answer
    return answer


def _refusal(answer: Place | RefusedReading) -> RefusalReason:
    assert isinstance(answer, RefusedReading), answer
    return answer.reason


def test_a_reading_finds_series_zone_equipment_and_unit_of_its_moment(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        fridge, (zone,) = add_fridge(tx, "F1", unit)
        probe = add_probe(tx, "208601", add_gateway(tx, "10001", unit), zone)
        device_revision.bump(tx)
    directory = Directory(records)
    assert _refusal(directory.resolve("10001", "208601", "t", NOON)) is RefusalReason.FOREIGN_GATEWAY
    assert directory.refresh()
    assert not directory.refresh()
    place = _place(directory.resolve("10001", "208601", "t", NOON))
    assert (place.probe, place.zone, place.zone_kind) == (probe, zone, "refrigerated")
    assert (place.equipment, place.unit, place.interval) == (fridge, unit.id, 60_000)
    assert 0 < place.series < 2**24


def test_what_the_records_do_not_pair_is_refused_with_its_reason(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        _, (zone,) = add_fridge(tx, "F1", unit)
        add_gateway(tx, "10002", unit)
        add_probe(tx, "208601", add_gateway(tx, "10001", unit), zone, since=NOON)
        device_revision.bump(tx)
    directory = Directory(records)
    directory.refresh()
    assert _refusal(directory.resolve("10001", "999999", "t", NOON)) is RefusalReason.UNKNOWN_PROBE
    assert _refusal(directory.resolve("10002", "208601", "t", NOON)) is RefusalReason.FOREIGN_GATEWAY
    assert _refusal(directory.resolve("10001", "208601", "t", Instant(NOON - 1))) is RefusalReason.FOREIGN_GATEWAY
    answer = directory.resolve("10002", "208601", "t", NOON)
    assert isinstance(answer, RefusedReading)
    assert answer.detail == "probe 208601 was with gateway 10001 then, not with 10002"


def test_what_is_kept_out_of_the_search_for_cycles_goes_when_it_is_loaded_anew(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.devices.directory.MANY", 1)
    with records.write() as tx:
        add_probe(tx, "208601", add_gateway(tx, "10001", add_unit(tx, "county")), None)
        device_revision.bump(tx)
    directory = Directory(records)
    try:
        directory.refresh()
        assert gc.get_freeze_count() > 0
        before = weakref.ref(directory._copy)
        with records.write() as tx:
            device_revision.bump(tx)
        gc.disable()  # nothing else than the last reference ends it
        assert directory.refresh()
        assert before() is None
    finally:
        gc.enable()
        gc.unfreeze()


def test_a_probe_in_no_zone_is_stored_and_nobodys(records: Records) -> None:
    with records.write() as tx:
        add_probe(tx, "208601", add_gateway(tx, "10001", add_unit(tx, "county")), None)
        device_revision.bump(tx)
    directory = Directory(records)
    directory.refresh()
    place = _place(directory.resolve("10001", "208601", "t", NOON))
    assert (place.zone, place.equipment, place.unit) == (None, None, None)


@pytest.mark.req("CC-19")
def test_a_stopped_equipment_takes_no_reading_of_that_time_and_keeps_those_before_and_after(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        fridge, (zone,) = add_fridge(tx, "F1", unit)
        add_probe(tx, "208601", add_gateway(tx, "10001", unit), zone)
        for kind, since, until in (
            ("stopped", NOON, NOON + 100),
            ("stopped", NOON + 50, NOON + 70),
            ("repair", NOON + 200, None),
        ):
            tx.add(MaintenanceWindow(equipment_id=fridge, kind=kind, since=since, until=until))
        device_revision.bump(tx)
    directory = Directory(records)
    directory.refresh()

    def at(when: int) -> Place | RefusedReading:
        return directory.resolve("10001", "208601", "t", Instant(when))

    assert _place(at(NOON - 1)).equipment == fridge
    assert [_refusal(at(NOON + offset)) for offset in (0, 60, 80, 99)] == [RefusalReason.STOPPED_EQUIPMENT] * 4
    assert _place(at(NOON + 100)).equipment == fridge
    assert _place(at(NOON + 300)).equipment == fridge, "a repair stores readings; it only pages nobody"


def test_a_quantity_gets_its_series_at_first_sight_and_everyone_gets_the_same(records: Records) -> None:
    with records.write() as tx:
        add_probe(tx, "208601", add_gateway(tx, "10001", add_unit(tx, "county")), None)
        device_revision.bump(tx)
    directories = [Directory(records) for _ in range(4)]
    answers: list[Place | RefusedReading] = []
    gate = threading.Barrier(len(directories))

    def see(directory: Directory) -> None:
        directory.refresh()
        assert _refusal(directory.resolve("10001", "208601", "h", NOON)) is RefusalReason.NO_SERIES
        gate.wait()
        answers.append(directory.allot("10001", "208601", "h", NOON))

    threads = [threading.Thread(target=see, args=(directory,)) for directory in directories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({_place(answer).series for answer in answers}) == 1
    assert len(answers) == len(directories)
    assert directories[0].resolve("10001", "208601", "h", NOON) == answers[0]
    assert not directories[0].refresh(), "a new series makes nobody load everything again"
    assert _refusal(directories[0].allot("10001", "4711", "h", NOON)) is RefusalReason.UNKNOWN_PROBE


def test_a_series_number_is_never_used_again(records: Records) -> None:
    with records.write() as tx:
        probe = add_probe(tx, "208601", add_gateway(tx, "10001", add_unit(tx, "county")), None)
        last = allot_series(tx, probe, "h")
    with records.write() as tx:
        tx.delete(tx.get_one(Series, last))
    with records.write() as tx:
        assert allot_series(tx, probe, "batt") > last


SPAN = st.tuples(st.integers(0, 40), st.one_of(st.none(), st.integers(1, 10)))


def _lay_out(lengths: list[tuple[int, int | None]]) -> list[tuple[Instant, Instant | None, int]]:
    """Turn (gap, length) into intervals without overlap; one without length is the last."""
    rows: list[tuple[Instant, Instant | None, int]] = []
    clock = 0
    for number, (gap, length) in enumerate(lengths):
        since = clock + gap
        rows.append((Instant(since), None if length is None else Instant(since + length), number))
        if length is None:
            break
        clock = since + length
    return rows


@given(st.lists(SPAN, max_size=12), st.integers(-5, 300), st.randoms())
def test_spans_answer_what_a_look_at_every_row_answers(
    lengths: list[tuple[int, int | None]], when: int, random: Random
) -> None:
    rows = _lay_out(lengths)
    holds = [value for since, until, value in rows if since <= when and (until is None or when < until)]
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert Timeline(shuffled).at(Instant(when)) == (holds[0] if holds else None)


@given(st.lists(SPAN, max_size=12), st.integers(-5, 300))
def test_a_stretch_is_where_the_answer_is_the_same_and_no_longer(
    lengths: list[tuple[int, int | None]], when: int
) -> None:
    spans = Timeline(_lay_out(lengths))
    since, until, value = spans.around(Instant(when))
    assert since <= when < until
    assert all(spans.at(Instant(at)) == value for at in range(max(since, -9), min(until, 999)))
    assert since == BEGINNING or spans.at(Instant(since - 1)) != value
    assert until == END or spans.at(until) != value


@given(
    st.lists(st.tuples(st.integers(0, 30), st.one_of(st.none(), st.integers(1, 20))), max_size=8), st.integers(-2, 60)
)
def test_merged_windows_cover_the_same_moments(windows: list[tuple[int, int | None]], when: int) -> None:
    rows = [(Instant(since), None if length is None else Instant(since + length)) for since, length in windows]
    covered = any(since <= when and (until is None or when < until) for since, until in rows)
    assert bool(Timeline(merged(rows)).at(Instant(when))) == covered


@settings(max_examples=25, deadline=None)
@given(
    zones=st.lists(SPAN, max_size=5),
    pairs=st.lists(SPAN, max_size=5),
    stops=st.lists(SPAN, max_size=3),
    stays=st.lists(SPAN, max_size=4),
    moments=st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 200)), min_size=40, max_size=40),
)
def test_resolving_agrees_with_a_look_at_every_row(
    zones: list[tuple[int, int | None]],
    pairs: list[tuple[int, int | None]],
    stops: list[tuple[int, int | None]],
    stays: list[tuple[int, int | None]],
    moments: list[tuple[str, int]],
) -> None:
    """In any order, as often as asked: what the directory keeps of one answer never becomes a wrong other."""
    with tempfile.TemporaryDirectory() as folder, opened("sqlite", Path(folder)) as records:
        _agree(records, _lay_out(zones), _lay_out(pairs), _lay_out(stops), _lay_out(stays), moments)


def _agree(
    records: Records,
    zones: list[tuple[Instant, Instant | None, int]],
    pairs: list[tuple[Instant, Instant | None, int]],
    stops: list[tuple[Instant, Instant | None, int]],
    stays: list[tuple[Instant, Instant | None, int]],
    moments: list[tuple[str, int]],
) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        units = [unit.id, add_unit(tx, "village", unit).id]
        fridge, zone_ids = add_fridge(tx, "F1", unit, "refrigerated", "frozen")
        tx.execute(delete(EquipmentUnit))
        gateways = [add_gateway(tx, number, unit) for number in ("A", "B")]
        probe = Probe(namespace="cc", code="1")
        tx.add(probe)
        tx.flush()
        allot_series(tx, probe.id, "t")
        for since, until, n in zones:
            tx.add(ProbeZone(probe_id=probe.id, zone_id=zone_ids[n % 2], since=since, until=until))
        for since, until, n in pairs:
            tx.add(ProbeGateway(probe_id=probe.id, gateway_id=gateways[n % 2], since=since, until=until))
        for since, until, _ in stops:
            tx.add(MaintenanceWindow(equipment_id=fridge, kind="stopped", since=since, until=until))
        for since, until, n in stays:
            tx.add(EquipmentUnit(equipment_id=fridge, unit_id=units[n % 2], since=since, until=until))
        device_revision.bump(tx)
    directory = Directory(records)
    directory.refresh()

    def holding(rows: list[tuple[Instant, Instant | None, int]], when: int) -> int | None:
        return next((n for since, until, n in rows if since <= when and (until is None or when < until)), None)

    for gw, when in moments:
        answer = directory.resolve(gw, "1", "t", Instant(when))
        pair, zone, stop = holding(pairs, when), holding(zones, when), holding(stops, when)
        if pair is None or "AB"[pair % 2] != gw:
            assert _refusal(answer) is RefusalReason.FOREIGN_GATEWAY
        elif zone is not None and stop is not None:
            assert _refusal(answer) is RefusalReason.STOPPED_EQUIPMENT
        elif zone is None:
            place = _place(answer)
            assert (place.zone, place.zone_kind, place.equipment, place.unit) == (None, None, None, None)
        else:
            place, stay = _place(answer), holding(stays, when)
            assert (place.zone, place.zone_kind) == (zone_ids[zone % 2], ("refrigerated", "frozen")[zone % 2])
            assert (place.equipment, place.unit) == (fridge, None if stay is None else units[stay % 2])


def test_what_was_kept_of_the_former_records_is_gone_with_them(records: Records) -> None:
    with records.write() as tx:
        unit = add_unit(tx, "county")
        fridge, (zone,) = add_fridge(tx, "F1", unit)
        add_probe(tx, "208601", add_gateway(tx, "10001", unit), zone)
        device_revision.bump(tx)
    directory = Directory(records)
    directory.refresh()
    assert _place(directory.allot("10001", "208601", "t", NOON)).unit == unit.id
    with records.write() as tx:
        tx.add(MaintenanceWindow(equipment_id=fridge, kind="stopped", since=NOON, until=None))
        device_revision.bump(tx)
    assert _place(directory.allot("10001", "208601", "t", NOON)).unit == unit.id, "not before the next refresh"
    assert directory.refresh()
    assert _refusal(directory.allot("10001", "208601", "t", NOON)) is RefusalReason.STOPPED_EQUIPMENT
    assert _place(directory.allot("10001", "208601", "t", Instant(NOON - 1))).equipment == fridge


def test_what_is_kept_is_one_answer_a_series_however_many_moments_are_asked_about(sqlite_records: Records) -> None:
    with sqlite_records.write() as tx:
        unit = add_unit(tx, "county")
        fridge, (zone,) = add_fridge(tx, "F1", unit)
        add_probe(tx, "208601", add_gateway(tx, "10001", unit), zone)
        for n in range(50):
            window = (NOON + 10 * n, NOON + 10 * n + 5)
            tx.add(MaintenanceWindow(equipment_id=fridge, kind="stopped", since=window[0], until=window[1]))
        device_revision.bump(tx)
    directory = Directory(sqlite_records)
    directory.refresh()
    answers = [directory.resolve("10001", "208601", "t", Instant(NOON + n)) for n in range(-5, 600)]
    answers += [directory.resolve("10001", code, "t", NOON) for code in ("4711", "4712")]
    assert sum(isinstance(answer, Place) for answer in answers) == 5 + 50 * 5 + 100
    assert len(directory._copy.places) == 1


@pytest.mark.parametrize("count", [2, 2_000])
def test_a_county_is_loaded_in_as_many_questions_as_a_village(sqlite_records: Records, count: int) -> None:
    with sqlite_records.write() as tx:
        unit = add_unit(tx, "county")
        _, (zone,) = add_fridge(tx, "F1", unit)
        gateway = add_gateway(tx, "10001", unit)
        ids = range(1, count + 1)
        tx.execute(insert(Probe), [{"id": n, "namespace": "cc", "code": str(n), "interval": 60_000} for n in ids])
        tx.execute(insert(Series), [{"probe_id": n, "quantity": "t"} for n in ids])
        tx.execute(insert(ProbeGateway), [{"probe_id": n, "gateway_id": gateway, "since": 0} for n in ids])
        tx.execute(insert(ProbeZone), [{"probe_id": n, "zone_id": zone, "since": 0} for n in ids])
        device_revision.bump(tx)
    asked: list[str] = []
    event.listen(sqlite_records.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    directory = Directory(sqlite_records)
    directory.refresh()
    assert len(asked) < 15
    asked.clear()
    assert {_place(directory.resolve("10001", str(n), "t", NOON)).zone for n in ids} == {zone}
    assert not asked, "an answer asks the database nothing"


def test_a_series_whose_commit_failed_is_nobodys_and_the_next_try_allots_it(records: Records) -> None:
    with records.write() as tx:
        gateway = add_gateway(tx, "10001", add_unit(tx, "county"))
        for code in ("208601", "208602"):
            add_probe(tx, code, gateway, None)
        device_revision.bump(tx)
    directory = Directory(records)
    directory.refresh()

    def disk_is_full(_connection: object) -> None:
        msg = "no space left on device"
        raise OSError(msg)

    event.listen(records.engine, "commit", disk_is_full)
    with pytest.raises(OSError, match="no space left"):
        directory.allot("10001", "208601", "h", NOON)
    event.remove(records.engine, "commit", disk_is_full)
    assert _refusal(directory.resolve("10001", "208601", "h", NOON)) is RefusalReason.NO_SERIES
    second = _place(directory.allot("10001", "208602", "h", NOON))
    first = _place(directory.allot("10001", "208601", "h", NOON))
    with records.read() as tx:
        found = {row.id: row.probe_id for row in tx.query(Series).filter(Series.quantity == "h")}
    assert found == {first.series: first.probe, second.series: second.probe}
