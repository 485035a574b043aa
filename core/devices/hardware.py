"""Hardware that left use: the county CDC records that it has it (已回收)."""

from sqlalchemy.orm import Session

from core.db import audit
from core.devices.kinds_and_labels import DeviceState
from core.devices.messages import message
from core.devices.tables import Probe
from core.errors import Conflict, NotFound
from core.ids import ProbeId
from core.plain_text import require_plain
from core.runtime.instant import Instant
from core.units import device_revision
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit


def record_return(tx: Session, actor: Actor, probe_id: ProbeId, *, by: str, now: Instant) -> Probe:
    """Record that a probe has come back to its holder, by whom and when (HW-12). Idempotent.

    Raises: NotFound, PermissionDenied, Conflict when it wasn't sent back, Invalid.
    """
    require_plain("by", by)
    device_revision.bump(tx)
    probe = tx.get(Probe, probe_id, populate_existing=True)
    if probe is None or probe.holder_id is None:
        raise NotFound(what="probe", name=probe_id)
    actor.require(Right.EQUIP, on=tx.get_one(Unit, probe.holder_id), subject=("probe", probe_id))
    if probe.state is DeviceState.RETURNED:
        return probe
    if probe.state is not DeviceState.TO_RETURN:
        raise Conflict(message("not_sent_back", code=probe.code))
    probe.state, probe.returned_at, probe.returned_by = DeviceState.RETURNED, now, by
    audit.record(tx, at=now, actor=actor.name, act="probe returned", subject=f"probe:{probe_id}")
    return probe
