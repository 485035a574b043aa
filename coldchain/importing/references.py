"""References of an import file: units, equipment and gateways that rows name, in the file or in the records.

All that is unknown is told together with the other mistakes, of rows that have other mistakes as well.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from coldchain.importing.columns import REFERENCES
from coldchain.importing.import_file_reader import FileEntry
from coldchain.importing.mistakes import Mistake, message
from core.devices.queries import equipment_with_codes, gateways_with_numbers
from core.devices.tables import Equipment, Gateway
from core.units.queries import units_with_codes
from core.units.tables import Unit

_CODES_IN_QUERY = 1_000
_READERS: Mapping[str, Callable[[Session, Collection[str]], Mapping[str, object]]] = {
    "unit": units_with_codes,
    "equipment": equipment_with_codes,
    "gateway": gateways_with_numbers,
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
        if entry.kind in _READERS and len(entry.key) > 1:
            named[entry.kind].add(entry.key[1])
        for field, kind in REFERENCES.get(entry.kind, {}).items():
            if field in entry.values:
                named[kind].add(entry.values[field])
    known = KnownReferences({}, {}, {})
    for kind, rows_with in _READERS.items():
        codes = sorted(named[kind])
        for start in range(0, len(codes), _CODES_IN_QUERY):
            getattr(known, kind).update(rows_with(tx, codes[start : start + _CODES_IN_QUERY]))
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
