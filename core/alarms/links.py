"""Who may open an alarm's page without signing in: the bearer of the signed link in a message, until it expires.

A link proves that we wrote to that person about that alarm; it doesn't prove who holds the phone, so the page still
asks WeChat before it acknowledges. Key ids are letters and digits; the first key signs, every key verifies, so a
key can be replaced while its links are still in people's phones.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping

import msgspec

from core.ids import AlarmId, PersonId
from core.runtime.instant import Instant

_PURPOSE = b"coldchain alarm link 1\n"
_MAC_BYTES = 16
_TOKEN = re.compile(
    r"([A-Za-z0-9]{1,16})\.([1-9][0-9]{0,18})\.([1-9][0-9]{0,8})\.([1-9][0-9]{0,18})\.([0-9]{1,15})\.([A-Za-z0-9_-]+)"
)


class Link(msgspec.Struct, frozen=True):
    """What a link says: this alarm, in this cycle, shown to this person until `expires` (the system's clock)."""

    alarm: AlarmId
    cycle: int
    person: PersonId
    expires: Instant


class BadLink(Exception):
    """A link that opens nothing."""


class Forged(BadLink):
    """We never signed this, or its key has been withdrawn."""


class Expired(BadLink):
    """We did sign it; its time is over. `link` says what it was for."""

    def __init__(self, link: Link) -> None:
        super().__init__(f"the link to alarm {link.alarm} served until {link.expires}")
        self.link = link


def sign(link: Link, keys: Mapping[str, str]) -> str:
    """Return the token of a link, of URL-safe characters, at most 110 long.

    `keys` are `config.secrets.Secrets.link_keys`: key id → hex.
    """
    key_id = next(iter(keys))
    said = f"{key_id}.{link.alarm}.{link.cycle}.{link.person}.{link.expires}"
    return f"{said}.{_mac(said, keys[key_id])}"


def verify(token: str, now: Instant, keys: Mapping[str, str]) -> Link:
    """Return what a token says. At its expiry it no longer serves.

    Raises: Forged, Expired.
    """
    match = _TOKEN.fullmatch(token)
    if match is None or match[1] not in keys:
        raise Forged
    said, _, mac = token.rpartition(".")
    if not hmac.compare_digest(mac.encode(), _mac(said, keys[match[1]]).encode()):
        raise Forged
    link = Link(AlarmId(int(match[2])), int(match[3]), PersonId(int(match[4])), Instant(int(match[5])))
    if now >= link.expires:
        raise Expired(link)
    return link


def url(public_url: str, token: str) -> str:
    """Return the address of the page behind a token."""
    return f"{public_url.rstrip('/')}/a/{token}"


def _mac(said: str, key: str) -> str:
    digest = hmac.digest(bytes.fromhex(key), _PURPOSE + said.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:_MAC_BYTES]).rstrip(b"=").decode()
