"""PostgreSQL schema of the intake log: its tables, and transactions on them.

The schema `intake` has a version of its own (docs/adr/0004), so the log may share a database with the records or not.

`entry` is partitioned by LIST, sixteen shards of one first digit each. Workers own ranges, so a partition is written
and pruned by one of them (or two), and its indexes and vacuum aren't another's; HASH would mix all workers in each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from psycopg import Connection
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from core.db.engine import connect
from core.intake.cursor_marks import fresh_name
from core.intake.port import IntakeUnavailable, NewerLog
from core.runtime.logs import logger

log = logger(__name__)

Db = Connection[tuple[Any, ...]]

CONNECTIONS = 8
FROZEN_WRITER_S = 10
"""A process that was stopped within a transaction holds the counters of its shards no longer than this."""
_LOCK = 0x_1D7A_4E10
"""Key of the advisory lock that only one process that makes the tables holds."""
_DIGITS = "0123456789abcdef"

_SHARDS = {f"entry_{high}": ", ".join(f"'{high}{low}'" for low in _DIGITS) for high in _DIGITS}
"""Partitions by name, and the shards of each."""
_PARTITIONS = tuple(
    f"CREATE TABLE IF NOT EXISTS intake.{name} PARTITION OF intake.entry FOR VALUES IN ({shards})"
    for name, shards in _SHARDS.items()
)
_DETACHED = """
SELECT c.relname, i.inhrelid IS NOT NULL FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relnamespace = to_regnamespace('intake') AND c.relname = ANY(%s) AND i.inhdetachpending IS NOT false
ORDER BY c.relname
"""
"""Partitions that were detached, and of each whether its detaching was interrupted."""
_FIRST = (
    "CREATE SCHEMA IF NOT EXISTS intake",
    "CREATE TABLE intake.version (number int NOT NULL)",
    "INSERT INTO intake.version VALUES (0)",
    # A row for every shard from the start: there is always one to lock. Often updated, hence room for it in its page.
    'CREATE TABLE intake.head (shard text COLLATE "C" PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 40)',
    "INSERT INTO intake.head SELECT lpad(to_hex(number), 2, '0'), 0 FROM generate_series(0, 255) AS number",
    # `hash` tells a clone from a duplicate; `batch` is msgpack of what the columns don't say.
    """CREATE TABLE intake.entry (
         shard text COLLATE "C" NOT NULL, n bigint NOT NULL, gw text COLLATE "C" NOT NULL, ep text COLLATE "C" NOT NULL,
         seq bigint NOT NULL, hash bytea NOT NULL, received bigint NOT NULL, origin text NOT NULL, batch bytea NOT NULL,
         PRIMARY KEY (shard, n)) PARTITION BY LIST (shard)""",
    *_PARTITIONS,
    "CREATE UNIQUE INDEX entry_seq ON intake.entry (shard, gw, ep, seq) WHERE origin <> 'released'",
    """CREATE TABLE intake.seen (
         gw text COLLATE "C" NOT NULL, ep text COLLATE "C" NOT NULL, first bigint NOT NULL, last bigint NOT NULL,
         PRIMARY KEY (gw, ep, first)) WITH (fillfactor = 70)""",
    # A reading of entry (shard, n): by `place` in it, or below 0 when it was withheld as the entry was appended.
    """CREATE TABLE intake.held (
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shard text COLLATE "C" NOT NULL, n bigint NOT NULL,
         place int NOT NULL, gw text COLLATE "C" NOT NULL, ep text NOT NULL, boot text NOT NULL, seq bigint NOT NULL,
         reading bytea NOT NULL, reason text NOT NULL, detail text NOT NULL, since bigint NOT NULL,
         state text NOT NULL DEFAULT 'held', ended bigint, "by" text NOT NULL DEFAULT '', why text NOT NULL DEFAULT '',
         UNIQUE (shard, n, place))""",
    "CREATE INDEX held_state ON intake.held (state, reason, gw)",
    """CREATE TABLE intake.dead_letter (
         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint NOT NULL, topic text NOT NULL,
         reason text NOT NULL, body bytea NOT NULL)""",
    """CREATE TABLE intake.cursor (
         reader text NOT NULL, shard text COLLATE "C" NOT NULL, n bigint NOT NULL, PRIMARY KEY (reader, shard))""",
    """CREATE TABLE intake.claim (
         service text NOT NULL, worker text NOT NULL, first text COLLATE "C" NOT NULL, last text COLLATE "C" NOT NULL,
         holder text NOT NULL, until timestamptz NOT NULL, PRIMARY KEY (service, worker))""",
)
_SECOND = (
    # The names that the log ever had; the highest number has the present one.
    "CREATE TABLE intake.name (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL)",
    # What earlier versions noted of a store behind a network has no counterpart there: it is written once more.
    "DELETE FROM intake.cursor WHERE reader = 'telemetry'",
)
_GATEWAYS = (
    # `gw` as the topic names it, empty where it names none.
    "ALTER TABLE intake.dead_letter ADD COLUMN gw text COLLATE \"C\" NOT NULL DEFAULT ''",
    "CREATE INDEX dead_letter_gw ON intake.dead_letter (gw, id)",
    "DROP INDEX intake.held_state",
    "CREATE INDEX held_state ON intake.held (state, reason, gw, boot, id)",
    "CREATE INDEX held_gw ON intake.held (state, gw, since)",
    # How often something was wrong with what a gateway sent, ever.
    """CREATE TABLE intake.gateway_fault (
         gw text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL, n bigint NOT NULL, first bigint NOT NULL,
         last bigint NOT NULL, detail text NOT NULL, PRIMARY KEY (gw, kind))""",
    # Clocks that run behind, by so many ms.
    """CREATE TABLE intake.gateway_clock (
         gw text COLLATE "C" PRIMARY KEY, boot text NOT NULL, behind bigint NOT NULL, since bigint NOT NULL)""",
)
_CHECKSUMS = (
    # Rows of an earlier version have no checksum, and are believed.
    "ALTER TABLE intake.seen ADD COLUMN crc bigint",
)
_PRUNED = (
    # Up to where each shard was pruned: every entry above it is there. Not in `head`, whose rows every append locks.
    'CREATE TABLE intake.pruned (shard text COLLATE "C" PRIMARY KEY, n bigint NOT NULL)',
    # Earlier versions pruned what all readers had passed, and didn't note up to where.
    """INSERT INTO intake.pruned SELECT shard, greatest(0,
         (SELECT n - 1 FROM intake.entry e WHERE e.shard = h.shard ORDER BY n LIMIT 1),
         (SELECT min(n) FROM intake.cursor c WHERE c.shard = h.shard)) FROM intake.head h WHERE h.n > 0""",
)
_STEPS = (_FIRST, _SECOND, _GATEWAYS, _CHECKSUMS, _PRUNED)
"""What brings the tables from each version to the next. The first step makes them."""
VERSION = len(_STEPS)


class LogServer:
    """Transactions on the server, for any thread."""

    def __init__(self, url: str, *, make: bool = True) -> None:
        """Make the tables where they are missing, or only look with `make` false.

        Raises: NewerLog, IntakeUnavailable.
        """
        self._engine = connect(url, pool_size=CONNECTIONS)
        self._shown = self._engine.url.render_as_string(hide_password=True)
        event.listen(self._engine, "connect", _prepare)
        try:
            if make:
                self._upgrade()
                self._attach_detached()
        except (NewerLog, IntakeUnavailable):
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[Db]:
        """Yield a transaction that is durable when it ends, and did nothing when it raises.

        Each statement in it sees what was committed as it began (READ COMMITTED), after the locks that came before.

        Raises: IntakeUnavailable; psycopg.DataError for what no text of PostgreSQL can hold, which no waiting mends.
        """
        try:
            with self._engine.connect() as held:  # whose end takes back what wasn't committed
                db = cast("Db", held.connection.driver_connection)
                try:
                    yield db
                    db.commit()
                finally:
                    if db.closed:
                        held.invalidate()
        except psycopg.DataError:
            raise
        except (SQLAlchemyError, psycopg.Error) as error:
            msg = f"{self._shown}: {str(getattr(error, 'orig', error)).strip()}"
            raise IntakeUnavailable(msg) from error

    def version(self) -> int:
        """Return the version of the tables, 0 where there are none.

        Raises: NewerLog, IntakeUnavailable.
        """
        with self.transaction() as db:
            version = _version(db)
        if version > VERSION:
            msg = f"{self._shown} has version {version}, this coldchain knows {VERSION}: install the newer one again"
            raise NewerLog(msg)
        return version

    def close(self) -> None:
        """Close the connections; nobody may be using one."""
        self._engine.dispose()

    def _upgrade(self) -> None:
        if self.version() == VERSION:
            return
        with self.transaction() as db:
            db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            for step in _STEPS[_version(db) :]:
                for statement in step:
                    db.execute(statement)
            db.execute(
                "INSERT INTO intake.name (name) SELECT %s WHERE NOT EXISTS (SELECT FROM intake.name)", (fresh_name(),)
            )
            db.execute("UPDATE intake.version SET number = %s", (VERSION,))

    def _attach_detached(self) -> None:
        """Attach partitions that somebody has detached: the log needs their entries, and has no place for new ones."""
        with self.transaction() as db:
            if not _detached(db):
                return
            db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            for name, interrupted in _detached(db):
                if interrupted:
                    db.execute(f"ALTER TABLE intake.entry DETACH PARTITION intake.{name} FINALIZE")
                db.execute(f"ALTER TABLE intake.entry ATTACH PARTITION intake.{name} FOR VALUES IN ({_SHARDS[name]})")
                log.warning("detached partition attached again", table=name)


def _detached(db: Db) -> list[tuple[str, bool]]:
    return cast("list[tuple[str, bool]]", db.execute(_DETACHED, (list(_SHARDS),)).fetchall())


def make_partitions(db: Db) -> None:
    """Make the partitions that are missing."""
    for statement in _PARTITIONS:
        db.execute(statement)


def _version(db: Db) -> int:
    """Return the version of the tables, 0 where there are none."""
    (there,) = db.execute("SELECT to_regclass('intake.version') IS NOT NULL").fetchone() or (False,)
    row = db.execute("SELECT number FROM intake.version").fetchone() if there else None
    return row[0] if row else 0


def _prepare(connection: DBAPIConnection, _record: object) -> None:
    """Make commits durable even where the server is set up not to; an acknowledgement deletes the only other copy."""
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{FROZEN_WRITER_S}s'")
    cursor.close()
    connection.commit()
