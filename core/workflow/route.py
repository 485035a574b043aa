"""Route of an application: which unit reviews next. Pure functions of the tree and of the levels that have decided.

Reviewers are CDCs from county up. A level that is missing in the tree is skipped (UC-27, UC-28), one that is there
never is. `tests/unit/test_review_route.py` and the state machine of applications try to break it.
"""

from collections.abc import Collection, Sequence

import msgspec

from core.errors import Conflict
from core.ids import UnitId
from core.units.unit_levels import Level, UnitKind, below_county
from core.workflow.messages import message

_ORDER = list(Level)


class NoReviewer(Conflict):
    """The tree has no unit that could review: above the unit there is no CDC of a level that the route needs."""


class Ancestor(msgspec.Struct, frozen=True):
    """Unit on the way from the filing unit to the root; the filing unit itself is the first."""

    unit: UnitId
    kind: UnitKind
    level: Level


class Route(msgspec.Struct, frozen=True):
    """Declaration of how far up an application goes: to a level, or through a number of decisions."""

    last: Level | None = None
    decisions: int | None = None

    def is_complete(self, decided: Collection[Level]) -> bool:
        """Return whether the levels that have passed it are all that the route asks for."""
        if self.decisions is not None:
            return len(decided) >= self.decisions
        return self.last is not None and any(_height(level) >= _height(self.last) for level in decided)


def up_to(level: Level) -> Route:
    """Return the route through every CDC above, up to that of a level."""
    return Route(last=level)


def next_cdc_up() -> Route:
    """Return the route to the nearest CDC above alone."""
    return Route(decisions=1)


def next_reviewer(route: Route, chain: Sequence[Ancestor], decided: Collection[Level]) -> Ancestor | None:
    """Return the unit that reviews next; None if all have.

    `chain` begins with the filing unit and ends with the root. What the unit at the end of a route files itself, a
    second person of that same unit confirms.
    Raises: NoReviewer.
    """
    if route.is_complete(decided):
        return None
    highest = max((_height(level) for level in decided), default=-1)
    for ancestor in chain[1:]:
        if _may_review(ancestor) and _within(route, ancestor) and _height(ancestor.level) > highest:
            return ancestor
    if not decided and _may_review(chain[0]) and _is_last(route, chain[0]):
        return chain[0]
    raise NoReviewer(str(message("no_reviewer")))


def _may_review(ancestor: Ancestor) -> bool:
    return ancestor.kind is UnitKind.CDC and not below_county(ancestor.level)


def _within(route: Route, ancestor: Ancestor) -> bool:
    return route.last is None or _height(ancestor.level) <= _height(route.last)


def _is_last(route: Route, ancestor: Ancestor) -> bool:
    return ancestor.level is route.last or (route.last is None and ancestor.level is Level.PROVINCE)


def _height(level: Level) -> int:
    """Return how high a level is; the province is higher than the city."""
    return len(_ORDER) - _ORDER.index(level)
