"""Field encryption for personal data: stored encrypted, found by a keyed hash, shown masked.

| offset | size | meaning |
|---|---|---|
| 0 | 1 | version: 1 |
| 1 | 4 | key id, the first bytes of SHA-256 over `coldchain field key ` and the key |
| 5 | 12 | nonce |
| 17 | text + 16 | text in UTF-8, encrypted by AES-256-GCM, with its tag |

The associated data is version, key id and the field's name, so that a sealed phone number can't be moved to another
field. With the key id, old keys can be kept beside a new one later. tests/unit/test_crypto.py tries to break it.
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


class UnreadableField(Exception):
    """A field can't be decrypted: it was encrypted with another key, or altered."""


class FieldCipher:
    """Cipher and blind index of fields, with the keys of an installation."""

    def __init__(self, secrets: Secrets) -> None:
        key = bytes.fromhex(secrets.field_key)
        self._cipher = AESGCM(key)
        self._key_id = hashlib.sha256(b"coldchain field key " + key).digest()[:_ID]
        self._index_key = bytes.fromhex(secrets.index_key)

    def seal(self, text: str, *, field: str) -> bytes:
        """Encrypt the text of a field such as `person.phone`. The result differs each time."""
        nonce = random.token_bytes(_NONCE)
        head = _VERSION + self._key_id + nonce
        return head + self._cipher.encrypt(nonce, text.encode(), head[: 1 + _ID] + field.encode())

    def open(self, sealed: bytes, *, field: str) -> str:
        """Decrypt a field.

        Raises: UnreadableField.
        """
        if sealed[:1] != _VERSION or sealed[1 : 1 + _ID] != self._key_id:
            msg = f"{field} was sealed with another key than the one in secrets.json; restore that file from its backup"
            raise UnreadableField(msg)
        try:
            text = self._cipher.decrypt(sealed[1 + _ID : _HEAD], sealed[_HEAD:], sealed[: 1 + _ID] + field.encode())
        except InvalidTag:
            msg = f"{field} was altered since it was sealed"
            raise UnreadableField(msg) from None
        return text.decode()

    def index(self, text: str, *, field: str) -> bytes:
        """Return the keyed hash by which a field with exactly this text is found."""
        return hmac.digest(self._index_key, field.encode() + b"\0" + text.encode(), "sha256")


def plain_phone(text: str) -> str:
    """Return a phone number in the form that is sealed and indexed: without blanks, and a mobile number without +86."""
    return re.sub(r"^(?:\+|00)86(?=1\d{10}$)", "", re.sub(r"[\s()-]", "", text))


def masked(text: str) -> str:
    """Return a number with its middle masked, such as 138****5678; a short one is masked completely."""
    if len(text) < 7:  # noqa: PLR2004  # the visible ends would be the whole number
        return "*" * len(text)
    return f"{text[:3]}{'*' * (len(text) - 7)}{text[-4:]}"
