"""Steps of an alarm that has opened or opened again: which levels are told when, in absolute times.

A first opening is t0: level 1 is told at once, the others at the policy's distances from it. An alarm that opens again
keeps its first t0, or a door that never quite closes would tell level 1 for ever and nobody else. So the steps that
earlier cycles did not come to go on: what fell due while the zone was inside its limits is due at the re-opening, what
is still to come stays where it was, and repeats go on counting. Level 1 is told of every cycle, within its floor.

Where no earlier cycle told anybody (a maintenance window, a backlog that was over) there is nothing to go on with:
escalation begins with the re-opening.
"""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms.profile import Policy
from core.alarms.tables import AlarmStep
from core.db.among import among
from core.db.insert import insert_missing
from core.ids import AlarmId
from core.runtime.instant import MINUTE, Instant, Milliseconds

DRAIN = Milliseconds(MINUTE)
"""Level 1 waits so long after the last reading of a backlog: the next may show that it is over."""
Place = tuple[int, int]
"""Tier and turn of a step."""


class Opening(msgspec.Struct, frozen=True):
    """An alarm's first opening, or the one of a later cycle."""

    alarm: AlarmId
    cycle: int
    t0: Instant
    """Its first opening."""
    policy: Policy
    draining: bool
    """What opened it came out of a backlog."""


class Earlier(msgspec.Struct):
    """What the earlier cycles of an alarm came to."""

    fired: set[Place] = msgspec.field(default_factory=set)
    unfired: dict[Place, Instant] = msgspec.field(default_factory=dict)
    """When steps that were cancelled would have been due, the latest cycle's word."""


def write_steps(tx: Session, openings: Sequence[Opening], now: Instant) -> None:
    """Write the steps of alarms that opened at `now`. One question for all that opened again."""
    earlier = _earlier(tx, [one.alarm for one in openings if one.cycle > 1])
    rows = []
    for one in openings:
        for (tier, turn), due_at in steps_of(one, earlier.get(one.alarm, Earlier()), now).items():
            rows.append({"alarm_id": one.alarm, "cycle": one.cycle, "tier": tier, "turn": turn, "due_at": due_at})
    insert_missing(tx, AlarmStep, rows)


def steps_of(opening: Opening, earlier: Earlier, now: Instant) -> dict[Place, Instant]:
    """Return when each step of a cycle is due. Pure."""
    policy = opening.policy
    first = Instant(now + DRAIN) if opening.draining else now
    if not earlier.fired:
        return {(tier, 0): first if tier == 1 else Instant(now + after) for tier, after in policy.offsets()}
    steps = {(1, 0): first}
    for tier, after in policy.offsets():
        if tier > 1 and (tier, 0) not in earlier.fired:
            steps[tier, 0] = max(first, earlier.unfired.get((tier, 0), Instant(opening.t0 + after)))
    turns = [turn for tier, turn in earlier.fired if tier == policy.top]
    if turns and policy.repeat_min:
        repeat = (policy.top, max(turns) + 1)
        steps[repeat] = max(first, earlier.unfired.get(repeat, Instant(now + policy.repeat_min * MINUTE)))
    return steps


def _earlier(tx: Session, alarms: Sequence[AlarmId]) -> dict[AlarmId, Earlier]:
    found: dict[AlarmId, Earlier] = defaultdict(Earlier)
    if alarms:
        rows = tx.execute(
            select(AlarmStep.alarm_id, AlarmStep.tier, AlarmStep.turn, AlarmStep.state, AlarmStep.due_at)
            .where(among(tx, AlarmStep.alarm_id, alarms), AlarmStep.tier > 0)
            .order_by(AlarmStep.cycle)
        )
        for alarm, tier, turn, state, due_at in rows:
            if state == "fired":
                found[alarm].fired.add((tier, turn))
            else:
                found[alarm].unfired[tier, turn] = due_at
    return found
