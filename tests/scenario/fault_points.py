"""Fault points: all boundaries at which a process may die with work half done, in the order in which a reading passes.

docs/kills.md says what holds at each. `tests/scenario/test_kills.py` kills three times at each of them.
"""

import re
from collections.abc import Callable

from tests.scenario.faults import Call, Point, Reach, When

BEFORE, AFTER, COMMIT, COMMITTED = When.BEFORE, When.AFTER, When.COMMIT, When.COMMITTED
EMBEDDED, SERVERS = ("embedded",), ("servers",)

_READINGS = re.compile(r"/up/(data|backfill)$")
_READINGS_PACKET = re.compile(rb"/up/(data|backfill)")
_PUBLISH, _PUBACK = 3, 4


def _found(call: Call) -> bool:
    return bool(call.result)


def _of_readings(call: Call) -> bool:
    return bool(_READINGS.search(call.args[1]))


def _deleting(call: Call) -> bool:
    return bool(call.args[0]._deletes)


def _packet(kind: int, *, readings: bool) -> Callable[[Call], bool]:
    def is_one(call: Call) -> bool:
        data = call.args[1]
        return data[0] >> 4 == kind and (not readings or bool(_READINGS_PACKET.search(data[:80])))

    return is_one


def _opened(call: Call) -> bool:
    return bool(call.result[0])


def _recovered(call: Call) -> bool:
    return bool(call.result[1])


def _turn_of(name: str) -> Callable[[Call], bool]:
    return lambda call: call.args[1] == name and call.result is not None


_SPOOL = "gateway_agent.spool:Spool"
GATEWAY = (
    Point("gateway", "spooling, before the commit", Reach(f"{_SPOOL}._drop_oldest", AFTER)),
    Point("gateway", "spooled, before publishing", Reach(f"{_SPOOL}.append", AFTER)),
    Point(
        "gateway",
        "published, before the broker's acknowledgement",
        Reach("core.mqtt.client:MqttClient.publish", AFTER, _of_readings),
    ),
    Point(
        "gateway",
        "the broker's acknowledgement has come, before it is noted",
        Reach("core.mqtt.client:MqttClient._on_publish", BEFORE),
    ),
    Point("gateway", "down/ack has come, before the spool's delete", Reach(f"{_SPOOL}.acknowledge", BEFORE)),
    Point("gateway", "inside the spool's delete", Reach(f"{_SPOOL}._delete", AFTER, _deleting)),
    Point("gateway", "deleted, before the commit", Reach(f"{_SPOOL}._commit", BEFORE, _deleting)),
)

_GATE = "coldchain.broker.packet_filter:PacketFilter"
BROKER = (
    Point(
        "broker",
        "a reading has come, before it is taken",
        Reach(f"{_GATE}._check_publish", AFTER, lambda call: bool(_READINGS_PACKET.search(call.args[2][:80]))),
        pairs=EMBEDDED,
    ),
    Point(
        "broker",
        "before it is forwarded",
        Reach(f"{_GATE}.write", BEFORE, _packet(_PUBLISH, readings=True)),
        pairs=EMBEDDED,
    ),
    Point(
        "broker",
        "forwarded, before the sender is told",
        Reach(f"{_GATE}.write", BEFORE, _packet(_PUBACK, readings=False)),
        pairs=EMBEDDED,
    ),
)

_INGEST = "collector.receiving.ingest:Ingest"
_WRITER = "collector.storing.telemetry_writer:TelemetryWriter"
_STORE = "core.telemetry.embedded_file:StoreFile.write"
_SEALS, _DAYS = "core.telemetry.hour_sealing", "core.telemetry.day_sealing"
_FILE, _FILE_LOG = "core.intake.sqlite_file:LogFile.write", "core.intake.sqlite:SqliteIntakeLog"
_SERVER, _SERVER_LOG = "core.intake.postgres_server:LogServer.transaction", "core.intake.postgres:PostgresIntakeLog"


def _batches(call: Call) -> bool:
    return bool(call.args[1].batches)


def _asked(call: Call) -> bool:
    return bool(call.args[2].asked)


RELEASING, LATE = "releasing from quarantine", "late readings"
ONCE_ENTERED = (RELEASING, LATE)
"""Points that are reached only after a forgotten device was entered: its readings are released, and are then late."""
COLLECTOR = (
    Point("collector", "received, before the append", Reach(f"{_INGEST}._append", BEFORE, _batches)),
    Point(
        "collector",
        "appending, before the commit",
        Reach(_FILE, COMMIT),
        Reach(f"{_FILE_LOG}.append", BEFORE),
        pairs=EMBEDDED,
    ),
    Point(
        "collector",
        "appending, before the commit",
        Reach(_SERVER, COMMIT),
        Reach(f"{_SERVER_LOG}.append", BEFORE),
        pairs=SERVERS,
    ),
    Point("collector", "appended, before down/ack", Reach(f"{_INGEST}._acknowledge", BEFORE, _asked)),
    Point(
        "collector",
        "after down/ack, before the broker's acknowledgement",
        Reach(f"{_INGEST}._acknowledge", AFTER, _asked),
    ),
    Point(
        "collector",
        "pruning the log, before the commit",
        Reach(_FILE, COMMIT),
        Reach(f"{_FILE_LOG}.prune", BEFORE),
        pairs=EMBEDDED,
    ),
    # The first three transactions of pruning only read.
    Point(
        "collector",
        "pruning the log, before the commit",
        Reach(_SERVER, COMMIT),
        Reach(f"{_SERVER_LOG}.prune", BEFORE),
        nth=4,
        pairs=SERVERS,
    ),
)
WRITER = (
    Point(
        "writer",
        "held in quarantine, before the write",
        Reach(f"{_WRITER}._hold", AFTER, lambda call: bool(call.args[1])),
    ),
    Point(
        "writer",
        f"{RELEASING}, before the commit",
        Reach(_FILE, COMMIT),
        Reach(f"{_FILE_LOG}.release", BEFORE),
        pairs=EMBEDDED,
    ),
    Point(
        "writer",
        f"{RELEASING}, before the commit",
        Reach(_SERVER, COMMIT),
        Reach(f"{_SERVER_LOG}.release", BEFORE),
        pairs=SERVERS,
    ),
    Point(
        "writer",
        "writing telemetry with its cursor, before the commit",
        Reach(_STORE, COMMIT),
        Reach("core.telemetry.embedded:EmbeddedTelemetry.write_batch", BEFORE),
        pairs=EMBEDDED,
    ),
    Point(
        "writer",
        "telemetry and cursor written",
        Reach("core.telemetry.embedded:EmbeddedTelemetry.write_batch", AFTER),
        pairs=EMBEDDED,
    ),
    Point(
        "writer",
        "between the telemetry write and the log's cursor",
        Reach("core.telemetry.influx:InfluxTelemetry.write_batch", AFTER),
        pairs=SERVERS,
    ),
    Point(
        "writer",
        "moving the log's cursor, before the commit",
        Reach(_SERVER, COMMIT),
        Reach(f"{_SERVER_LOG}.move_cursor", BEFORE),
        pairs=SERVERS,
    ),
    Point(
        "writer",
        "sealing hours, before a commit",
        Reach(_STORE, COMMIT),
        Reach(f"{_SEALS}:_write", BEFORE),
        pairs=EMBEDDED,
    ),
    Point(
        "writer",
        "sealing hours, between two commits",
        Reach(_STORE, COMMITTED),
        Reach(f"{_SEALS}:_write", BEFORE),
        pairs=EMBEDDED,
    ),
    Point(
        "writer",
        "making a month's file, before it has its place",
        Reach("core.telemetry.month_files:MonthFiles._create", BEFORE),
        pairs=EMBEDDED,
    ),
    Point("writer", "sealing a day, before its blocks are written", Reach(f"{_DAYS}:_commit", BEFORE), pairs=EMBEDDED),
    Point(
        "writer",
        "sealing a day, before their commit",
        Reach(_STORE, COMMIT),
        Reach(f"{_DAYS}:_commit", BEFORE),
        pairs=EMBEDDED,
    ),
    Point("writer", "sealed a day, before its hours are dropped", Reach(f"{_DAYS}:_drop", BEFORE), pairs=EMBEDDED),
    Point(
        "writer",
        "dropping a day's hours, before a commit",
        Reach(_STORE, COMMIT),
        Reach(f"{_DAYS}:_drop", BEFORE),
        pairs=EMBEDDED,
    ),
)

_RECORDS = "core.db.engine:Records.write"
_OPENS = Reach("alerting.following.follower:settle", AFTER, _opened)
_RECOVERS = Reach("alerting.following.follower:settle", AFTER, _recovered)
_FIRES = Reach("alerting.alerting_loop:escalate", AFTER, _found)
_LEASES = Reach("alerting.delivering.delivery:claim_messages", AFTER, _found)
_FINISHES = Reach("alerting.delivering.delivery:write_down", AFTER, lambda call: bool(call.args[1]))
ALERTING = (
    Point(
        "alerting",
        "the log is read, before its cursor moves",
        Reach("alerting.following.follower:Follower._move", BEFORE),
    ),
    Point(
        "alerting",
        "marking late readings, before the commit",
        Reach(_RECORDS, COMMIT),
        Reach("core.alarms.late_spans:LateMarks.write", AFTER, _found),
    ),
    Point(
        "alerting",
        "late readings are evaluated, before the commit",
        Reach(_RECORDS, COMMIT),
        Reach("core.alarms.late_spans:finish", AFTER, lambda call: bool(call.args[1])),
    ),
    Point("alerting", "opening an alarm, before the commit", Reach(_RECORDS, COMMIT), _OPENS),
    Point("alerting", "opened, after the commit", Reach(_RECORDS, COMMITTED), _OPENS),
    Point(
        "alerting",
        "a step is claimed, before its messages",
        Reach("alerting.escalating.due_steps:_claim", AFTER, _found),
    ),
    Point("alerting", "firing a step, before the commit", Reach(_RECORDS, COMMIT), _FIRES),
    Point("alerting", "messages committed, before sending", Reach(_RECORDS, COMMITTED), _FIRES),
    Point("alerting", "leasing messages, before the commit", Reach(_RECORDS, COMMIT), _LEASES),
    Point(
        "alerting", "leased, before sending", Reach("alerting.delivering.channels.wechat:WechatChannel.send", BEFORE)
    ),
    Point(
        "alerting",
        "sent, before it is written down",
        Reach("alerting.delivering.channels.wechat:WechatChannel.send", AFTER),
    ),
    Point("alerting", "writing down what was sent, before the commit", Reach(_RECORDS, COMMIT), _FINISHES),
    Point("alerting", "written down", Reach(_RECORDS, COMMITTED), _FINISHES),
    Point("alerting", "recovering an alarm, before the commit", Reach(_RECORDS, COMMIT), _RECOVERS),
    Point("alerting", "recovered, after the commit", Reach(_RECORDS, COMMITTED), _RECOVERS),
    Point(
        "alerting",
        "the audit has its turn, before the commit",
        Reach(_RECORDS, COMMIT),
        Reach("alerting.periodic_jobs:claim_job", AFTER, _turn_of("audit")),
    ),
    Point("alerting", "the audit has its turn, before it looks", Reach("alerting.watchdog:Watchdog._check", BEFORE)),
    Point(
        "alerting",
        "the search for silence has its turn, before the commit",
        Reach(_RECORDS, COMMIT),
        Reach("alerting.periodic_jobs:claim_job", AFTER, _turn_of("offline")),
    ),
)

_ACKNOWLEDGES = Reach("core.alarms.handling:acknowledge", AFTER)
_HANDLES = Reach("core.alarms.handling:handle", AFTER)
API = (
    Point("api", "acknowledging, before the commit", Reach(_RECORDS, COMMIT), _ACKNOWLEDGES),
    Point("api", "acknowledged, before the answer", Reach(_RECORDS, COMMITTED), _ACKNOWLEDGES),
    Point("api", "handling, before the commit", Reach(_RECORDS, COMMIT), _HANDLES),
    Point("api", "handled, before the answer", Reach(_RECORDS, COMMITTED), _HANDLES),
)

_SUPERVISOR = "coldchain.supervisor:Supervisor"
SUPERVISOR = (
    Point("up", "a child has started, before it is known", Reach(f"{_SUPERVISOR}._spawn", AFTER)),
    Point("up", "a child has ended, before it is started again", Reach(f"{_SUPERVISOR}._ended", BEFORE)),
)

POINTS = (*GATEWAY, *BROKER, *COLLECTOR, *WRITER, *ALERTING, *API, *SUPERVISOR)


def points_of(pair: str) -> list[Point]:
    """Return the fault points that exist on a pair."""
    return [point for point in POINTS if pair in point.pairs]
