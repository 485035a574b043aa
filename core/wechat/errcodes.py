"""WeChat error codes and their meaning for a message, as one pure table.

The codes come with HTTP 200; only 0 means that the message was sent. Most of them are not about the message: there is a
problem with the account, a quota or a template, and the same message is accepted once that is fixed. So a message is
given up for two reasons only: its recipient can't be reached, or its text is forbidden. An unlisted code means neither.
"""

from collections.abc import Mapping
from enum import StrEnum


class Verdict(StrEnum):
    """Meaning of an error code, and so what to do."""

    BUSY = "busy"
    """Back off, then send again with the same id."""
    SLOW_DOWN = "slow_down"
    """Too many messages a minute. Nothing is accepted for a minute."""
    TOKEN = "token"  # noqa: S105 (not a secret: it says that the token is bad)
    """The token is invalid. Get another one and send again, once."""
    ACCOUNT = "account"
    """The account may not send: daily quota, secret, IP list, permission. All messages wait until it may."""
    TEMPLATE = "template"
    """The template or its fields are configured wrongly. Messages of this kind wait until that is fixed."""
    LIMITED = "limited"
    """Too many messages to this person for now. This message waits."""
    UNKNOWN = "unknown"
    """An unlisted code. This message waits, and a person must look at it."""
    NO_SUCH_PERSON = "no_such_person"
    """The openid is none of this account. WeChat has also answered so for people reached before and afterwards."""
    UNREACHABLE = "unreachable"
    """This person gets no messages of the account: blocked or unsubscribed."""
    REFUSED = "refused"
    """This text is never accepted."""


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
    48002: Verdict.UNREACHABLE,  # has switched the account's messages off
    45168: Verdict.REFUSED,  # forbidden words
    87014: Verdict.REFUSED,
}


def verdict(errcode: int) -> Verdict:
    """Return the meaning of an error code other than 0."""
    return VERDICTS.get(errcode, Verdict.UNKNOWN)


class NoAnswer(StrEnum):
    """Codes of this module for a missing or invalid answer, beside `http_502` and the like. All mean BUSY."""

    TIMEOUT = "timeout"
    NO_CONNECTION = "no_connection"
    BROKEN = "broken_answer"
    NOT_JSON = "not_json"
    NO_ERRCODE = "no_errcode"
    NO_TOKEN = "no_token"  # noqa: S105 (not a secret)
    """Another process has been fetching the token for too long."""


class WechatError(Exception):
    """Failed call of WeChat. `code` is its errcode as text, or a `NoAnswer`. The text never has a token or secret."""

    def __init__(self, code: int | str, detail: str = "", *, means: Verdict | None = None) -> None:
        """Take the meaning from the table unless `means` is given."""
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = str(code)
        self.detail = detail
        self.means = means or (verdict(code) if isinstance(code, int) else Verdict.BUSY)
