"""Report of a benchmark: printed during the run, and kept as `results/<name>.md` with versions and machine.

    report = Report("ingest", "How many readings a second …")
    report.server("Mosquitto", "2.0.11")
    report.table("Into the intake log", "way", "k readings/s", "ratio")
    report.row("bare subscriber", 120.4, 1.0)
    report.goal("ratio to a bare subscriber", 0.61, at_least=0.5)
    report.keep()

A quick run prints and keeps nothing, since its numbers are small and other work may share the machine.
"""

import os
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

FOLDER = Path(__file__).resolve().parent / "results"
_WIDTH = 14
_FIRST = 44

Figure = str | float | int | None


class Report:
    """Report of one run of one benchmark."""

    def __init__(self, name: str, question: str, *, quick: bool = False, folder: Path = FOLDER) -> None:
        """`question` is the sentence that the benchmark answers."""
        self.missed = 0
        """Goals that were not met."""
        self._name = name
        self._quick = quick
        self._folder = folder
        self._question = question
        self._servers = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
        self._body: list[str] = []
        self._goals: list[str] = []
        print(question)

    def server(self, name: str, version: str) -> None:
        """Add the version of a server that takes part."""
        self._servers[name] = version

    def note(self, text: str) -> None:
        """Add a remark to the figures, such as how the cores were shared or what was left out."""
        print(f"\n{text}")
        self._body += ["", text]

    def table(self, title: str, *columns: str) -> Self:
        """Begin a table; its first column names each row."""
        print(f"\n{title}")
        print(_line(columns))
        self._body += ["", f"## {title}", "", _row(columns), _row(["---", *["---:"] * (len(columns) - 1)])]
        return self

    def row(self, *figures: Figure) -> None:
        """Add a row to the last table; None where there is no figure."""
        cells = [_shown(figure) for figure in figures]
        print(_line(cells), flush=True)
        self._body.append(_row(cells))

    def goal(
        self, what: str, got: float, *, at_least: float | None = None, at_most: float | None = None, unit: str = ""
    ) -> bool:
        """Compare a figure with a goal; return whether it is met."""
        if (at_least is None) == (at_most is None):
            msg = f"goal {what!r}: say at_least or at_most, one of them"
            raise ValueError(msg)
        limit = at_least if at_least is not None else at_most
        assert limit is not None
        met = got >= limit if at_least is not None else got <= limit
        goal_text = f"{'≥' if at_least is not None else '≤'} {_shown(limit)} {unit}".strip()
        result = "met" if met else "MISSED"
        print(f"goal {result}: {what}: {_shown(got)} {unit}".rstrip() + f" ({goal_text})", flush=True)
        self._goals.append(_row([what, goal_text, f"{_shown(got)} {unit}".strip(), result]))
        self.missed += not met
        return met

    def keep(self) -> Path | None:
        """Write the file and return its path; None for a quick run."""
        if self._quick:
            print("\nA quick run: nothing kept.")
            return None
        head = [
            f"# {self._name}",
            "",
            self._question,
            "",
            f"* {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, `{_command()}`",
            f"* {os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.release()}",
            f"* {', '.join(f'{name} {version}' for name, version in self._servers.items())}",
            f"* load average at the end {os.getloadavg()[0]:.1f}",
        ]
        goals = ["", "## Goals", "", _row(["goal", "wanted", "found", ""]), _row(["---"] * 4), *self._goals]
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{self._name}.md"
        file.write_text("\n".join([*head, *(goals if self._goals else []), *self._body, ""]), "utf-8")
        print(f"\nkept in {file}")
        return file


def _shown(figure: Figure) -> str:
    """Return a figure with about three digits; a run is not more precise."""
    if figure is None:
        return ""
    if isinstance(figure, str):
        return figure
    if isinstance(figure, int) or abs(figure) >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.2f}" if abs(figure) >= 0.1 else f"{figure:.4f}"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"{cells[0]:<{_FIRST}}" + "".join(f"{cell:>{max(_WIDTH, len(cell) + 2)}}" for cell in cells[1:])


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _command() -> str:
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
