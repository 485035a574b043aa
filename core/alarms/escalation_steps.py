"""Escalation steps: which levels are told when, as absolute times, after an alarm opened or re-opened.

The first opening is t0: level 1 is told at once, the other levels at the policy's offsets from t0. An alarm that
re-opens keeps its first t0; otherwise a door that never quite closes would only ever tell level 1. So
the steps that earlier cycles didn't reach continue: a step that fell due while the zone was inside its limits is due at
the re-opening, a later one keeps its time, and repeats continue their count. Level 1 is told in every cycle, but not
more often than the policy's `floor_min`.

If no earlier cycle told anybody (because of a maintenance window, or because a backlog was over), escalation begins
again with the re-opening. Tested by tests/unit/test_escalation_steps.py.
"""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms.states import StepState
from core.alarms.tables import AlarmStep
from core.db.in_values import in_values
from core.db.insert import insert_missing
from core.ids import AlarmId
from core.limits.rule_profile import EscalationPolicy
from core.runtime.instant import MINUTE, Instant, Milliseconds

DRAIN = Milliseconds(MINUTE)
"""Delay of level 1 after the last reading of a backlog: the next reading may show that the excursion is over."""
StepKey = tuple[int, int]
"""Tier and repeat of a step."""


class AlarmOpening(msgspec.Struct, frozen=True):
    """An opening of an alarm: the first, or that of a later cycle."""

    alarm: AlarmId
    cycle: int
    t0: Instant
    """Time of the first opening."""
    policy: EscalationPolicy
    draining: bool
    """Whether the reading that opened it came from a backlog."""


class EarlierCycles(msgspec.Struct):
    """Steps of the earlier cycles of an alarm."""

    fired: set[StepKey] = msgspec.field(default_factory=set)
    unfired: dict[StepKey, Instant] = msgspec.field(default_factory=dict)
    """Due time of steps that didn't fire, as in the latest cycle."""


def write_steps(tx: Session, openings: Sequence[AlarmOpening], now: Instant) -> None:
    """Write the steps of alarms that opened at `now`, with one query for all that re-opened."""
    earlier = _earlier(tx, [opening.alarm for opening in openings if opening.cycle > 1])
    rows = []
    for opening in openings:
        for (tier, repeat), due_at in steps_of(opening, earlier.get(opening.alarm, EarlierCycles()), now).items():
            rows.append(
                {"alarm_id": opening.alarm, "cycle": opening.cycle, "tier": tier, "repeat": repeat, "due_at": due_at}
            )
    insert_missing(tx, AlarmStep, rows)


def steps_of(opening: AlarmOpening, earlier: EarlierCycles, now: Instant) -> dict[StepKey, Instant]:
    """Return the due time of each step of a cycle. Pure function."""
    policy = opening.policy
    first = Instant(now + DRAIN) if opening.draining else now
    if not earlier.fired:
        return {(tier, 0): first if tier == 1 else Instant(now + after) for tier, after in policy.offsets()}
    steps = {(1, 0): first}
    for tier, after in policy.offsets():
        if tier > 1 and (tier, 0) not in earlier.fired:
            steps[tier, 0] = max(first, earlier.unfired.get((tier, 0), Instant(opening.t0 + after)))
    fired_repeats = [repeat for tier, repeat in earlier.fired if tier == policy.top]
    if fired_repeats and policy.repeat_min:
        next_repeat = (policy.top, max(fired_repeats) + 1)
        steps[next_repeat] = max(first, earlier.unfired.get(next_repeat, Instant(now + policy.repeat_min * MINUTE)))
    return steps


def _earlier(tx: Session, alarms: Sequence[AlarmId]) -> dict[AlarmId, EarlierCycles]:
    earlier: dict[AlarmId, EarlierCycles] = defaultdict(EarlierCycles)
    if alarms:
        rows = tx.execute(
            select(AlarmStep.alarm_id, AlarmStep.tier, AlarmStep.repeat, AlarmStep.state, AlarmStep.due_at)
            .where(in_values(tx, AlarmStep.alarm_id, alarms), AlarmStep.tier > 0)
            .order_by(AlarmStep.cycle)
        )
        for alarm, tier, repeat, state, due_at in rows:
            if state == StepState.FIRED:
                earlier[alarm].fired.add((tier, repeat))
            else:
                earlier[alarm].unfired[tier, repeat] = due_at
    return earlier
