"""What a rule says of a zone, and from which probe it knows."""

import msgspec

from core.alarms.rules.sample import Rule
from core.ids import Centi, ProbeId, ZoneId
from core.runtime.instant import Instant


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule says of a zone through one probe. Its condition is in `rule_state` already."""

    zone: ZoneId
    rule: Rule
    probe: ProbeId
    onset: Instant
    """Event time; of silence, server time."""
    at: Instant | None = None
    """When the newest reading was taken, of a rule that late readings are evaluated by."""
    value: Centi | None = None
    """The newest reading."""
    peak: Centi | None = None
    limit: Centi | None = None
    ended: Instant | None = None
    """When it was over, once it is."""
    draining: bool | None = None
    """True: the newest reading is of a backlog, more may come; False: no longer; None: it never was."""
    measured: bool = True
    """False when the evidence ended without a measurement: the probe was taken away, the equipment stopped."""
