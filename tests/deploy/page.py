"""Commands of docs/deploy.md: its fenced blocks, each with the machine that it is for."""

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
MACHINES = ("server", "second", "edge")
"""A block for one of these is run there; `carry` copies files between them, `not-tried` is what can't be reached."""

_FENCE = re.compile(r"^```(?P<info>.*)$")


class Block(NamedTuple):
    machine: str
    heading: str
    line: int
    text: str


def blocks(text: str) -> list[Block]:
    """Return the page's blocks in order. A fence without a machine is a mistake: it would never be tried."""
    found: list[Block] = []
    heading, machine, start, lines = "", "", 0, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and machine:
            found.append(Block(machine, heading, start, "\n".join(lines) + "\n"))
            machine = ""
        elif fence:
            word, _, machine = fence["info"].partition(" ")
            assert word == "sh", f"line {number}: {line}"
            assert machine in (*MACHINES, "carry", "not-tried"), f"line {number}: which machine? {line}"
            start, lines = number + 1, []
        elif machine:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    assert not machine, f"line {start}: the fence never ends"
    return found
