"""Troubles of gateways: clones, new spools, unreadable messages, growing quarantine, slow clocks."""

from collections.abc import Iterable, Iterator

from core.health.store_checks import LogStatus
from core.intake.port import GatewayFault, GatewayFaultKind
from core.runtime.instant import DAY, HOUR, MINUTE, Instant, Milliseconds
from core.runtime.trouble import Trouble, TroubleKind

SHOWN_FOR = Milliseconds(HOUR)
"""Time for which a trouble is shown after its last occurrence."""
GROWS_WITHIN = Milliseconds(DAY)
"""A quarantine without new readings for this time is no longer growing."""
_NAMED = 5
"""Maximum number of gateways named in one sentence."""

GATEWAY_TROUBLE_KINDS = (
    TroubleKind.CLONED,
    TroubleKind.NUMBERS_DAMAGED,
    TroubleKind.RENEWED,
    TroubleKind.SET_ASIDE,
    TroubleKind.UNREADABLE,
    TroubleKind.GROWING,
    TroubleKind.SKEWED,
)
"""Kinds of troubles that don't affect readiness."""


def troubles_of_gateways(log: LogStatus, now: Instant) -> Iterator[Trouble]:
    """Yield the troubles of gateways: clones, new spools, unreadable messages, growing quarantine, slow clocks."""
    yield from _recent(log.faults, GatewayFaultKind.CLONE, "cloned gateways", TroubleKind.CLONED, now - SHOWN_FOR)
    yield from _recent(
        log.faults,
        GatewayFaultKind.NUMBERS_DAMAGED,
        "numbers of gateways",
        TroubleKind.NUMBERS_DAMAGED,
        now - SHOWN_FOR,
    )
    yield from _recent(log.faults, GatewayFaultKind.RENEWED, "gateway spools", TroubleKind.RENEWED, now - SHOWN_FOR)
    yield from _recent(
        log.faults, GatewayFaultKind.DEAD_LETTER, "dead letters", TroubleKind.UNREADABLE, now - SHOWN_FOR
    )
    growing = [item for item in log.backlogs if item.last > now - GROWS_WITHIN]
    dropped = [item for item in log.faults if item.kind is GatewayFaultKind.DROPPED and item.last > now - GROWS_WITHIN]
    if growing or dropped:
        detail = [f"{item.gw}: {item.n} readings" for item in growing]
        detail += [f"{item.gw}: {item.n} dropped, {item.detail}" for item in dropped]
        since = min([item.first for item in growing] + [item.last for item in dropped])
        yield Trouble("quarantine", TroubleKind.GROWING, since, detail=_summary(detail))
    if log.clocks:
        behind = [f"{gw}: {item.behind // MINUTE} min behind" for gw, item in sorted(log.clocks.items())]
        since = min(item.since for item in log.clocks.values())
        yield Trouble("gateway clocks", TroubleKind.SKEWED, since, detail=_summary(behind))


def _recent(
    faults: Iterable[GatewayFault], fault_kind: GatewayFaultKind, part: str, kind: TroubleKind, after: int
) -> Iterator[Trouble]:
    recent = sorted(
        (fault for fault in faults if fault.kind is fault_kind and fault.last > after), key=lambda fault: -fault.last
    )
    if recent:
        details = [f"{fault.gw or '?'}: {fault.n}, the last: {fault.detail[:100]}" for fault in recent]
        yield Trouble(part, kind, Instant(max(after, min(fault.first for fault in recent))), detail=_summary(details))


def _summary(details: list[str]) -> str:
    more = f"; {len(details) - _NAMED} more" if len(details) > _NAMED else ""
    return "; ".join(details[:_NAMED]) + more
