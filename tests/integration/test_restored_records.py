"""Alarms after the records were restored from a backup: none is taken for one that was lost with the newer records.

Two records that are the same up to a moment, and go on apart, are what a backup and its original are.
"""

from pathlib import Path

import msgspec
import pytest

from core.ids import AlarmId
from core.runtime.instant import MINUTE
from tests.fixtures.alerting import Watch, ago, ahead
from tests.fixtures.databases import DATABASES, opened


@pytest.mark.parametrize("database", DATABASES)
def test_no_alarm_and_no_message_has_the_id_of_one_that_was_lost(database: str, tmp_path: Path) -> None:
    lost_alarms, lost_messages = one_day(database, tmp_path / "lost")
    alarms, messages = one_day(database, tmp_path / "restored")
    assert len(alarms) == len(lost_alarms) == 2
    assert not alarms & lost_alarms, "a link to the lost alarm opens another one"
    assert len(messages) == len(lost_messages) == 3, "the alarm, its end, and the digest"
    assert not messages & lost_messages, "a provider that has seen the lost message drops the new one"


def one_day(database: str, folder: Path) -> tuple[set[AlarmId], set[str]]:
    """Let an alarm open and end, and one be found late; return the alarms' ids and those that the provider is given."""
    folder.mkdir()
    with opened(database, folder) as records:
        watch = Watch(records, folder)
        watch.fridge()
        watch.warms_up()
        watch.forward(6, showing=5.0)
        ahead(watch, 200)
        watch.reads(5.0)
        watch.run()
        watch.reads(*[5.0] * 30, *[9.5] * 60, *[5.0] * 60, at=ago(watch, 160), every=MINUTE, origin="backfill")
        watch.evaluate_late()
        watch.forward(10, showing=5.0)
        rows = [row for kind in ("alarm", "recovery", "digest") for row in watch.told(1, kind)]
        found = {alarm.id for alarm in watch.alarms() if alarm.rule == "above"}
        watch.close()
    return found, {msgspec.json.decode(row.body)["client_msg_id"] for row in rows}
