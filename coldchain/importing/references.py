"""References of an import file: units, equipment and gateways that rows name, in the file or in the records.

All that is unknown is told together with the other mistakes, of rows that have other mistakes as well.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from coldchain.importing.columns import REFERENCES
from coldchain.importing.import_file_reader import FileEntry
from coldchain.importing.mistakes import Mistake, message
from core.db.in_values import in_values
from core.devices.tables import Equipment, Gateway
from core.units.tables import Unit

_MOST = 1_000
_COLUMNS: Mapping[str, InstrumentedAttribute[Any]] = {
    "unit": Unit.code,
    "equipment": Equipment.code,
    "gateway": Gateway.number,
}


class KnownReferences(NamedTuple):
    """Things of the records that a file names, by their codes; those that the file adds are put in later."""

    unit: dict[str, Unit]
    equipment: dict[str, Equipment]
    gateway: dict[str, Gateway]


def known_of(tx: Session, entries: Sequence[FileEntry]) -> KnownReferences:
    """Read from the records what the file names, and nothing else: they may hold a province."""
    named: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.kind in _COLUMNS and len(entry.key) > 1:
            named[entry.kind].add(entry.key[1])
        for field, kind in REFERENCES.get(entry.kind, {}).items():
            if field in entry.values:
                named[kind].add(entry.values[field])
    known = KnownReferences({}, {}, {})
    for kind, column in _COLUMNS.items():
        codes = sorted(named[kind])
        for start in range(0, len(codes), _MOST):
            query = select(column.class_).where(in_values(tx, column, codes[start : start + _MOST]))
            getattr(known, kind).update({getattr(row, column.key): row for row in tx.scalars(query)})
    return known


def unknown_references(entries: Sequence[FileEntry], known: KnownReferences) -> list[tuple[FileEntry, Mistake]]:
    """Return what rows name that is neither in the file nor in the records."""
    keys = {entry.key for entry in entries}
    found = []
    for entry in entries:
        for field, kind in REFERENCES.get(entry.kind, {}).items():
            code = entry.values.get(field)
            if code is not None and (kind, code) not in keys and code not in getattr(known, kind):
                found.append((entry, Mistake(entry.place, message(f"unknown_{kind}"), field, code)))
    return found
