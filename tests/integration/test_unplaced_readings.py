"""Readings that alerting has passed by: whoever is entered too late loses no excursion."""

import pytest
from sqlalchemy import func, select

from core.alarms import unplaced_readings
from core.alarms.tables import LateSpan, UnplacedSpan
from core.alarms.unplaced_readings import MOST_OF_A_GATEWAY
from core.devices.tables import Gateway
from core.runtime.instant import DAY, MINUTE, Instant
from core.units import device_revision
from core.wire.shards import GatewayNumber
from tests.fixtures.alerting import DAWN, Fridge, Watch, on_both
from tests.fixtures.county import add_probe

LATE_CODE = "208602"


def entered(watch: Watch, fridge: Fridge) -> None:
    """The probe is entered, with a place from before its readings on."""
    with watch.records.write() as tx:
        gateway = tx.scalars(select(Gateway.id)).one()
        add_probe(tx, LATE_CODE, gateway, fridge.zone, since=Instant(DAWN - DAY))
        device_revision.bump(tx)


def warm_and_cold_again(watch: Watch) -> None:
    watch.gateways[LATE_CODE] = GatewayNumber("10001")
    values = [5.0, *[9.5] * 30, *[5.0] * 40]
    watch.clock.time = Instant(DAWN + len(values) * MINUTE)
    watch.reads(*values, code=LATE_CODE, at=DAWN)


def noted(watch: Watch) -> int:
    with watch.records.read() as tx:
        return tx.scalar(select(func.count()).select_from(UnplacedSpan)) or 0


@on_both
@pytest.mark.parametrize("killed", [False, True])
def test_a_probe_that_is_entered_before_telemetry_comes_to_its_readings_loses_no_excursion(
    watch: Watch, *, killed: bool
) -> None:
    fridge = watch.fridge()
    warm_and_cold_again(watch)
    watch.engine.run_once()
    assert noted(watch) == 1
    entered(watch, fridge)
    if killed:
        watch.engine, watch.late = watch.worker(), watch.late_worker()
    watch.engine.run_once()
    assert noted(watch) == 0
    watch.store()  # only now: nothing is held, the readings are stored at once
    assert watch.log.held() == []
    watch.evaluate_late()
    alarm = watch.alarm()
    assert (alarm.rule, alarm.state, alarm.origin) == ("above", "recovered", "late")
    assert alarm.onset_at == DAWN + MINUTE
    assert watch.told(1) == []


@on_both
def test_what_was_held_and_released_is_one_record_all_the_same(watch: Watch) -> None:
    fridge = watch.fridge()
    warm_and_cold_again(watch)
    watch.engine.run_once()
    watch.store()
    assert watch.log.held()
    entered(watch, fridge)
    watch.store()  # the writer releases them
    watch.evaluate_late()
    watch.evaluate_late()
    assert [(alarm.state, alarm.onset_at) for alarm in watch.alarms()] == [("recovered", DAWN + MINUTE)]
    assert noted(watch) == 0


def test_a_probe_without_a_place_stays_noted_and_one_that_is_placed_is_marked_by_the_day(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.gateways["209999"] = watch.gateways[LATE_CODE] = GatewayNumber("10001")
    watch.clock.time = Instant(DAWN + 3 * DAY)
    watch.reads(5.0, 5.0, code="209999", at=DAWN, every=DAY)
    watch.reads(5.0, 5.0, 5.0, code=LATE_CODE, at=DAWN, every=DAY)
    watch.engine.run_once()
    entered(watch, fridge)
    watch.engine.run_once()
    with watch.records.read() as tx:
        assert [span.code for span in unplaced_readings.spans(tx)] == ["209999"]
        assert tx.scalars(select(LateSpan.day).order_by(LateSpan.day)).all() == [DAWN // DAY + n for n in range(3)]


def test_what_a_gateway_in_error_names_is_bounded(watch: Watch) -> None:
    watch.fridge()
    for number in range(MOST_OF_A_GATEWAY + 20):
        code = f"junk{number}"
        watch.gateways[code] = GatewayNumber("10001")
        watch.reads(5.0, code=code)
    watch.engine.run_once()
    assert noted(watch) == MOST_OF_A_GATEWAY
