"""Cache of monitored zones: limits, profile and names. It is loaded again when the device revision has changed.

A transaction that uses the cache calls `refresh` first, so that the cache has every zone that the transaction reads. On
PostgreSQL a zone may be added in between; the look-up then raises `CacheOutdated`, and the caller repeats its work.
"""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.devices.tables import Equipment, Zone
from core.ids import EquipmentId, UnitId, ZoneId
from core.limits import rule_profile
from core.limits.rule_profile import InvalidRuleProfile, RuleProfile, ZoneOverrides
from core.rules.live_state import Bounds
from core.runtime.instant import Milliseconds
from core.runtime.logs import logger
from core.units import device_revision
from core.units.tables import Unit

log = logger(__name__)


class CachedZone(msgspec.Struct, frozen=True, kw_only=True):
    """A monitored zone."""

    zone: ZoneId
    kind: str
    equipment: EquipmentId
    equipment_name: str
    profile: RuleProfile
    own: ZoneOverrides


class CacheOutdated(Exception):
    """A zone or unit was added after the last refresh: repeat the work."""


class ZoneCache:
    """All zones of the installation and the names of its units. Threads may read while another one refreshes."""

    def __init__(self) -> None:
        """Start empty; the first `refresh` loads the zones."""
        self._revision: int | None = None
        self._zones: dict[ZoneId, CachedZone] = {}
        self._bounds: dict[tuple[ZoneId, Milliseconds], Bounds] = {}
        self._units: dict[UnitId, tuple[str, str]] = {}

    def refresh(self, tx: Session) -> None:
        """Load again if anything has changed. Without changes it is one small query.

        A zone with an unknown profile gets the default profile, with a warning in the log.
        """
        current = device_revision.current(tx)
        if current != self._revision:
            self._load(tx)
            self._revision = current

    def _load(self, tx: Session) -> None:
        zones = {}
        for row in tx.execute(
            select(*Zone.__table__.c, Equipment.name).join(Equipment, Equipment.id == Zone.equipment_id)
        ):
            try:
                zone_profile = rule_profile.load(row.profile)
            except InvalidRuleProfile as error:
                # A wrong profile name must not end the zone's alarms, so the default applies.
                log.warning("zone has no usable profile", zone=row.id, problem=str(error), taken=rule_profile.DEFAULT)
                zone_profile = rule_profile.load(rule_profile.DEFAULT)
            overrides = ZoneOverrides(low=row.low, high=row.high, delay=row.delay, hysteresis=row.hysteresis)
            zones[row.id] = CachedZone(
                zone=row.id,
                kind=row.kind,
                equipment=row.equipment_id,
                equipment_name=row.name,
                profile=zone_profile,
                own=overrides,
            )
        self._units = {unit: (name, zone) for unit, name, zone in tx.execute(select(Unit.id, Unit.name, Unit.timezone))}
        self._zones, self._bounds = zones, {}

    def __getitem__(self, zone: ZoneId) -> CachedZone:
        try:
            return self._zones[zone]
        except KeyError:
            self._revision = None
            raise CacheOutdated(zone) from None

    def bounds(self, zone: ZoneId, interval: Milliseconds) -> Bounds:
        """Return the limits and settings of the rules for a probe of a zone that is read every `interval`."""
        bounds = self._bounds.get((zone, interval))
        if bounds is None:
            watched = self[zone]
            bounds = rule_profile.bounds(watched.profile, watched.kind, interval, watched.own)
            self._bounds[zone, interval] = bounds
        return bounds

    def unit(self, unit: UnitId) -> tuple[str, str]:
        """Return name and time zone of a unit.

        Raises: CacheOutdated.
        """
        try:
            return self._units[unit]
        except KeyError:
            self._revision = None
            raise CacheOutdated(unit) from None
