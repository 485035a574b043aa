"""Placed readings: the temperatures of log entries, each with the place of its probe."""

from collections.abc import Mapping, Sequence

import msgspec

from core.alarms.unplaced_readings import UnplacedMarks
from core.devices.directory import RESOLVABLE, Directory, Place
from core.ids import Centi, SeriesId, ZoneId
from core.intake.port import LogEntry
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.runtime.logs import logger
from core.wire.quality import of_origin
from core.wire.shards import Shard
from core.wire.states import IntakeOrigin

log = logger(__name__)

FUTURE_TOLERANCE = Milliseconds(5 * MINUTE)
"""The collector corrects stamps that are ahead; one that still is would hide all that follow it."""


class PlacedReading(msgspec.Struct, frozen=True):
    """Temperature with its place and time."""

    place: Place
    shard: Shard
    n: int
    """Position in the shard's log."""
    at: Instant
    received: Instant
    value: Centi | None
    q: int
    released: bool
    """Whether it came out of quarantine: such a reading is past, whenever it was taken, and never opens a paging alarm.
    """


class PlacedReadings(msgspec.Struct, frozen=True):
    """Readings of one chunk, in the order of the log."""

    readings: list[PlacedReading]
    unplaced: UnplacedMarks
    """Readings without a known place."""

    def received_since(self, since: Instant) -> set[ZoneId]:
        """Return the zones whose last reading was received at or after `since`."""
        last = {reading.place.zone: reading.received for reading in self.readings if reading.place.zone is not None}
        return {zone for zone, received in last.items() if received >= since}


def places_of(readings: Sequence[PlacedReading]) -> dict[SeriesId, Place]:
    """Return the place of each series, by its last reading."""
    return {reading.place.series: reading.place for reading in readings}


def place_readings(entries: Mapping[Shard, Sequence[LogEntry]], directory: Directory) -> PlacedReadings:
    """Look up the places of all temperatures; the telemetry writer holds what belongs nowhere."""
    placed = PlacedReadings([], UnplacedMarks())
    for shard, of_shard in entries.items():
        for entry in of_shard:
            _add(placed, shard, entry, directory)
    return placed


def _add(placed: PlacedReadings, shard: Shard, entry: LogEntry, directory: Directory) -> None:
    batch, future = entry.batch, 0
    origin, released = int(of_origin(batch.origin)), batch.origin == IntakeOrigin.RELEASED
    for stamped in batch.readings:
        if stamped.quantity != "t":
            continue
        if stamped.at > batch.received + FUTURE_TOLERANCE:
            future += 1
            continue
        place = directory.allot(batch.gw, stamped.p, stamped.quantity, stamped.at)
        if isinstance(place, Place):
            q = stamped.q | origin
            placed.readings.append(
                PlacedReading(place, shard, entry.n, stamped.at, batch.received, stamped.value, q, released)
            )
        elif place.reason in RESOLVABLE:
            placed.unplaced.add(batch.gw, stamped.p, stamped.at, shard, entry.n)
    if future:
        log.warning("readings from the future passed by", gw=batch.gw, seq=batch.seq, readings=future)
