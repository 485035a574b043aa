"""What can be wrong with what was asked. The edge turns each into its own answer; nothing here knows HTTP.

The text is for whoever reads the answer or the log: what was wrong, with the value, and what would be right.
"""

from config.messages import Message


class Wrong(Exception):
    """Something asked for can't be done, and the asker can be told why."""


class NotFound(Wrong):
    """There is no such thing, or none that the asker may know of."""

    def __init__(self, what: str, name: object) -> None:
        super().__init__(f"there is no {what} {name!r}")
        self.what = what
        self.name = name


class NotGranted(Wrong):
    """The asker is known and may not do this here."""


class NotSignedIn(Wrong):
    """Nobody is signed in, or not any longer, or user name and password don't fit."""


class Conflict(Wrong):
    """It contradicts what is there: already taken, already ended, or changed by somebody else meanwhile."""


class BackDated(Conflict):
    """A timeline would have to be changed before its last entry began."""


class Invalid(Wrong):
    """A value can't be used. `field` names it as the asker wrote it; `message` is the problem in any language."""

    def __init__(self, field: str, value: object, problem: str | Message) -> None:
        super().__init__(f"{field} = {value!r}: {problem}")
        self.field = field
        self.value = value
        self.message = problem
        self.problem = str(problem)
