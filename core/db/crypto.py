"""How personal fields lie in the records: encrypted, found by a keyed hash, shown masked.

A sealed field is `version (1) | key id (4) | nonce (12) | AES-256-GCM`, with the field's name as associated data, so
that a phone number can't be passed off as another field. The key id lets old keys be held beside a new one later.
"""

import hashlib
import hmac
import re
import secrets as random

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from config.secrets import Secrets

_VERSION = b"\x01"
_ID, _NONCE = 4, 12
_HEAD = 1 + _ID + _NONCE


class Sealed(Exception):
    """A field can't be opened: another key sealed it, or it was altered."""


class FieldCipher:
    """Seals, opens and indexes fields with the keys of an installation."""

    def __init__(self, secrets: Secrets) -> None:
        key = bytes.fromhex(secrets.field_key)
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"coldchain field key " + key).digest()[:_ID]
        self._index_key = bytes.fromhex(secrets.index_key)

    def seal(self, text: str, *, field: str) -> bytes:
        """Encrypt the text of a field such as `person.phone`; twice gives two different results."""
        nonce = random.token_bytes(_NONCE)
        head = _VERSION + self._key_id + nonce
        return head + self._cipher.encrypt(nonce, text.encode(), head[: 1 + _ID] + field.encode())

    def open(self, sealed: bytes, *, field: str) -> str:
        """Decrypt.

        Raises: Sealed.
        """
        if sealed[:1] != _VERSION or sealed[1 : 1 + _ID] != self._key_id:
            msg = f"{field} was sealed with another key than the one in secrets.json; restore that file from its backup"
            raise Sealed(msg)
        try:
            text = self._cipher.decrypt(sealed[1 + _ID : _HEAD], sealed[_HEAD:], sealed[: 1 + _ID] + field.encode())
        except InvalidTag:
            msg = f"{field} was altered since it was sealed"
            raise Sealed(msg) from None
        return text.decode()

    def index(self, text: str, *, field: str) -> bytes:
        """Return the keyed hash by which a field with this very text is found."""
        return hmac.digest(self._index_key, field.encode() + b"\0" + text.encode(), "sha256")


def plain_phone(text: str) -> str:
    """Return a phone number as it is sealed and indexed: digits, and no +86 of a mobile number."""
    return re.sub(r"^(?:\+|00)86(?=1\d{10}$)", "", re.sub(r"[\s()-]", "", text))


def masked(text: str) -> str:
    """Return a number as people may see it: 138****5678, the middle hidden; short ones wholly."""
    if len(text) < 7:  # noqa: PLR2004  # with less, head and tail would give it away
        return "*" * len(text)
    return f"{text[:3]}{'*' * (len(text) - 7)}{text[-4:]}"
