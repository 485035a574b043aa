"""Device revision: a number that goes up in the transaction of every change to units or devices.

Copies in memory (`core.devices.directory`) compare it to see whether they are out of date.
"""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.units.tables import DeviceRevision


def bump(tx: Session) -> None:
    """Increment the revision. Call it first in every transaction that changes units or devices.

    The row lock makes such transactions run one after another, so that a check stays true until the transaction ends.
    """
    # A plain UPDATE, not an ORM object: the session would scan all its objects at each bump, and a transaction that
    # adds many devices would take quadratic time.
    tx.execute(
        update(DeviceRevision).values(revision=DeviceRevision.revision + 1).execution_options(synchronize_session=False)
    )


def current(tx: Session) -> int:
    """Return the current revision."""
    return tx.scalars(select(DeviceRevision.revision)).one()
