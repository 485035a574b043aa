"""What keeps a part from working, in kinds that a person can act on.

A service notes what it meets; its status file carries what holds now. Every way of telling (`coldchain status`,
readiness, metrics) reads the same, and `core.health.words` has the sentences.
"""

import errno
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from core.runtime.clock import real_now
from core.runtime.instant import Instant


class Kind(StrEnum):
    """What is wrong, by what mends it."""

    DISK_FULL = "disk_full"
    DISK_LOW = "disk_low"
    READ_ONLY = "read_only"
    DISK_FAILS = "disk_fails"
    DAMAGED = "damaged"
    PUT_BACK = "put_back"
    """An older copy, or a new one, is in the place of what the other stores know."""
    LOCKED = "locked"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    CERTIFICATE = "certificate"
    """One side of a TLS connection doesn't take the other's."""
    FAILS = "fails"
    """It answers that it failed."""
    LATE = "late"
    STUCK = "stuck"
    """It remembers a trouble that is over, until it is restarted."""
    NOT_READY = "not_ready"
    """There, but without what it must have, such as its tables."""
    SILENT = "silent"
    """A service that has said nothing for a while."""
    NEVER_RAN = "never_ran"
    UNCOVERED = "uncovered"
    """Shards that no living worker has claimed, while others have theirs."""
    BEHIND = "behind"
    OVERDUE = "overdue"
    UNSENT = "unsent"
    UNTOLD = "untold"
    """Nobody can be told of an alarm."""
    HELD = "held"
    """A provider refuses what it is given, and it isn't the message's fault: all of it is kept."""
    CLONED = "cloned"
    """Two boxes give the same numbers to other readings."""
    RENEWED = "renewed"
    """A spool began anew, without what the one before had not sent."""
    SET_ASIDE = "set_aside"
    """Damaged, and moved to where it can be looked at: the part goes on without it."""
    UNREADABLE = "unreadable"
    """Messages that can't be read."""
    GROWING = "growing"
    """Readings that pile up in quarantine."""
    SKEWED = "skewed"
    """Clocks that are wrong."""
    OTHER = "other"


class Trouble(msgspec.Struct, frozen=True):
    """Something that is wrong with a part now."""

    part: str
    """Such as `intake log`: a key of the catalogue of words."""
    kind: Kind
    since: Instant
    """Real time."""
    where: str = ""
    """File, folder or address."""
    detail: str = ""
    """What the program underneath said."""
    with_log: bool = False
    """The intake log is on the same disk: what happens meanwhile is what happens to it."""


_BY_ERRNO = {
    errno.ENOSPC: Kind.DISK_FULL,
    errno.EDQUOT: Kind.DISK_FULL,
    errno.EROFS: Kind.READ_ONLY,
    errno.EACCES: Kind.READ_ONLY,
    errno.EPERM: Kind.READ_ONLY,
    errno.EIO: Kind.DISK_FAILS,
    errno.ENOENT: Kind.NOT_READY,
    errno.ECONNREFUSED: Kind.UNREACHABLE,
    errno.EHOSTUNREACH: Kind.UNREACHABLE,
    errno.ENETUNREACH: Kind.UNREACHABLE,
    errno.ETIMEDOUT: Kind.NO_ANSWER,
}
_BY_SQLITE = {
    5: Kind.LOCKED,
    6: Kind.LOCKED,
    8: Kind.READ_ONLY,
    11: Kind.DAMAGED,
    13: Kind.DISK_FULL,
    14: Kind.READ_ONLY,  # can't be opened: the folder, or what SQLite must make in it
    26: Kind.DAMAGED,
}
"""Primary result codes of SQLite."""
_BY_SQLSTATE = {
    "53100": Kind.DISK_FULL,
    "25006": Kind.READ_ONLY,
    "58030": Kind.DISK_FAILS,
    "58P01": Kind.DAMAGED,  # a file of a table is missing
    "XX001": Kind.DAMAGED,  # a page's checksum is wrong, or a file of a table is too short
    "XX002": Kind.DAMAGED,  # an index
    "57014": Kind.NO_ANSWER,
    "55P03": Kind.LOCKED,
    "57P01": Kind.UNREACHABLE,
    "57P02": Kind.UNREACHABLE,
    "57P03": Kind.UNREACHABLE,
    "53300": Kind.UNREACHABLE,
    "28P01": Kind.REFUSED,
    "28000": Kind.REFUSED,
    "42501": Kind.REFUSED,
    "42P01": Kind.NOT_READY,
    "3D000": Kind.NOT_READY,
}
_BY_TEXT = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (Kind.DAMAGED, r"cannot read corrupt file"),  # InfluxDB 2, until it is restarted without that file
        (Kind.STUCK, r"opening shard previously failed"),  # InfluxDB 2, once its disk was full
        (Kind.PUT_BACK, r"an older copy|was replaced or deleted"),
        (Kind.DISK_FULL, r"no space left|disk is full|disk quota|answered 507"),
        (Kind.READ_ONLY, r"read-?only (file ?system|database|transaction)|readonly database|permission denied"),
        (Kind.CERTIFICATE, r"certificate|unknown ca\b|hostname mismatch"),
        (Kind.REFUSED, r"answered 40[13]\b|password authentication|not authori[sz]ed|bad user name"),
        (Kind.NO_ANSWER, r"timed? ?out|timeout|no answer for|keep alive"),
        (Kind.UNREACHABLE, r"refused|no broker at|unreachable|name or service|reset by peer|closed the connection"),
        (Kind.UNREACHABLE, r"broken pipe|name resolution|EOF occurred"),
        (
            Kind.UNREACHABLE,
            r"connection aborted|server closed|starting up|shutting down|in recovery|connection (is )?lost",
        ),
        (
            Kind.UNREACHABLE,
            r"network is|unspecified error|failed to resolve|not connected|closed unexpectedly|consuming input failed",
        ),
        (Kind.NOT_READY, r"bucket .{0,99}not found|could not find bucket"),
        (Kind.FAILS, r"answered 5\d\d"),
        (Kind.NOT_READY, r"no such table|does not exist"),
        (Kind.DAMAGED, r"malformed|not a database|damaged"),
        (Kind.LOCKED, r"locked"),
        (Kind.DISK_FAILS, r"disk i/o|input/output"),
    )
)


def kind_of(error: BaseException | str) -> Kind:
    """Return what an error comes to. Of a chain the innermost code that says something counts, else the words."""
    if isinstance(error, str):
        return next((kind for kind, words in _BY_TEXT if words.search(error)), Kind.OTHER)
    chain = list(_chain(error))
    for each in reversed(chain):
        found = _by_code(each)
        if found is not None and found is not Kind.DISK_FAILS:
            return found
    texts = [kind_of(str(each)) for each in chain]
    known = [kind for kind in texts if kind is not Kind.OTHER]
    if known:
        return known[0]
    return Kind.NO_ANSWER if any(isinstance(each, TimeoutError) for each in chain) else Kind.OTHER


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or getattr(each, "orig", None) or each.__context__


def _by_code(error: BaseException) -> Kind | None:
    """Read the code that a system call, SQLite or PostgreSQL gave; their classes aren't known on an edge box."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return _BY_SQLITE.get(code & 0xFF)
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return _BY_SQLSTATE.get(state)
    # Of these two the number is no errno: a certificate's would read as a file that may not be written.
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ssl.SSLError | socket.gaierror):
        return _BY_ERRNO.get(error.errno)
    return None


class Troubles:
    """What is wrong in one process now, by part. Any thread may note."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[str, Trouble] = {}

    def note(self, part: str, error: BaseException | str | None, *, where: str = "", kind: Kind | None = None) -> bool:
        """Say what keeps a part from working, None when nothing does any more; returns whether that is news.

        The same kind again is none: errors of one outage differ in numbers and addresses, and would flood the log.
        """
        with self._lock:
            known = self._now.get(part)
            if error is None or error == "":
                self._now.pop(part, None)
                return known is not None
            kind = kind or kind_of(error)
            said = first_line(error)
            same = known is not None and known.kind is kind and (kind is not Kind.OTHER or known.detail == said)
            since = known.since if known is not None and same else real_now()
            self._now[part] = Trouble(part, kind, since, where, said)
            return not same

    def set(self, troubles: Sequence[Trouble]) -> bool:
        """Replace all by what is wrong now; each keeps since when it is. Returns whether any is news, or over."""
        with self._lock:
            known, self._now = self._now, {}
            for each in troubles:
                old = known.get(each.part)
                since = old.since if old and old.kind is each.kind else each.since
                self._now[each.part] = msgspec.structs.replace(each, since=since)
            return known.keys() != self._now.keys()

    def now(self) -> list[Trouble]:
        """Return what holds now."""
        with self._lock:
            return list(self._now.values())


def first_line(error: BaseException | str) -> str:
    """Return what an error says, in one line of bounded length."""
    said = str(error).strip() or type(error).__name__
    return said.splitlines()[0][:500]
