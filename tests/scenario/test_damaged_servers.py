"""Files of servers that were truncated, or have a byte turned, under the whole line: told within ten seconds.

PostgreSQL with `data_checksums` refuses to read such a page, and the services name it and hold: what can't be stored
isn't acknowledged, what can't be read isn't passed by. InfluxDB drops the end of a log of its own that it can't read
and goes on; its cursor goes back with it, so it is told as what was put back, and filled again from the intake log.

Not shown here, since nobody can notice it as it is read: a byte turned in a value that InfluxDB keeps. Entries of its
log (WAL) have no checksum, those of blocks in TSM files aren't compared by InfluxDB 2.9 as it reads, and values come
over HTTP without one. `coldchain telemetry verify` says which command of InfluxDB compares those of TSM files;
tests/integration/test_damaged_tsm.py tries it. Nor a PostgreSQL without checksums, which `coldchain check` names; what
the intake log itself holds checksums of is found there too (tests/contract/intake/test_damage.py).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.runtime.trouble import TroubleKind
from tests.fixtures.damaged_servers import DamagedStores, damaged_stores

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("quick_status")]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[DamagedStores]:
    with damaged_stores(tmp_path) as made:
        yield made


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_entries_of_the_log_are_named_and_nothing_is_acknowledged(stores: DamagedStores, damage: str) -> None:
    stores.replace("intake log", damage)
    with stores.up() as line:
        line.sends(3)
        line.says("intake log", TroubleKind.DAMAGED, service="collector")
        line.stays_out()
    _put_back(stores, "intake log")


@pytest.mark.parametrize(("damage", "told"), [("truncated", TroubleKind.PUT_BACK), ("flipped", TroubleKind.DAMAGED)])
def test_damaged_records_are_named_and_cost_nothing_that_was_acknowledged(
    stores: DamagedStores, damage: str, told: TroubleKind
) -> None:
    """A table whose file was cut reads as if its last rows had never been: the log knows better."""
    stores.replace("records", damage)
    with stores.up() as line:
        line.sends(3)
        line.says("records", told)
        if told is TroubleKind.PUT_BACK:
            line.stays_out()
    _put_back(stores, "records")


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_what_influxdb_drops_of_its_log_is_told_and_filled_again(stores: DamagedStores, damage: str) -> None:
    stores.replace("telemetry", damage)
    with stores.up() as line:
        line.sends(3)
        line.says("telemetry", TroubleKind.PUT_BACK)
        line.stays_out()
        stores.realign()
        line.says_nothing_of(TroubleKind.PUT_BACK)
        line.sends_hot()
        line.all_is_there_once()
        line.has_alarms(1)


@pytest.mark.parametrize("running", [False, True], ids=["while all is down", "while all runs"])
def test_a_bucket_that_was_deleted_is_told_and_filled_again_once_there_is_another(
    stores: DamagedStores, *, running: bool
) -> None:
    if not running:
        stores.delete_bucket()
    with stores.up() as line:
        if running:
            line.sends(2)
            line.is_stored_once()
            line.is_followed()
            stores.delete_bucket()
        line.sends(3)
        line.says("telemetry", TroubleKind.NOT_READY)
        stores.make_bucket()
        line.says("telemetry", TroubleKind.PUT_BACK)
        stores.realign()
        line.says_nothing_of(TroubleKind.PUT_BACK, TroubleKind.NOT_READY)
        line.sends_hot()
        line.all_is_there_once()
        line.has_alarms(1)


def test_a_file_that_influxdb_can_not_open_is_told_and_its_readings_are_filled_again(stores: DamagedStores) -> None:
    """It refuses to write beside it until it is started again, and then goes on without it."""
    stores.cut_tsm()
    with stores.up() as line:
        line.sends(3)
        line.says("telemetry", TroubleKind.PUT_BACK)
        line.stays_out()
        stores.realign()
        line.says("telemetry", TroubleKind.DAMAGED, service="writer")
        stores.restart_influx()
        line.says_nothing_of(TroubleKind.PUT_BACK, TroubleKind.DAMAGED)
        line.sends_hot()
        line.all_is_there_once()
        line.has_alarms(1)


def _put_back(stores: DamagedStores, part: str) -> None:
    """Put a part back from its copy and realign, as status advises."""
    stores.replace(part, "older")
    with stores.up() as line:
        line.says(part, TroubleKind.PUT_BACK)
        stores.realign()
        line.says_nothing_of(TroubleKind.PUT_BACK, TroubleKind.DAMAGED)
        line.sends_hot()
        line.is_stored_once()
        line.has_alarms(1)
