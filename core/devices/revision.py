"""When what the directory holds has changed: one number, moved in the transaction of the change."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.devices.tables import DeviceRevision


def bump(tx: Session) -> None:
    """Say that units or devices change in this transaction; call it first.

    Its row lock lets such transactions through one by one, so that what was checked in one stays true until its end.
    """
    # No DeviceRevision is ever an object of the session. Else each bump would look through all objects that are, and a
    # transaction that enters many would take time by the square.
    tx.execute(
        update(DeviceRevision).values(revision=DeviceRevision.revision + 1).execution_options(synchronize_session=False)
    )


def current(tx: Session) -> int:
    """Return the number of the last change."""
    return tx.scalars(select(DeviceRevision.revision)).one()
