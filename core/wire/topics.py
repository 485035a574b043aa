"""Where a message travels: `cc/v1/{shard}/{gw}/up|down/{kind}`."""

import hashlib
import re
from enum import StrEnum
from functools import lru_cache
from typing import NewType

import msgspec

GatewayNumber = NewType("GatewayNumber", str)
"""Number of a gateway, unique in the system: 1 to 32 of A-Z a-z 0-9 _ -."""

Shard = NewType("Shard", str)
"""Two lower-case hex digits: first byte of SHA-256 of the gateway number."""

GATEWAY_NUMBER = re.compile(r"[A-Za-z0-9_-]{1,32}")
UP = "cc/v1/+/+/up/#"
"""Filter of everything that gateways say."""


_LEVELS = 6
_REMEMBERED = 16_384
"""Gateways and topics whose answer is remembered: the same ones come again every minute."""


class Kind(StrEnum):
    """Last two levels of a topic: direction and what the message is."""

    DATA = "up/data"
    BACKFILL = "up/backfill"
    BIRTH = "up/birth"
    STATE = "up/state"
    HEALTH = "up/health"
    ACK = "down/ack"
    CONFIG = "down/config"


class Topic(msgspec.Struct, frozen=True):
    """A topic of one gateway."""

    gw: GatewayNumber
    kind: Kind

    @property
    def shard(self) -> Shard:
        """Shard of the gateway."""
        return shard_of(self.gw)

    def __str__(self) -> str:
        return f"cc/v1/{self.shard}/{self.gw}/{self.kind}"


class WrongTopic(ValueError):
    """A topic that the contract does not know, or whose shard isn't that of its gateway."""


@lru_cache(_REMEMBERED)
def shard_of(gw: GatewayNumber) -> Shard:
    """Return the shard of a gateway number."""
    return Shard(f"{hashlib.sha256(gw.encode()).digest()[0]:02x}")


@lru_cache(_REMEMBERED)
def parse(topic: str) -> Topic:
    """Read a topic.

    Raises: WrongTopic saying which level is wrong.
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
        return Topic(gw, Kind("/".join(parts[4:])))
    except ValueError:
        msg = f"topic {topic!r}: no such kind of message as {'/'.join(parts[4:])}"
        raise WrongTopic(msg) from None


def sender_of(topic: str) -> str:
    """Return the gateway that a topic names, whatever else is wrong with it; empty where it names none."""
    parts = topic.split("/")
    named = parts[3] if len(parts) >= _LEVELS and parts[:2] == ["cc", "v1"] else ""
    return named if GATEWAY_NUMBER.fullmatch(named) else ""


def wake(shard: Shard) -> str:
    """Return the topic that tells alerting that the intake log of a shard has grown."""
    return f"cc/v1/wake/{shard}"
