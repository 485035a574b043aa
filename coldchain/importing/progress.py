"""Progress of an import on a terminal: one line that is rewritten, or a line now and then where there is none."""

from collections.abc import Callable
from typing import TextIO

from coldchain.importing.mistakes import message
from config.catalogue import terminal_language

_LINES = 5_000
"""Rows between two lines where none can be rewritten; a small import says nothing."""


def show_progress(out: TextIO) -> Callable[[int, int], None]:
    """Return what tells of progress on a stream."""
    language = terminal_language()
    reported = 0

    def tell(done: int, rows: int) -> None:
        nonlocal reported
        text = message("progress", done=done, all=rows).text(language)
        if out.isatty():
            out.write(f"\r{text}" + ("\n" if done >= rows else ""))
        elif done - reported >= _LINES:
            reported = done
            out.write(f"{text}\n")
        out.flush()

    return tell
