"""What becomes of an excursion found when it is over: a record to handle and a line in the digest, never a page.

Late data must not wake anyone for what is no longer so (AL-14), yet the vaccine may be damaged, so each such excursion
becomes an alarm that has recovered already. What overlaps an alarm that there is widens that alarm instead.
"""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.alarms.evidence import Evidence
from core.alarms.facts import event, widen
from core.alarms.lifecycle import alarm_row, lock, standing_units
from core.alarms.recovery import put_in_digest
from core.alarms.rules.course import Past
from core.alarms.tables import Alarm
from core.alarms.watched import Zones
from core.ids import AlarmId, ProbeId
from core.runtime.instant import Instant
from core.runtime.logs import logger

log = logger(__name__)


def record_past(tx: Session, zones: Zones, found: Sequence[tuple[ProbeId, Past]], now: Instant) -> list[AlarmId]:
    """Record excursions of the past, each once however often it is found; return the new alarms."""
    if not found:
        return []
    lock(tx, {past.zone for _, past in found})
    made = [alarm for probe, past in found if (alarm := _record(tx, zones, probe, past, now))]
    put_in_digest(tx, made, now)
    return [alarm.id for alarm in made]


def _record(tx: Session, zones: Zones, probe: ProbeId, past: Past, now: Instant) -> Alarm | None:
    episode = past.episode
    end = episode.ended if episode.ended is not None else episode.last
    known = tx.scalars(
        select(Alarm)
        .where(
            Alarm.zone_id == past.zone,
            Alarm.rule == past.rule,
            Alarm.onset_at <= end,
            or_(Alarm.state == "open", Alarm.ended_at >= episode.onset),
        )
        .order_by(Alarm.onset_at)
        .limit(1)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).first()
    if known:
        widen(known, episode.onset, episode.peak)
        if known.ended_at is not None:
            known.ended_at = max(known.ended_at, end)
        return None
    watched = zones[past.zone]
    unit = standing_units(tx, [watched.equipment], episode.onset).get(watched.equipment)
    unit = unit or standing_units(tx, [watched.equipment], now).get(watched.equipment)
    if unit is None:
        log.error("no record of the past: the equipment never stood in a unit", zone=past.zone, rule=past.rule)
        return None
    seen = Evidence(
        zone=past.zone,
        rule=past.rule,
        probe=probe,
        onset=episode.onset,
        peak=episode.peak,
        limit=past.limit,
    )
    row = alarm_row(watched, [seen], unit, now)
    alarm = Alarm(**{**row, "state": "recovered", "recovered_at": now, "ended_at": end})
    tx.add(alarm)
    tx.flush()
    tx.add(event(alarm.id, "opened", now, late=True, onset=episode.onset))
    tx.add(event(alarm.id, "recovered", now, late=True, ended=end, known_end=episode.ended is not None))
    return alarm
