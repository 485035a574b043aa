"""Temperature history of a zone: the readings of each probe while it was bound to the zone (CC-03).

The equipment's unit at the time of a reading decides who may see it. When a fridge has moved, its old unit sees what
was measured before the move, and its new unit what was measured after it.
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
from core.telemetry import window_figures
from core.telemetry.port import Curve, Telemetry
from core.telemetry.window_figures import WindowFigures
from core.units.tables import Unit

TimeSpan = tuple[Instant, Instant]
"""[since, until)."""
VisibilityCheck = Callable[[Unit, EquipmentId], bool]
"""Predicate: may the requester see an equipment while it stands in this unit?"""


class ProbeCurve(msgspec.Struct, frozen=True):
    """The readings of one probe in a zone, in order of time."""

    code: str
    series: SeriesId
    interval: Milliseconds
    curve: Curve


class History(msgspec.Struct, frozen=True):
    """Readings of a zone. `visible` are the parts of the requested time that the requester may see."""

    zone: Zone
    equipment: Equipment
    visible: Sequence[TimeSpan]
    curves: Sequence[ProbeCurve]

    def figures(self) -> WindowFigures:
        """Return the figures over all probes and the whole visible time."""
        since, until = self.visible[0][0], self.visible[-1][1]
        all_figures = [window_figures.figures(probe.curve, (since, until))[0] for probe in self.curves]
        with_values = [probe_figures for probe_figures in all_figures if probe_figures.mean is not None]
        count = sum(probe_figures.count for probe_figures in with_values)
        return WindowFigures(
            since,
            until,
            count,
            sum(probe_figures.failed for probe_figures in all_figures),
            min((probe_figures.min for probe_figures in with_values if probe_figures.min is not None), default=None),
            max((probe_figures.max for probe_figures in with_values if probe_figures.max is not None), default=None),
            sum((probe_figures.mean or 0.0) * probe_figures.count for probe_figures in with_values) / count
            if count
            else None,
        )


def history(
    tx: Session,
    telemetry: Telemetry,
    zone_id: ZoneId,
    since: Instant,
    until: Instant,
    may_see: VisibilityCheck,
) -> History:
    """Return the readings of [since, until) taken while the equipment stood in units that the requester may see.

    Raises: NotFound, also when the requester may see none of that time.
    """
    zone = tx.get(Zone, zone_id)
    visible = [] if zone is None else visible_spans(tx, zone.equipment_id, since, until, may_see)
    if zone is None or not visible:
        raise NotFound(what="zone", name=zone_id)
    curves = _curves(tx, telemetry, zone_id, visible)
    return History(zone, tx.get_one(Equipment, zone.equipment_id), visible, curves)


def visible_spans(
    tx: Session, equipment: EquipmentId, since: Instant, until: Instant, may_see: VisibilityCheck
) -> list[TimeSpan]:
    """Return the parts of [since, until) in which an equipment stood in units accepted by `may_see`, in time order."""
    query = (
        select(EquipmentUnit.since, EquipmentUnit.until, Unit)
        .join(Unit, Unit.id == EquipmentUnit.unit_id)
        .where(
            EquipmentUnit.equipment_id == equipment,
            EquipmentUnit.since < until,
            or_(EquipmentUnit.until.is_(None), EquipmentUnit.until > since),
        )
        .order_by(EquipmentUnit.since)
    )
    return [
        _intersection((start, end), (since, until))
        for start, end, unit in tx.execute(query)
        if may_see(unit, equipment)
    ]


def _curves(tx: Session, telemetry: Telemetry, zone_id: ZoneId, visible: Sequence[TimeSpan]) -> list[ProbeCurve]:
    bindings = (
        select(Probe.code, Series.id, Probe.interval, ProbeZone.since, ProbeZone.until)
        .join(Probe, Probe.id == ProbeZone.probe_id)
        .join(Series, Series.probe_id == Probe.id)
        .where(
            ProbeZone.zone_id == zone_id,
            Series.quantity == "t",
            ProbeZone.since < visible[-1][1],
            or_(ProbeZone.until.is_(None), ProbeZone.until > visible[0][0]),
        )
        .order_by(Probe.code, ProbeZone.since)
    )
    pieces: dict[tuple[str, SeriesId, Milliseconds], list[Curve]] = {}
    for code, series, interval, start, end in tx.execute(bindings):
        for span in visible:
            first, last = _intersection((start, end), span)
            if first < last:
                pieces.setdefault((code, series, interval), []).append(telemetry.range(series, first, last))
    return [ProbeCurve(*probe, _concatenated(curves)) for probe, curves in pieces.items()]


def _intersection(row: tuple[Instant, Instant | None], span: TimeSpan) -> TimeSpan:
    """Return the intersection of a timeline row and a span. Its start is not before its end when it is empty."""
    start, end = row
    return max(start, span[0]), span[1] if end is None else min(end, span[1])


def _concatenated(curves: Sequence[Curve]) -> Curve:
    if len(curves) == 1:
        return curves[0]
    return Curve(
        np.concatenate([c.at for c in curves]),
        np.concatenate([c.value for c in curves]),
        np.concatenate([c.q for c in curves]),
    )
