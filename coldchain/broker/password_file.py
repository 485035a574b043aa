"""Password file of Mosquitto: one line a user, hashed as `mosquitto_passwd` does (PBKDF2 with SHA-512)."""

import hashlib
import secrets as random
from base64 import b64encode
from collections.abc import Mapping

_ROUNDS = 101
"""Mosquitto's own number. Our passwords are 24 random bytes, so more rounds would add no safety."""


def password_lines(passwords: Mapping[str, str]) -> list[str]:
    """Return the lines of the file, sorted by user."""
    return [f"{user}:{_hashed(password)}" for user, password in sorted(passwords.items())]


def _hashed(password: str) -> str:
    salt = random.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"$7${_ROUNDS}${b64encode(salt).decode()}${b64encode(digest).decode()}"
