"""Effects of filed applications: values that a kind computes from a row, and that are applied once each."""

from typing import Protocol

import msgspec
from sqlalchemy.orm import Session

from core.ids import ApplicationId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.tables import Unit
from core.workflow.states import Phase


class ExecutionContext(msgspec.Struct, frozen=True):
    """Who executes which row of which application, and the instant at which its effects hold."""

    tx: Session
    actor: Actor
    unit: Unit
    """Unit that filed the application."""
    application: ApplicationId
    row: int
    at: Instant
    now: Instant

    @property
    def authorization(self) -> str:
        """What authorises the changes, such as `application:12 row 3`; it goes into the audit log of each."""
        return f"application:{self.application} row {self.row}"


class Effect(Protocol):
    """Change that a filed row authorises."""

    @property
    def key(self) -> str:
        """Name of the effect within its row; under one key it is applied once."""
        ...

    @property
    def phase(self) -> Phase: ...

    def apply(self, context: ExecutionContext) -> None:
        """Make the change, in the transaction of all effects that are executed together.

        Raises: a DomainError when the world has changed, so that the change would not be what was filed.
        """
        ...
