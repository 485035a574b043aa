"""Durable, unchangeable log of the messages that people received, with the people themselves, in one SQLite file.

Guarantees:
* An answer with errcode 0 follows the commit (`synchronous=FULL`).
* Triggers refuse to change or delete a row of the log.
* A second message with the same `client_msg_id` to the same person within 10 minutes of real time is not added, even if
  the simulator was killed in between.
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


class ReceivedMessage(msgspec.Struct, frozen=True):
    """Message on a person's phone."""

    number: int
    """Counted from 1 without holes, over all phones."""
    at: Instant
    """Arrival, on the system's clock."""
    real: Instant
    openid: str
    name: str
    template: str
    client_msg_id: str | None
    msgid: str
    """A number as text, since it exceeds 2^53."""
    url: str
    data: dict[str, dict[str, str]]
    body: str
    """The request as it came, byte for byte."""


class Phones:
    """Phones of all people of an account. Not thread-safe."""

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
        """Return all people, sorted by name."""
        return [User(*row) for row in self._db.execute("SELECT openid, name, state FROM user ORDER BY name, openid")]

    def user(self, openid: str) -> User | None:
        row = self._db.execute("SELECT openid, name, state FROM user WHERE openid = ?", (openid,)).fetchone()
        return User(*row) if row else None

    def receive(self, body: bytes, *, at: Instant, real: Instant) -> str:
        """Add a message to a phone, unless the same one arrived there within the window; return its msgid."""
        request = msgspec.json.decode(body)
        openid, client_msg_id = request["touser"], request.get("client_msg_id")
        earlier = self._db.execute(
            "SELECT msgid FROM received WHERE openid = ? AND client_msg_id = ? AND real > ?",
            (openid, client_msg_id, real - WINDOW_MS),
        ).fetchone()
        if earlier:
            return str(earlier[0])
        msgid = str(random.randrange(2**60, 2**62))  # noqa: S311 (a number, not a secret)
        fields = msgspec.json.encode(request["data"]).decode()
        self._db.execute(
            "INSERT INTO received (at, real, openid, template, client_msg_id, msgid, url, data, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (at, real, openid, request["template_id"], client_msg_id, msgid, request.get("url", ""), fields, body),
        )
        return msgid

    def received(
        self, *, after: int = 0, before: int = 2**62, openid: str | None = None, newest: int | None = None
    ) -> Sequence[ReceivedMessage]:
        """Return messages in the order of arrival, filtered by number, person and count of the newest."""
        cursor = self._db.execute(
            "SELECT number, at, real, openid, coalesce(name, openid), template, client_msg_id, msgid, url, data,"
            " CAST(body AS TEXT)"
            " FROM received LEFT JOIN user USING (openid)"
            " WHERE number > ? AND number < ? AND (? IS NULL OR openid = ?) ORDER BY number DESC LIMIT ?",
            (after, before, openid, openid, -1 if newest is None else newest),
        )
        rows = [
            ReceivedMessage(
                number, at, real, person, name, template, client_msg_id, msgid, url, msgspec.json.decode(data), body
            )
            for number, at, real, person, name, template, client_msg_id, msgid, url, data, body in cursor
        ]
        return rows[::-1]

    def count_since(self, real: Instant) -> int:
        """Return how many messages arrived since an instant of real time; quotas count so."""
        return int(self._db.execute("SELECT count(*) FROM received WHERE real >= ?", (real,)).fetchone()[0])

    def close(self) -> None:
        self._db.close()
