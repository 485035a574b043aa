"""One import under way: what is known so far, what became of each row, and what is mistaken."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import partial
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from coldchain.importing.files import File, Mistake
from coldchain.importing.rows import Row
from core.db.crypto import FieldCipher
from core.devices.tables import Equipment, Gateway
from core.errors import Invalid, Wrong
from core.ids import UnitId
from core.runtime.instant import Instant, rfc3339
from core.units.actor import Actor
from core.units.tables import Person, Unit

RowT = TypeVar("RowT", bound=Row)
Known = TypeVar("Known")


class Outcome(StrEnum):
    """What became of a row."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"

    @classmethod
    def of(cls, *, changed: bool) -> "Outcome":
        """Return what became of something that was there."""
        return cls.CHANGED if changed else cls.UNCHANGED


class PassedOver(Exception):
    """A row refers to one that is mistaken; that mistake has been told already."""


class Run:
    """An import inside the caller's transaction, which is to be taken back when there are mistakes at the end.

    Rows refer to others by code, whether these stand in the file or in the records.
    """

    def __init__(
        self, tx: Session, actor: Actor, cipher: FieldCipher, file: File, *, services: Sequence[str], now: Instant
    ) -> None:
        """`services` are broker users that no gateway may be numbered like."""
        self.tx = tx
        self.services = services
        self.actor = actor
        self.cipher = cipher
        self.now = now
        self.since = now if file.since is None else file.since
        """From when new things are bound, unless their row says so."""
        self.mistakes = list(file.mistakes)
        self.outcomes: Counter[tuple[str, Outcome]] = Counter()
        self.units: dict[str, Unit] = {unit.code: unit for unit in tx.scalars(select(Unit)) if unit.code is not None}
        self.equipment: dict[str, Equipment] = {one.code: one for one in tx.scalars(select(Equipment))}
        self.gateways: dict[str, Gateway] = {one.number: one for one in tx.scalars(select(Gateway))}
        self.people: dict[tuple[UnitId, str], Person] = {
            (one.unit_id, one.name): one for one in tx.scalars(select(Person))
        }
        self._where: dict[tuple[str, ...], str] = {}
        self._mistaken = set(file.unreadable)

    def each(self, rows: Iterable[RowT], write: Callable[["Run", RowT], Outcome | None]) -> None:
        """Write rows of one type, and go on behind a mistake so that all are told at once."""
        for row in rows:
            first = self._where.setdefault(row.key, row.where)
            if first != row.where:
                self.mistakes.append(Mistake(row.where, row.key[0], row.key[-1], f"stands at {first} already"))
            else:
                self.told(row, partial(write, self, row))

    def told(self, row: Row, write: Callable[[], Outcome | None]) -> None:
        """Write, and note what became of a row, or why it can't be."""
        try:
            outcome = write()
        except PassedOver:
            self._mistaken.add(row.key)
        except Invalid as error:
            self._mistaken.add(row.key)
            self.mistakes.append(Mistake(row.where, error.field, str(error.value), error.problem))
        except Wrong as error:
            self._mistaken.add(row.key)
            self.mistakes.append(Mistake(row.where, "", "", str(error)))
        else:
            if outcome is not None:
                self.count(row.key[0], outcome)

    def count(self, what: str, outcome: Outcome) -> None:
        """Note what became of something."""
        self.outcomes[what, outcome] += 1

    def is_mistaken(self, row: Row) -> bool:
        """Whether a row has been told to be mistaken, or refers to one that was."""
        return row.key in self._mistaken

    def unit(self, code: str, field: str = "unit") -> Unit:
        """Return the unit with a code, of the file or the records.

        Raises, like all that follow: Invalid; PassedOver when its own row is mistaken.
        """
        return self._found(self.units.get(code), ("unit", code), field, "unit with this code")

    def one_equipment(self, code: str) -> Equipment:
        """Return the equipment with a code."""
        return self._found(self.equipment.get(code), ("equipment", code), "equipment", "equipment with this code")

    def gateway(self, number: str) -> Gateway:
        """Return the gateway with a number."""
        return self._found(self.gateways.get(number), ("gateway", number), "gateway", "gateway with this number")

    def person(self, unit: Unit, name: str) -> Person:
        """Return the person of a unit with a name."""
        key = ("person", unit.code or "", name)
        return self._found(self.people.get((unit.id, name)), key, "person", f"such person in {unit.name}")

    def begins(self, asked: Instant | None, *stands: Instant) -> None:
        """Check that a row claims no other beginning for what is so already.

        Raises: Invalid.
        """
        if asked is not None and asked not in stands:
            since = " and ".join(sorted({rfc3339(when) for when in stands}))
            problem = f"it is so since {since}, and an import moves no beginning; leave `since` out"
            raise Invalid(field="since", value=rfc3339(asked), problem=problem)

    def _found(self, found: Known | None, key: tuple[str, ...], field: str, what: str) -> Known:
        if key in self._mistaken:
            raise PassedOver
        if found is None:
            raise Invalid(
                field=field, value=key[-1], problem=f"there is no {what}, neither in the file nor in the records"
            )
        return found
