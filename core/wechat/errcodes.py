"""What each of WeChat's error codes means for a message: one pure table.

Its codes come with HTTP 200; only 0 is sent. A code that isn't listed is REFUSED: the message goes another way, and a
person looks at it.
"""

from collections.abc import Mapping
from enum import StrEnum


class Verdict(StrEnum):
    """What to do."""

    BUSY = "busy"
    """Back off; the same id again."""
    SLOW_DOWN = "slow_down"
    """Too many a minute: nothing passes for a minute."""
    TOKEN = "token"  # noqa: S105 (not a secret: it says that the token is bad)
    """The token is bad: another one, and once more."""
    UNREACHABLE = "unreachable"
    """This person gets nothing from us: blocked, unsubscribed, unknown."""
    MESSAGE = "message"
    """This body will never pass: template or fields are configured wrongly."""
    ACCOUNT = "account"
    """The account may not send: secret, IP list, permission. It may be mended; then the message passes."""
    REFUSED = "refused"
    """Not this message, for another reason: today's quota, content."""


VERDICTS: Mapping[int, Verdict] = {
    -1: Verdict.BUSY,
    45011: Verdict.SLOW_DOWN,
    40001: Verdict.TOKEN,
    40014: Verdict.TOKEN,
    42001: Verdict.TOKEN,
    40003: Verdict.UNREACHABLE,
    43004: Verdict.UNREACHABLE,
    43019: Verdict.UNREACHABLE,
    43101: Verdict.UNREACHABLE,
    40036: Verdict.MESSAGE,
    40037: Verdict.MESSAGE,
    43116: Verdict.MESSAGE,
    47003: Verdict.MESSAGE,
    40013: Verdict.ACCOUNT,
    40125: Verdict.ACCOUNT,
    40164: Verdict.ACCOUNT,
    48001: Verdict.ACCOUNT,
    48004: Verdict.ACCOUNT,
    50002: Verdict.ACCOUNT,
    89503: Verdict.ACCOUNT,
    43117: Verdict.REFUSED,
    45009: Verdict.REFUSED,
}


def verdict(errcode: int) -> Verdict:
    """Return what an error code other than 0 means."""
    return VERDICTS.get(errcode, Verdict.REFUSED)


class NoAnswer(StrEnum):
    """Our words for what was no answer of WeChat; `http_502` and its like besides. All mean BUSY."""

    TIMEOUT = "timeout"
    NO_CONNECTION = "no_connection"
    BROKEN = "broken_answer"
    NOT_JSON = "not_json"
    NO_ERRCODE = "no_errcode"
    NO_TOKEN = "no_token"  # noqa: S105 (not a secret)
    """Another process has been fetching one for too long."""


class WechatError(Exception):
    """WeChat did not do what it was asked. `code` is its errcode as text, or ours; no text holds token or secret."""

    def __init__(self, code: int | str, detail: str = "", *, means: Verdict | None = None) -> None:
        """`means` overrides the table."""
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = str(code)
        self.detail = detail
        self.means = means or (verdict(code) if isinstance(code, int) else Verdict.BUSY)
