"""Form tokens, masked differently in every answer so that compression can't reveal them.

Answers are compressed, and the length of a compressed answer reveals whether a guess that it repeats is right (BREACH).
So a session's token never stands unchanged in a page: it is combined with random bytes that stand before it
(docs/adr/0013-compressed-answers.md). Machines send the token as `GET /api/v1/session` returned it; both forms are
accepted.
"""

from hmac import compare_digest
from secrets import token_bytes


def masked(token: str) -> str:
    """Return the token in a form for a page, different each time."""
    plain = token.encode()
    mask = token_bytes(len(plain))
    return (mask + _combined(mask, plain)).hex()


def fits(given: str, token: str) -> bool:
    """Return whether the token of a change is the session's, masked or plain."""
    plain = token.encode()
    if compare_digest(given.encode(), plain):
        return True
    try:
        mask_and_token = bytes.fromhex(given)
    except ValueError:
        return False
    mask, masked_token = mask_and_token[: len(plain)], mask_and_token[len(plain) :]
    return len(mask_and_token) == 2 * len(plain) and compare_digest(_combined(mask, masked_token), plain)


def _combined(mask: bytes, text: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(mask, text, strict=False))
