"""Health check of an installation: stores, services, disks, backlogs, and the list of all troubles.

`coldchain status`, readiness and metrics show its result. A check ends within its time limit, however many stores hang.
Status files of services on other machines are not read. For those, the intake log gives the live workers and their
shards, and records and log give the position of each reader.

Everything that may hang (a store, a folder's disk, the files on it) is asked in a thread of its own. A part that still
hangs from the last check isn't asked again. Tested by tests/integration/test_status_command.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, TypeVar

import msgspec
from sqlalchemy import make_url

from config.settings import Settings
from core.db.engine import Records, url_for
from core.health.concurrent_checks import CheckResult, ConcurrentChecks
from core.health.cursor_alignment import MisplacedCursor, of_records, of_telemetry, troubles_of
from core.health.disk_space import Disk, DiskStatus, check_disk, places, together
from core.health.gateway_troubles import troubles_of_gateways
from core.health.store_checks import (
    LogStatus,
    RecordsStatus,
    StoreStatus,
    TelemetryStatus,
    check_log,
    check_records,
    check_telemetry,
    oldest_waiting,
)
from core.intake.port import IntakeLog, ShardClaim
from core.runtime.clock import Clock, monotonic, real_now
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.runtime.process_lock import has_ended
from core.runtime.status import Status, is_alive, read_all
from core.runtime.trouble import Trouble, TroubleKind, Troubles
from core.telemetry.port import Telemetry
from core.wire.shards import Shard

T = TypeVar("T")
StoreOpener = Callable[[], AbstractContextManager[T]]

NEEDED = ("collector", "writer", "alerting")
"""Services without which no readings are taken in or stored, and no alarms are sent."""
STORES = ("records", "intake log", "telemetry")
READERS = ("telemetry", "alerting")
"""Readers of the intake log."""
UNWRITABLE = (TroubleKind.DISK_FULL, TroubleKind.READ_ONLY, TroubleKind.DISK_FAILS)
"""Troubles of a disk on which nothing can be stored."""
SHARDS = 256
BEHIND_AFTER = Milliseconds(2 * MINUTE)
UNSENT_AFTER = Milliseconds(5 * MINUTE)


class Lag(msgspec.Struct, frozen=True):
    """Backlog of a reader of the intake log."""

    entries: int
    oldest: Instant | None
    """When the oldest waiting entry was received (system clock); None when unknown or when nothing waits."""


class ServiceStatuses(msgspec.Struct, frozen=True):
    """Status files of the services of this data folder."""

    statuses: list[Status]
    ended: list[str]
    """Names of needed services whose process has ended, however new its status is."""


class MisplacedCursors(msgspec.Struct, frozen=True):
    """Reader cursors that don't fit the intake log."""

    misplaced: list[MisplacedCursor]


class Health(msgspec.Struct, frozen=True):
    """Result of a health check. A part that couldn't be asked is None."""

    at: Instant
    services: list[Status] | None
    """Services of this machine."""
    ended: list[str]
    """Names of needed services whose process has ended, however new its status is."""
    records: RecordsStatus | None
    log: LogStatus | None
    stored: Lag | None
    """Backlog of the telemetry writer."""
    followed: Lag | None
    """Backlog of alerting."""
    disks: list[Disk]
    troubles: list[Trouble]

    def of(self, part: str) -> Trouble | None:
        """Return the first trouble of a part, or None."""
        return next((trouble for trouble in self.troubles if trouble.part == part), None)

    def is_running(self, status: Status) -> bool:
        """Return whether the process of a status runs and tells how it is."""
        return status.fresh and status.name not in self.ended


class HealthCheck:
    """Health check of one installation, run on one of its machines."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        records: StoreOpener[Records],
        log: StoreOpener[IntakeLog],
        telemetry: StoreOpener[Telemetry],
    ) -> None:
        """Each store is opened, asked and closed in a thread that may hang, so opening and closing may block."""
        self._settings = settings
        self._clock = clock
        self._log = log
        channels = settings.channels

        def ask_records() -> StoreStatus:
            with records() as opened:
                return check_records(opened, clock.now(), channels)

        def ask_log() -> StoreStatus:
            with log() as opened:
                return check_log(opened)

        def ask_telemetry() -> StoreStatus:
            with telemetry() as opened:
                return check_telemetry(opened)

        def ask_alignment() -> MisplacedCursors:
            misplaced: list[MisplacedCursor] = []
            with log() as intake:
                # A store that doesn't open or answer is already reported by its own check.
                with suppress(Exception), telemetry() as store:
                    misplaced += of_telemetry(intake, store)
                with suppress(Exception), records() as opened:
                    misplaced += of_records(intake, opened)
            return MisplacedCursors(misplaced)

        def ask_services() -> ServiceStatuses:
            statuses = list(read_all(settings.data_dir).values())
            needed = [status.name for status in statuses if status.service in NEEDED]
            return ServiceStatuses(statuses, [name for name in needed if has_ended(settings.data_dir, name)])

        self._places = places(settings)
        checks: dict[str, Callable[[], StoreStatus | ServiceStatuses | MisplacedCursors | DiskStatus]] = {
            "records": ask_records,
            "intake log": ask_log,
            "telemetry": ask_telemetry,
            "services": ask_services,
            "alignment": ask_alignment,
        }
        checks |= {_disk_check(part): partial(check_disk, part, folder) for part, folder in self._places.items()}
        self._checks = ConcurrentChecks(checks)
        self._behind: dict[str, tuple[Mapping[Shard, int], Mapping[Shard, int]]] = {}
        """By reader: heads of the log, and positions of the reader."""
        self._oldest = ConcurrentChecks({reader: partial(self._ask_oldest, reader) for reader in READERS})
        self._stores = Troubles()
        self._disks = Troubles()
        self._put_back = Troubles()

    def run(self, within_s: float) -> Health:
        """Check everything within `within_s` seconds."""
        deadline = monotonic() + within_s
        answers = self._checks.run(within_s * 0.8)
        self._note(answers)
        records = _answer_of(answers["records"], RecordsStatus)
        log = _answer_of(answers["intake log"], LogStatus)
        telemetry = _answer_of(answers["telemetry"], TelemetryStatus)
        services = _answer_of(answers["services"], ServiceStatuses)
        positions: dict[str, Mapping[Shard, int]] = {}
        if log:
            positions["telemetry"] = log.stored
            if telemetry:
                positions["telemetry"] = telemetry.positions
            if records:
                positions["alerting"] = records.followed
        lags = self._lags(log.heads, positions, deadline) if log else {}
        alignment = _answer_of(answers["alignment"], MisplacedCursors)
        self._put_back.set(troubles_of(alignment.misplaced) if alignment else ())
        health = Health(
            self._clock.now(),
            services.statuses if services else None,
            services.ended if services else [],
            records,
            log,
            lags.get("telemetry"),
            lags.get("alerting"),
            together(answer for part in self._places if (answer := _answer_of(answers[_disk_check(part)], DiskStatus))),
            [],
        )
        return msgspec.structs.replace(health, troubles=self._troubles(health))

    def _note(self, answers: Mapping[str, CheckResult[Any]]) -> None:
        for part in STORES:
            result = answers[part]
            if result.answered:
                self._stores.note(part, result.error)
            else:
                self._stores.note(part, "no answer in time", kind=TroubleKind.NO_ANSWER)
        for part, folder in self._places.items():
            result = answers[_disk_check(part)]
            if part == "data folder" and result.value:
                result = answers["services"]  # the status files are on this disk
            if result.answered:
                self._disks.note(part, result.error, where=str(folder))
            else:
                self._disks.note(part, "the disk of this folder hangs", where=str(folder), kind=TroubleKind.NO_ANSWER)

    def _lags(
        self, heads: Mapping[Shard, int], positions: Mapping[str, Mapping[Shard, int]], deadline: float
    ) -> dict[str, Lag]:
        entries = {
            reader: sum(max(0, head - position.get(shard, 0)) for shard, head in heads.items())
            for reader, position in positions.items()
        }
        behind = {reader: (heads, positions[reader]) for reader, count in entries.items() if count}
        self._behind |= behind
        oldest = self._oldest.run(max(0.1, deadline - monotonic()), behind)
        return {reader: Lag(count, oldest[reader].value if count else None) for reader, count in entries.items()}

    def _ask_oldest(self, reader: str) -> Instant | None:
        heads, positions = self._behind[reader]
        with self._log() as log:
            return oldest_waiting(log, heads, positions)

    def _troubles(self, health: Health) -> list[Trouble]:
        """Merge the troubles of stores, services and disks: one of each part and kind, with the part's address."""
        troubles = [
            *self._stores.now(),
            *self._disks.now(),
            *self._put_back.now(),
            *_service_troubles(self._settings, health),
            *_record_troubles(self._settings, health),
            *(troubles_of_gateways(health.log, health.at) if health.log else ()),
        ]
        full = {trouble.part for trouble in troubles if trouble.kind in UNWRITABLE}
        for disk in health.disks:
            trouble = disk.trouble()
            if trouble and not full.intersection(disk.parts):
                troubles.append(trouble)
        merged: dict[tuple[str, TroubleKind], Trouble] = {}
        shared = {part for disk in health.disks if "intake log" in disk.parts for part in disk.parts}
        for trouble in troubles:
            if trouble.kind in UNWRITABLE and trouble.part in shared:
                trouble = msgspec.structs.replace(trouble, with_log=True)  # noqa: PLW2901
            earlier = merged.get((trouble.part, trouble.kind))
            merged[trouble.part, trouble.kind] = _merged(earlier, trouble) if earlier else trouble
        where = addresses(self._settings)
        return [
            msgspec.structs.replace(trouble, where=trouble.where or where.get(trouble.part, ""))
            for trouble in merged.values()
        ]


def addresses(settings: Settings) -> Mapping[str, str]:
    """Return the address or folder of each part, without passwords."""
    intake = settings.intake.url
    telemetry = settings.telemetry
    embedded = {part: str(folder) for part, folder in places(settings).items()}
    return {
        **embedded,
        "records": make_url(url_for(settings.records.url, settings.data_dir)).render_as_string(hide_password=True),
        "intake log": make_url(intake or f"sqlite:///{settings.data_dir}/intake.db").render_as_string(
            hide_password=True
        ),
        "telemetry": telemetry.url if telemetry.store == "influxdb" else embedded["telemetry"],
        "broker": f"{settings.broker.host}:{settings.broker.port}",
    }


def _service_troubles(settings: Settings, health: Health) -> Iterable[Trouble]:
    """Yield the troubles that services report, silent services, and shards without a worker."""
    for status in health.services or ():
        if health.is_running(status):
            yield from status.troubles
        elif not _cannot_write_status(status, health.disks):
            yield Trouble(status.name, TroubleKind.SILENT, status.at)
    local_services = {status.service for status in health.services or ()}
    claiming_services = {claim.service for claim in health.log.claims} if health.log else set(NEEDED)
    one_machine = url_for(settings.records.url, settings.data_dir).startswith("sqlite")
    for service in NEEDED:
        if (
            health.services is not None
            and service not in local_services
            and (one_machine or service not in claiming_services)
        ):
            yield Trouble(service, TroubleKind.NEVER_RAN, real_now())
        shards = unclaimed_shards(service, health.log.claims if health.log else [])
        if shards:
            # Nothing else shows a missing worker on another machine: readings that aren't taken in cause no backlog.
            yield Trouble(f"{service} shards", TroubleKind.UNCOVERED, real_now(), detail=f"shards {', '.join(shards)}")


def _cannot_write_status(status: Status, disks: Iterable[Disk]) -> bool:
    """Return whether a silent process is alive but can't write its status file to a full or read-only disk."""
    kinds = {trouble.kind for disk in disks if "data folder" in disk.parts and (trouble := disk.trouble())}
    return bool(kinds & set(UNWRITABLE)) and is_alive(status.pid)


def unclaimed_shards(service: str, claims: Iterable[ShardClaim]) -> Sequence[str]:
    """Return the ranges of shards without a worker of a service, if other shards have one."""
    gaps, free = [], 0
    for claim in sorted((claim for claim in claims if claim.service == service), key=lambda claim: claim.first):
        if int(claim.first, 16) > free:
            gaps.append(f"{free:02x}-{int(claim.first, 16) - 1:02x}")
        free = int(claim.last, 16) + 1
    return [*gaps, f"{free:02x}-ff"] if 0 < free < SHARDS else gaps


def _record_troubles(settings: Settings, health: Health) -> Iterable[Trouble]:
    """Yield findings of alerting's audit, unreachable contacts and delays.

    No delays on a virtual clock, on which short work looks late.
    """
    if health.records and health.records.audit:
        yield Trouble("audit", TroubleKind.OTHER, real_now(), detail=health.records.audit)
    if health.records and health.records.out_of_reach:
        yield Trouble("contacts", TroubleKind.UNTOLD, real_now(), detail=_unreachable_names(health.records))
    if settings.virtual_clock:
        return
    if health.records and health.records.overdue_since is not None:
        yield Trouble("steps", TroubleKind.OVERDUE, health.records.overdue_since)
    unsent = health.records.unsent_since if health.records else None
    if unsent is not None and health.at - unsent > UNSENT_AFTER:
        yield Trouble("messages", TroubleKind.UNSENT, unsent)
    for part, lag in (("telemetry writer", health.stored), ("alerting", health.followed)):
        if lag and lag.oldest is not None and health.at - lag.oldest > BEHIND_AFTER:
            yield Trouble(part, TroubleKind.BEHIND, lag.oldest)


def _unreachable_names(records: RecordsStatus) -> str:
    """Return the number of equipment with nobody to tell, and some of their names."""
    more = records.out_of_reach - len(records.out_of_reach_first)
    return f"{records.out_of_reach}: {', '.join(records.out_of_reach_first)}{f' … +{more}' if more else ''}"


def _merged(trouble: Trouble, other_trouble: Trouble) -> Trouble:
    earlier, later = sorted((trouble, other_trouble), key=lambda trouble: trouble.since)
    return msgspec.structs.replace(earlier, detail=earlier.detail or later.detail, where=earlier.where or later.where)


def _disk_check(part: str) -> str:
    return f"disk of {part}"


def _answer_of(result: CheckResult[Any], kind: type[T]) -> T | None:
    return result.value if isinstance(result.value, kind) else None
