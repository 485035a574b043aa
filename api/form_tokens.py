"""Form tokens as pages carry them: another text in every answer, so that compression gives none away.

Answers are compressed, and the length of a compressed answer tells whether a guess that it repeats is right (BREACH).
A session's token therefore never stands in a page as it is: it is combined with random bytes that stand before it
(docs/adr/0013-compressed-answers.md). Machines send the token as `GET /api/v1/session` gave it; both are accepted.
"""

from hmac import compare_digest
from secrets import token_bytes


def masked(token: str) -> str:
    """Return the token as a page may carry it, different each time."""
    plain = token.encode()
    mask = token_bytes(len(plain))
    return (mask + _combined(mask, plain)).hex()


def fits(given: str, token: str) -> bool:
    """Return whether what came with a change is the session's token, masked or plain."""
    plain = token.encode()
    if compare_digest(given.encode(), plain):
        return True
    try:
        both = bytes.fromhex(given)
    except ValueError:
        return False
    mask, rest = both[: len(plain)], both[len(plain) :]
    return len(both) == 2 * len(plain) and compare_digest(_combined(mask, rest), plain)


def _combined(mask: bytes, text: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(mask, text, strict=False))
