"""Signed alarm links: the link in a message opens the alarm's page without signing in, until it expires.

A link proves that we wrote to this person about this alarm. It doesn't prove who holds the phone, so the page asks
WeChat before an acknowledgement. Key ids are letters and digits. The first key signs and every key verifies, so a key
can be replaced while its links are still in use. Tested by tests/unit/test_links.py.
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


class AlarmLink(msgspec.Struct, frozen=True):
    """Content of a link: this person may see this cycle of this alarm until `expires` (system clock)."""

    alarm: AlarmId
    cycle: int
    person: PersonId
    expires: Instant


class BadLink(Exception):
    """A link that is not valid."""


class ForgedLink(BadLink):
    """A token without a valid signature, or whose key was removed."""


class ExpiredLink(BadLink):
    """A token with a valid signature that has expired; `link` is its content."""

    def __init__(self, link: AlarmLink) -> None:
        super().__init__(f"the link to alarm {link.alarm} served until {link.expires}")
        self.link = link


def sign(link: AlarmLink, keys: Mapping[str, str]) -> str:
    """Return the token of a link: at most 110 URL-safe characters.

    `keys` are `config.secrets.Secrets.link_keys`: key id → hex.
    """
    key_id = next(iter(keys))
    payload = f"{key_id}.{link.alarm}.{link.cycle}.{link.person}.{link.expires}"
    return f"{payload}.{_mac(payload, keys[key_id])}"


def verify(token: str, now: Instant, keys: Mapping[str, str]) -> AlarmLink:
    """Return the link of a token. At the instant of expiry it is no longer valid.

    Raises: ForgedLink, ExpiredLink.
    """
    match = _TOKEN.fullmatch(token)
    if match is None or match[1] not in keys:
        raise ForgedLink
    payload, _, mac = token.rpartition(".")
    if not hmac.compare_digest(mac.encode(), _mac(payload, keys[match[1]]).encode()):
        raise ForgedLink
    link = AlarmLink(AlarmId(int(match[2])), int(match[3]), PersonId(int(match[4])), Instant(int(match[5])))
    if now >= link.expires:
        raise ExpiredLink(link)
    return link


def url(public_url: str, token: str) -> str:
    """Return the URL of the page of a token."""
    return f"{public_url.rstrip('/')}/a/{token}"


def _mac(payload: str, key: str) -> str:
    digest = hmac.digest(bytes.fromhex(key), _PURPOSE + payload.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:_MAC_BYTES]).rstrip(b"=").decode()
