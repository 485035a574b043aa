"""The tests' own PostgreSQL runs where root's home is closed to others, as in every container."""

import os
import shutil
from pathlib import Path

import psycopg

from tests.fixtures.databases import PostgresProcess, _binaries, _dsn


def test_it_runs_from_a_folder_that_nobody_else_may_enter(tmp_path: Path) -> None:
    bin_folder = _binaries()
    home = tmp_path / "home"
    home.mkdir(0o700)
    package = bin_folder.parents[1]
    for name in (package.name, f"{package.name}.libs"):
        if (package.parent / name).exists():
            ignored = shutil.ignore_patterns("pginstall18", "include")
            shutil.copytree(package.parent / name, home / name, symlinks=True, ignore=ignored)
    home.chmod(0o700)
    server = PostgresProcess(binaries=home / package.name / bin_folder.parent.name / bin_folder.name)
    try:
        with psycopg.connect(_dsn(server.url)) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("coldchain",)
        owner = Path(f"/proc/{server.pid}").stat().st_uid
        assert owner != 0, "PostgreSQL refuses to run as root"
        assert os.geteuid() in (0, owner)
    finally:
        server.stop()
