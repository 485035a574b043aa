"""Errors of use cases, independent of HTTP; the API turns each into an answer.

Their text is for the reader of the answer or the log: what was wrong, with the value, and what would be right.
"""

from config.localized_message import LocalizedMessage


class DomainError(Exception):
    """Base class: a request can't be carried out, and the reason may be told to the caller."""


class NotFound(DomainError):
    """The object doesn't exist, or the caller may not know of it."""

    def __init__(self, what: str, name: object) -> None:
        super().__init__(f"there is no {what} {name!r}")
        self.what = what
        self.name = name


class PermissionDenied(DomainError):
    """The caller is signed in, but lacks the right to do this here."""


class NotSignedIn(DomainError):
    """The caller is not signed in, the session has ended, or user name and password don't match."""


class Conflict(DomainError):
    """The request contradicts the current state: already taken, already ended, or changed by somebody meanwhile."""


class BackDated(Conflict):
    """The request would change a timeline before the begin of its last entry."""


class Invalid(DomainError):
    """A value is invalid. `field` names it as the caller wrote it; `message` is the problem, in any language."""

    def __init__(self, field: str, value: object, problem: str | LocalizedMessage) -> None:
        super().__init__(f"{field} = {value!r}: {problem}")
        self.field = field
        self.value = value
        self.message = problem
        self.problem = str(problem)
