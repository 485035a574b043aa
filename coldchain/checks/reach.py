"""Check of the contacts: whether somebody of each level can be told of each monitored equipment."""

from collections import Counter
from collections.abc import Collection, Iterator

from sqlalchemy import true
from sqlalchemy.exc import SQLAlchemyError

from coldchain.checks.finding import Finding, bad, good, say
from coldchain.checks.stores import looking_into
from config.settings import Settings
from core.db.engine import Records
from core.db.migrate import NewerDatabase, pending
from core.health.disks import files
from core.runtime.clock import clock_from, real_now
from core.runtime.instant import Instant
from core.units.contacts import ContactLevel
from core.units.reachability import OutOfReach, out_of_reach

_NAMED = 5


def reach(settings: Settings) -> Iterator[Finding]:
    """Look for equipment of whose alarms nobody can be told; records that can't be read are another check's."""
    file = files(settings).get("records")
    if file and not file.exists():
        return
    engine = looking_into(settings)
    try:
        if pending(engine):
            return
        untold = reach_lines(Records(engine), settings.channels, _now(settings))
    except (SQLAlchemyError, NewerDatabase):
        return
    finally:
        engine.dispose()
    what = say("what.contacts")
    if not untold:
        yield good(what, say("contacts.good"))
    for line in untold:
        yield bad(what, line, say("contacts.mend" if settings.channels else "contacts.no_channel"))


def reach_lines(records: Records, channels: Collection[str], now: Instant) -> list[str]:
    """Return a line for each level: of how much equipment nobody can be told there, and some of it by name."""
    with records.read() as tx:
        found = out_of_reach(tx, true(), now, channels)
    counts = Counter(level for one in found for level in one.levels)
    return [
        say(f"contacts.nobody_{int(level)}", count=counts[level], named=_named(level, found))
        for level in ContactLevel
        if counts[level]
    ]


def _named(level: ContactLevel, found: Collection[OutOfReach]) -> str:
    names = [f"{one.code} {one.name} ({one.unit_name})" for one in found if level in one.levels]
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")


def _now(settings: Settings) -> Instant:
    try:
        return clock_from(settings.virtual_clock).now()
    except FileNotFoundError:
        return real_now()
