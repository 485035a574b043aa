"""Zones under watch: what each is held to and called in messages. A copy in memory, made anew when devices change.

Whoever works by it in a transaction calls `refresh` there first, so that it knows every zone that the transaction
finds. Where PostgreSQL shows one that was entered since, `Outdated` says so, and the work is done again.
"""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms import profile
from core.alarms.profile import Differences, Profile, WrongProfile
from core.alarms.rules.course import Bounds
from core.devices import revision
from core.devices.tables import Equipment, Zone
from core.ids import EquipmentId, UnitId, ZoneId
from core.runtime.instant import Milliseconds
from core.runtime.logs import logger
from core.units.tables import Unit

log = logger(__name__)


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A zone that is looked after."""

    zone: ZoneId
    kind: str
    equipment: EquipmentId
    equipment_name: str
    profile: Profile
    own: Differences


class Outdated(Exception):
    """A zone or a unit was entered while the work was under way: do it again."""


class Zones:
    """Every zone of the installation, and the names of its units. Any thread may ask while another refreshes."""

    def __init__(self) -> None:
        """Know nothing before the first `refresh`."""
        self._revision: int | None = None
        self._zones: dict[ZoneId, Watched] = {}
        self._bounds: dict[tuple[ZoneId, Milliseconds], Bounds] = {}
        self._units: dict[UnitId, tuple[str, str]] = {}

    def refresh(self, tx: Session) -> None:
        """Read all anew if anything has changed since. One small query when nothing has.

        A zone with an unknown profile is held to the default one, and the log says so.
        """
        number = revision.current(tx)
        if number != self._revision:
            self._load(tx)
            self._revision = number

    def _load(self, tx: Session) -> None:
        zones = {}
        for row in tx.execute(
            select(*Zone.__table__.c, Equipment.name).join(Equipment, Equipment.id == Zone.equipment_id)
        ):
            try:
                of_zone = profile.load(row.profile)
            except WrongProfile as error:
                # Its alarms must not end because of a name: it is held to the default, loudly.
                log.warning("zone has no usable profile", zone=row.id, problem=str(error), taken=profile.DEFAULT)
                of_zone = profile.load(profile.DEFAULT)
            own = Differences(low=row.low, high=row.high, delay=row.delay, hysteresis=row.hysteresis)
            zones[row.id] = Watched(
                zone=row.id,
                kind=row.kind,
                equipment=row.equipment_id,
                equipment_name=row.name,
                profile=of_zone,
                own=own,
            )
        self._units = {unit: (name, zone) for unit, name, zone in tx.execute(select(Unit.id, Unit.name, Unit.timezone))}
        self._zones, self._bounds = zones, {}

    def __getitem__(self, zone: ZoneId) -> Watched:
        try:
            return self._zones[zone]
        except KeyError:
            self._revision = None
            raise Outdated(zone) from None

    def bounds(self, zone: ZoneId, interval: Milliseconds) -> Bounds:
        """Return what a probe read every `interval` is held to in a zone."""
        known = self._bounds.get((zone, interval))
        if known is None:
            watched = self[zone]
            known = profile.bounds(watched.profile, watched.kind, interval, watched.own)
            self._bounds[zone, interval] = known
        return known

    def unit(self, unit: UnitId) -> tuple[str, str]:
        """Return name and time zone of a unit."""
        try:
            return self._units[unit]
        except KeyError:
            self._revision = None
            raise Outdated(unit) from None
