"""Plain text: what may be kept of what people and programs write, and be asked for.

The characters are those of `config.characters`, which files and settings are held to as well.
"""

from config.characters import forbidden_character
from core.errors import Invalid


def is_plain(text: str, *, several_lines: bool = False) -> bool:
    """Whether a text has no character that nobody sees or that changes what others look like."""
    return forbidden_character(text, several_lines=several_lines) is None


def require_plain(field: str, text: str, *, several_lines: bool = False) -> None:
    """Let pass a text without such characters.

    Raises: Invalid, with the character and its place.
    """
    found = forbidden_character(text, several_lines=several_lines)
    if found is not None:
        raise Invalid(field, text, f"has {found.name} as character {found.position + 1}; take it out")
