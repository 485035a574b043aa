"""Base class of all tables of the records: names of constraints, types of keys and times.

Every `tables.py` uses only what PostgreSQL and SQLite have in common. The exception is the overlap guard of timelines,
which differs between the two (`core.db.overlap_guard`).
"""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase

from core import ids
from core.runtime.instant import Instant, Milliseconds

BIGINT = BigInteger().with_variant(Integer, "sqlite")
"""Integer of 64 bits on both. SQLite generates keys only for a column declared INTEGER."""


class Record(DeclarativeBase):
    """Row of a table of the records. Integers (ids, instants, hundredths) have 64 bits."""

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
            ids.ApplicationId,
            ids.ReviewStepId,
            ids.SeriesId,
            ids.Centi,
        ),
        BIGINT,
    )
