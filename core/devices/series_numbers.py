"""Series numbering: keeps new series numbers above those that telemetry already uses."""

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core.devices.tables import Series


def raise_series_above(tx: Session, highest: int) -> bool:
    """Make the next series number greater than `highest`; return whether the sequence had to be raised.

    Records that were restored from a backup or emptied don't know the series allotted since, but the telemetry store
    has readings under their numbers. A number given twice would show the past of another probe.
    """
    if (tx.scalar(select(func.max(Series.id))) or 0) >= highest:
        return False
    if tx.get_bind().dialect.name == "sqlite":
        last_value = tx.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'series'"))
        if last_value is None:
            tx.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES ('series', :seq)"), {"seq": highest})
        elif last_value < highest:
            tx.execute(text("UPDATE sqlite_sequence SET seq = :seq WHERE name = 'series'"), {"seq": highest})
        return last_value is None or last_value < highest
    sequence = "pg_get_serial_sequence('series', 'id')"
    last_value = tx.scalar(text(f"SELECT coalesce(pg_sequence_last_value({sequence}::regclass), 0)"))
    if last_value >= highest:
        return False
    tx.execute(text(f"SELECT setval({sequence}, :seq)"), {"seq": highest})
    return True
