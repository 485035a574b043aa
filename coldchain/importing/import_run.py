"""State of a running import: what is known so far, the outcome of each row, and the mistakes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from typing import TypeVar

from sqlalchemy.orm import Session

from coldchain.importing.columns import EquipmentRow, GatewayRow, ImportRow, PersonRow, UnitRow
from coldchain.importing.import_file_reader import FILE, FileEntry, ImportFile
from coldchain.importing.mistakes import FieldProblem, Mistake, message
from coldchain.importing.references import known_of, unknown_references
from config.localized_message import LocalizedMessage
from core.db.crypto import FieldCipher
from core.devices.tables import Equipment, Gateway
from core.errors import DomainError, Invalid
from core.ids import PersonId, UnitId
from core.runtime.instant import DAY, Instant, rfc3339
from core.units.actor import Actor
from core.units.divisions import Divisions
from core.units.tables import Person, Unit

RowT = TypeVar("RowT", bound=ImportRow)
Known = TypeVar("Known")
New = TypeVar("New")
Made = TypeVar("Made")

CHUNK = 500
"""Rows that are looked up and written together; what a transaction holds in memory at a time depends on it."""
_FUTURE = 366 * DAY
"""A beginning further ahead is a warning: `since` in 2062 is more likely a typing error."""


class RowOutcome(StrEnum):
    """Outcome of a row."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"

    @classmethod
    def of(cls, *, changed: bool) -> "RowOutcome":
        """Return the outcome of a row that was in the records before."""
        return cls.CHANGED if changed else cls.UNCHANGED


class PassedOver(Exception):
    """A row refers to a mistaken one, whose mistake is already reported."""


class ImportRun:
    """An import inside the caller's transaction, which must be rolled back when there are mistakes at the end.

    Rows refer to others by code, whether these stand in the file or in the records.
    """

    def __init__(
        self,
        tx: Session,
        actor: Actor,
        cipher: FieldCipher,
        file: ImportFile,
        *,
        services: Sequence[str],
        divisions: Divisions,
        now: Instant,
        progress: Callable[[int, int], None],
    ) -> None:
        """`services` are broker users, whose names no gateway may have; `progress` is called with (rows done, rows)."""
        self.tx = tx
        self.services = services
        self.divisions = divisions
        self.actor = actor
        self.cipher = cipher
        self.now = now
        self.since = now if file.since is None else file.since
        """Beginning of new bindings whose row gives none."""
        self.mistakes = list(file.mistakes)
        self.outcomes: Counter[tuple[str, RowOutcome]] = Counter()
        self.people: dict[tuple[UnitId, str], PersonId] = {}
        """Those that the file names, once their rows are written."""
        known = known_of(tx, file.entries)
        self.units, self.equipment, self.gateways = known
        self._mistaken = {entry.key for entry in file.entries if entry.row is None}
        for entry, mistake in unknown_references(file.entries, known):
            self._mistaken.add(entry.key)
            self.mistakes.append(mistake)
        self._rows = self._without_duplicates(file.entries)
        self._done, self._all = 0, len(self._rows)
        self._progress = progress

    def rows(self, kind: type[RowT]) -> list[RowT]:
        """Return the rows of a type that are not mistaken so far."""
        return [row for row in self._rows if isinstance(row, kind) and row.key not in self._mistaken]

    def chunks(self, rows: Sequence[RowT]) -> Iterator[list[RowT]]:
        """Yield rows some hundred at a time, and report progress."""
        for start in range(0, len(rows), CHUNK):
            chunk = [row for row in rows[start : start + CHUNK] if row.key not in self._mistaken]
            yield chunk
            self.tx.flush()
            self._done += len(chunk)
            self._progress(self._done, self._all)

    def settle(
        self,
        rows: Sequence[RowT],
        decide: Callable[[RowT], RowOutcome | New],
        enter: Callable[[list[New]], Sequence[Made | DomainError]],
        keep: Callable[[RowT, Made], None],
    ) -> None:
        """Decide on each row; what is new is entered together at the end, and kept for rows that refer to it."""
        new: list[tuple[RowT, New]] = []
        for row in rows:
            decided = self.attempt(row, partial(decide, row))
            if isinstance(decided, RowOutcome):
                self.count(row.key[0], decided)
            elif decided is not None:
                new.append((row, decided))
        results = enter([item for _, item in new]) if new else ()
        for (row, _), result in zip(new, results, strict=True):
            if isinstance(result, DomainError):
                self.refuse(row, result)
            else:
                keep(row, result)
                self.count(row.key[0], RowOutcome.ADDED)

    def attempt(self, row: ImportRow, write: Callable[[], Known]) -> Known | None:
        """Write, or note why a row can't be written."""
        try:
            return write()
        except PassedOver:
            self._mistaken.add(row.key)
        except FieldProblem as error:
            self._mistaken.add(row.key)
            self.mistakes.append(Mistake(row.place, error.problem, error.field, error.value))
        except DomainError as error:
            self.refuse(row, error)
        return None

    def refuse(self, row: ImportRow, error: DomainError) -> None:
        """Note why a row can't be written."""
        self._mistaken.add(row.key)
        if isinstance(error, Invalid):
            self.mistakes.append(Mistake(row.place, error.message, error.field, str(error.value)))
        else:
            text = error.args[0]
            self.mistakes.append(Mistake(row.place, text if isinstance(text, LocalizedMessage) else str(error)))

    def count(self, what: str, outcome: RowOutcome) -> None:
        """Count an outcome."""
        self.outcomes[what, outcome] += 1

    def is_mistaken(self, row: ImportRow) -> bool:
        """Whether a row is mistaken, or refers to one that is."""
        return row.key in self._mistaken

    def is_mistaken_key(self, key: tuple[str, ...]) -> bool:
        """Whether the row that is known by a key is mistaken."""
        return key in self._mistaken

    def unit(self, code: str) -> Unit:
        """Return the unit with a code, of the file or the records.

        Raises, like all that follow: PassedOver when its own row is mistaken.
        """
        return _known(self.units, code)

    def one_equipment(self, code: str) -> Equipment:
        """Return the equipment with a code."""
        return _known(self.equipment, code)

    def gateway(self, number: str) -> Gateway:
        """Return the gateway with a number."""
        return _known(self.gateways, number)

    def keep_unit(self, row: UnitRow, unit: Unit) -> None:
        """Let later rows refer to a unit that was added. The next methods do the same."""
        self.units[row.code] = unit

    def keep_person(self, row: PersonRow, person: Person) -> None:
        """Let later rows refer to a person."""
        self.people[person.unit_id, row.name] = person.id

    def keep_equipment(self, row: EquipmentRow, equipment: Equipment) -> None:
        """Let later rows refer to an equipment."""
        self.equipment[row.code] = equipment

    def keep_gateway(self, row: GatewayRow, gateway: Gateway) -> None:
        """Let later rows refer to a gateway."""
        self.gateways[row.number] = gateway

    def begins(self, requested: Instant | None, *stands: Instant) -> None:
        """Check that a row gives no other beginning for a binding that exists already.

        Raises: FieldProblem.
        """
        if requested is not None and requested not in stands:
            since = " / ".join(sorted({rfc3339(when) for when in stands}))
            raise FieldProblem(field="since", value=rfc3339(requested), problem=message("begins", since=since))

    def _without_duplicates(self, entries: Sequence[FileEntry]) -> list[ImportRow]:
        first: dict[tuple[str, ...], FileEntry] = {}
        rows = []
        for entry in entries:
            if entry.row is None:
                continue
            known = first.setdefault(entry.row.key, entry)
            if known is entry:
                rows.append(entry.row)
            else:
                place = known.place.text()
                self.mistakes.append(Mistake(entry.place, message("stands_already", place=place), *_last(entry.row)))
        return rows


def warnings_of(file: ImportFile, now: Instant) -> list[Mistake]:
    """Return times so far ahead that they are more likely typing errors."""
    instants = [(entry.place, field, entry.values.get(field)) for entry in file.entries for field in ("since", "until")]
    instants.insert(0, (FILE, "since", file.since))
    return [
        Mistake(place, message("far_ahead"), field, rfc3339(Instant(value)))
        for place, field, value in instants
        if isinstance(value, int) and value > now + _FUTURE
    ]


def _last(row: ImportRow) -> tuple[str, str]:
    return row.key[0], row.key[-1]


def _known(known: dict[str, Known], code: str) -> Known:
    try:
        return known[code]
    except KeyError:
        raise PassedOver from None
