"""Troubles of a process: what keeps its parts from working, in kinds that a person can act on.

A service notes a trouble when it meets one; its status file has those that exist now. `coldchain status`, readiness and
metrics all read that file, and `core.health.trouble_text` has the sentences.
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


class TroubleKind(StrEnum):
    """Kind of trouble; each kind needs a different remedy."""

    DISK_FULL = "disk_full"
    DISK_LOW = "disk_low"
    READ_ONLY = "read_only"
    DISK_FAILS = "disk_fails"
    DAMAGED = "damaged"
    PUT_BACK = "put_back"
    """A store was replaced by an older copy, or by a new empty one, and no longer agrees with the other stores."""
    INCOMPLETE = "incomplete"
    """The intake log has lost entries that readers have not followed."""
    LOCKED = "locked"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    CERTIFICATE = "certificate"
    """One side of a TLS connection doesn't accept the other's certificate."""
    FAILS = "fails"
    """It answers with an error of its own, such as HTTP 500."""
    LATE = "late"
    STUCK = "stuck"
    """It keeps failing after the cause is gone, until it is restarted."""
    NOT_READY = "not_ready"
    """It exists, but lacks something that it needs, such as its tables."""
    SILENT = "silent"
    """A service has written no status for a while."""
    NEVER_RAN = "never_ran"
    UNCOVERED = "uncovered"
    """No living worker has claimed some shards."""
    BEHIND = "behind"
    OVERDUE = "overdue"
    UNSENT = "unsent"
    UNTOLD = "untold"
    """There is nobody to notify of an alarm."""
    HELD = "held"
    """A provider refuses messages for a reason that isn't in the message; they are kept until it accepts them."""
    CLONED = "cloned"
    """Two boxes use the same sequence numbers for different readings."""
    NUMBERS_DAMAGED = "numbers_damaged"
    """The log no longer knows which batches it has of a gateway, and takes in none of it."""
    RENEWED = "renewed"
    """A spool began again, without the unsent batches of the one before."""
    SET_ASIDE = "set_aside"
    """A damaged file was moved away for inspection; the part goes on without it."""
    UNREADABLE = "unreadable"
    """Messages can't be decoded."""
    GROWING = "growing"
    """Readings pile up in quarantine."""
    SKEWED = "skewed"
    """Clocks of gateways are wrong."""
    OTHER = "other"


class Trouble(msgspec.Struct, frozen=True):
    """Current trouble of a part."""

    part: str
    """Such as `intake log`; a key of the catalogue of words."""
    kind: TroubleKind
    since: Instant
    """Real time."""
    where: str = ""
    """File, folder or address."""
    detail: str = ""
    """Message of the library or server that failed."""
    with_log: bool = False
    """The intake log is on the same disk, so it has the same trouble."""


_BY_ERRNO = {
    errno.ENOSPC: TroubleKind.DISK_FULL,
    errno.EDQUOT: TroubleKind.DISK_FULL,
    errno.EROFS: TroubleKind.READ_ONLY,
    errno.EACCES: TroubleKind.READ_ONLY,
    errno.EPERM: TroubleKind.READ_ONLY,
    errno.EIO: TroubleKind.DISK_FAILS,
    errno.ENOENT: TroubleKind.NOT_READY,
    errno.ECONNREFUSED: TroubleKind.UNREACHABLE,
    errno.EHOSTUNREACH: TroubleKind.UNREACHABLE,
    errno.ENETUNREACH: TroubleKind.UNREACHABLE,
    errno.ETIMEDOUT: TroubleKind.NO_ANSWER,
}
_BY_SQLITE = {
    5: TroubleKind.LOCKED,
    6: TroubleKind.LOCKED,
    8: TroubleKind.READ_ONLY,
    11: TroubleKind.DAMAGED,
    13: TroubleKind.DISK_FULL,
    14: TroubleKind.READ_ONLY,  # can't be opened: the folder, or what SQLite must make in it
    26: TroubleKind.DAMAGED,
}
"""Primary result codes of SQLite."""
_BY_SQLSTATE = {
    "53100": TroubleKind.DISK_FULL,
    "25006": TroubleKind.READ_ONLY,
    "58030": TroubleKind.DISK_FAILS,
    "58P01": TroubleKind.DAMAGED,  # a file of a table is missing
    "XX001": TroubleKind.DAMAGED,  # a page's checksum is wrong, or a file of a table is too short
    "XX002": TroubleKind.DAMAGED,  # an index
    "57014": TroubleKind.NO_ANSWER,
    "55P03": TroubleKind.LOCKED,
    "57P01": TroubleKind.UNREACHABLE,
    "57P02": TroubleKind.UNREACHABLE,
    "57P03": TroubleKind.UNREACHABLE,
    "53300": TroubleKind.UNREACHABLE,
    "28P01": TroubleKind.REFUSED,
    "28000": TroubleKind.REFUSED,
    "42501": TroubleKind.REFUSED,
    "42P01": TroubleKind.NOT_READY,
    "3D000": TroubleKind.NOT_READY,
}
_BY_TEXT = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (TroubleKind.INCOMPLETE, r"entries \d+ to \d+ are missing"),
        (TroubleKind.DAMAGED, r"cannot read corrupt file"),  # InfluxDB 2, until it is restarted without that file
        (TroubleKind.STUCK, r"opening shard previously failed"),  # InfluxDB 2, once its disk was full
        (TroubleKind.PUT_BACK, r"an older copy|was replaced or deleted"),
        (TroubleKind.DISK_FULL, r"no space left|disk is full|disk quota|answered 507"),
        (TroubleKind.READ_ONLY, r"read-?only (file ?system|database|transaction)|readonly database|permission denied"),
        (TroubleKind.CERTIFICATE, r"certificate|unknown ca\b|hostname mismatch"),
        (TroubleKind.REFUSED, r"answered 40[13]\b|password authentication|not authori[sz]ed|bad user name"),
        (TroubleKind.NO_ANSWER, r"timed? ?out|timeout|no answer for|keep alive"),
        (
            TroubleKind.UNREACHABLE,
            r"refused|no broker at|unreachable|name or service|reset by peer|closed the connection",
        ),
        (TroubleKind.UNREACHABLE, r"broken pipe|name resolution|EOF occurred"),
        (
            TroubleKind.UNREACHABLE,
            r"connection aborted|server closed|starting up|shutting down|in recovery|connection (is )?lost",
        ),
        (
            TroubleKind.UNREACHABLE,
            r"network is|unspecified error|failed to resolve|not connected|closed unexpectedly|consuming input failed",
        ),
        (TroubleKind.NOT_READY, r"bucket .{0,99}not found|could not find bucket"),
        (TroubleKind.FAILS, r"answered 5\d\d"),
        (TroubleKind.NOT_READY, r"no such table|does not exist"),
        (TroubleKind.DAMAGED, r"malformed|not a database|damaged"),
        (TroubleKind.LOCKED, r"locked"),
        (TroubleKind.DISK_FAILS, r"disk i/o|input/output"),
    )
)


def kind_of(error: BaseException | str) -> TroubleKind:
    """Return the kind of an error: by the innermost known code in its chain, otherwise by the words of its messages."""
    if isinstance(error, str):
        return next((kind for kind, pattern in _BY_TEXT if pattern.search(error)), TroubleKind.OTHER)
    chain = list(_chain(error))
    for link in reversed(chain):
        kind = _kind_by_code(link)
        if kind is not None and kind is not TroubleKind.DISK_FAILS:
            return kind
    kinds_by_text = [kind_of(str(link)) for link in chain]
    known = [kind for kind in kinds_by_text if kind is not TroubleKind.OTHER]
    if known:
        return known[0]
    return TroubleKind.NO_ANSWER if any(isinstance(link, TimeoutError) for link in chain) else TroubleKind.OTHER


def _chain(error: BaseException) -> Iterator[BaseException]:
    visited: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in visited:
        visited.add(id(link))
        yield link
        link = link.__cause__ or getattr(link, "orig", None) or link.__context__


def _kind_by_code(error: BaseException) -> TroubleKind | None:
    """Return the kind by the error's code. The drivers' classes aren't used, since an edge box doesn't have them."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        return _BY_SQLITE.get(code & 0xFF)
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return _BY_SQLSTATE.get(state)
    # In SSLError and gaierror the number is no errno: that of a certificate error equals EPERM.
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ssl.SSLError | socket.gaierror):
        return _BY_ERRNO.get(error.errno)
    return None


class Troubles:
    """Current troubles of a process, by part. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[str, Trouble] = {}

    def note(
        self, part: str, error: BaseException | str | None, *, where: str = "", kind: TroubleKind | None = None
    ) -> bool:
        """Set the trouble of a part, or clear it with None; return whether that is a change.

        A trouble of the same kind is no change: errors of one outage differ in numbers and addresses, and would flood
        the log.
        """
        with self._lock:
            previous = self._now.get(part)
            if error is None or error == "":
                self._now.pop(part, None)
                return previous is not None
            kind = kind or kind_of(error)
            detail = first_line(error)
            is_same = (
                previous is not None
                and previous.kind is kind
                and (kind is not TroubleKind.OTHER or previous.detail == detail)
            )
            since = previous.since if previous is not None and is_same else real_now()
            self._now[part] = Trouble(part, kind, since, where, detail)
            return not is_same

    def set(self, troubles: Sequence[Trouble]) -> bool:
        """Replace all troubles, keeping `since` of those that go on; return whether a part was added or removed."""
        with self._lock:
            previous, self._now = self._now, {}
            for trouble in troubles:
                old = previous.get(trouble.part)
                since = old.since if old and old.kind is trouble.kind else trouble.since
                self._now[trouble.part] = msgspec.structs.replace(trouble, since=since)
            return previous.keys() != self._now.keys()

    def now(self) -> list[Trouble]:
        """Return the current troubles."""
        with self._lock:
            return list(self._now.values())


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error's message, at most 500 characters of it."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:500]
