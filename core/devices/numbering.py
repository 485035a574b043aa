"""Numbers of series that the records give next."""

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core.devices.tables import Series


def raise_series_above(tx: Session, highest: int) -> bool:
    """Let new series have numbers above `highest`; returns whether any would have had it, or one below it.

    Records that were put back or emptied know nothing of series that were allotted since, and the telemetry store has
    readings under their numbers. A number that were given again would show another probe's past.
    """
    if (tx.scalar(select(func.max(Series.id))) or 0) >= highest:
        return False
    if tx.get_bind().dialect.name == "sqlite":
        known = tx.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'series'"))
        if known is None:
            tx.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES ('series', :seq)"), {"seq": highest})
        elif known < highest:
            tx.execute(text("UPDATE sqlite_sequence SET seq = :seq WHERE name = 'series'"), {"seq": highest})
        return known is None or known < highest
    sequence = "pg_get_serial_sequence('series', 'id')"
    known = tx.scalar(text(f"SELECT coalesce(pg_sequence_last_value({sequence}::regclass), 0)"))
    if known >= highest:
        return False
    tx.execute(text(f"SELECT setval({sequence}, :seq)"), {"seq": highest})
    return True
