"""Check of the contacts: whether somebody at each level can be told about each monitored equipment."""

from collections import Counter
from collections.abc import Collection, Iterator

from sqlalchemy import true
from sqlalchemy.exc import SQLAlchemyError

from coldchain.checks.finding import Finding, bad, good, say
from coldchain.checks.stores import looking_into
from config.settings import Settings
from core.contacts.contacts import ContactLevel
from core.contacts.reachability import OutOfReach, out_of_reach
from core.db.engine import Records
from core.health.disk_space import files
from core.migrations.migrate import NewerDatabase, pending
from core.runtime.clock import clock_from, real_now
from core.runtime.instant import Instant

_NAMED = 5


def reach(settings: Settings) -> Iterator[Finding]:
    """Find equipment about whose alarms nobody can be told. Unreadable records are a finding of another check."""
    file = files(settings).get("records")
    if file and not file.exists():
        return
    engine = looking_into(settings)
    try:
        if pending(engine):
            return
        lines = reach_lines(Records(engine), settings.channels, _now(settings))
    except (SQLAlchemyError, NewerDatabase):
        return
    finally:
        engine.dispose()
    what = say("what.contacts")
    if not lines:
        yield good(what, say("contacts.good"))
    for line in lines:
        yield bad(what, line, reach_advice(settings.channels))


def reach_lines(records: Records, channels: Collection[str], now: Instant) -> list[str]:
    """Return a line for each level at which nobody can be told about some equipment, with its count and some names."""
    with records.read() as tx:
        unreached = out_of_reach(tx, true(), now, channels)
    counts = Counter(level for equipment in unreached for level in equipment.levels)
    return [
        say(f"contacts.nobody_{int(level)}", count=counts[level], named=_named(level, unreached))
        for level in ContactLevel
        if counts[level]
    ]


def reach_advice(channels: Collection[str]) -> str:
    """Return what to do about the lines."""
    return say("contacts.mend" if channels else "contacts.no_channel")


def _named(level: ContactLevel, unreached: Collection[OutOfReach]) -> str:
    names = [
        f"{equipment.code} {equipment.name} ({equipment.unit_name})"
        for equipment in unreached
        if level in equipment.levels
    ]
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")


def _now(settings: Settings) -> Instant:
    try:
        return clock_from(settings.virtual_clock).now()
    except FileNotFoundError:
        return real_now()
