"""How a message is handed over, whichever way it goes. `tests/contract/test_channel.py` is its definition.

Accepted is not delivered, delivered is not read: escalation looks at the temperature, never at a receipt.
"""

from typing import Protocol

import msgspec

SENDERS = 16
"""Threads that hand over at once: so many may stand in line before a channel that paces itself."""

Address = str
"""What a channel knows a person by: an openid, a phone number."""


class Message(msgspec.Struct, frozen=True):
    """What is handed over: the stored body, byte for byte, and the key by which a copy is recognised."""

    key: str
    """Of the outbox row."""
    kind: str
    body: bytes


class Recipient(msgspec.Struct, frozen=True):
    """How a person can be reached, as the records keep it: the phone number is encrypted."""

    openid: str | None
    phone: bytes | None


class Receipt(msgspec.Struct, frozen=True):
    """The provider took it. `number` is the provider's own, as text (it exceeds 2^53)."""

    number: str


class NotSent(Exception):
    """The provider did not say that it took the message. `code` is its word for why, short enough for a column."""

    def __init__(self, code: str, detail: str = "", *, ops: bool = False) -> None:
        """`ops`: it isn't about this message or this person; someone has to mend something."""
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.ops = ops


class Retry(NotSent):
    """Try the same bytes again later: it may or may not have arrived, and a copy does no harm.

    Whatever isn't this message's own fault is this: a provider's quota, an account that is shut out, a template that is
    configured wrongly. A message is never given up for what somebody may mend.
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
        """`after`: seconds at least (None: the usual back-off); `channel_wide`: no other message would pass before.

        `held`: this message alone waits for what won't be otherwise soon: longer each time, and another channel may
        take it meanwhile.
        """
        super().__init__(code, detail, ops=ops)
        self.after = after
        self.channel_wide = channel_wide
        self.held = held


class Refused(NotSent):
    """This channel will never carry this message. `unreachable`: nor any other to this person, until they come back."""

    def __init__(
        self, code: str, detail: str = "", *, unreachable: bool = False, doubtful: bool = False, ops: bool = False
    ) -> None:
        """`doubtful`: it may be a passing fault of the provider, so who counts as reachable gets one more try soon."""
        super().__init__(code, detail, ops=ops)
        self.unreachable = unreachable
        self.doubtful = doubtful


class Channel(Protocol):
    """One way to reach a person. Used by several threads at once."""

    patience: float
    """Seconds after which `send` has come back, whatever the other side does: a lease must be longer."""

    def send(self, message: Message, to: Address) -> Receipt:
        """Hand over.

        Raises: Retry, Refused.
        """

    def take_over(self, message: Message, to: Recipient) -> tuple[Address, bytes] | None:
        """Return address and body with which this channel would carry what WeChat refused; None when it can't."""
