"""What gateways send that is not as it should be: told as troubles, though the line goes on."""

from collections.abc import Iterable, Iterator

from core.health.stores import LogSeen
from core.intake.port import Fault, FaultKind
from core.runtime.instant import DAY, HOUR, MINUTE, Instant, Milliseconds
from core.runtime.trouble import Kind, Trouble

TOLD_FOR = Milliseconds(HOUR)
"""After the last time."""
GROWS_WITHIN = Milliseconds(DAY)
"""A quarantine that nothing has come into for so long doesn't grow any more."""
_NAMED = 5
"""Gateways in one sentence."""

ABOUT_GATEWAYS = (Kind.CLONED, Kind.RENEWED, Kind.SET_ASIDE, Kind.UNREADABLE, Kind.GROWING, Kind.SKEWED)
"""Nothing that has to do its work waits for any of these."""


def troubles_of_gateways(log: LogSeen, now: Instant) -> Iterator[Trouble]:
    """Say whose messages can't be read, whose readings pile up, whose clock is wrong, and who was copied."""
    yield from _recent(log.faults, FaultKind.CLONE, "cloned gateways", Kind.CLONED, now - TOLD_FOR)
    yield from _recent(log.faults, FaultKind.RENEWED, "gateway spools", Kind.RENEWED, now - TOLD_FOR)
    yield from _recent(log.faults, FaultKind.DEAD_LETTER, "dead letters", Kind.UNREADABLE, now - TOLD_FOR)
    growing = [one for one in log.backlogs if one.last > now - GROWS_WITHIN]
    dropped = [one for one in log.faults if one.kind is FaultKind.DROPPED and one.last > now - GROWS_WITHIN]
    if growing or dropped:
        detail = [f"{one.gw}: {one.n} readings" for one in growing]
        detail += [f"{one.gw}: {one.n} dropped, {one.detail}" for one in dropped]
        since = min([one.first for one in growing] + [one.last for one in dropped])
        yield Trouble("quarantine", Kind.GROWING, since, detail=_some(detail))
    if log.clocks:
        behind = [f"{gw}: {one.behind // MINUTE} min behind" for gw, one in sorted(log.clocks.items())]
        since = min(one.since for one in log.clocks.values())
        yield Trouble("gateway clocks", Kind.SKEWED, since, detail=_some(behind))


def _recent(faults: Iterable[Fault], of: FaultKind, part: str, kind: Kind, after: int) -> Iterator[Trouble]:
    found = sorted((one for one in faults if one.kind is of and one.last > after), key=lambda one: -one.last)
    if found:
        said = [f"{one.gw or '?'}: {one.n}, the last: {one.detail[:100]}" for one in found]
        yield Trouble(part, kind, Instant(max(after, min(one.first for one in found))), detail=_some(said))


def _some(said: list[str]) -> str:
    more = f"; {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return "; ".join(said[:_NAMED]) + more
