"""Installation for the benchmarks: a data folder with settings and secrets, and the commands of `coldchain`."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from coldchain.demo.environment import free_port
from config import secrets
from config.settings import Settings
from config.settings_loader import load_settings

WITHIN_S = 120.0
_COLDCHAIN = (sys.executable, "-m", "coldchain")


class Installation:
    """Installation in a folder; `more` is further text of its coldchain.toml."""

    def __init__(self, folder: Path, more: str = "", *, broker: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "coldchain.toml"
        self.config.write_text(
            f'data_dir = "{folder / "data"}"\nlog_level = "WARNING"\n{more}\n'
            f'[broker]\nembedded = false\nprotocol = "5"\nport = {broker or free_port()}\n',
            "utf-8",
        )
        self.settings: Settings = load_settings(self.config)
        secrets.write(self.settings.data_dir, secrets.fresh("coldchain"))
        self.processes: dict[str, int] = {}
        """Process ids of services and servers, by name."""

    def command(self, *words: str) -> None:
        """Run a command of `coldchain` and wait for its end."""
        command = [*_COLDCHAIN, *words, "--config", str(self.config)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    @contextmanager
    def service(self, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run `coldchain <name>` with arguments, by default `--config`, while the block runs; stop it as systemd
        does."""
        command = [*_COLDCHAIN, name, *(arguments or ("--config", str(self.config)))]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        try:
            yield process
        except TimeoutError:
            print((self.folder / f"{name}.log").read_text("utf-8")[-2_000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def until(true: Callable[[], object], what: str, *, look_s: float = 0.05) -> None:
    """Wait until `true` returns something true.

    Raises: TimeoutError with `what`.
    """
    ends = time.monotonic() + WITHIN_S
    while not true():
        if time.monotonic() > ends:
            msg = f"within {WITHIN_S:.0f} s not seen: {what}"
            raise TimeoutError(msg)
        time.sleep(look_s)
