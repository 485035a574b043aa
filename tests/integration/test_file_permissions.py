"""Nobody but its user reads what an installation keeps, whatever the umask of whoever started it."""

import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from coldchain.demo.environment import free_port
from config.settings_loader import convert
from core.runtime.file_permissions import close_to_others, open_to_others, private_places

WITHIN_S = 120
COUNTY = '[[unit]]\ncode = "1"\nname = "县疾控"\nkind = "cdc"\nlevel = "county"\n'


@contextmanager
def running(folder: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "coldchain", *words], cwd=folder, umask=0o022)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def run(folder: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "coldchain", *words], cwd=folder, check=True, umask=0o022)


def waited_for(there: Sequence[Path]) -> None:
    ends = time.monotonic() + WITHIN_S
    while missing := [path for path in there if not path.exists()]:
        assert time.monotonic() < ends, f"never made: {missing}"
        time.sleep(0.1)


def test_nothing_that_an_installation_makes_is_open_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    run(tmp_path, "init", str(folder))
    with (folder / "coldchain.toml").open("a") as settings:
        settings.write(f"broker = {{ port = {free_port()} }}\napi = {{ port = {free_port()} }}\n")
    (folder / "county.toml").write_text(COUNTY)
    run(folder, "import", "county.toml")
    data = folder / "coldchain-data"
    with running(folder, "up"):
        waited_for([data / "status" / f"{name}.json" for name in ("collector", "alerting", "api")])
        waited_for([data / name for name in ("intake.db-wal", "records.db-wal", "telemetry/hot.db", "run/broker.lock")])
        assert list(open_to_others([folder / "coldchain.toml", data])) == []
    assert list(open_to_others([data])) == []
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_what_was_left_open_is_closed_when_a_service_starts(tmp_path: Path) -> None:
    run(tmp_path, "init")
    data = tmp_path / "coldchain-data"
    data.chmod(0o755)
    (data / "old").mkdir(mode=0o755)
    (data / "old" / "records.db").touch(0o644)
    outside = tmp_path / "elsewhere"
    outside.mkdir(mode=0o755)
    (outside / "records.db").touch(0o644)
    (outside / "not-ours").touch(0o644)
    with (tmp_path / "coldchain.toml").open("a") as settings:
        settings.write(f"records.url = 'sqlite:///{outside}/records.db'\nbroker.port = {free_port()}\n")
    with running(tmp_path, "broker"):
        waited_for([data / "run" / "broker.lock"])
        assert list(open_to_others([data, outside / "records.db"])) == []
    assert set(open_to_others([outside])) == {outside, outside / "not-ours"}, "not ours: left alone"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o611])
def test_what_others_may_do_is_taken_from_them_and_nothing_else(tmp_path: Path, mode: int) -> None:
    file, link = tmp_path / "data" / "a", tmp_path / "data" / "link"
    file.parent.mkdir(0o750)
    file.touch()
    file.chmod(mode)
    link.symlink_to(file)
    settings = convert({"data_dir": str(tmp_path / "data")}, "x")
    assert close_to_others(private_places(settings)) == [file.parent, file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert close_to_others(private_places(settings)) == []
    assert private_places(msgspec.structs.replace(settings, data_dir=str(tmp_path / "no"))) == []
