"""The line as one looks at it from outside: stores, services, disks, what waits, and all that is wrong.

`coldchain status`, readiness and metrics are three ways of showing what this finds. A look ends within its time,
however many stores hang. What another machine's services say of themselves isn't seen here: of those the log tells who
lives and owns which shards, and records and log tell how far each reader has come.

Whatever may hang (a store, the disk of a folder, the files in it) is asked in a thread of its own; what still hangs
from the last time isn't asked again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, TypeVar

import msgspec
from sqlalchemy import make_url

from config.settings import Settings
from core.db.engine import Records, url_for
from core.health.alignment import Misplaced, of_records, of_telemetry, troubles_of
from core.health.disks import Disk, DiskSeen, look_at_disk, places, together
from core.health.gateways import troubles_of_gateways
from core.health.looks import Look, Looks
from core.health.stores import (
    LogSeen,
    RecordsSeen,
    Seen,
    TelemetrySeen,
    look_at_log,
    look_at_records,
    look_at_telemetry,
    oldest_waiting,
)
from core.intake.port import Claim, IntakeLog
from core.runtime.clock import Clock, monotonic, real_now
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.runtime.status import Status, is_alive, read_all
from core.runtime.trouble import Kind, Trouble, Troubles
from core.telemetry.port import Telemetry
from core.wire.topics import Shard

T = TypeVar("T")
Opening = Callable[[], AbstractContextManager[T]]

NEEDED = ("collector", "alerting")
"""Without them the line doesn't work."""
STORES = ("records", "intake log", "telemetry")
READERS = ("telemetry", "alerting")
"""Of the intake log."""
UNWRITABLE = (Kind.DISK_FULL, Kind.READ_ONLY, Kind.DISK_FAILS)
"""Of a disk: nothing can be kept on it."""
SHARDS = 256
BEHIND_AFTER = Milliseconds(2 * MINUTE)
UNSENT_AFTER = Milliseconds(5 * MINUTE)


class Lag(msgspec.Struct, frozen=True):
    """How far a reader of the log is behind."""

    entries: int
    oldest: Instant | None
    """When the oldest that waits was received, on the system's clock; None when it isn't known or nothing waits."""


class Services(msgspec.Struct, frozen=True):
    """What the services of this data folder say of themselves."""

    told: list[Status]


class Alignment(msgspec.Struct, frozen=True):
    """Cursors of the log that don't fit."""

    misplaced: list[Misplaced]


class Health(msgspec.Struct, frozen=True):
    """What a look found. What couldn't be asked is None."""

    at: Instant
    services: list[Status] | None
    """What those of this machine say of themselves."""
    records: RecordsSeen | None
    log: LogSeen | None
    stored: Lag | None
    """Telemetry behind the log."""
    followed: Lag | None
    """Alerting behind the log."""
    disks: list[Disk]
    troubles: list[Trouble]

    def of(self, part: str) -> Trouble | None:
        """Return what is wrong with a part."""
        return next((trouble for trouble in self.troubles if trouble.part == part), None)


class Line:
    """Looks at the line of one installation, from one of its machines."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        records: Opening[Records],
        log: Opening[IntakeLog],
        telemetry: Opening[Telemetry],
    ) -> None:
        """Each store is entered, asked and left in a thread that may hang: opening and closing it there is fine."""
        self._settings = settings
        self._clock = clock
        self._log = log
        channels = settings.channels

        def ask_records() -> Seen:
            with records() as opened:
                return look_at_records(opened, clock.now(), channels)

        def ask_log() -> Seen:
            with log() as opened:
                return look_at_log(opened)

        def ask_telemetry() -> Seen:
            with telemetry() as opened:
                return look_at_telemetry(opened)

        def ask_alignment() -> Alignment:
            found: list[Misplaced] = []
            with log() as intake:
                # What doesn't open or answer is told by those who ask it alone.
                with suppress(Exception), telemetry() as store:
                    found += of_telemetry(intake, store)
                with suppress(Exception), records() as opened:
                    found += of_records(intake, opened)
            return Alignment(found)

        def ask_services() -> Services:
            return Services(list(read_all(settings.data_dir).values()))

        self._places = places(settings)
        asks: dict[str, Callable[[], Seen | Services | Alignment | DiskSeen]] = {
            "records": ask_records,
            "intake log": ask_log,
            "telemetry": ask_telemetry,
            "services": ask_services,
            "alignment": ask_alignment,
        }
        asks |= {_disk_of(part): partial(look_at_disk, part, folder) for part, folder in self._places.items()}
        self._looks = Looks(asks)
        self._behind: dict[str, tuple[Mapping[Shard, int], Mapping[Shard, int]]] = {}
        """By reader: the heads of the log, and how far it has come."""
        self._oldest = Looks({reader: partial(self._ask_oldest, reader) for reader in READERS})
        self._stores = Troubles()
        self._disks = Troubles()
        self._put_back = Troubles()

    def look(self, within_s: float) -> Health:
        """Look at everything, within so many seconds."""
        ends = monotonic() + within_s
        found = self._looks.look(within_s * 0.8)
        self._note(found)
        records = _seen(found["records"], RecordsSeen)
        log = _seen(found["intake log"], LogSeen)
        telemetry = _seen(found["telemetry"], TelemetrySeen)
        services = _seen(found["services"], Services)
        reached: dict[str, Mapping[Shard, int]] = {}
        if log:
            reached["telemetry"] = log.stored
            if telemetry:
                reached["telemetry"] = telemetry.positions
            if records:
                reached["alerting"] = records.followed
        lags = self._lags(log.heads, reached, ends) if log else {}
        alignment = _seen(found["alignment"], Alignment)
        self._put_back.set(troubles_of(alignment.misplaced) if alignment else ())
        health = Health(
            self._clock.now(),
            services.told if services else None,
            records,
            log,
            lags.get("telemetry"),
            lags.get("alerting"),
            together(seen for part in self._places if (seen := _seen(found[_disk_of(part)], DiskSeen))),
            [],
        )
        return msgspec.structs.replace(health, troubles=self._troubles(health))

    def _note(self, found: Mapping[str, Look[Any]]) -> None:
        for part in STORES:
            look = found[part]
            if look.answered:
                self._stores.note(part, look.error)
            else:
                self._stores.note(part, "no answer in time", kind=Kind.NO_ANSWER)
        for part, folder in self._places.items():
            look = found[_disk_of(part)]
            if part == "data folder" and look.seen:
                look = found["services"]  # read from there
            if look.answered:
                self._disks.note(part, look.error, where=str(folder))
            else:
                self._disks.note(part, "the disk of this folder hangs", where=str(folder), kind=Kind.NO_ANSWER)

    def _lags(
        self, heads: Mapping[Shard, int], reached: Mapping[str, Mapping[Shard, int]], ends: float
    ) -> dict[str, Lag]:
        entries = {
            reader: sum(max(0, head - position.get(shard, 0)) for shard, head in heads.items())
            for reader, position in reached.items()
        }
        behind = {reader: (heads, reached[reader]) for reader, count in entries.items() if count}
        self._behind |= behind
        oldest = self._oldest.look(max(0.1, ends - monotonic()), behind)
        return {reader: Lag(count, oldest[reader].seen if count else None) for reader, count in entries.items()}

    def _ask_oldest(self, reader: str) -> Instant | None:
        heads, reached = self._behind[reader]
        with self._log() as opened:
            return oldest_waiting(opened, heads, reached)

    def _troubles(self, health: Health) -> list[Trouble]:
        """Put together what stores, services and disks say: of each part and kind once, with where it is."""
        told = [
            *self._stores.now(),
            *self._disks.now(),
            *self._put_back.now(),
            *_of_services(self._settings, health),
            *_of_records(self._settings, health),
            *(troubles_of_gateways(health.log, health.at) if health.log else ()),
        ]
        full = {trouble.part for trouble in told if trouble.kind in UNWRITABLE}
        for disk in health.disks:
            trouble = disk.trouble()
            if trouble and not full.intersection(disk.parts):
                told.append(trouble)
        merged: dict[tuple[str, Kind], Trouble] = {}
        shared = {part for disk in health.disks if "intake log" in disk.parts for part in disk.parts}
        for trouble in told:
            if trouble.kind in UNWRITABLE and trouble.part in shared:
                trouble = msgspec.structs.replace(trouble, with_log=True)  # noqa: PLW2901
            known = merged.get((trouble.part, trouble.kind))
            merged[trouble.part, trouble.kind] = _longer(known, trouble) if known else trouble
        where = addresses(self._settings)
        return [
            msgspec.structs.replace(trouble, where=trouble.where or where.get(trouble.part, ""))
            for trouble in merged.values()
        ]


def addresses(settings: Settings) -> Mapping[str, str]:
    """Return where each part is, as a person would look for it; without passwords."""
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


def _of_services(settings: Settings, health: Health) -> Iterable[Trouble]:
    """Say what services report, and which of them are silent."""
    for status in health.services or ():
        if status.fresh:
            yield from status.troubles
        elif _can_not_tell(status, health.disks):
            continue
        elif status.service in NEEDED or not status.facts.get("ended"):
            yield Trouble(status.name, Kind.SILENT, status.at)
    here = {status.service for status in health.services or ()}
    elsewhere = {claim.service for claim in health.log.claims} if health.log else set(NEEDED)
    one_machine = url_for(settings.records.url, settings.data_dir).startswith("sqlite")
    for service in NEEDED:
        if health.services is not None and service not in here and (one_machine or service not in elsewhere):
            yield Trouble(service, Kind.NEVER_RAN, real_now())
        shards = nobodys(service, health.log.claims if health.log else [])
        if shards:
            # Of another machine's worker nothing else tells: what isn't taken in isn't behind either.
            yield Trouble(f"{service} shards", Kind.UNCOVERED, real_now(), detail=f"shards {', '.join(shards)}")


def _can_not_tell(status: Status, disks: Iterable[Disk]) -> bool:
    """Whether a process that has told nothing for a while runs, and its status can't be written for want of room."""
    kinds = {trouble.kind for disk in disks if "data folder" in disk.parts and (trouble := disk.trouble())}
    return bool(kinds & set(UNWRITABLE)) and not status.facts.get("ended") and is_alive(status.pid)


def nobodys(service: str, claims: Iterable[Claim]) -> Sequence[str]:
    """Return the ranges of shards that no worker of a service has, while another has some."""
    gaps, free = [], 0
    for claim in sorted((each for each in claims if each.service == service), key=lambda each: each.first):
        if int(claim.first, 16) > free:
            gaps.append(f"{free:02x}-{int(claim.first, 16) - 1:02x}")
        free = int(claim.last, 16) + 1
    return [*gaps, f"{free:02x}-ff"] if 0 < free < SHARDS else gaps


def _of_records(settings: Settings, health: Health) -> Iterable[Trouble]:
    """Say what is late; on a virtual clock, where a moment's work looks late, only what alerting's audit says."""
    if health.records and health.records.audit:
        yield Trouble("audit", Kind.OTHER, real_now(), detail=health.records.audit)
    if health.records and health.records.out_of_reach:
        yield Trouble("contacts", Kind.UNTOLD, real_now(), detail=_named(health.records))
    if settings.virtual_clock:
        return
    if health.records and health.records.overdue_since is not None:
        yield Trouble("steps", Kind.OVERDUE, health.records.overdue_since)
    unsent = health.records.unsent_since if health.records else None
    if unsent is not None and health.at - unsent > UNSENT_AFTER:
        yield Trouble("messages", Kind.UNSENT, unsent)
    for part, lag in (("telemetry writer", health.stored), ("alerting", health.followed)):
        if lag and lag.oldest is not None and health.at - lag.oldest > BEHIND_AFTER:
            yield Trouble(part, Kind.BEHIND, lag.oldest)


def _named(records: RecordsSeen) -> str:
    """Return how many equipment nobody can be told of, and some of it by name."""
    more = records.out_of_reach - len(records.out_of_reach_first)
    return f"{records.out_of_reach}: {', '.join(records.out_of_reach_first)}{f' … +{more}' if more else ''}"


def _longer(one: Trouble, other: Trouble) -> Trouble:
    first, second = sorted((one, other), key=lambda trouble: trouble.since)
    return msgspec.structs.replace(first, detail=first.detail or second.detail, where=first.where or second.where)


def _disk_of(part: str) -> str:
    return f"disk of {part}"


def _seen(look: Look[Any], kind: type[T]) -> T | None:
    return look.seen if isinstance(look.seen, kind) else None
