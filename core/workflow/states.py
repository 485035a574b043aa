"""States of applications, and the words of decisions about them."""

from enum import StrEnum


class ApplicationState(StrEnum):
    """State of an application. `filed` is 已备案: all reviewers have passed it."""

    DRAFT = "draft"
    IN_REVIEW = "in_review"
    RETURNED = "returned"
    WITHDRAWN = "withdrawn"
    FILED = "filed"
    BLOCKED = "blocked"
    """Filed, but what it says differs from what is there now; it is executed again, or given back."""
    EXECUTED = "executed"


EDITABLE = (ApplicationState.DRAFT, ApplicationState.RETURNED, ApplicationState.WITHDRAWN)
"""States in which the unit may change the form and submit it."""
EXECUTABLE = (ApplicationState.FILED, ApplicationState.BLOCKED)


class DecisionOutcome(StrEnum):
    """Outcome of a review step."""

    PASSED_UP = "passed_up"
    """通过上报: to the next reviewer; by the last one: filed."""
    FINAL_HERE = "final_here"
    """本级终审: filed here, only where the kind allows it."""
    REFUSED = "refused"
    """未通过: back to the unit, with an opinion."""


class Payer(StrEnum):
    """Party that pays for a row."""

    MANUFACTURER = "manufacturer"
    """厂家(保修): within the warranty, at no cost."""
    REQUESTING_UNIT = "requesting_unit"
    """需求单位."""


class Phase(StrEnum):
    """Phase of an effect. All effects of a phase are applied before those of the next, so that swaps work."""

    END = "end"
    REGISTER = "register"
    BEGIN = "begin"
