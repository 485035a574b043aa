"""Password policy: length, kinds of characters and age (SE-02). Pure functions."""

from core.access.messages import message
from core.errors import Invalid
from core.runtime.instant import DAY, Instant, Milliseconds

SHORTEST_PASSWORD = 10
KINDS_OF_CHARACTERS = 3
"""Of four: small letters, capitals, digits, others (a letter without case, such as a Chinese one, is another)."""
_NAME_IN_PASSWORD = 4
"""Characters of a user name from which it must not be a part of the password either."""
REMEMBERED_PASSWORDS = 5
"""The last passwords, with the present one, that can't be chosen again."""
PASSWORD_AGE = Milliseconds(90 * DAY)


def check_password(username: str, password: str) -> None:
    """Check a new password against the policy, but for those that were used before.

    Raises: Invalid.
    """
    if len(password) < SHORTEST_PASSWORD:
        raise Invalid(field="password", value="***", problem=message("password_short", least=SHORTEST_PASSWORD))
    name, text = username.casefold(), password.casefold()
    if name == text or (len(name) >= _NAME_IN_PASSWORD and name in text):
        raise Invalid(field="password", value="***", problem=message("password_is_name"))
    if len({_kind(character) for character in password}) < KINDS_OF_CHARACTERS:
        raise Invalid(field="password", value="***", problem=message("password_plain"))


def is_expired(set_at: Instant | None, now: Instant, age: Milliseconds = PASSWORD_AGE) -> bool:
    """Return whether a password must be changed: it is an initial one, or `age` has passed since it was chosen."""
    return set_at is None or now >= set_at + age


def _kind(character: str) -> str:
    if character.isdecimal():
        return "digit"
    if character.isupper():
        return "capital"
    return "small" if character.islower() else "other"
