"""Late readings from MQTT to alarms: twenty probes behind one gateway whose batches come in disorder, some twice.

A real broker and collector; alerting reads the same log, records and telemetry. The oracle is the rule applied to all
readings sorted.
"""

import random
from pathlib import Path

import pytest

from alerting.alerting_loop import AlertingLoop
from alerting.evaluating.late_readings import LateEvaluation
from alerting.following.follower import Follower
from core.alarms import late_spans
from core.alarms.tables import Alarm
from core.alarms.zone_cache import ZoneCache
from core.devices.directory import Directory
from core.devices.tables import Gateway as GatewayRow
from core.ids import Centi, ZoneId
from core.limits import rule_profile
from core.limits.rule_profile import ZoneOverrides
from core.rules.rule_types import Sample
from core.runtime.instant import MINUTE, Instant
from core.units import device_revision
from core.units.tables import Unit
from core.wire.messages import Reading
from core.wire.topics import MessageKind
from tests.fixtures.alerting import HandClock, outbox_writer
from tests.fixtures.collecting import NOW, Line, collecting, line_in
from tests.fixtures.county import add_fridge, add_probe
from tests.fixtures.late_model import of_all
from tests.fixtures.publisher import Gateway
from tests.fixtures.waiting import until
from tests.integration.test_late_stores import some_hours

CASES = 20
BEGAN = Instant(NOW - 160 * MINUTE)
LIMIT = rule_profile.bounds(rule_profile.load("china-2017"), "refrigerated", MINUTE, ZoneOverrides()).above


def add_probes(line: Line) -> dict[str, ZoneId]:
    """Add a fridge and a probe for each case, all behind gateway 10001; return their zones."""
    zones = {}
    with line.records.write() as tx:
        unit, gateway = tx.query(Unit).one(), tx.query(GatewayRow).filter_by(number="10001").one()
        for n in range(CASES):
            code = f"30{n:04}"
            _, (zone,) = add_fridge(tx, f"W-{n}", unit)
            add_probe(tx, code, gateway.id, zone, since=Instant(0))
            zones[code] = zone
        device_revision.bump(tx)
    return zones


class Alerting:
    """What an alerting process has, on a clock of the test's."""

    def __init__(self, line: Line) -> None:
        zones, writer, self.clock = ZoneCache(), outbox_writer(), HandClock(Instant(NOW))
        follower = Follower(line.records, line.log, Directory(line.records), zones, writer, shards="00-ff")
        self.engine = AlertingLoop(
            line.records, intake=line.log, follower=follower, zones=zones, outbox=writer, clock=self.clock, poll=1.0
        )
        self.late = LateEvaluation(
            line.records, lambda: line.telemetry, zones, writer, self.clock, shards="00-ff", live=self.engine
        )

    def work(self, *, minutes: int = 0) -> None:
        """Do all that is due after some minutes; what is stored already is evaluated."""
        self.clock.time = Instant(self.clock.time + minutes * MINUTE)
        self.engine.run_once()
        while self.late.step():
            self.engine.run_once()


@pytest.mark.req("AL-14")
def test_twenty_probes_whose_batches_come_in_disorder_have_the_alarms_of_readings_in_order(tmp_path: Path) -> None:
    chance = random.Random(42)
    with line_in(tmp_path, "embedded") as line:
        zones = add_probes(line)
        alerting = Alerting(line)
        measured = {code: some_hours(chance, BEGAN, 134) for code in zones}
        ends = [(Instant(NOW - minute * MINUTE), 5.0) for minute in range(12, -1, -1)]
        live = [(BEGAN, 5.0), *ends]
        with collecting(line), Gateway(line.settings) as gateway:
            seq = 0

            def send(kind: MessageKind, readings: list[Reading], *, times: int = 1) -> None:
                nonlocal seq
                seq += 1
                for _ in range(times):
                    gateway.say(gateway.batch(seq, *readings, sent=NOW), kind)

            for code in zones:
                send(MessageKind.DATA, [Reading(code, at, t) for at, t in live])
            until(lambda: seq in gateway.covered(), "the live readings are taken in")
            alerting.work()
            late = [Reading(code, at, t, 0 if t is not None else 4) for code in zones for at, t in measured[code]]
            chance.shuffle(late)
            size = 25
            blocks = [late[first : first + size] for first in range(0, len(late), size)]
            for number, block in enumerate(blocks):
                send(MessageKind.BACKFILL, block, times=chance.choice((1, 1, 2)))
                if number % 7 == 0:
                    send(MessageKind.BACKFILL, chance.choice(blocks[: number + 1]))
                if number % 20 == 0:
                    alerting.work(minutes=chance.choice((0, 2)))
            until(lambda: seq in gateway.covered(), "all is taken in", within_s=60)
            alerting.work()
            heads = dict(line.log.heads())
            until(lambda: dict(line.telemetry.positions()) == heads, "all is stored", within_s=60)
            alerting.work(minutes=10)
        with line.records.read() as tx:
            assert not late_spans.any_due(tx, Instant(NOW + 600 * MINUTE), (0, 255))
            alarms = tx.query(Alarm).filter(Alarm.rule == "above", Alarm.origin == "late").all()
        assert LIMIT
        for code, zone in zones.items():
            found = sorted((alarm.onset_at, alarm.ended_at) for alarm in alarms if alarm.zone_id == zone)
            samples = [
                Sample(at, None if t is None else Centi(round(t * 100)), 0) for at, t in [*live, *measured[code]]
            ]
            assert found == [(one.onset, one.until) for one in of_all(LIMIT, samples)], code
        assert len(alarms) >= CASES // 2, "hardly anything was too warm: the test shows nothing"
