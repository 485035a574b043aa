"""Identity of an intake log, and the marks by which cursors name the log and the entry that they stand at.

A log gets a random name when it is made, and another one whenever it is realigned (docs/adr/0009): an older copy knows
the older names alone. A mark is `<name of the log>/<fingerprint of the entry at the position>`. The fingerprint is left
out where the entry isn't at hand. A cursor of an earlier version has no mark at all.
"""

import secrets
from hashlib import blake2b
from typing import NamedTuple

from core.intake.port import IntakeBatch

_FINGERPRINT_BYTES = 6


class Mark(NamedTuple):
    """Log and entry that a cursor stands at."""

    log: str
    fingerprint: str


def fresh_name() -> str:
    """Return a name that no log had before."""
    return secrets.token_hex(8)


def mark(name: str, batch: IntakeBatch | None = None) -> str:
    """Return the mark of a position: `batch` is the entry there, None where it isn't at hand."""
    return f"{name}/{fingerprint(batch) if batch else ''}"


def read_mark(text: str) -> Mark | None:
    """Return what a mark says, None for a cursor of an earlier version."""
    log, _, print_ = text.partition("/")
    return Mark(log, print_) if log else None


def fingerprint(batch: IntakeBatch) -> str:
    """Return a hash that differs for any other entry at the same position.

    `received` makes it differ when the same message is appended again to an older copy of the log.
    """
    contents = f"{batch.gw}\0{batch.ep}\0{batch.seq}\0{batch.received}\0{batch.origin}\0".encode()
    return blake2b(contents + batch.hash, digest_size=_FINGERPRINT_BYTES).hexdigest()
