"""What each of WeChat's error codes means for a message: one pure table.

Its codes come with HTTP 200; only 0 is sent. Most refusals say nothing about the message: an account, a quota or a
template is not as it should be, and the same bytes pass once that is mended. So a message is given up for two reasons
alone: its recipient can't be reached, or its text is forbidden. A code that isn't listed is taken for neither.
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
    ACCOUNT = "account"
    """The account may not send: quota of the day, secret, IP list, permission. All messages wait until it may."""
    TEMPLATE = "template"
    """Template or fields are configured wrongly: messages of this kind wait until that is mended."""
    LIMITED = "limited"
    """Too many to this person for now: this message waits."""
    UNKNOWN = "unknown"
    """A code that we don't know: this message waits, and somebody looks at it."""
    NO_SUCH_PERSON = "no_such_person"
    """The openid is none of this account. It has come for people who were reached before and after."""
    UNREACHABLE = "unreachable"
    """This person gets nothing from us: blocked, unsubscribed."""
    REFUSED = "refused"
    """Never this text."""


VERDICTS: Mapping[int, Verdict] = {
    -1: Verdict.BUSY,
    61450: Verdict.BUSY,  # system error
    45011: Verdict.SLOW_DOWN,
    40001: Verdict.TOKEN,
    40014: Verdict.TOKEN,
    41001: Verdict.TOKEN,  # token missing
    42001: Verdict.TOKEN,
    40002: Verdict.ACCOUNT,  # grant type
    40013: Verdict.ACCOUNT,  # app id
    40125: Verdict.ACCOUNT,  # secret
    40164: Verdict.ACCOUNT,  # IP address not listed
    40243: Verdict.ACCOUNT,  # secret frozen
    41002: Verdict.ACCOUNT,
    41004: Verdict.ACCOUNT,
    45009: Verdict.ACCOUNT,  # quota of the day
    45035: Verdict.ACCOUNT,  # IP address
    48001: Verdict.ACCOUNT,  # no permission for this call
    48004: Verdict.ACCOUNT,  # call banned
    48005: Verdict.ACCOUNT,
    50001: Verdict.ACCOUNT,
    50002: Verdict.ACCOUNT,  # account frozen
    61004: Verdict.ACCOUNT,  # IP address
    61007: Verdict.ACCOUNT,
    89503: Verdict.ACCOUNT,  # IP address waits for the administrator
    89506: Verdict.ACCOUNT,
    89507: Verdict.ACCOUNT,
    40036: Verdict.TEMPLATE,
    40037: Verdict.TEMPLATE,
    40039: Verdict.TEMPLATE,  # address behind the message
    40048: Verdict.TEMPLATE,
    40066: Verdict.TEMPLATE,
    43107: Verdict.TEMPLATE,  # template banned
    43116: Verdict.TEMPLATE,
    47001: Verdict.TEMPLATE,
    47003: Verdict.TEMPLATE,
    43108: Verdict.LIMITED,
    43117: Verdict.LIMITED,
    40003: Verdict.NO_SUCH_PERSON,
    43004: Verdict.UNREACHABLE,
    43019: Verdict.UNREACHABLE,
    43101: Verdict.UNREACHABLE,
    48002: Verdict.UNREACHABLE,  # switched our messages off
    45168: Verdict.REFUSED,  # forbidden words
    87014: Verdict.REFUSED,
}


def verdict(errcode: int) -> Verdict:
    """Return what an error code other than 0 means."""
    return VERDICTS.get(errcode, Verdict.UNKNOWN)


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
