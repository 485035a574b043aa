"""Port of a channel: how a message is handed over. `tests/contract/test_channel.py` is its definition.

Accepted is not delivered, and delivered is not read: escalation looks at the temperature, never at a receipt.
"""

from typing import Protocol

import msgspec

from core.alarms.states import NotificationKind

SENDERS = 16
"""Threads that send at once: so many may queue before a channel that limits its own rate."""

Address = str
"""Address of a person on a channel: an openid, a phone number."""


class OutgoingMessage(msgspec.Struct, frozen=True):
    """Message as it is sent: the stored body, byte for byte, and the key that identifies a copy."""

    key: str
    """Key of the outbox row."""
    kind: NotificationKind
    body: bytes


class Recipient(msgspec.Struct, frozen=True):
    """Ways to reach a person, as the records keep them: the phone number is encrypted."""

    openid: str | None
    phone: bytes | None


class Receipt(msgspec.Struct, frozen=True):
    """Proof that the provider took it. `number` is the provider's own, as text (it exceeds 2^53)."""

    number: str


class NotSent(Exception):
    """Failure: the provider didn't confirm. `code` is its short reason, which fits a column."""

    def __init__(self, code: str, detail: str = "", *, ops: bool = False) -> None:
        """`ops`: the cause is neither this message nor this person; somebody has to repair something."""
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.ops = ops


class RetryLater(NotSent):
    """Failure after which the same bytes are tried again: the message may have arrived, and a copy does no harm.

    Every cause outside the message itself belongs here: a provider's quota, a blocked account, a wrongly configured
    template. A message is never given up for something that somebody can repair.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        after: float | None = None,
        channel_wide: bool = False,
        held: bool = False,
        ops: bool = False,
    ) -> None:
        """`after`: minimum seconds (None: the usual back-off); `channel_wide`: until then no other message passes.

        `held`: this message alone waits for something that won't change soon. Its waits get longer each time, and
        another channel may take it meanwhile.
        """
        super().__init__(code, detail, ops=ops)
        self.after = after
        self.channel_wide = channel_wide
        self.held = held


class MessageRefused(NotSent):
    """Failure for good on this channel. `unreachable`: no message reaches this person until they return."""

    def __init__(
        self, code: str, detail: str = "", *, unreachable: bool = False, doubtful: bool = False, ops: bool = False
    ) -> None:
        """`doubtful`: the fault may pass, so a person who counts as reachable gets one more try soon."""
        super().__init__(code, detail, ops=ops)
        self.unreachable = unreachable
        self.doubtful = doubtful


class Channel(Protocol):
    """One way to reach a person. Several threads use it at once."""

    longest_send_s: float
    """Seconds after which `send` has returned, whatever the other side does. A lease must be longer."""

    def send(self, message: OutgoingMessage, to: Address) -> Receipt:
        """Hand a message over to the provider.

        Raises: RetryLater, MessageRefused.
        """

    def take_over(self, message: OutgoingMessage, to: Recipient) -> tuple[Address, bytes] | None:
        """Return address and body with which this channel would carry what WeChat refused; None when it can't."""
