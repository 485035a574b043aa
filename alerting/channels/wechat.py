"""Template messages of an official account (类目模板消息).

WeChat drops a second message with the same `client_msg_id` to the same person within 10 real minutes, so a copy sent
after a crash or a lost answer is not seen twice; a copy sent later than that may be.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from alerting.channels.port import SENDERS, Address, Message, Receipt, Recipient, Refused, Retry
from config.settings import Wechat as Settings
from core.db.engine import Records
from core.runtime.clock import monotonic
from core.wechat.client import PATIENCE, WechatClient, connect
from core.wechat.errcodes import Verdict, WechatError

MINUTE_S = 60.0
HELD_S = 180.0
"""How often a message is tried while the account may not send."""


class WechatChannel:
    """Sends as one official account, at most `rate` messages a second."""

    def __init__(self, client: WechatClient, settings: Settings) -> None:
        self.patience = PATIENCE * settings.timeout + SENDERS / settings.rate
        self._client = client
        self._templates = {
            "alarm": settings.template_alarm,
            "ops": settings.template_alarm,
            "recovery": settings.template_recovery,
            "digest": settings.template_recovery,
        }
        self._gap = 1 / settings.rate
        self._next = 0.0
        self._lock = threading.Lock()

    def send(self, message: Message, to: Address) -> Receipt:
        """Hand over; see the port."""
        if not to:
            code = "unbound"
            raise Refused(code, "this person has no WeChat binding")
        body = self._with_template(message)
        self._pace()
        try:
            return Receipt(self._client.send_template(body))
        except WechatError as error:
            raise _as_said(error) from None

    def take_over(self, message: Message, to: Recipient) -> None:  # noqa: ARG002 (the port's)
        """Answer None: WeChat is what others take over from."""
        return

    def _with_template(self, message: Message) -> bytes:
        """Put the template in where none was configured when the message was composed; else leave every byte."""
        said: dict[str, object] = msgspec.json.decode(message.body)
        if said.get("template_id"):
            return message.body
        return msgspec.json.encode({**said, "template_id": self._templates[message.kind]})

    def _pace(self) -> None:
        with self._lock:
            now = monotonic()
            mine = max(now, self._next)
            self._next = mine + self._gap
        time.sleep(mine - now)


_RETRIED: Mapping[Verdict, Mapping[str, Any]] = {
    Verdict.BUSY: {},
    Verdict.SLOW_DOWN: {"after": MINUTE_S, "channel_wide": True},
    Verdict.TOKEN: {"after": HELD_S, "channel_wide": True, "ops": True},
    Verdict.ACCOUNT: {"after": HELD_S, "channel_wide": True, "ops": True},
    Verdict.TEMPLATE: {"after": HELD_S, "held": True, "ops": True},
    Verdict.UNKNOWN: {"after": HELD_S, "held": True, "ops": True},
    Verdict.LIMITED: {"after": HELD_S, "held": True},
}
_REFUSED: Mapping[Verdict, Mapping[str, Any]] = {
    Verdict.NO_SUCH_PERSON: {"unreachable": True, "doubtful": True},
    Verdict.UNREACHABLE: {"unreachable": True},
    Verdict.REFUSED: {"ops": True},
}


def _as_said(error: WechatError) -> Retry | Refused:
    """Translate what WeChat said into the words of the port."""
    if error.means in _RETRIED:
        return Retry(error.code, error.detail, **_RETRIED[error.means])
    return Refused(error.code, error.detail, **_REFUSED[error.means])


def wechat_channel(settings: Settings, secret: str, records: Records) -> WechatChannel | None:
    """Return the channel of the configured account, None while none is: its messages stay queued and visible.

    An account without its templates is none yet: WeChat would refuse each message for good.
    """
    if not (settings.is_complete and secret):
        return None
    return WechatChannel(connect(settings, secret, records), settings)
