"""Plain text check for values from people and programs that are stored or searched for.

It forbids the characters of `config.characters`, which files and settings may not have either.
"""

from config.characters import forbidden_character
from core.errors import Invalid


def is_plain(text: str, *, several_lines: bool = False) -> bool:
    """Return whether a text has no character that is invisible or changes how others look."""
    return forbidden_character(text, several_lines=several_lines) is None


def require_plain(field: str, text: str, *, several_lines: bool = False) -> None:
    """Check that a text is plain.

    Raises: Invalid, with the forbidden character and its position.
    """
    forbidden = forbidden_character(text, several_lines=several_lines)
    if forbidden is not None:
        raise Invalid(field, text, f"has {forbidden.name} as character {forbidden.position + 1}; take it out")
