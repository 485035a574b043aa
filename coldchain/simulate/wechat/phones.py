"""What people really received: a log that is durable once WeChat has said yes, and that nothing can change.

Guarantees: an answer with errcode 0 follows the commit (`synchronous=FULL`); triggers refuse any change or removal of a
row; a second message with the same `client_msg_id` to the same person within 10 real minutes adds none, also when the
simulator was killed in between. People and their state are kept beside it.
"""

import random
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from coldchain.simulate.wechat.account import User
from core.runtime.instant import Instant

WINDOW_MS = 600_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS user (openid TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS received (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL, real INTEGER NOT NULL, openid TEXT NOT NULL, template TEXT NOT NULL,
    client_msg_id TEXT, msgid TEXT NOT NULL, url TEXT NOT NULL, data TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS received_once ON received (openid, client_msg_id, real);
CREATE INDEX IF NOT EXISTS received_real ON received (real);
CREATE TRIGGER IF NOT EXISTS received_stays BEFORE UPDATE ON received
BEGIN SELECT RAISE(ABORT, 'what was received stays'); END;
CREATE TRIGGER IF NOT EXISTS received_remains BEFORE DELETE ON received
BEGIN SELECT RAISE(ABORT, 'what was received remains'); END;
"""


class Received(msgspec.Struct, frozen=True):
    """A message on a person's phone."""

    number: int
    """Counts up by one, over all phones."""
    at: Instant
    """On the clock that the system works by."""
    real: Instant
    openid: str
    name: str
    template: str
    client_msg_id: str | None
    msgid: str
    """As text: it exceeds 2^53."""
    url: str
    data: dict[str, dict[str, str]]
    body: str
    """The request as it came, byte for byte."""


class Phones:
    """The phones of an account, in one SQLite file. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "phones.db", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def register(self, users: Iterable[User]) -> None:
        """Add people, or change their name and state."""
        self._db.execute("BEGIN IMMEDIATE")
        rows = [(user.openid, user.name, user.state) for user in users]
        self._db.executemany("INSERT OR REPLACE INTO user VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def users(self) -> list[User]:
        """Return everybody, by name."""
        return [User(*row) for row in self._db.execute("SELECT openid, name, state FROM user ORDER BY name, openid")]

    def user(self, openid: str) -> User | None:
        """Return one person."""
        row = self._db.execute("SELECT openid, name, state FROM user WHERE openid = ?", (openid,)).fetchone()
        return User(*row) if row else None

    def receive(self, body: bytes, *, at: Instant, real: Instant) -> str:
        """Put a message on its person's phone unless it has been there for less than the window; returns its msgid."""
        said = msgspec.json.decode(body)
        openid, once = said["touser"], said.get("client_msg_id")
        seen = self._db.execute(
            "SELECT msgid FROM received WHERE openid = ? AND client_msg_id = ? AND real > ?",
            (openid, once, real - WINDOW_MS),
        ).fetchone()
        if seen:
            return str(seen[0])
        msgid = str(random.randrange(2**60, 2**62))  # noqa: S311 (a number, not a secret)
        fields = msgspec.json.encode(said["data"]).decode()
        self._db.execute(
            "INSERT INTO received (at, real, openid, template, client_msg_id, msgid, url, data, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (at, real, openid, said["template_id"], once, msgid, said.get("url", ""), fields, body),
        )
        return msgid

    def received(
        self, *, after: int = 0, before: int = 2**62, openid: str | None = None, newest: int | None = None
    ) -> Sequence[Received]:
        """Return messages in the order of arrival: those between two numbers, of one person, the last few."""
        found = self._db.execute(
            "SELECT number, at, real, openid, coalesce(name, openid), template, client_msg_id, msgid, url, data,"
            " CAST(body AS TEXT)"
            " FROM received LEFT JOIN user USING (openid)"
            " WHERE number > ? AND number < ? AND (? IS NULL OR openid = ?) ORDER BY number DESC LIMIT ?",
            (after, before, openid, openid, -1 if newest is None else newest),
        )
        rows = [
            Received(number, at, real, person, name, template, once, msgid, url, msgspec.json.decode(data), body)
            for number, at, real, person, name, template, once, msgid, url, data, body in found
        ]
        return rows[::-1]

    def count_since(self, real: Instant) -> int:
        """Return how many messages arrived since a real moment: what quotas look at."""
        return int(self._db.execute("SELECT count(*) FROM received WHERE real >= ?", (real,)).fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()
