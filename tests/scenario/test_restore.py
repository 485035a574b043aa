"""Stores that were put back, emptied or damaged under the whole line: told within ten seconds, nothing acknowledged.

Each story: readings come in, a copy is made, more come in; then a store is replaced while the services are down, and
they start. What is wrong is said, and nothing is acknowledged that could be passed by; the operator does what is
advised; at the end every reading that was ever acknowledged is in telemetry once, and an alarm opens once.

All that can happen to a store, and where it is tried: here (R), in test_damaged_servers.py (D), in
test_spool_restore.py (S).

| store | pair | older copy | empty | missing | truncated | flipped byte |
|---|---|---|---|---|---|---|
| records | SQLite | R | R | R | R | R: first page of a table |
| records | PostgreSQL | R | R: new database | R: no tables | D | D: page checksum |
| intake log | SQLite | R | R | R | R | R: a batch; the rest: tests/contract/intake/test_damage.py |
| intake log | PostgreSQL | R | R: new database | R: no tables | D | D: page checksum; rows: test_damage.py |
| intake log | single rows | – | R: unread entries | tests/contract/intake/test_missing_entries.py | – | – |
| telemetry | embedded | R | R | R | R | R: a frame |
| telemetry | InfluxDB | R | R: readings and cursor deleted | D: bucket deleted | D: WAL, TSM | D: frame of the WAL |
| spool | on both | S | S | S | S | S: a reading |

What nobody can notice is said in test_damaged_servers.py, and in docs/trouble.md for operators.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.runtime.trouble import TroubleKind
from tests.fixtures.restored import Restored, embedded_stores, server_stores

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("quick_status")]

PUT_BACK = [
    *(("embedded", damage) for damage in ("older", "empty", "missing")),
    *(("servers", damage) for damage in ("older", "emptied", "dropped tables")),
]


@pytest.fixture
def stores(pair: str, tmp_path: Path) -> Iterator[Restored]:
    """Yield the stores of a line that has worked, a copy of each, and more that has come since."""
    with (embedded_stores if pair == "embedded" else server_stores)(tmp_path) as made:
        yield made


@pytest.mark.parametrize(("pair", "damage"), PUT_BACK)
def test_a_log_that_was_put_back_takes_nothing_in_until_it_is_realigned(stores: Restored, damage: str) -> None:
    stores.replace("intake log", damage)
    with stores.up() as line:
        line.sends(3)
        line.says("intake log", TroubleKind.PUT_BACK)
        line.stays_out()
        stores.realign()
        line.says_nothing_of(TroubleKind.PUT_BACK)
        line.sends_hot()
        line.is_stored_once()
        line.has_alarms(1)


@pytest.mark.parametrize("pair", ["embedded", "servers"])
def test_a_log_that_has_lost_unread_entries_takes_nothing_in_until_it_is_realigned(stores: Restored) -> None:
    stores.lose_unread_entries()
    with stores.up() as line:
        line.sends(3)
        line.says("intake log", TroubleKind.INCOMPLETE, service="collector")
        line.stays_out()
        stores.realign()
        line.says_nothing_of(TroubleKind.INCOMPLETE)
        line.sends_hot()
        line.all_is_there_once()
        line.has_alarms(1)


@pytest.mark.parametrize(("pair", "damage"), PUT_BACK)
def test_a_telemetry_store_that_was_put_back_is_filled_again_from_the_log(stores: Restored, damage: str) -> None:
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


@pytest.mark.parametrize(("pair", "damage"), PUT_BACK)
def test_records_that_were_put_back_let_no_number_of_a_series_be_given_again(stores: Restored, damage: str) -> None:
    stores.replace("records", damage)
    with stores.up() as line:
        line.sends(3)
        line.says("records", TroubleKind.PUT_BACK)
        line.stays_out()
        stores.realign()
        line.says_nothing_of(TroubleKind.PUT_BACK)
        if damage != "older":
            stores.enter_again()
            assert stores.series() == [2], "number 1 has another past"
        line.sends_hot()
        line.is_stored_once()
        line.has_alarms(1)


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
@pytest.mark.parametrize(("pair", "part"), [("embedded", part) for part in ("records", "intake log", "telemetry")])
def test_a_damaged_file_is_named_and_costs_nothing_that_was_acknowledged(
    stores: Restored, part: str, damage: str
) -> None:
    """It is put back from a backup, as status advises, which is then told as what it is."""
    stores.replace(part, damage)
    with stores.up() as line:
        line.sends(3)
        line.says(part, TroubleKind.DAMAGED)
        if (part, damage) == ("intake log", "truncated"):
            line.stays_out()
    stores.replace(part, "older")
    with stores.up() as line:
        line.says(part, TroubleKind.PUT_BACK)
        stores.realign()
        line.says_nothing_of(TroubleKind.PUT_BACK, TroubleKind.DAMAGED)
        line.sends_hot()
        line.is_stored_once()
        line.has_alarms(1)


@pytest.mark.parametrize("damage", ["older", "missing"])
@pytest.mark.parametrize(("pair", "part"), [("embedded", part) for part in ("records", "intake log", "telemetry")])
def test_a_file_that_is_replaced_under_running_services_is_noticed(stores: Restored, part: str, damage: str) -> None:
    """What is written to a file that no path leads to would be gone with the process that has it open."""
    with stores.up() as line:
        line.sends(2)
        line.is_stored_once()
        line.is_followed()
        stores.replace(part, damage)
        if part == "intake log":
            line.sends(3)  # none of which may be acknowledged, from the first on
        line.says(part, TroubleKind.PUT_BACK, service="collector")
        line.sends(3)
        line.stays_out()
        if (part, damage) != ("records", "missing"):
            stores.realign()
            line.is_stored_once()
    with stores.up() as line:  # records are made anew by the first service that starts
        if (part, damage) == ("records", "missing"):
            line.says(part, TroubleKind.PUT_BACK, service="alerting")
            stores.realign()
            stores.enter_again()
        line.says_nothing_of(TroubleKind.PUT_BACK)
        line.sends_hot()
        line.is_stored_once()
        line.has_alarms(1)
