"""The API and the embedded broker as processes with few file descriptors, and more connections than they have."""

import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from coldchain.demo.environment import free_port
from config import secrets
from tests.fixtures.broker import listens
from tests.fixtures.waiting import until

DESCRIPTORS = 256
"""Of the process; half of them it keeps for its own work."""
STORM = 400
WITHIN_S = 120.0
MOST_LINES = 40


@contextmanager
def process(folder: Path, service: str, port: int) -> Iterator[Path]:
    """Yield the log of a service that listens."""
    secrets.write(str(folder), secrets.fresh("coldchain"))
    file = folder / "coldchain.toml"
    file.write_text(f'data_dir = "{folder}"\n[{service}]\nport = {port}\n')
    log = folder / "log"
    with log.open("wb") as err:
        running = subprocess.Popen(
            [sys.executable, "-m", "coldchain", service, "-c", str(file)],
            stderr=err,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),  # noqa: PLW1509
        )
    try:
        until(lambda: listens(port), within_s=WITHIN_S)
        yield log
        running.send_signal(signal.SIGTERM)
        assert running.wait(WITHIN_S) == 0
    finally:
        running.kill()
        running.wait()


def storm(port: int, sent: bytes) -> list[socket.socket]:
    """Open more connections than the process has descriptors; some are ended while the others come."""
    opened = []
    for _ in range(STORM):
        one = socket.create_connection(("127.0.0.1", port), WITHIN_S)
        opened.append(one)
        try:
            one.sendall(sent)
        except OSError:
            continue
    return opened


def quiet(log: Path) -> None:
    text = log.read_text("utf-8")
    assert "Traceback" not in text
    assert len(text.splitlines()) < MOST_LINES, text[-3_000:]


def test_the_api_answers_whoever_asks_while_hundreds_say_nothing(tmp_path: Path) -> None:
    port = free_port()
    with process(tmp_path, "api", port) as log:
        for sent in (b"", b"POST /sign-in HTTP/1.1\r\nHost: a\r\n"):
            idle = storm(port, sent)
            for _ in range(10):
                answer = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=WITHIN_S)
                assert answer.status_code == 200
            for one in idle:
                one.close()
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", port), WITHIN_S) as junk:
                junk.sendall(b"\x16\x03\x01 no request\r\n\r\n")
        checks = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=WITHIN_S).json()["checks"]
        assert any(check["name"] == "records" and check["ok"] for check in checks)
        quiet(log)
    assert log.read_text("utf-8").count("more connections than this process takes") <= 6


def test_the_broker_lets_gateways_in_while_hundreds_say_nothing(tmp_path: Path) -> None:
    port = free_port()
    with process(tmp_path, "broker", port) as log:
        idle = storm(port, b"")
        password = secrets.gateway_password(str(tmp_path), "10001")
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", port), WITHIN_S) as gateway:
                gateway.sendall(_connect_packet(b"10001", password.encode()))
                assert gateway.recv(4) == b"\x20\x02\x00\x00"
        for one in idle:
            one.close()
        quiet(log)


def _connect_packet(user: bytes, password: bytes) -> bytes:
    def text(value: bytes) -> bytes:
        return len(value).to_bytes(2, "big") + value

    body = text(b"MQTT") + bytes([4, 0xC2, 0, 60]) + text(b"raw") + text(user) + text(password)
    return b"\x10" + bytes([len(body)]) + body
