"""Topics of the wire contract: `cc/v1/{shard}/{gw}/up|down/{kind}`."""

import re
from enum import StrEnum
from functools import lru_cache

import msgspec

from core.wire.shards import CACHED_ANSWERS, GatewayNumber, Shard, shard_of

GATEWAY_NUMBER = re.compile(r"[A-Za-z0-9_-]{1,32}")
UP = "cc/v1/+/+/up/#"
"""Topic filter of all messages from gateways."""


_LEVELS = 6


class MessageKind(StrEnum):
    """Last two levels of a topic: the direction and the kind of message."""

    DATA = "up/data"
    BACKFILL = "up/backfill"
    BIRTH = "up/birth"
    STATE = "up/state"
    HEALTH = "up/health"
    ACK = "down/ack"
    CONFIG = "down/config"


class Topic(msgspec.Struct, frozen=True, gc=False):
    """Topic of one gateway."""

    gw: GatewayNumber
    kind: MessageKind

    @property
    def shard(self) -> Shard:
        """Return the shard of the gateway."""
        return shard_of(self.gw)

    def __str__(self) -> str:
        return f"cc/v1/{self.shard}/{self.gw}/{self.kind}"


class WrongTopic(ValueError):
    """A topic that is not in the contract, or whose shard isn't that of its gateway."""


@lru_cache(CACHED_ANSWERS)
def parse_topic(topic: str) -> Topic:
    """Parse a topic.

    Raises: WrongTopic, which says what level is wrong.
    """
    parts = topic.split("/")
    if len(parts) != _LEVELS or parts[:2] != ["cc", "v1"]:
        msg = f"topic {topic!r} is not cc/v1/<shard>/<gateway>/up|down/<kind>"
        raise WrongTopic(msg)
    gw = GatewayNumber(parts[3])
    if not GATEWAY_NUMBER.fullmatch(gw):
        msg = f"topic {topic!r}: gateway {gw!r} is not 1 to 32 of A-Z a-z 0-9 _ -"
        raise WrongTopic(msg)
    if parts[2] != shard_of(gw):
        msg = f"topic {topic!r}: shard of gateway {gw} is {shard_of(gw)}, not {parts[2]}"
        raise WrongTopic(msg)
    try:
        return Topic(gw, MessageKind("/".join(parts[4:])))
    except ValueError:
        msg = f"topic {topic!r}: no such kind of message as {'/'.join(parts[4:])}"
        raise WrongTopic(msg) from None


def sender_of(topic: str) -> str:
    """Return the gateway number in a topic, even if other levels are wrong; empty if there is none."""
    parts = topic.split("/")
    sender = parts[3] if len(parts) >= _LEVELS and parts[:2] == ["cc", "v1"] else ""
    return sender if GATEWAY_NUMBER.fullmatch(sender) else ""


def wake_topic(shard: Shard) -> str:
    """Return the topic that signals alerting that the intake log of a shard has new entries."""
    return f"cc/v1/wake/{shard}"
