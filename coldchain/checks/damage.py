"""Checks of files for damage: what SQLite finds wrong with their pages, and the remedy that loses least."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from coldchain.checks.finding import Finding, bad, good, say
from config.settings import Settings
from core.db.engine import connect, url_for
from core.health.disks import files
from core.runtime.sqlite import look_into, malformed_text
from core.runtime.trouble import Kind, first_line, kind_of
from core.telemetry.months import NAME
from core.telemetry.open import embedded_folder


def damage(settings: Settings) -> Iterator[Finding]:
    """Look through the pages of every SQLite file of an installation; nothing is changed."""
    named, looked = False, 0
    for file in _files(settings):
        looked += 1
        if said := damage_of(file):
            named = True
            yield bad(say("what.files"), f"{file}: {said}", remedy(file))
    if looked and not named:
        yield good(say("what.files"), say("damage.none", count=looked))


def damage_of(file: Path) -> str:
    """Return what is wrong with the pages of a file, empty when nothing is or it is in other trouble than damage."""
    try:
        with malformed_text(), closing(look_into(file)) as db:
            said = [row[0] for row in db.execute("PRAGMA quick_check(1)")]
            version = db.execute("PRAGMA schema_version").fetchone()[0]
    except sqlite3.Error as error:
        return first_line(error) if kind_of(error) is Kind.DAMAGED else ""
    if said != ["ok"]:
        return str(said[0])
    return "" if version else say("damage.empty")


def remedy(file: Path) -> str:
    """Return what to do about a damaged file."""
    return say("damage.mend", file=file)


def has_people(settings: Settings) -> bool:
    """Whether the records hold people, whose phone numbers are encrypted with the keys that are there now."""
    file = files(settings).get("records")
    if file and not file.exists():
        return False
    engine = (
        create_engine("sqlite://", creator=lambda: look_into(file))
        if file
        else connect(url_for(settings.records.url, settings.data_dir))
    )
    try:
        with malformed_text(), engine.connect() as connection:
            return connection.execute(text("SELECT 1 FROM person LIMIT 1")).first() is not None
    except (SQLAlchemyError, sqlite3.Error) as error:
        return kind_of(error) is Kind.DAMAGED  # whose they are can't be read, but they are somebody's
    finally:
        engine.dispose()


def _files(settings: Settings) -> Iterator[Path]:
    yield from (file for file in files(settings).values() if file.exists())
    if settings.telemetry.store == "embedded" and (folder := embedded_folder(settings)).is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.name == "hot.db" or NAME.fullmatch(path.name))
