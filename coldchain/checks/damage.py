"""Checks of SQLite files for damaged pages, and the remedy that loses least."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from coldchain.checks.finding import Finding, bad, good, say
from config.settings import Settings
from core.db.engine import connect, url_for
from core.health.disk_space import files
from core.runtime.sqlite import malformed_text, open_read_only
from core.runtime.trouble import TroubleKind, first_line, kind_of
from core.telemetry.factory import embedded_folder
from core.telemetry.month_files import NAME


def damage(settings: Settings) -> Iterator[Finding]:
    """Check the pages of every SQLite file of an installation."""
    is_damaged, checked_files = False, 0
    for file in _files(settings):
        checked_files += 1
        if problem := damage_of(file):
            is_damaged = True
            yield bad(say("what.files"), f"{file}: {problem}", remedy(file))
    if checked_files and not is_damaged:
        yield good(say("what.files"), say("damage.none", count=checked_files))


def damage_of(file: Path) -> str:
    """Return what is wrong with the pages of a file; empty if nothing is, or if the trouble is no damage."""
    try:
        with malformed_text(), closing(open_read_only(file)) as db:
            results = [row[0] for row in db.execute("PRAGMA quick_check(1)")]
            version = db.execute("PRAGMA schema_version").fetchone()[0]
    except sqlite3.Error as error:
        return first_line(error) if kind_of(error) is TroubleKind.DAMAGED else ""
    if results != ["ok"]:
        return str(results[0])
    return "" if version else say("damage.empty")


def remedy(file: Path) -> str:
    """Return the advice for a damaged file."""
    return say("damage.mend", file=file)


def has_people(settings: Settings) -> bool:
    """Return whether the records have people; their phone numbers can be read only with the present keys."""
    file = files(settings).get("records")
    if file and not file.exists():
        return False
    engine = (
        create_engine("sqlite://", creator=lambda: open_read_only(file))
        if file
        else connect(url_for(settings.records.url, settings.data_dir))
    )
    try:
        with malformed_text(), engine.connect() as connection:
            return connection.execute(text("SELECT 1 FROM person LIMIT 1")).first() is not None
    except (SQLAlchemyError, sqlite3.Error) as error:
        return kind_of(error) is TroubleKind.DAMAGED  # damaged records may well have people
    finally:
        engine.dispose()


def _files(settings: Settings) -> Iterator[Path]:
    yield from (file for file in files(settings).values() if file.exists())
    if settings.telemetry.store == "embedded" and (folder := embedded_folder(settings)).is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.name == "hot.db" or NAME.fullmatch(path.name))
