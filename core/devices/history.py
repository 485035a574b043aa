"""The temperature history of a zone: the readings of every probe while it was bound there (CC-03).

History is seen by whose subtree the equipment was in at that time: a fridge that has moved shows its old unit what was
measured before, and its new unit what came after.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.devices.tables import Equipment, EquipmentUnit, Probe, ProbeZone, Series, Zone
from core.errors import NotFound
from core.ids import EquipmentId, SeriesId, ZoneId
from core.runtime.instant import Instant, Milliseconds
from core.telemetry import windows
from core.telemetry.port import Curve, Telemetry
from core.telemetry.windows import Figures
from core.units.tables import Unit

Span = tuple[Instant, Instant]
"""[since, until)."""
MaySee = Callable[[Unit, EquipmentId], bool]
"""Whether an equipment may be seen while it is in a unit."""


class ProbeCurve(msgspec.Struct, frozen=True):
    """The readings of one probe of a zone, in order of time."""

    code: str
    series: SeriesId
    interval: Milliseconds
    curve: Curve


class History(msgspec.Struct, frozen=True):
    """What was measured in a zone. `seen` are the parts of the time asked for that the asker may see."""

    zone: Zone
    equipment: Equipment
    seen: Sequence[Span]
    curves: Sequence[ProbeCurve]

    def figures(self) -> Figures:
        """Return what all probes measured together in the time seen."""
        since, until = self.seen[0][0], self.seen[-1][1]
        each = [windows.figures(one.curve, (since, until))[0] for one in self.curves]
        full = [one for one in each if one.mean is not None]
        count = sum(one.count for one in full)
        return Figures(
            since,
            until,
            count,
            sum(one.failed for one in each),
            min((one.min for one in full if one.min is not None), default=None),
            max((one.max for one in full if one.max is not None), default=None),
            sum((one.mean or 0.0) * one.count for one in full) / count if count else None,
        )


def history(
    tx: Session,
    telemetry: Telemetry,
    zone_id: ZoneId,
    since: Instant,
    until: Instant,
    may_see: MaySee,
) -> History:
    """Return the readings of [since, until) from the time in which the equipment stood in units that `may_see`.

    Raises: NotFound; also when none of that time is the asker's to see.
    """
    zone = tx.get(Zone, zone_id)
    seen = [] if zone is None else stays_seen(tx, zone.equipment_id, since, until, may_see)
    if zone is None or not seen:
        raise NotFound(what="zone", name=zone_id)
    curves = _curves(tx, telemetry, zone_id, seen)
    return History(zone, tx.get_one(Equipment, zone.equipment_id), seen, curves)


def stays_seen(tx: Session, equipment: EquipmentId, since: Instant, until: Instant, may_see: MaySee) -> list[Span]:
    """Return the parts of [since, until) in which an equipment was in units that `may_see`, in order of time."""
    stood = (
        select(EquipmentUnit.since, EquipmentUnit.until, Unit)
        .join(Unit, Unit.id == EquipmentUnit.unit_id)
        .where(
            EquipmentUnit.equipment_id == equipment,
            EquipmentUnit.since < until,
            or_(EquipmentUnit.until.is_(None), EquipmentUnit.until > since),
        )
        .order_by(EquipmentUnit.since)
    )
    return [_shared((start, end), (since, until)) for start, end, unit in tx.execute(stood) if may_see(unit, equipment)]


def _curves(tx: Session, telemetry: Telemetry, zone_id: ZoneId, seen: Sequence[Span]) -> list[ProbeCurve]:
    bound = (
        select(Probe.code, Series.id, Probe.interval, ProbeZone.since, ProbeZone.until)
        .join(Probe, Probe.id == ProbeZone.probe_id)
        .join(Series, Series.probe_id == Probe.id)
        .where(
            ProbeZone.zone_id == zone_id,
            Series.quantity == "t",
            ProbeZone.since < seen[-1][1],
            or_(ProbeZone.until.is_(None), ProbeZone.until > seen[0][0]),
        )
        .order_by(Probe.code, ProbeZone.since)
    )
    pieces: dict[tuple[str, SeriesId, Milliseconds], list[Curve]] = {}
    for code, series, interval, start, end in tx.execute(bound):
        for span in seen:
            first, last = _shared((start, end), span)
            if first < last:
                pieces.setdefault((code, series, interval), []).append(telemetry.range(series, first, last))
    return [ProbeCurve(*probe, _joined(curves)) for probe, curves in pieces.items()]


def _shared(row: tuple[Instant, Instant | None], span: Span) -> Span:
    """Return what an open or closed row has in common with a span; empty (first ≥ last) when nothing."""
    start, end = row
    return max(start, span[0]), span[1] if end is None else min(end, span[1])


def _joined(curves: Sequence[Curve]) -> Curve:
    if len(curves) == 1:
        return curves[0]
    return Curve(
        np.concatenate([c.at for c in curves]),
        np.concatenate([c.value for c in curves]),
        np.concatenate([c.q for c in curves]),
    )
