"""Suppression of paging: the equipment is in a maintenance window, or the probe that is out of range is in repair.

A repair silences its probe alone (HW-36): as soon as another probe of the zone breaks the same rule, people are told.
"""

from sqlalchemy import ColumnElement, and_, exists, not_, or_, select

from core.alarms.tables import Alarm, RuleState
from core.db.in_force import in_force
from core.devices.tables import MaintenanceWindow, ProbeWindow, Series
from core.rules.rule_types import GOING_ON
from core.runtime.instant import Instant


def is_suppressed(now: Instant) -> ColumnElement[bool]:
    """Return the SQL condition on `Alarm` that nobody is paged for it now."""
    window = select(MaintenanceWindow.id).where(
        MaintenanceWindow.equipment_id == Alarm.equipment_id, in_force(MaintenanceWindow, now)
    )
    ongoing = (
        select(RuleState.series_id)
        .join(Series, Series.id == RuleState.series_id)
        .where(RuleState.zone_id == Alarm.zone_id, RuleState.rule == Alarm.rule, RuleState.condition.in_(GOING_ON))
    )
    in_repair = exists(
        select(ProbeWindow.id).where(ProbeWindow.probe_id == Series.probe_id, in_force(ProbeWindow, now))
    )
    only_in_repair = and_(exists(ongoing.where(in_repair)), not_(exists(ongoing.where(not_(in_repair)))))
    return or_(exists(window), only_in_repair)
