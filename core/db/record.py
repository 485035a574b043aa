"""What every table of the records shares: names of constraints, key and time types.

Nothing here or in any `tables.py` is what PostgreSQL or SQLite alone can do, but for the overlap guard of timelines,
which each has in its own way (`core.db.timeline`).
"""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase

from core import ids
from core.runtime.instant import Instant, Milliseconds

BIGINT = BigInteger().with_variant(Integer, "sqlite")
"""64 bits on both; SQLite numbers rows by itself only for INTEGER."""


class Record(DeclarativeBase):
    """A row of the records. Integers (ids, instants, hundredths) are 64 bits wide."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = dict.fromkeys(
        (
            int,
            Instant,
            Milliseconds,
            ids.UnitId,
            ids.PersonId,
            ids.AccountId,
            ids.EquipmentId,
            ids.ZoneId,
            ids.GatewayId,
            ids.ProbeId,
            ids.AlarmId,
            ids.SeriesId,
            ids.Centi,
        ),
        BIGINT,
    )
