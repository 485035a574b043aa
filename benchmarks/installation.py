"""A data folder with settings, secrets and commands of `coldchain`, as a user has it, for the benchmarks."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from coldchain.demo.stage import free_port
from config import secrets
from config.load import load
from config.settings import Settings

WITHIN_S = 120.0
_COLDCHAIN = (sys.executable, "-m", "coldchain")


class Installation:
    """`more` is text of coldchain.toml: tables of settings."""

    def __init__(self, folder: Path, more: str = "", *, broker: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "coldchain.toml"
        self.config.write_text(
            f'data_dir = "{folder / "data"}"\nlog_level = "WARNING"\n{more}\n'
            f'[broker]\nembedded = false\nprotocol = "5"\nport = {broker or free_port()}\n',
            "utf-8",
        )
        self.settings: Settings = load(self.config)
        secrets.write(self.settings.data_dir, secrets.fresh("coldchain"))
        self.processes: dict[str, int] = {}
        """Pids of what takes part, by name."""

    def command(self, *words: str) -> None:
        """Run a command of coldchain to its end."""
        whole = [*_COLDCHAIN, *words, "--config", str(self.config)]
        subprocess.run(whole, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    @contextmanager
    def service(self, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run `coldchain <name>` with `words`, or with the settings when there are none; end it as systemd does."""
        whole = [*_COLDCHAIN, name, *(words or ("--config", str(self.config)))]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(whole, stdout=log, stderr=log, cwd=self.folder)
        try:
            yield process
        except TimeoutError:
            print((self.folder / f"{name}.log").read_text("utf-8")[-2_000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def until(true: Callable[[], object], what: str, *, look_s: float = 0.05) -> None:
    """Wait until something is true."""
    ends = time.monotonic() + WITHIN_S
    while not true():
        if time.monotonic() > ends:
            msg = f"within {WITHIN_S:.0f} s not seen: {what}"
            raise TimeoutError(msg)
        time.sleep(look_s)
