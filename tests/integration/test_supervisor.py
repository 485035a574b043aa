import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from coldchain.demo.environment import free_port
from coldchain.supervisor import Service, Supervisor
from config import secrets
from core.runtime.process_lock import single_process
from tests.fixtures.waiting import until

ROOT = Path(__file__).resolve().parents[2]

OWN_NAME = Path("/proc/self/comm").read_text("utf-8").strip()
"""Of the process that runs the tests: pytest, or a worker of it."""


@pytest.fixture
def broker(tmp_path: Path) -> Service:
    secrets.write(str(tmp_path / "data"), secrets.fresh("coldchain"))
    (tmp_path / "coldchain.toml").write_text(f'data_dir = "data"\nbroker.port = {free_port()}\napi.port = 0\n')
    return Service("broker", ("broker", "--config", str(tmp_path / "coldchain.toml")))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_killed_child_is_started_again_and_ends_with_the_supervisor(broker: Service, tmp_path: Path) -> None:
    supervisor = Supervisor([broker], log_folder=tmp_path / "log")
    stop = threading.Event()
    thread = threading.Thread(target=supervisor.run, args=(stop,))
    thread.start()
    try:
        until(lambda: supervisor.pid("broker"), within_s=15.0)
        first = supervisor.pid("broker")
        supervisor.kill("broker")
        until(lambda: supervisor.pid("broker") not in (None, first), within_s=15.0)
        assert supervisor.restarts() == {"broker": 1}
        last = supervisor.pid("broker")
    finally:
        stop.set()
        thread.join(15)
    assert last
    assert gone(last)


def test_a_paused_child_stands_still_and_goes_on(broker: Service, tmp_path: Path) -> None:
    def state(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    supervisor = Supervisor([broker], log_folder=tmp_path)
    supervisor.check_processes()
    pid = supervisor.pid(broker.name)
    assert pid
    with supervisor.paused(broker.name):
        until(lambda: state(pid) == "T", within_s=15.0)
        supervisor.check_processes()
        assert supervisor.pid(broker.name) == pid
    until(lambda: state(pid) != "T", within_s=15.0)
    supervisor.end()
    with supervisor.paused(broker.name):
        assert supervisor.pid(broker.name) is None


def test_what_could_not_be_started_is_tried_again(broker: Service, tmp_path: Path) -> None:
    in_the_way = tmp_path / "log"
    in_the_way.write_bytes(b"")
    supervisor = Supervisor([broker], log_folder=in_the_way)
    supervisor.check_processes()
    assert supervisor.pid("broker") is None
    in_the_way.unlink()

    def runs() -> bool:
        supervisor.check_processes()
        return supervisor.pid("broker") is not None

    try:
        until(runs, within_s=15.0)
    finally:
        supervisor.end()
    assert supervisor.restarts() == {"broker": 0}


def test_up_refuses_devices_that_cannot_be_read(tmp_path: Path) -> None:
    secrets.write(str(tmp_path / "data"), secrets.fresh("coldchain"))
    (tmp_path / "coldchain.toml").write_text(
        'data_dir = "data"\n[[agent.gateways]]\nnumber = "10001"\n[[agent.gateways.buses]]\nname = "a"\nkind = "tcp"\n'
        'host = "127.0.0.1"\nunits = [{address = 1, profile = "xy-md2", probes = {t = "1"}}]\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "coldchain", "up", "--config", str(tmp_path / "coldchain.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "profile = 'xy-md2'" in done.stderr
    assert "Traceback" not in done.stderr


def test_children_end_with_a_supervisor_that_was_killed(broker: Service, tmp_path: Path) -> None:
    script = f"""
import threading
from pathlib import Path
from coldchain.supervisor import Service, Supervisor
from core.runtime import logs
logs.set_up("up")
supervisor = Supervisor([Service("broker", {broker.arguments!r})], log_folder=Path({str(tmp_path / "log")!r}))
supervisor.check_processes()
print(supervisor.pid("broker"), flush=True)
threading.Event().wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout
        child = int(parent.stdout.readline())
        until((tmp_path / "data" / "run" / "broker.lock").exists, within_s=15.0)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    until(lambda: gone(child), within_s=5)
    with single_process(str(tmp_path / "data"), "broker", threading.Event()) as ours:
        assert ours


def test_a_second_process_waits_for_the_first_and_gives_up_when_stopped(tmp_path: Path) -> None:
    script = f"""
import sys, threading
from core.runtime.process_lock import single_process
with single_process({str(tmp_path)!r}, 'api', threading.Event()):
    print('held', flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdin
    assert holder.stdout.readline() == b"held\n"
    stop = threading.Event()
    stop.set()
    with single_process(str(tmp_path), "api", stop) as ours:
        assert not ours
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with single_process(str(tmp_path), "api", threading.Event()) as ours:
        assert ours


def test_ctrl_c_is_for_the_supervisor_which_asks_each_child_once(broker: Service, tmp_path: Path) -> None:
    output = (tmp_path / "up.log").open("wb")
    up = subprocess.Popen(
        [sys.executable, "-m", "coldchain", "up", *broker.arguments[1:]], cwd=ROOT, stderr=output, process_group=0
    )
    try:
        log = tmp_path / "up.log"
        until(lambda: b"api started" in log.read_bytes(), within_s=30)
        os.killpg(up.pid, signal.SIGINT)  # as a terminal does: to the whole group in the foreground
        assert up.wait(15) == 0
        assert b"exception" not in log.read_bytes()
        assert b"child killed" not in log.read_bytes()
    finally:
        up.kill()
        up.wait()
        output.close()


def up_in(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coldchain", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def installed(folder: Path, **ports: int) -> None:
    assert up_in(folder, "init").returncode == 0
    lines = [f"{name}.port = {port}\n" for name, port in ports.items()]
    with (folder / "coldchain.toml").open("a") as settings:
        settings.writelines(lines)


def test_up_with_a_taken_port_says_whose_it_is_in_a_line_each(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as mqtt:
        installed(tmp_path, api=web.getsockname()[1], broker=mqtt.getsockname()[1])
        done = up_in(tmp_path, "up")
    assert done.returncode == 2
    holder = f"is held by {OWN_NAME}, process {os.getpid()}; end that program, or set another port"
    assert [line.split(" = ")[0] for line in done.stderr.splitlines()] == [
        "coldchain: coldchain.toml: api.port",
        "coldchain: coldchain.toml: broker.port",
    ]
    assert all(line.endswith(holder) for line in done.stderr.splitlines())


def test_a_second_up_is_refused_at_once_with_the_first_ones_number(tmp_path: Path) -> None:
    installed(tmp_path, api=free_port(), broker=free_port())
    with single_process(str(tmp_path / "coldchain-data"), "up", threading.Event()):
        done = up_in(tmp_path, "up")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{tmp_path}/coldchain-data is run already, by process {os.getpid()};" in line


def test_an_api_alone_waits_for_its_port_and_says_once_whose_it_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        installed(tmp_path, api=other.getsockname()[1])
        log = tmp_path / "log"
        with log.open("wb") as output:
            api = subprocess.Popen([sys.executable, "-m", "coldchain", "api"], cwd=tmp_path, stderr=output)
        until(lambda: b"web port not to be had" in log.read_bytes(), within_s=60)
        time.sleep(1.2)  # two more tries
    try:
        until(lambda: b"api started" in log.read_bytes(), within_s=60)
        assert log.read_bytes().count(b"web port not to be had") == 1
        assert f"{OWN_NAME}, process {os.getpid()}".encode() in log.read_bytes()
        assert b"Traceback" not in log.read_bytes()
        api.terminate()
        assert api.wait(15) == 0
    finally:
        api.kill()
        api.wait()


def test_a_wechat_simulator_with_a_taken_port_says_whose_it_is_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = up_in(tmp_path, "wechat-sim", "--port", str(other.getsockname()[1]))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"is held by {OWN_NAME}, process {os.getpid()};" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_an_up_that_was_killed_is_followed_by_the_next_though_its_children_still_hold_the_ports(tmp_path: Path) -> None:
    installed(tmp_path, api=free_port(), broker=free_port())
    command = [sys.executable, "-m", "coldchain", "up"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        first = subprocess.Popen(command, cwd=tmp_path, stderr=output)
        until(lambda: {b"api started", b"broker listening"} <= events(log), within_s=120)
        first.kill()
        first.wait()
        before = log.stat().st_size
        second = subprocess.Popen(command, cwd=tmp_path, stderr=output)
    try:
        until(lambda: {b"api started", b"broker listening"} <= events(log, before), within_s=120)
        assert second.poll() is None
        assert b" is held by " not in log.read_bytes()
        second.terminate()
        assert second.wait(60) == 0
    finally:
        second.kill()
        second.wait()


def events(log: Path, since: int = 0) -> set[bytes]:
    return set(re.findall(rb'"event": ?"([^"]+)"', log.read_bytes()[since:]))
