"""Navigation: the pages that a signed-in reader may open, declared once with the right that each one needs.

A page that is listed for nobody's right is still guarded by its own route: what is not shown is refused all the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

from core.units.actor import Actor
from core.units.rights import Right


class Destination(NamedTuple):
    """A page of the navigation."""

    path: str
    text: str
    """Key of its name in the page texts."""
    right: Right


NAVIGATION: Sequence[Destination] = (
    Destination("/", "nav.home", Right.SEE),
    Destination("/units", "nav.units", Right.SEE),
    Destination("/alarms", "nav.alarms", Right.SEE),
    Destination("/devices", "nav.devices", Right.SEE),
    Destination("/applications", "nav.applications", Right.FILE),
)


def destinations(actor: Actor) -> list[Destination]:
    """Return the pages that an actor may open: those whose right they hold on any unit or equipment."""
    rights = frozenset[Right]().union(
        *(holding.rights for holding in actor.holdings), *(single.rights for single in actor.equipment)
    )
    return [each for each in NAVIGATION if each.right in rights]


def current(path: str) -> str:
    """Return the navigation's address to which a page belongs: the longest that the page's own begins with."""
    owners = [each.path for each in NAVIGATION if path == each.path or path.startswith(each.path.rstrip("/") + "/")]
    return max(owners, key=len, default="")
