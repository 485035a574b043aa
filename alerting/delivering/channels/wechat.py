"""WeChat channel: template messages of an official account (类目模板消息).

WeChat drops a second message with the same `client_msg_id` to the same person within 10 real minutes. So a person
doesn't see a copy that is sent after a crash or a lost answer; a copy that is sent later may be seen.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from alerting.delivering.channels.port import (
    SENDERS,
    Address,
    MessageRefused,
    OutgoingMessage,
    Receipt,
    Recipient,
    RetryLater,
)
from config.settings import WechatSettings as Settings
from core.alarms.states import NotificationKind
from core.db.engine import Records
from core.runtime.clock import monotonic
from core.wechat.client import TIMEOUTS_A_SEND, WechatClient, connect
from core.wechat.errcodes import Verdict, WechatError

MINUTE_S = 60.0
HELD_S = 180.0
"""Seconds between two tries of a message while the account may not send."""


class WechatChannel:
    """Sender of one official account, at most `rate` messages a second."""

    def __init__(self, client: WechatClient, settings: Settings) -> None:
        self.longest_send_s = TIMEOUTS_A_SEND * settings.timeout + SENDERS / settings.rate
        self._client = client
        self._templates = {
            NotificationKind.ALARM: settings.template_alarm,
            NotificationKind.OPS: settings.template_alarm,
            NotificationKind.RECOVERY: settings.template_recovery,
            NotificationKind.DIGEST: settings.template_recovery,
        }
        self._gap = 1 / settings.rate
        self._next = 0.0
        self._lock = threading.Lock()

    def send(self, message: OutgoingMessage, to: Address) -> Receipt:
        """Hand a message over; see the port."""
        if not to:
            code = "unbound"
            raise MessageRefused(code, "this person has no WeChat binding")
        body = self._with_template(message)
        self._pace()
        try:
            return Receipt(self._client.send_template(body))
        except WechatError as error:
            raise _port_error(error) from None

    def take_over(self, message: OutgoingMessage, to: Recipient) -> None:  # noqa: ARG002 (the port's)
        """Return None: other channels take over from WeChat, never the reverse."""
        return

    def _with_template(self, message: OutgoingMessage) -> bytes:
        """Add the template when none was configured at composing; else leave every byte."""
        body: dict[str, object] = msgspec.json.decode(message.body)
        if body.get("template_id"):
            return message.body
        return msgspec.json.encode({**body, "template_id": self._templates[message.kind]})

    def _pace(self) -> None:
        with self._lock:
            now = monotonic()
            send_at = max(now, self._next)
            self._next = send_at + self._gap
        time.sleep(send_at - now)


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


def _port_error(error: WechatError) -> RetryLater | MessageRefused:
    """Translate WeChat's error into an error of the port."""
    if error.means in _RETRIED:
        return RetryLater(error.code, error.detail, **_RETRIED[error.means])
    return MessageRefused(error.code, error.detail, **_REFUSED[error.means])


def wechat_channel(settings: Settings, secret: str, records: Records) -> WechatChannel | None:
    """Return the channel of the configured account; None without one: its messages stay queued and visible.

    An account without templates counts as none: WeChat would refuse each message for good.
    """
    if not (settings.is_complete and secret):
        return None
    return WechatChannel(connect(settings, secret, records), settings)
