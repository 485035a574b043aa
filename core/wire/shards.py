"""Shard of a gateway: the part of the intake log, and of the topics, that its messages go to."""

import hashlib
from functools import lru_cache
from typing import NewType

GatewayNumber = NewType("GatewayNumber", str)
"""Number of a gateway, unique in the system: 1 to 32 characters of A-Z a-z 0-9 _ -."""


Shard = NewType("Shard", str)
"""Two lower-case hex digits: first byte of SHA-256 of the gateway number."""


CACHED_ANSWERS = 16_384
"""Size of the caches by gateway and topic, since the same ones come every minute."""


@lru_cache(CACHED_ANSWERS)
def shard_of(gw: GatewayNumber) -> Shard:
    """Return the shard of a gateway number."""
    return Shard(f"{hashlib.sha256(gw.encode()).digest()[0]:02x}")
