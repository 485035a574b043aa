"""Unplaced spans: readings that alerting has skipped because the records didn't say where they belong.

The telemetry writer holds such readings, and alerting follows them once they are released. But a writer that reads
them later, after the probe was entered, stores them at once. So skipped readings are noted in the transaction that
moves the cursor over them, and marked for evaluation from telemetry (`core.alarms.late_spans`) once the probe has a
place. Readings that were held and released are marked twice, with no effect.

Tried by tests/integration/test_unplaced_readings.py.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable

import msgspec
from sqlalchemy import and_, delete, select, update
from sqlalchemy.orm import Session

from core.alarms.late_spans import LateMarks
from core.alarms.tables import UnplacedSpan
from core.db.in_values import in_values
from core.db.insert import upsert
from core.ids import SeriesId
from core.runtime.instant import DAY, Instant
from core.runtime.logs import logger
from core.wire.shards import GatewayNumber, Shard

log = logger(__name__)

MOST_OF_A_GATEWAY = 500
"""Probes; a gateway that names more is in error, and its readings are held where people see them."""
GatewayProbe = tuple[GatewayNumber, str]
"""Gateway, and the code that it gives a probe."""
_pack = msgspec.msgpack.Encoder().encode
_positions = msgspec.msgpack.Decoder(dict[str, int]).decode


class UnplacedReadings(msgspec.Struct):
    """Skipped readings of one probe, from the oldest to the newest."""

    gw: GatewayNumber
    code: str
    since: Instant
    until: Instant
    positions: dict[str, int]


class UnplacedMarks:
    """Skipped readings of one transaction: `add` them, then `write`."""

    def __init__(self) -> None:
        self._spans: dict[GatewayProbe, UnplacedReadings] = {}

    def add(self, gw: GatewayNumber, code: str, at: Instant, shard: Shard, n: int) -> None:
        """Add a reading at position `n` of its shard of the log."""
        span = self._spans.setdefault((gw, code), UnplacedReadings(gw, code, at, at, {}))
        span.since, span.until = min(span.since, at), max(span.until, at)
        span.positions[shard] = n

    def write(self, tx: Session) -> None:
        """Write the spans, each joined with the known span of its probe."""
        if not self._spans:
            return
        known = {(span.gw, span.code): span for span in spans(tx, {gw for gw, _ in self._spans})}
        count: dict[GatewayNumber, int] = defaultdict(int)
        for gw, _ in known:
            count[gw] += 1
        rows = []
        for key, span in self._spans.items():
            row = known.get(key)
            if row is None:
                if count[span.gw] >= MOST_OF_A_GATEWAY:
                    log.warning("readings passed by are not noted: too many probes", gw=span.gw, probe=span.code)
                    continue
                count[span.gw] += 1
                row = span
            positions = row.positions | span.positions
            since, until = min(row.since, span.since), max(row.until, span.until)
            rows.append({"gw": key[0], "code": key[1], "since": since, "until": until, "positions": _pack(positions)})
        upsert(tx, UnplacedSpan, rows)


def spans(tx: Session, gateways: Collection[GatewayNumber] | None = None) -> list[UnplacedReadings]:
    """Return the unplaced spans of some gateways, or of all."""
    query = select(*UnplacedSpan.__table__.c).order_by(UnplacedSpan.gw, UnplacedSpan.code)
    if gateways is not None:
        query = query.where(in_values(tx, UnplacedSpan.gw, gateways)).with_for_update()
    return [
        UnplacedReadings(row.gw, row.code, row.since, row.until, _positions(row.positions)) for row in tx.execute(query)
    ]


def mark(tx: Session, placed: Iterable[tuple[UnplacedReadings, SeriesId]], now: Instant) -> None:
    """Mark spans of probes that have a place now for evaluation, and delete them here."""
    marks = LateMarks()
    for span, series in placed:
        for day in range(span.since // DAY, span.until // DAY + 1):
            for at in (max(span.since, Instant(day * DAY)), min(span.until, Instant((day + 1) * DAY - 1))):
                for shard, n in span.positions.items():
                    marks.add(series, at, Shard(shard), n)
        mine = and_(UnplacedSpan.gw == span.gw, UnplacedSpan.code == span.code, UnplacedSpan.until == span.until)
        # A span that has grown since it was read stays, and is marked as a whole the next time.
        tx.execute(delete(UnplacedSpan).where(mine, UnplacedSpan.since == span.since))
    marks.write(tx, now)


def forget_positions(tx: Session) -> None:
    """Clear the log positions: they are of another log."""
    tx.execute(update(UnplacedSpan).values(positions=_pack({})))
