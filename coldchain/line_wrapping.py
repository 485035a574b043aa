"""Line wrapping for a terminal, in Chinese and English.

A line breaks at a space or between two Chinese characters, never inside a word, a path or an address: these stay whole
even where they are longer than the terminal is wide.
"""

import re

from rich.cells import cell_len

_WIDE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
_OPENING = "（《「【"
_CLOSING = "，。；：、）》」】！？"
_PIECE = re.compile(rf"\s*[{_OPENING}]*(?:[{_WIDE}]|[^\s{_WIDE}]+)[{_CLOSING}]*")


def wrap(text: str, width: int, *, indent: int = 0) -> list[str]:
    """Return `text` in lines of `width` cells; all but the first of a paragraph begin with `indent` spaces."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in _PIECE.findall(paragraph):
            if line.strip() and cell_len(line) + cell_len(piece) > width:
                lines.append(line)
                line = " " * indent + piece.lstrip()
            else:
                line += piece
        lines.append(line)
    return lines
