"""What is known on both shores of a gap in a probe's readings, so that what fills it later makes one excursion of all.

Several gaps are remembered: one live reading that gets through between two outages must not hide that the temperature
was beyond the limit before, after and in both.
"""

import msgspec

from core.alarms.rules.excursion import CALM, Excursion, Limit
from core.alarms.rules.sample import GOING_ON, UNUSABLE, Condition, Sample
from core.ids import Centi
from core.runtime.instant import Instant

MOST = 16
"""Gaps of a probe that are remembered, the newest."""


class Shores(msgspec.Struct, array_like=True):
    """One limit's evidence beside a gap."""

    before: Excursion = CALM
    """The live state where it begins: from here what fills it is replayed."""
    beyond: Instant = Instant(0)
    """Newest of the unbroken readings beyond the limit that begin with the first behind it; 0 when that is inside."""
    count: int = 0
    peak: Centi | None = None
    is_open: bool = True
    """They may go on."""


class Gap(msgspec.Struct, array_like=True):
    """The last reading before it and the first after it, and what is known there."""

    since: Instant
    until: Instant
    above: Shores
    below: Shores


def note(shores: Shores, limit: Limit, sample: Sample) -> None:
    """Take in a reading behind the gap; they come in event order."""
    if not shores.is_open or sample.value is None or sample.q & UNUSABLE:
        return
    broken = shores.beyond and sample.at - shores.beyond > limit.gap
    if broken or not limit.exceeded_by(sample.value):
        shores.is_open = False
        return
    shores.beyond, shores.count = sample.at, shores.count + 1
    shores.peak = limit.worse(shores.peak, sample.value)


def across(shores: Shores, limit: Limit, late: Excursion) -> Excursion:
    """Return what a replay that has come up to the far shore is together with what goes on there."""
    if not shores.beyond or shores.peak is None:
        return late
    peak = limit.worse(late.peak, shores.peak)
    if late.condition in GOING_ON or shores.beyond - late.onset >= limit.delay:
        return Excursion(Condition.ACTIVE, late.onset, peak)
    return Excursion(Condition.PENDING, late.onset, peak, late.count + shores.count, shores.beyond)


def joined(late: Excursion, settled: Excursion, limit: Limit) -> Excursion:
    """Return the settled live state with a replay before it, both of one excursion; more may come between them."""
    if settled.condition is Condition.OK:
        return late
    onset = min(late.onset, settled.onset)
    peak = late.peak if settled.peak is None else limit.worse(late.peak, settled.peak)
    if settled.condition is Condition.CLEARING:
        return msgspec.structs.replace(settled, onset=onset, peak=peak)
    newest = max(late.newest, settled.newest)
    if Condition.ACTIVE in (late.condition, settled.condition) or newest - onset >= limit.delay:
        return Excursion(Condition.ACTIVE, onset, peak)
    return Excursion(Condition.PENDING, onset, peak, late.count + settled.count, newest)
