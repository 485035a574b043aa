"""Writer and collector share nothing but log and stores: one without the other, killed, and never there."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import collector.service
from api.routes.health import ready
from coldchain import status_command
from config import secrets
from config.settings import TelemetrySettings
from core.runtime.trouble import TroubleKind
from core.wire.shards import shard_of
from tests.fixtures.broker import broker, running
from tests.fixtures.collecting import Line, line_in, started
from tests.fixtures.publisher import Gateway
from tests.fixtures.waiting import until

TOLD_WITHIN_S = 10.0
START_S = 30.0
"""Time-out for the start of a process on a busy machine."""


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with line_in(tmp_path, "embedded") as line:
        yield line


def silent(line: Line) -> bool:
    """Return whether status and readiness say that the writer is silent."""
    health = status_command.check_health(line.settings)
    by_status = ("writer", TroubleKind.SILENT) in {(trouble.part, trouble.kind) for trouble in health.troubles}
    (by_readiness,) = (not check.ok for check in ready(health).checks if check.name == "writer")
    assert by_status == by_readiness
    return by_status


def test_a_killed_writer_is_told_stops_no_acknowledgement_and_stores_each_reading_once_when_it_is_back(
    line: Line,
) -> None:
    with broker(line.settings), running(collector.service.run, line.settings), Gateway(line.settings) as gateway:
        with started(line.settings, "writer") as writer:
            gateway.send_until_covered(range(1, 6))
            until(lambda: len(line.stored()) == 5, "the first in telemetry", within_s=START_S)
            assert not silent(line)
            for seq in range(6, 16):
                gateway.say(gateway.batch(seq))
            writer.kill()
            writer.wait()
        gateway.send_until_covered(range(6, 41))
        assert len(line.stored()) <= 15
        until(lambda: silent(line), "word of it", within_s=TOLD_WITHIN_S)
        with started(line.settings, "writer"):
            until(lambda: len(line.stored()) == 40, "all in telemetry", within_s=START_S)
            until(lambda: not silent(line), "word of its return", within_s=START_S)
    assert sorted(line.seqs()) == list(range(1, 41))
    sent = sorted(
        reading.ts for entry in line.log.read(shard_of(gateway.number), 0, 100) for reading in entry.batch.readings
    )
    assert [at for at, _ in line.stored()] == sent


def test_a_collector_takes_in_though_telemetry_cannot_be_reached(line: Line) -> None:
    kept = secrets.read(line.settings.data_dir)
    secrets.write(line.settings.data_dir, msgspec.structs.replace(kept, influx_read="token"))
    away = TelemetrySettings(store="influxdb", url="http://127.0.0.1:1", timeout=0.5)
    settings = msgspec.structs.replace(line.settings, telemetry=away)
    with broker(settings), running(collector.service.run, settings), Gateway(settings) as gateway:
        gateway.send_until_covered(range(1, 4))
    assert line.seqs() == [1, 2, 3]


def test_a_collector_alone_takes_nothing_in_while_telemetry_has_lost_what_the_log_says_it_had(line: Line) -> None:
    with broker(line.settings), Gateway(line.settings) as gateway:
        shard = shard_of(gateway.number)
        with running(collector.service.run, line.settings):
            gateway.send_until_covered(range(1, 4))
        line.log.move_cursor("telemetry", {shard: 3})
        with running(collector.service.run, line.settings):
            until(lambda: line.facts().get("received") == 0, "a new start")
            gateway.say(gateway.batch(4))
            until(lambda: line.facts().get("received") == 1, "the message")
            until(lambda: TroubleKind.PUT_BACK in line.troubles(), "its complaint")
            assert line.seqs() == [1, 2, 3]
